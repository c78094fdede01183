//! A job at work: its queries, sources, sinks and checkpoint, opened together.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    clock::{now_us, unique_id},
    input::{Inputs, absolute},
    kept_job::make_absolute,
    open::{Loss, reopen},
    outputs::{self, Outputs},
    statics,
};
use crate::{
    checkpoint::{Checkpoint, Commit, Genesis, OpenOptions, Recovery},
    job::{CleanSource, JobSpec, SinkSpec},
    model::{BatchId, BatchPlan, Error, ErrorKind, Faults, FileRead, OutputMode, Result, StagedOutput},
    progress::LateProgress,
    query::JobQueries,
    sink::{Before, Sink},
};

/// Makes the sink of a query; the caller knows where a console writes.
pub type MakeSink<'a> = &'a mut dyn FnMut(&SinkSpec, OutputMode) -> Result<Box<dyn Sink>>;

/// What an engine is opened with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    pub checkpoint: PathBuf,
    /// Threads that decode input and run queries; as many again read ahead.
    pub threads: usize,
    /// Take over changes of filters and projections (recorded in the log).
    pub accept_change: bool,
    pub faults: Faults,
}

/// Everything that one run of a job holds.
pub struct Engine {
    pub(super) job: JobSpec,
    pub(super) queries: JobQueries,
    pub(super) inputs: Inputs,
    pub(super) outputs: Outputs,
    pub(super) checkpoint: Checkpoint,
    pub(super) run_id: String,
    pub(super) threads: usize,
    /// Whether another batch is likely to follow the one at hand.
    pub(super) goes_on: bool,
    pub(super) faults: Faults,
    /// What became known of the newest batch after its commit.
    pub(super) late: Option<LateProgress>,
    /// Whether it is unknown what is durable, or the sinks do not show it yet: for the next start to find out.
    pub(super) owes: bool,
    /// A plan that must run before anything new, because a crash interrupted it.
    pub(super) bound: Option<BatchPlan>,
    /// What the batches to be replayed had read; found out when the first of them runs.
    pub(super) to_repeat: Option<BTreeMap<BatchId, Vec<Vec<FileRead>>>>,
    /// What was met while it was opened, that the operator should know.
    pub(super) notices: Vec<String>,
}

impl Engine {
    /// Opens the checkpoint (making it, where there is none), restores the state, and claims the sinks. Nothing is
    /// written before the job is known to be sound.
    ///
    /// # Errors
    /// Of kind `Usage` for the job, `Refused` for the checkpoint or a sink's place.
    pub fn open(job: JobSpec, options: EngineOptions, make_sink: MakeSink<'_>) -> Result<Engine> {
        Engine::open_with(job, options, Loss::Replay, make_sink)
    }

    /// As [`Engine::open`]; `loss`: what to do about batches that a damaged log lost.
    pub(super) fn open_with(
        mut job: JobSpec,
        options: EngineOptions,
        loss: Loss,
        make_sink: MakeSink<'_>,
    ) -> Result<Engine> {
        let EngineOptions { checkpoint: dir, threads, accept_change, faults } = options;
        job.receive_in(&absolute(&dir)?);
        let log_options = OpenOptions { faults: faults.clone(), settings: job.settings.clone() };
        let mut queries = JobQueries::plan(&job)?;
        let mut notices = Vec::new();
        outputs::check_sinks(&job, &queries, make_sink, false)?;
        let (checkpoint, inputs, differences) = if Checkpoint::exists(&dir)? {
            reopen(&mut job, &mut queries, (&dir, log_options), (accept_change, loss), threads, &mut |notice| {
                notices.push(notice);
            })?
        } else {
            queries = match job.statics.is_empty() {
                true => queries,
                false => statics::plan(&job, threads, &mut |notice| notices.push(notice))?,
            };
            let mut inputs = Inputs::open(&job, &queries, threads)?;
            outputs::check_sinks(&job, &queries, make_sink, true)?;
            let genesis = genesis(&job, &queries, unique_id(), now_us())?;
            make_absolute(&mut job, &genesis.roots.iter().cloned().collect());
            inputs.look_ahead();
            (Checkpoint::create(&dir, genesis, log_options)?, inputs, Vec::new())
        };
        let mut sinks = Vec::with_capacity(job.queries.len());
        for (spec, query) in job.queries.iter().zip(&queries.queries) {
            sinks.push(make_sink(job.sink_of(spec), query.mode())?);
        }
        let outputs = Outputs::new(&job, sinks, faults.clone());
        let mut engine = Engine {
            job,
            queries,
            inputs,
            outputs,
            checkpoint,
            run_id: unique_id(),
            threads,
            goes_on: false,
            faults,
            late: None,
            owes: false,
            bound: None,
            to_repeat: None,
            notices,
        };
        engine.claim_sinks(loss)?;
        engine.accept(differences)?;
        engine.resume(loss)?;
        Ok(engine)
    }

