//! The oracle: what must hold for a job whose disk is in a given state.

use std::{collections::HashMap, panic};

use highwater::model::{BatchAddress, BatchId};

use super::{
    disk::{Item, Tree},
    recording::{Bounds, Recording, remaining},
    scenarios::{Kind, Position, Step},
    server::{Expected, Server},
    tables::Tables,
    world::{By, CHECKPOINT, World, sorted},
};
use crate::{fed, servers::held::Held, stream::rows, trace::Trace};

/// The worst that can happen: nobody notices.
pub const WRONG_RESULT: &str = "is not what plain DataFusion yields";

/// Whether the queries' tables are asked for, too, as they are found and in the end. They follow from the bytes of the
/// deltas, which are compared in the end for each batch that is live then; to plan queries for them takes a third of a
/// state's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Yes,
    No,
}

/// All that is known of a scenario that nobody disturbed.
pub struct Oracle<'a> {
    world: &'a World,
    positions: Vec<Position>,
    /// By count of batches: each query's rows, from plain DataFusion; over event time, where rows may be late, those of the run
    /// that nobody disturbed (that they are right is shown by other tests).
    models: Vec<Vec<Vec<String>>>,
    /// What may be seen in the output folder, and from which position on.
    published: HashMap<(String, blake3::Hash), usize>,
    /// What may be in its database.
    tables: Option<Tables>,
    /// What may be in its server.
    expected: Option<Expected>,
    end: Trace,
    end_without_tables: Trace,
    /// The files of the receive log in the end.
    segments: Vec<String>,
}

