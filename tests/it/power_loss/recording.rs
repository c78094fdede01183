//! A scenario, or the end of one, recorded from the real binary; and what of it was told to whom at each moment.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use super::{
    calls,
    disk::{Change, Disk, Event, Inode, Kind, Timed, Told, Tree},
    mutation::Mutation,
    record::{Recorder, traced},
    scenarios::{Position, Scenario, Step},
    server::Server,
    states::Crashes,
    world::{APART, Given, World},
};
use crate::{
    binary::{Chance, Running},
    servers::held::Held,
};

pub struct Recording {
    pub scenario: &'static Scenario,
    pub disk: Disk,
    /// What the disk holds when all is done.
    pub end: Tree,
    /// What the server of the job held at the start, and after each of its transactions.
    pub held: Vec<Held>,
}

/// What a recording begins with.
pub struct Start<'a> {
    pub tree: &'a Tree,
    pub held: &'a Held,
    pub told: Told,
}

impl Start<'static> {
    /// Nothing is there.
    pub fn of_nothing() -> Start<'static> {
        static TREE: Tree = Tree(BTreeMap::new());
        static HELD: Held = Held(BTreeMap::new());
        Start { tree: &TREE, held: &HELD, told: Told { step: 0, position: 0, received: 0 } }
    }
}

/// What may be recovered after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub step: usize,
    /// Positions in the scenario.
    pub acknowledged: usize,
    pub issued: usize,
    /// Pieces of the standard input that were durable.
    pub received: usize,
}

impl Timed {
    pub fn bounds(&self, scenario: &Scenario) -> Bounds {
        let Told { step, position: acknowledged, received } = self.told;
        Bounds { step, acknowledged, issued: (acknowledged + 1).min(scenario.end_of(step)), received }
    }
}

impl Recording {
    /// Records the steps from `told.step` on, of a job of which `told` holds on a disk that holds `tree`. The trace is
    /// kept in `folder`; one that is there already is read again, so that a number means the same state another time.
    ///
    /// # Errors
    /// Where a call was not understood, or all of them together do not make the disk that there is.
    pub fn make(world: &World, start: &Start<'_>, folder: &Path) -> Result<Recording, String> {
        let is_kept = folder.join("complete").exists();
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        if !is_kept {
            world.put(start.tree);
            world.put_held(start.held)?;
        }
        let (mut recording, held) = match &world.server {
            Some(server) => server.recorded(|| Recording::follow(world, start, folder, is_kept))?,
            None => (Recording::follow(world, start, folder, is_kept)?, Vec::new()),
        };
        recording.held = [start.held].into_iter().chain(&held).cloned().collect();
        let kept = folder.join("held");
        if is_kept {
            recording.held = read_held(&kept)?;
        } else {
            write_held(&kept, &recording.held)?;
            fs::write(folder.join("complete"), "").map_err(|error| error.to_string())?;
        }
        let last = recording.disk.events.len() - 1;
        let (transactions, looks) = (recording.disk.transactions(last), recording.held.len() - 1);
        if transactions != (looks..=looks) {
            return Err(format!("the trace has {transactions:?} transactions, the server did {looks}"));
        }
        Ok(recording)
    }

    /// Runs the steps (unless what they did `is_kept`), and follows what they do to the disk.
    fn follow(world: &World, start: &Start<'_>, folder: &Path, is_kept: bool) -> Result<Recording, String> {
        let from = start.told;
        let root = world.root().to_str().ok_or("the folder is not UTF-8")?;
        let scenario = world.scenario;
        let positions = scenario.positions();
        let mut recorder = Recorder::new(Disk::holding(start.tree), root, &APART);
        recorder.wire = world.server.as_ref().map(Server::wire);
        let (mut told, mut receipts, mut position) = (0, Receipts::after(from.received), from.position);
        for (number, batches_max) in remaining(scenario, from.step, position) {
            for (part, given) in world.starts(scenario.steps[number]).iter().enumerate() {
                let trace = folder.join(format!("calls-{number}-{part}"));
                if !is_kept && !record(world, scenario.steps[number], *given, batches_max, &trace)? {
                    continue;
                }
                let Ok(text) = fs::read_to_string(&trace) else { continue };
                recorder.follow(&calls::parse(&text)?, text.lines().count())?;
                for event in &mut recorder.disk.events[told..] {
                    if let Event::Said(text) = &event.event {
                        position = after(text, position, &positions);
                    }
                    receipts.see(event);
                    event.told = Told { step: number, position, received: receipts.durable };
                }
                told = recorder.disk.events.len();
            }
            position = scenario.end_of(number);
        }
        let disk = recorder.disk;
        let end = Crashes::of(&disk).whole();
        if !is_kept {
            same(&end, &world.read())?;
        }
        Ok(Recording { scenario, disk, end, held: Vec::new() })
    }

    /// What the server holds where the power fails after an event, and a word on it: a transaction that is under way is done, or
    /// it is not. `None`: the mutation is one of what a server gets, and makes no difference here.
    pub fn held_at(&self, after: usize, mutation: Mutation, chance: &mut Chance) -> Option<(Held, String)> {
        let possible = self.disk.transactions(after);
        let (done, asked) = possible.clone().into_inner();
        let number = done + chance.below(possible.count());
        let story = |number: usize| format!("the server has done {number} transactions of {done} to {asked}");
        let next = &self.held[(asked + 1).min(self.held.len() - 1)];
        // the transaction that is under way, if one is
        let (before, after) = (&self.held[done], &self.held[asked]);
        let worse = match mutation {
            Mutation::RowsFirst => after.with_books_of(before),
            Mutation::BatchFirst => before.with_books_of(after),
            Mutation::ServerFirst => next.clone(),
            _ => return Some((self.held[number].clone(), story(number))),
        };
        // where tables are made no batch is written
        let has_both = before.0.keys().eq(after.0.keys()) || mutation != Mutation::RowsFirst;
        let differs = has_both && !self.held[done..=asked].contains(&worse);
        differs.then(|| (worse, format!("{}, and half of another", story(number))))
    }

