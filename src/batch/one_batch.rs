//! The life of one batch, from a fixed plan to published output.

use super::{
    bad_records::{self, FileRecords},
    clock::{Stopwatch, now_us},
    engine::Engine,
    input::SourceRead,
    outputs::{self, Rows},
    report::Timings,
};
use crate::{
    checkpoint::{CommitDraft, Payload, PayloadKind},
    model::{BatchPlan, CrashPoint, Error, ErrorKind, Place, Result, StagedOutput},
    progress::{self, EventTime, LateProgress, Progress},
    query::{self, Step},
    state,
};

/// Whether a plan was just made, or must be run again because the log holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Made now: a clean failure gives it up.
    Fresh,
    /// Retracted by a rewind, and replayed: it stays until it succeeds or is dropped by command.
    Replayed,
    /// Interrupted by a crash, its intent is in the log.
    Interrupted,
}

/// What a batch found and did, before it is committed.
struct Worked {
    reads: Vec<SourceRead>,
    steps: Vec<Step>,
    /// What each outlet publishes.
    rows: Vec<Rows>,
    staged: Vec<StagedOutput>,
    event_times: EventTime,
    /// Each source's own watermark after the batch.
    watermarks_us: Vec<Option<i64>>,
}

/// All that is left to do is to commit it.
struct Ready {
    draft: CommitDraft,
    rows: Vec<Rows>,
    progress: Progress,
}

impl Engine {
    /// Runs one batch to its end. After any error but one of kind `Moved` the engine must be dropped.
    ///
    /// # Errors
    /// A failure before the commit leaves nothing staged or published and holds no plan back, so that the input can be
    /// mended; after one in the commit or later, recovery finds out what is durable, and goes on from there.
    pub(super) fn run_batch(&mut self, plan: BatchPlan, origin: Origin, mut timings: Timings) -> Result<Progress> {
        self.faults.reach(CrashPoint::Planned)?;
        self.checkpoint.works_on(Some((plan.batch, timings.started_us)));
        let watch = Stopwatch::start();
        let intended = origin == Origin::Interrupted;
        if !intended && self.must_intend() {
            self.owes = true;
            self.checkpoint.intend(&plan)?;
            self.owes = false;
            self.faults.reach(CrashPoint::Intended)?;
        }
        timings.wal_commit_ms = watch.elapsed_ms();
        let worked = self.work(&plan, origin, &mut timings);
        let ended = match worked.and_then(|worked| self.ready(&plan, worked, &timings)) {
            Ok(ready) => self.finish(&plan, ready, &timings),
            Err(error) => Err(self.give_up(&plan, origin, error)),
        };
        self.checkpoint.works_on(None);
        ended
    }

    /// A plan must be durable before anything outside the checkpoint depends on it.
    fn must_intend(&self) -> bool {
        self.outputs.stage_outside() || self.queries.uses_batch_time()
    }

    /// Read, step, stage.
    fn work(&mut self, plan: &BatchPlan, origin: Origin, timings: &mut Timings) -> Result<Worked> {
        let mut watch = Stopwatch::start();
        let mut reads = self.inputs.read(&plan.inputs, self.goes_on)?;
        let event_times = self.event_times(plan, &reads);
        let watermarks_us = self.watermarks_after(plan, &reads);
        if origin != Origin::Fresh {
            self.check_repeated(plan, &reads)?;
        }
        self.check_bad_records(plan, &reads)?;
        self.faults.reach(CrashPoint::Read)?;
        timings.get_batch_ms = watch.lap_ms();
        for (input, reads) in plan.inputs.iter().zip(&mut reads) {
            // a plan keeps the order of the job that made it
            let Some(source) = self.job.sources.iter().position(|source| source.name == input.source) else { continue };
            let batches = reads.iter_mut().flat_map(|read| std::mem::take(&mut read.decoded.batches)).collect();
            self.queries.feed(source, query::Rows::Batches(std::sync::Arc::new(batches)));
        }
        self.queries.set_batch_time(plan.batch_time_us);
        let wants: Vec<bool> = (0..self.queries.queries.len()).map(|index| self.wants_rows(index)).collect();
        let mut steps = self
            .queries
            .step(&wants, (plan.batch, self.watermarks(plan)), self.threads)
            .map_err(|error| in_batch(error, plan))?;
        for source in 0..self.job.sources.len() {
            self.queries.feed(source, query::Rows::None);
        }
        self.faults.reach(CrashPoint::Stepped)?;
        let mut rows: Vec<Rows> = steps.iter_mut().map(|step| step.output.take()).collect();
        rows.extend(self.outputs.wanted_late().map(|query| Some(std::mem::take(&mut steps[query].late))));
        let staging = Stopwatch::start();
        let staged = self.outputs.stage(&self.queries, plan.batch, &rows)?;
        self.faults.reach(CrashPoint::Staged)?;
        timings.stage_ms = staging.elapsed_ms();
        timings.add_batch_ms = watch.lap_ms();
        Ok(Worked { reads, steps, rows, staged, event_times, watermarks_us })
    }