impl<'a> Oracle<'a> {
    /// `recording` is of the whole scenario.
    pub fn of(world: &'a World, recording: &Recording) -> Oracle<'a> {
        let tables = (world.scenario.kind == Kind::Database).then(|| Tables::of(world));
        let expected = world.server.as_ref().map(|server| Expected::of(world, server, &recording.held));
        world.put(&recording.end);
        let of_batches = |batches: usize| match world.scenario.kind {
            Kind::EventTime => shown(world, batches),
            _ => world.model(batches),
        };
        Oracle {
            world,
            positions: world.scenario.positions(),
            models: (0..=world.scenario.batches()).map(of_batches).collect(),
            published: recording.published(),
            tables,
            expected,
            end_without_tables: trace(world, Shown::No),
            end: trace(world, Shown::Yes),
            segments: segments(&recording.end),
        }
    }

    /// Lets the job go on from a state of its disk.
    ///
    /// # Errors
    /// What was violated.
    pub fn check(&self, (tree, held): (&Tree, &Held), bounds: Bounds, by: By, tables: Shown) -> Result<(), String> {
        self.world.put(tree);
        self.world.put_held(held)?;
        let position = self.recovered(bounds, tables)?;
        match (&self.tables, self.of_server()) {
            (Some(tables), _) => tables.check(self.world, self.positions[position])?,
            (_, Some((server, expected))) => expected.check(server, held, self.positions[position])?,
            _ => self.check_published(tree, position)?,
        }
        for (step, batches_max) in remaining(self.world.scenario, bounds.step, position) {
            let step = self.world.scenario.steps[step];
            self.world
                .perform(step, batches_max, by, bounds.received)
                .map_err(|error| format!("{step:?} after recovery fails: {error}"))?;
        }
        self.check_end(tables)
    }

    /// Whether a rewind is still to come.
    pub fn retracts(&self, bounds: Bounds) -> bool {
        self.world.scenario.steps[bounds.step..].iter().any(|step| matches!(step, Step::Rewind { .. }))
    }

    fn of_server(&self) -> Option<(&Server, &Expected)> {
        self.world.server.as_ref().zip(self.expected.as_ref())
    }

    /// Where the job stands: acknowledged <= recovered <= issued, and the results are those of that batch.
    pub fn recovered(&self, bounds: Bounds, tables: Shown) -> Result<usize, String> {
        let view = match self.world.view() {
            Ok(view) => view,
            Err(_) if bounds.acknowledged == 0 => return Ok(0),
            Err(error) => return Err(format!("position {} was acknowledged, but: {error}", bounds.acknowledged)),
        };
        let reader =
            highwater::checkpoint::Reader::open(&self.world.checkpoint()).map_err(|error| error.to_string())?;
        let generation = reader.history().generation().0;
        let newest = view.newest().map(|at| at.batch.0);
        let found = Position { generation, newest };
        let position = self.positions.iter().position(|position| *position == found);
        let position = position.ok_or_else(|| format!("the job never stood at {found:?}"))?;
        if position < bounds.acknowledged || position > bounds.issued {
            return Err(format!("recovered position {position} ({found:?}), which is not within {bounds:?}"));
        }
        if let (Shown::Yes, Some(newest), Some(at)) = (tables, newest, view.newest()) {
            for (query, model) in view.queries().iter().zip(&self.models[newest as usize + 1]) {
                let table = view.result(query, at).map_err(|error| format!("'{query}' at batch {newest}: {error}"))?;
                if sorted(rows(&table)) != *model {
                    return Err(format!("'{query}' at batch {newest} {WRONG_RESULT}"));
                }
            }
        }
        Ok(position)
    }

    /// A plain `ls` of the output folder shows whole files of committed batches only.
    fn check_published(&self, tree: &Tree, position: usize) -> Result<(), String> {
        for (path, item) in &tree.0 {
            let Some(name) = path.strip_prefix("published/").filter(|name| !name.starts_with('.')) else { continue };
            let Item::File(bytes) = item else { return Err(format!("{path} is no file")) };
            match self.published.get(&(name.to_owned(), blake3::hash(bytes))) {
                None => return Err(format!("{path} ({} bytes) is not what any batch published", bytes.len())),
                Some(from) if *from > position => {
                    return Err(format!("{path} is visible at position {position}, and committed at {from} only"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The end is that of a run that nobody disturbed, and nothing is left lying about.
    fn check_end(&self, tables: Shown) -> Result<(), String> {
        let world = self.world;
        let end = match tables {
            Shown::Yes => &self.end,
            Shown::No => &self.end_without_tables,
        };
        let found = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            trace(world, tables).assert_same(end, &"after recovery, compared with an undisturbed run");
            if let Some((server, expected)) = self.of_server() {
                server
                    .read()
                    .unwrap_or_else(|why| panic!("{why}"))
                    .assert_same(&expected.end, "compared with an undisturbed run");
            }
        }));
        found.map_err(|panic| text_of(panic.as_ref()))?;
        let tree = world.read();
        let is_ours = |path: &str| path.starts_with(CHECKPOINT) || path.starts_with("published/");
        let beside: Vec<&str> = tree.0.keys().map(String::as_str).filter(|path| !is_ours(path)).collect();
        let folders = ["kept", "kept/checkpoints", "published"];
        if beside != folders[..if world.scenario.uses("OUTPUT") { 3 } else { 2 }] {
            return Err(format!("something is left lying about: {beside:?}"));
        }
        let segments = segments(&tree);
        if segments != self.segments {
            return Err(format!("the receive log has {segments:?}, not {:?}", self.segments));
        }
        Ok(())
    }
}

/// The names in the receive log.
fn segments(tree: &Tree) -> Vec<String> {
    tree.0.keys().filter(|path| path.contains("/received/")).cloned().collect()
}

/// What the queries showed after so many batches.
fn shown(world: &World, batches: usize) -> Vec<Vec<String>> {
    let view = world.view().unwrap_or_else(|error| panic!("{error}"));
    let Some(newest) = batches.checked_sub(1) else { return Vec::new() };
    let at = BatchAddress { batch: BatchId(newest as u64), generation: None };
    let table = |query: &String| view.result(query, at).unwrap_or_else(|error| panic!("{query}: {error}"));
    view.queries().iter().map(|query| sorted(rows(&table(query)))).collect()
}

fn trace(world: &World, tables: Shown) -> Trace {
    // Earlier results follow from the bytes of the deltas, which are compared for each batch.
    let newest = (tables == Shown::Yes).then(|| world.scenario.batches() as u64 - 1);
    let mut trace = Trace::read(world.root(), &world.checkpoint(), &world.output(), &|at| Some(at.batch.0) == newest);
    if world.scenario.kind == Kind::Received {
        let progress = trace.batches.values_mut().map(|batch| &mut batch.progress);
        progress.for_each(|progress| highwater::progress::keep_lasting(progress, &fed::OF_ARRIVAL));
    }
    trace
}

/// What a panic said.
pub fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or("it panicked".to_owned())
}