    pub fn bounds(&self, after: usize) -> Bounds {
        self.disk.events[after].bounds(self.scenario)
    }

    /// Each file as it was published, with the earliest position of the job at which it may be seen.
    pub fn published(&self) -> HashMap<(String, blake3::Hash), usize> {
        let crashes = Crashes::of(&self.disk);
        let mut published = HashMap::new();
        for (number, event) in self.disk.events.iter().enumerate() {
            let Event::Change(Change::Rename { to, inode, .. }) = &event.event else { continue };
            if self.disk.kind(*inode) == Kind::File && event.about.contains("-> published/") {
                let bytes = crashes.bytes_of(*inode, number);
                let from = event.told.position + 1;
                let first = published.entry((to.1.clone(), blake3::hash(&bytes))).or_insert(from);
                *first = from.min(*first);
            }
        }
        published
    }
}

fn read_held(path: &Path) -> Result<Vec<Held>, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let all: Vec<_> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(all.into_iter().map(Held).collect())
}

fn write_held(path: &Path, held: &[Held]) -> Result<(), String> {
    let all: Vec<_> = held.iter().map(|held| &held.0).collect();
    let text = serde_json::to_vec(&all).map_err(|error| error.to_string())?;
    fs::write(path, text).map_err(|error| error.to_string())
}

/// Starts the job for a step under strace; whether there was anything to do.
fn record(world: &World, step: Step, given: Given, batches_max: Option<u64>, trace: &Path) -> Result<bool, String> {
    let Some((command, input)) = world.start(step, given, batches_max)? else { return Ok(false) };
    let ended = Running::start_given(&mut traced(&command, trace), input).wait();
    if ended.code() != Some(0) {
        return Err(format!("{step:?} failed: {}", ended.stderr));
    }
    Ok(true)
}

/// Which pieces of the standard input are durable: their frames were fsynced.
struct Receipts {
    written: HashMap<Inode, usize>,
    durable: usize,
}

impl Receipts {
    fn after(durable: usize) -> Receipts {
        Receipts { written: HashMap::new(), durable }
    }

    fn see(&mut self, event: &Timed) {
        match &event.event {
            // a frame of rows; the segment has the number of the piece
            Event::Change(Change::Write { file, bytes, .. }) if bytes.starts_with(b"HWRF\0") => {
                let name = event.about.split_once("received/flows/").map_or("", |(_, name)| name);
                let number = name.split('.').next().and_then(|number| number.parse::<usize>().ok());
                self.written.extend(number.map(|number| (*file, number + 1)));
            }
            Event::Sync(file) => self.durable = self.durable.max(self.written.remove(file).unwrap_or(0)),
            _ => {}
        }
    }
}

/// The steps that are left for a job that was cut off in `step` and stands at `position`; of a run, how many batches
/// (`None`: all that there are).
pub fn remaining(scenario: &Scenario, step: usize, position: usize) -> Vec<(usize, Option<u64>)> {
    let last = scenario.steps.len() - 1;
    let mut left = Vec::new();
    let mut position = position;
    for number in step..=last {
        let end = scenario.end_of(number);
        match scenario.steps[number] {
            Step::Run { .. } if number == last => left.push((number, None)),
            _ if position >= end => {}
            Step::Run { .. } => left.push((number, Some((end - position) as u64))),
            Step::Rewind { .. } => left.push((number, None)),
        }
        position = position.max(end);
    }
    left
}

/// The position that a message acknowledges: `batch 3  12 rows  ...`.
fn after(said: &str, before: usize, positions: &[Position]) -> usize {
    let batch = |line: &str| line.strip_prefix("batch ")?.split_once(' ')?.0.parse::<u64>().ok();
    let told: Vec<u64> = said.lines().filter_map(batch).collect();
    told.iter().fold(before, |position, batch| {
        let next = positions.get(position + 1).filter(|next| next.newest == Some(*batch));
        if next.is_some() { position + 1 } else { position }
    })
}

fn same(modelled: &Tree, real: &Tree) -> Result<(), String> {
    for (path, item) in &real.0 {
        match modelled.0.get(path) {
            None => return Err(format!("the model does not know {path}")),
            Some(other) if other != item => return Err(format!("the model has other bytes in {path}")),
            Some(_) => {}
        }
    }
    match modelled.0.keys().find(|path| !real.0.contains_key(*path)) {
        Some(path) => Err(format!("the model still has {path}")),
        None => Ok(()),
    }
}

#[test]
fn what_is_left_of_a_scenario() {
    let rewinds = Scenario::named("rewinds");
    // four batches, a rewind, three more, a rewind, five more
    assert_eq!(remaining(rewinds, 0, 2), [(0, Some(2)), (1, None), (2, Some(3)), (3, None), (4, None)]);
    assert_eq!(remaining(rewinds, 1, 4), [(1, None), (2, Some(3)), (3, None), (4, None)]);
    assert_eq!(remaining(rewinds, 1, 5), [(2, Some(3)), (3, None), (4, None)]);
    assert_eq!(remaining(rewinds, 4, 14), [(4, None)]);
    let positions = rewinds.positions();
    assert_eq!(after("batch 0  5 rows\nbatch 1  5 rows\n", 0, &positions), 2);
    assert_eq!(after("resuming after batch 1, 3 files waiting\n", 2, &positions), 2);
}
