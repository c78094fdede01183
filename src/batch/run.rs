//! A run: open, recover, batch after batch, stop.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{
    clock::{Stopwatch, now_us},
    engine::{Engine, EngineOptions, MakeSink},
    facts::JobFacts,
    one_batch::Origin,
    receive::unread_yet,
    report::Timings,
    trigger::{Idle, POLL, Trigger},
};
use crate::{
    job::JobSpec,
    model::{BatchId, BatchPlan, Error, ErrorKind, Generation, Notice, Result},
    progress::Progress,
};

/// How often in a row a batch is planned anew because its input was no longer what had been planned.
const REPLANS_MAX: u32 = 20;

/// What is writing the input gets this long before it is looked at again.
const REPLAN_AFTER: Duration = Duration::from_millis(100);

/// How a job is run.
pub struct RunOptions<'a> {
    pub engine: EngineOptions,
    pub trigger: Trigger,
    /// Stop after this many commits.
    pub batches_max: Option<u64>,
    /// Set from outside: finish and commit the batch, then stop.
    pub stop: &'a AtomicBool,
}

/// What happens while a job runs.
pub enum Event<'a> {
    /// The checkpoint is open; `newest` is the high-water mark found in it. What waits is measured now.
    Opened {
        newest: Option<BatchId>,
        /// Nothing was ever committed to it.
        is_new: bool,
        files_waiting: u64,
        bytes_waiting: u64,
        facts: JobFacts,
    },
    /// A batch is planned, and will be worked on.
    Began { batch: BatchId },
    /// A batch was committed and published.
    Batch { progress: &'a Progress, files_left: u64 },
    /// A trigger found nothing to do; told again with each that does. What is received and not due yet waits nevertheless.
    Idle { bytes_waiting: u64 },
    /// Something the operator should know.
    Notice(Notice),
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub batches: u64,
    pub rows: u64,
    pub bad_rows: u64,
}

/// Runs a job until its trigger ends, it is stopped, or it fails.
///
/// # Errors
/// As the exit codes of the command line have it; what was committed stays committed.
pub fn run(
    job: JobSpec,
    options: RunOptions<'_>,
    make_sink: MakeSink<'_>,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Summary> {
    let began_us = now_us();
    let unread_yet = unread_yet(&job);
    let mut engine = Engine::open(job, options.engine.clone(), make_sink).map_err(unread_yet)?;
    engine.checkpoint.runs_since(began_us);
    match batches(&mut engine, &options, watch) {
        Ok(summary) => engine.close().map(|()| summary),
        Err(error) => {
            engine.leave(&error);
            Err(error)
        }
    }
}

/// Begins to receive, and tells what is there.
fn begin(engine: &mut Engine, options: &RunOptions<'_>, watch: &mut dyn FnMut(Event<'_>)) -> Result<()> {
    for notice in std::mem::take(&mut engine.notices) {
        watch(Event::Notice(notice.into()));
    }
    engine.receive(options.trigger, options.engine.accept_change)?;
    if options.trigger.when_idle() == Idle::End {
        engine.inputs.fix(&mut |message| watch(Event::Notice(message)))?;
    }
    let (files_waiting, bytes_waiting) = engine.waiting(watch)?;
    let newest = engine.checkpoint.history().newest().map(|commit| commit.batch());
    let is_new = newest.is_none() && engine.checkpoint.history().generation() == Generation::FIRST;
    watch(Event::Opened { newest, is_new, files_waiting, bytes_waiting, facts: engine.facts() });
    Ok(())
}

/// Batch after batch, until there is a reason to stop.
fn batches(engine: &mut Engine, options: &RunOptions<'_>, watch: &mut dyn FnMut(Event<'_>)) -> Result<Summary> {
    let &RunOptions { trigger, batches_max, stop, .. } = options;
    begin(engine, options, watch)?;
    let mut summary = Summary::default();
    let (mut looked_us, mut started_us) = (None, None);
    let mut planned_in_vain = 0;
    let stopped =
        |summary: &Summary| stop.load(Ordering::Relaxed) || batches_max.is_some_and(|max| summary.batches >= max);
    while !stopped(&summary) {
        if engine.plan_without_data(now_us()).is_none() {
            // what nothing more comes to waits for no interval
            pause(trigger.wait_before(looked_us, now_us()), &|| {
                stop.load(Ordering::Relaxed) || engine.inputs.have_ended()
            });
        }
        if stopped(&summary) {
            break;
        }
        let began_us = now_us();
        let looked_before = looked_us.replace(began_us);
        let since_last_us = started_us.map(|before: i64| began_us - before);
        // asked before: what came last of a source that has ended meanwhile is still to be planned
        let (more_to_come, have_ended) = (engine.inputs.more_to_come(), engine.inputs.have_ended());
        let broken = engine.inputs.broken();
        let Some((plan, origin, timings)) = engine.plan(trigger, began_us, since_last_us, watch)? else {
            watch(Event::Idle { bytes_waiting: engine.inputs.received_bytes() });
            if let Some(error) = broken {
                // all that came before is committed
                return Err(error);
            }
            match trigger.when_idle() {
                Idle::End if more_to_come => engine.inputs.wait(POLL, &|| stop.load(Ordering::Relaxed)),
                Idle::End => break,
                _ if have_ended => break,
                Idle::NextMultiple => {}
                Idle::Wait(longest) => engine.inputs.wait(longest, &|| stop.load(Ordering::Relaxed)),
            }
            continue;
        };
        engine.goes_on = trigger != Trigger::Once && batches_max.is_none_or(|max| summary.batches + 1 < max);
        watch(Event::Began { batch: plan.batch });
        let had_data = plan.inputs.iter().any(|input| !input.files.is_empty());
        if !had_data {
            // it is a part of the trigger before: the next one is counted from there
            looked_us = looked_before;
        }
        let progress = match engine.run_batch(plan, origin, timings) {
            Err(error) if may_plan_again(origin, &error, planned_in_vain) => {
                planned_in_vain += 1;
                watch(Event::Notice(format!("the batch is planned again: {error}").into()));
                pause(REPLAN_AFTER, &|| stop.load(Ordering::Relaxed));
                looked_us = None;
                engine.inputs.look_again(&mut |message| watch(Event::Notice(message)))?;
                continue;
            }
            ended => ended?,
        };
        planned_in_vain = 0;
        started_us = if had_data { Some(began_us) } else { started_us };
        summary.batches += 1;
        summary.rows += progress.num_input_rows;
        summary.bad_rows += progress.num_bad_rows;
        watch(Event::Batch { progress: &progress, files_left: engine.files_left() });
        // a batch without data that was due makes up for the run before
        if trigger == Trigger::Once && had_data {
            break;
        }
    }
    Ok(summary)
}