    /// Puts together what the commit says; the last that can fail without a doubt about what is durable.
    fn ready(&mut self, plan: &BatchPlan, worked: Worked, timings: &Timings) -> Result<Ready> {
        let Worked { reads, mut steps, rows, staged, event_times, watermarks_us } = worked;
        let payloads = self.payloads(&mut steps, &rows)?;
        let progress = Progress { event_time: event_times, ..self.report(plan, &reads, &steps, &staged, timings) };
        let text = serde_json::to_string(&progress)
            .map_err(|error| Error::failed("progress cannot be written").because(error.to_string()))?;
        let late = self.late.as_ref().map(serde_json::to_string).transpose();
        let late = late.map_err(|error| Error::failed("progress cannot be written").because(error.to_string()))?;
        self.keep_bad_records(plan, &reads)?;
        let draft = CommitDraft {
            plan: plan.clone(),
            run_id: self.run_id.clone(),
            committed_at_us: now_us(),
            files: reads.iter().map(|reads| reads.iter().map(|read| read.read.clone()).collect()).collect(),
            watermarks_us,
            payloads,
            outputs: staged,
            rows: progress.num_input_rows,
            bad_rows: progress.num_bad_rows,
            state_rows: self.queries.queries.iter().map(query::Query::state_rows).sum(),
            progress: text,
            late_progress: late,
        };
        Ok(Ready { draft, rows, progress })
    }

    /// Commit, publish, and the upkeep that a commit may make due.
    fn finish(&mut self, plan: &BatchPlan, ready: Ready, timings: &Timings) -> Result<Progress> {
        let Ready { draft, rows, mut progress } = ready;
        let staged = draft.outputs.clone();
        let watch = Stopwatch::start();
        self.owes = true;
        let permit = self.checkpoint.commit(draft)?;
        self.faults.reach(CrashPoint::Committed)?;
        let commit_offsets = watch.elapsed_ms();
        self.inputs.committed(&plan.inputs);
        let watch = Stopwatch::start();
        self.outputs.publish(&permit, &self.queries, (plan.batch, &staged), &rows)?;
        self.owes = false;
        let publish = watch.elapsed_ms();
        self.keep_snapshot()?;
        let late = LateProgress { batch_duration: timings.started.elapsed_ms(), commit_offsets, publish };
        progress.complete(&late);
        self.late = Some(late);
        Ok(progress)
    }

    fn payloads(&self, steps: &mut [Step], rows: &[Rows]) -> Result<Vec<Payload>> {
        let mut payloads = Vec::new();
        for (index, query) in self.queries.queries.iter().enumerate() {
            let payload = |kind, bytes| Payload { query: query.name().to_owned(), kind, bytes };
            let deltas = std::mem::take(&mut steps[index].deltas);
            payloads.extend(deltas.into_iter().map(|delta| payload(PayloadKind::Delta, delta)));
            let keeps_rows = outputs::keeps_rows(&self.job, &self.job.queries[index], query);
            if let (true, Some(rows)) = (keeps_rows, &rows[index]) {
                payloads.push(payload(PayloadKind::Rows, state::encode(query.output_schema(), rows)?));
            }
        }
        Ok(payloads)
    }

    /// Keeps the state whole, if that is due.
    pub(super) fn keep_snapshot(&mut self) -> Result<()> {
        if !self.checkpoint.snapshot_due() {
            return Ok(());
        }
        let mut payloads = Vec::new();
        for query in &self.queries.queries {
            payloads.extend(whole_state(query)?);
        }
        self.checkpoint.snapshot(payloads)?;
        self.retire_input()
    }

    /// Discards what a failed batch staged and, unless the plan must stay, withdraws it. What goes wrong on the way is
    /// logged: the first error is the one that the operator needs.
    fn give_up(&mut self, plan: &BatchPlan, origin: Origin, error: Error) -> Error {
        if error.kind() == ErrorKind::Crashed {
            return error;
        }
        if let Err(second) = self.outputs.abort() {
            tracing::warn!("staged output of batch {} could not be removed: {second}", plan.batch);
        }
        if origin == Origin::Fresh || error.kind() == ErrorKind::Data {
            if self.checkpoint.history().intent().is_some()
                && let Err(second) = self.checkpoint.withdraw()
            {
                tracing::warn!("the plan of batch {} could not be withdrawn: {second}", plan.batch);
            }
            return error;
        }
        let dir = self.checkpoint.dir().display().to_string();
        let newest = self.checkpoint.history().newest().map_or("start".to_owned(), |commit| commit.batch().to_string());
        error.or_help(format!(
            "batch {} must be run as it was planned: where its input cannot be brought back, drop the plan with `highwater rewind {dir} --to {newest} --replan`",
            plan.batch
        ))
    }