    /// Makes the sinks this checkpoint's own.
    fn claim_sinks(&mut self, loss: Loss) -> Result<()> {
        let genesis = self.checkpoint.history().genesis();
        let inherited = genesis.forked_from.as_ref().map(|fork| fork.batch);
        let (owed, live) = (self.owed()?, self.live_for(loss)?);
        // What a rewind takes back need not be there any more, and a fork publishes to a place of its own. A batch without late
        // rows has no file of them, so those before it are asked as well.
        let own = live.iter().filter(|commit| Some(commit.batch()) > inherited);
        let stays = |batch: BatchId| match loss {
            Loss::Replay => owed != Some(batch),
            Loss::Accept { to } => owed != Some(batch) && Some(batch) <= to,
        };
        let before = |name: &str| {
            let is_its = |output: &&StagedOutput| output.sink == name && !output.name.is_empty();
            let its =
                |commit: &Arc<Commit>| commit.outputs.iter().find(is_its).map(|output| (commit.batch(), output.hash));
            let batches: Vec<_> = own.clone().filter_map(its).collect();
            let newest = batches.iter().rev().map(|(batch, _)| *batch).find(|batch| stays(*batch));
            Before { resumes: loss == Loss::Replay && !batches.is_empty(), newest, batches }
        };
        self.outputs.open(&self.queries, &genesis.checkpoint_id, &before)
    }

    /// The newest batch, where it may not be published yet.
    fn owed(&self) -> Result<Option<BatchId>> {
        let (Recovery::PublishAgain { batch }, Some(newest)) =
            (self.checkpoint.recovery(), self.checkpoint.history().newest())
        else {
            return Ok(None);
        };
        // a snapshot is taken only after its batch was published
        let is_published = self.checkpoint.restore_steps(newest.address())?.commits.is_empty();
        Ok((!is_published).then_some(batch))
    }

    /// The live timeline: as far back as the log's live part knows it, or a rewind goes.
    fn live_for(&self, loss: Loss) -> Result<Vec<Arc<Commit>>> {
        match loss {
            Loss::Accept { to: Some(to) } => self.checkpoint.live_from(to),
            _ => Ok(self.checkpoint.history().live().to_vec()),
        }
    }

    /// A stop because of `error`: the log still learns that what was committed is published, if it is, so that the next
    /// start does not publish it again. That this may fail as well is logged: the first error is the operator's.
    pub(super) fn leave(self, error: &Error) {
        if self.owes || error.kind() == ErrorKind::Crashed {
            return;
        }
        if let Err(second) = self.close() {
            tracing::warn!("the job could not be closed in good order: {second}");
        }
    }

    /// A clean stop: the newest batch is known to be published, whatever becomes of what was received since.
    ///
    /// # Errors
    /// Of kind `Failed`, where a log cannot be written.
    pub fn close(mut self) -> Result<()> {
        let stopped = self.inputs.stop_receiving();
        let closed = self.checkpoint.mark_published().and_then(|()| self.checkpoint.close());
        if let (Err(_), Err(second)) = (&stopped, &closed) {
            tracing::warn!("the log could not be closed in good order either: {second}");
        }
        stopped.and(closed)
    }
}

/// What a new checkpoint is made for; `now_us`: microseconds since the Unix epoch.
pub(super) fn genesis(job: &JobSpec, queries: &JobQueries, checkpoint_id: String, now_us: i64) -> Result<Genesis> {
    let mut roots = Vec::with_capacity(job.sources.len() + job.sinks.len());
    // a receive log moves with its checkpoint
    for source in job.sources.iter().chain(&job.statics).filter(|source| source.received.is_none()) {
        roots.push((source.name.clone(), absolute(Path::new(&source.files.path))?));
    }
    for source in &job.sources {
        if let Some(CleanSource::Archive(dir)) = &source.files.clean_source {
            roots.push((source.archive_name(), absolute(dir)?));
        }
    }
    for sink in &job.sinks {
        for place in sink.places() {
            let path = absolute(place.path)?;
            roots.push((place.name, path));
        }
    }
    Ok(Genesis {
        checkpoint_id,
        job_name: job.name.clone(),
        job_file: job.file.clone(),
        template: job.template.clone(),
        variables: job.variables.clone(),
        roots,
        identities: queries.identities(),
        created_us: now_us,
        forked_from: None,
    })
}