/// Waits so long, or until there is a reason not to.
fn pause(longest: Duration, is_over: &dyn Fn() -> bool) {
    const SLICE: Duration = Duration::from_millis(50);
    let mut left = longest;
    while !left.is_zero() && !is_over() {
        std::thread::sleep(left.min(SLICE));
        left = left.saturating_sub(SLICE);
    }
}

/// Whether a batch that failed may take its input as it is now: nothing depends on its plan, and the input moved.
fn may_plan_again(origin: Origin, error: &Error, planned_in_vain: u32) -> bool {
    origin == Origin::Fresh && error.kind() == ErrorKind::Moved && planned_in_vain < REPLANS_MAX
}

impl Engine {
    /// Begins to receive, where sources do.
    fn receive(&mut self, trigger: Trigger, accept_gap: bool) -> Result<()> {
        self.inputs.receive(&self.job, trigger, accept_gap, &self.faults)
    }

    /// The next batch: one that a crash interrupted, one that a rewind retracted, or a new one; `None`: nothing waits.
    fn plan(
        &mut self,
        trigger: Trigger,
        began_us: i64,
        since_last_us: Option<i64>,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<(BatchPlan, Origin, Timings)>> {
        let started = Stopwatch::start();
        let mut lap = started;
        let mut timings = Timings {
            started,
            started_us: began_us,
            since_last_us,
            latest_offset_ms: 0,
            query_planning_ms: 0,
            wal_commit_ms: 0,
            get_batch_ms: 0,
            add_batch_ms: 0,
            stage_ms: 0,
        };
        if let Some(plan) = self.bound.take() {
            return Ok(Some((plan, Origin::Interrupted, timings)));
        }
        if let Some(plan) = self.checkpoint.history().pending().next().cloned() {
            return Ok(Some((plan, Origin::Replayed, timings)));
        }
        if let Some(plan) = self.plan_without_data(began_us) {
            return Ok(Some((plan, Origin::Fresh, timings)));
        }
        let Some(inputs) = self.inputs.next(trigger.ignores_limits(), &mut |message| watch(Event::Notice(message)))?
        else {
            return Ok(None);
        };
        timings.latest_offset_ms = lap.lap_ms();
        let batch = self.checkpoint.history().next_batch();
        let plan = BatchPlan { batch, batch_time_us: began_us, watermark_us: self.watermark_us(), inputs };
        timings.query_planning_ms = lap.lap_ms();
        Ok(Some((plan, Origin::Fresh, timings)))
    }

    /// Files that wait before the first batch, replayed ones included, and their bytes.
    fn waiting(&mut self, watch: &mut dyn FnMut(Event<'_>)) -> Result<(u64, u64)> {
        self.inputs.next(false, &mut |message| watch(Event::Notice(message)))?;
        let bytes = self.inputs.inputs.iter().map(|input| input.waiting_bytes()).sum();
        Ok((self.files_left(), bytes))
    }

    fn files_left(&self) -> u64 {
        self.inputs.inputs.iter().map(|input| input.waiting()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plan_of_its_own_is_made_again_and_not_for_ever() {
        let moved = Error::new(ErrorKind::Moved, "an input file is gone");
        assert!(may_plan_again(Origin::Fresh, &moved, 0));
        assert!(!may_plan_again(Origin::Fresh, &moved, REPLANS_MAX));
        assert!(!may_plan_again(Origin::Replayed, &moved, 0), "a replay promises the same input");
        assert!(!may_plan_again(Origin::Interrupted, &moved, 0), "output of this plan may be staged");
        assert!(!may_plan_again(Origin::Fresh, &Error::failed("the disk is full"), 0));
    }
}