    /// Refuses to replay a batch over other bytes: size and modification time can be the same, and the replay promises
    /// the same rows. Where the log no longer has the first reading's hashes, size and time must do.
    fn check_repeated(&mut self, plan: &BatchPlan, reads: &[SourceRead]) -> Result<()> {
        if self.to_repeat.is_none() {
            self.to_repeat = Some(self.checkpoint.reads_to_repeat()?);
        }
        let Some(before) = self.to_repeat.as_ref().and_then(|batches| batches.get(&plan.batch)) else { return Ok(()) };
        for ((input, before), reads) in plan.inputs.iter().zip(before).zip(reads) {
            let pairs = before.iter().zip(reads);
            let Some((first, now)) = pairs.into_iter().find(|(first, now)| first.content_hash != now.read.content_hash)
            else {
                continue;
            };
            let path = self.inputs.find(&input.source)?.source.root().join(first.file.path.as_path());
            return Err(Error::new(ErrorKind::Moved, "an input file is not the one that this batch read before")
                .at(Place::Path(path))
                .because(format!(
                    "it has the size and modification time of then, but other bytes: their hash was {:032x}, it is {:032x}",
                    first.content_hash, now.read.content_hash
                ))
                .help("put the first file back, with its modification time, then run again"));
        }
        Ok(())
    }

    /// Refuses a batch with more bad records than its source allows.
    fn check_bad_records(&self, plan: &BatchPlan, reads: &[SourceRead]) -> Result<()> {
        for (input, reads) in plan.inputs.iter().zip(reads) {
            let Some(spec) = self.job.source(&input.source) else { continue };
            let options = &spec.format.records;
            let bad: u64 = reads.iter().map(|read| read.decoded.bad_rows).sum();
            if options.bad_records_max.is_some_and(|max| bad > max) {
                let worst = reads.iter().find(|read| read.decoded.bad_rows > 0);
                let first = worst.and_then(|read| read.decoded.bad.first().map(|record| (read, record)));
                let error =
                    Error::data(format!("batch {} has {bad} bad records", plan.batch)).help(match spec.received {
                        None => "mend the file and run again, or raise max_bad_records",
                        // a segment is never mended by hand: it would be damage
                        Some(_) => "what was received stays as it is; raise max_bad_records, then run again",
                    });
                return Err(match first {
                    Some((read, record)) => error
                        .at(Place::Input {
                            file: read.read.file.path.to_string(),
                            line: record.line,
                            byte: record.byte,
                        })
                        .because(format!("the first of them: {}", record.reason)),
                    None => error,
                });
            }
        }
        Ok(())
    }

    fn keep_bad_records(&self, plan: &BatchPlan, reads: &[SourceRead]) -> Result<()> {
        let mut files = Vec::new();
        for (input, reads) in plan.inputs.iter().zip(reads) {
            for read in reads {
                files.push(FileRecords {
                    source: &input.source,
                    file: read.read.file.path.to_string(),
                    records: &read.decoded.bad,
                    omitted: read.decoded.bad_rows.saturating_sub(read.decoded.bad.len() as u64),
                });
            }
        }
        self.checkpoint.keep_bad_records(&bad_records::lines(plan.batch, &files)?)
    }
}

/// A query's state, whole, as payloads of a snapshot.
pub(super) fn whole_state(query: &query::Query) -> Result<Vec<Payload>> {
    let states = query.state_schemas().into_iter().zip(query.whole_state()?);
    let payload = |(schema, parts): (_, Vec<_>)| {
        let bytes = state::encode(&schema, &parts)?;
        Ok(Payload { query: query.name().to_owned(), kind: PayloadKind::State, bytes })
    };
    states.map(payload).collect()
}

/// Says in which batch an expression failed, and which files it read.
fn in_batch(error: Error, plan: &BatchPlan) -> Error {
    const FILES_NAMED_MAX: usize = 3;
    if error.place().is_none() {
        return error.at(Place::Batch(plan.batch));
    }
    let files: Vec<String> =
        progress::names(plan.inputs.iter().flat_map(|input| &input.files).map(|file| file.path.clone()));
    let more = files.len().saturating_sub(FILES_NAMED_MAX);
    let mut named = files.into_iter().take(FILES_NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        named += &format!(" and {more} more");
    }
    error.and_because(format!("in batch {}, of {named}", plan.batch))
}
