//! Rewind: the job goes on from an earlier batch. A new fact in the log, never an undo.

use std::path::Path;

use super::{
    clock::now_us,
    engine::{Engine, EngineOptions, MakeSink},
    kept_job::kept_job,
    open::Loss,
    restore,
    view::{View, published},
};
use crate::{
    checkpoint::Checkpoint,
    job::SinkConnector,
    model::{BatchAddress, BatchId, CrashPoint, ErrorKind, Faults, OutputMode, Result, StagedOutput},
    query::JobQueries,
    sink::{self, ConsoleTarget},
};

/// What a rewind is asked to do.
#[derive(Debug, Clone)]
pub struct RewindOptions {
    /// The newest batch from then on; `None`: before the first.
    pub to: Option<BatchId>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Plan anew what follows, instead of replaying the retracted plans.
    pub replan: bool,
    pub threads: usize,
    pub faults: Faults,
}

/// What a rewind did, or would do.
#[derive(Debug, Clone)]
pub struct RewindReport {
    /// The newest batch before it.
    pub from: Option<BatchId>,
    pub retracted: Vec<BatchAddress>,
    /// Sink by sink, what becomes invisible.
    pub invisible: Vec<String>,
    /// How many plans the job will replay before it plans anew.
    pub replays: u64,
    /// Plans that waited, and are given up: a replay's, or one that a crash interrupted.
    pub dropped: u64,
}

/// Rewinds a checkpoint whose job does not run.
///
/// # Errors
/// Of kind `Refused`, where the batch is beyond the horizon, or a job holds the checkpoint.
pub fn rewind(dir: &Path, options: &RewindOptions, make_sink: MakeSink<'_>) -> Result<RewindReport> {
    let view = View::open(dir)?;
    let report = report(&view, options)?;
    if options.dry_run {
        return Ok(report);
    }
    let job = kept_job(view.reader.history())?;
    drop(view);
    let engine = EngineOptions {
        checkpoint: dir.to_owned(),
        threads: options.threads,
        accept_change: false,
        faults: options.faults.clone(),
    };
    let mut engine = Engine::open_with(job, engine, Loss::Accept { to: options.to }, make_sink).map_err(|error| {
        match error.kind() {
            ErrorKind::Usage => error
                .and_because("the checkpoint keeps where the folders of its job are")
                .or_help("put back what is missing; or run the job first as it is now, with --set where folders have moved, then rewind"),
            _ => error,
        }
    })?;
    engine.rewind(options.to, options.replan)?;
    engine.close()?;
    Ok(report)
}

fn report(view: &View, options: &RewindOptions) -> Result<RewindReport> {
    let history = view.reader.history();
    let newest = history.newest().map(|commit| commit.batch());
    if let Some(to) = options.to {
        view.reader.find(BatchAddress { batch: to, generation: None })?;
    }
    let goes = |batch: BatchId| options.to.is_none_or(|to| batch > to);
    let retracted: Vec<_> = history.live().iter().filter(|commit| goes(commit.batch())).cloned().collect();
    let mut invisible = Vec::new();
    let planned = JobQueries::plan(view.job())?;
    for (query, planned) in view.job().queries.iter().zip(&planned.queries) {
        let sink = view.job().sink_of(query);
        let outputs = published(&retracted, &query.name);
        if retracted.is_empty() {
            continue;
        }
        if outputs.iter().any(|(_, output)| !output.name.is_empty()) {
            sink::make_sink(sink, planned.mode(), ConsoleTarget::nowhere).can_retract()?;
        }
        invisible.push(match &sink.connector {
            SinkConnector::Console => format!("{}: console: what was printed stays; a notice says so", sink.name),
            SinkConnector::Memory => {
                format!("{}: memory: results after the batch are addressed by generation only", sink.name)
            }
            SinkConnector::Files { path, .. } => in_files(&sink.name, path, &outputs),
            SinkConnector::Sqlite { path, table } => {
                let shown = format!("table '{table}' of {}", path.display());
                format!("{}: sqlite: rows of {} in {shown}", sink.name, batches(outputs.len()))
            }
            SinkConnector::Postgres(_) | SinkConnector::Redis(_) => {
                let (kind, shown) = (sink.connector.name(), sink.connector.server_shown().unwrap_or_default());
                format!("{}: {kind}: rows of {} in {shown}", sink.name, batches(outputs.len()))
            }
            SinkConnector::Command(_) => {
                format!("{}: command: what its program was given stays; a notice says so", sink.name)
            }
        });
        let late = published(&retracted, &sink.late_name());
        invisible.extend(sink.late_rows.iter().map(|path| in_files(&sink.late_name(), path, &late)));
    }
    let waiting = history.pending().count() + usize::from(history.intent().is_some());
    let (replays, dropped) =
        if options.replan { (0, waiting) } else { (retracted.len() + history.pending().count(), 0) };
    Ok(RewindReport {
        from: newest,
        retracted: retracted.iter().map(|commit| commit.address()).collect(),
        invisible,
        replays: replays as u64,
        dropped: dropped as u64,
    })
}

fn batches(count: usize) -> String {
    if count == 1 { "1 batch".to_owned() } else { format!("{count} batches") }
}

fn in_files(name: &str, folder: &Path, outputs: &[(BatchId, StagedOutput)]) -> String {
    let names = outputs.iter().map(|(_, output)| output.name.as_str());
    let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    names.dedup();
    let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!("{name}: files in {}: {list}", folder.display())
}

impl Engine {
    /// Makes `to` the newest batch, restores its state, and retracts at the sinks what came after.
    pub(super) fn rewind(&mut self, to: Option<BatchId>, replan: bool) -> Result<()> {
        self.checkpoint.rewind(to, replan, now_us())?;
        self.to_repeat = None;
        self.faults.reach(CrashPoint::Rewound)?;
        for query in &mut self.queries.queries {
            query.clear()?;
        }
        if let Some(newest) = self.checkpoint.history().newest().cloned() {
            let steps = self.checkpoint.restore_steps(newest.address())?;
            let checkpoint: &Checkpoint = &self.checkpoint;
            restore::restore(&mut self.queries, &steps, &|payload| checkpoint.read_payload(payload))?;
        }
        self.retract_after(to)
    }

    /// Whether the query's sink shows results that later batches replace, so that a rewind has to put back the one before: the
    /// whole of it, or rows of a table. Files of update mode are one for each batch.
    pub(super) fn replaces_output(&self, query: usize) -> bool {
        let connector = &self.job.sink_of(&self.job.queries[query]).connector;
        match self.queries.queries[query].mode() {
            OutputMode::Complete => self.wants_rows(query),
            OutputMode::Update => connector.replaces_rows(),
            OutputMode::Append => false,
        }
    }
}
