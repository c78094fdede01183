//! A batch's progress, put together from what it did.

use super::{clock::Stopwatch, engine::Engine, input::SourceRead};
use crate::{
    model::{BatchPlan, StagedOutput},
    progress::{self, DurationMs, EventTime, LogOffset, Progress, SinkProgress, SourceProgress, StateOperator},
    query::{OperatorStep, Query, Step},
};

/// When a trigger began, and how long its phases took, in milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Timings {
    pub started: Stopwatch,
    pub started_us: i64,
    /// Since the trigger before; `None`: the first of this run.
    pub since_last_us: Option<i64>,
    pub latest_offset_ms: u64,
    pub query_planning_ms: u64,
    pub wal_commit_ms: u64,
    pub get_batch_ms: u64,
    /// The queries and staging.
    pub add_batch_ms: u64,
    /// Staging alone.
    pub stage_ms: u64,
}

impl Engine {
    pub(super) fn report(
        &self,
        plan: &BatchPlan,
        reads: &[SourceRead],
        steps: &[Step],
        staged: &[StagedOutput],
        timings: &Timings,
    ) -> Progress {
        let rows: u64 = reads.iter().flatten().map(|read| read.read.rows).sum();
        let bad = reads.iter().flatten().filter(|read| read.read.bad_rows > 0);
        let since_ms = timings.since_last_us.map(|us| (us / 1000).max(0) as u64);
        let sinks: Vec<SinkProgress> =
            (0..steps.len()).map(|query| self.sink_progress(query, &steps[query], staged)).collect();
        Progress {
            id: self.checkpoint.history().genesis().checkpoint_id.clone(),
            run_id: self.run_id.clone(),
            name: self.job.name.clone(),
            timestamp: progress::timestamp(timings.started_us),
            batch_id: plan.batch.0,
            batch_duration: None,
            num_input_rows: rows,
            input_rows_per_second: since_ms.and_then(|ms| progress::rate(rows, ms)),
            processed_rows_per_second: None,
            duration_ms: DurationMs {
                latest_offset: timings.latest_offset_ms,
                query_planning: timings.query_planning_ms,
                wal_commit: timings.wal_commit_ms,
                get_batch: timings.get_batch_ms,
                add_batch: timings.add_batch_ms,
                commit_offsets: None,
                stage: Some(timings.stage_ms),
                publish: None,
                trigger_execution: None,
            },
            event_time: EventTime::default(),
            state_operators: self.state_operators(steps),
            sources: plan
                .inputs
                .iter()
                .zip(reads)
                .map(|(input, reads)| self.source_progress(input, reads, since_ms))
                .collect(),
            sink: sinks.first().cloned(),
            sinks,
            num_bad_rows: bad.clone().map(|read| read.read.bad_rows).sum(),
            bad_files: bad.map(|read| read.read.file.path.to_string()).collect(),
            num_late_rows: steps.iter().map(|step| step.rows_late).sum(),
        }
    }

    fn sink_progress(&self, query: usize, step: &Step, staged: &[StagedOutput]) -> SinkProgress {
        SinkProgress {
            description: self.outputs.sink_of(query).description(),
            query: self.queries.queries[query].name().to_owned(),
            num_output_rows: self.wants_rows(query).then(|| staged[query].rows),
            num_rows_after_filter: step.rows_filtered,
        }
    }

    fn state_operators(&self, steps: &[Step]) -> Vec<StateOperator> {
        let of_query = |(query, step): (&Query, &Step)| {
            let name = query.name().to_owned();
            let operator = move |operator: &OperatorStep| StateOperator {
                operator_name: operator.name.to_owned(),
                query: name.clone(),
                num_rows_total: operator.rows_total,
                num_rows_updated: operator.rows_updated,
                num_rows_removed: operator.rows_removed,
                commit_time_ms: None,
                memory_used_bytes: operator.memory_bytes,
                num_rows_dropped_by_watermark: operator.rows_late,
            };
            step.operators.iter().map(operator).collect::<Vec<_>>()
        };
        self.queries.queries.iter().zip(steps).flat_map(of_query).collect()
    }

    fn source_progress(
        &self,
        input: &crate::model::SourceInput,
        reads: &SourceRead,
        since_ms: Option<u64>,
    ) -> SourceProgress {
        let offset = |offset: Option<u64>| offset.map(|log_offset| LogOffset { log_offset });
        let rows = reads.iter().map(|read| read.read.rows).sum();
        let source = self.inputs.inputs.iter().find(|source| source.name == input.source);
        let waiting = source.map_or(0, |source| source.waiting());
        let left = waiting.saturating_sub(input.files.len() as u64);
        let bytes_taken = input.files.iter().map(|file| file.size_bytes).sum();
        let per_batch = (input.files.len() as u64).max(1);
        SourceProgress {
            description: source.map_or_else(|| input.source.clone(), |source| source.description.clone()),
            start_offset: offset(input.start),
            end_offset: offset(input.end),
            latest_offset: offset(input.end.map(|end| end + left.div_ceil(per_batch))),
            num_input_rows: rows,
            input_rows_per_second: since_ms.and_then(|ms| progress::rate(rows, ms)),
            processed_rows_per_second: None,
            files: progress::names(input.files.iter().map(|file| file.path.clone())),
            files_left: left,
            bytes_left: source.map(|source| source.waiting_bytes().saturating_sub(bytes_taken)),
            num_files_cleaned: source.map_or(0, |source| source.cleaned.count),
            files_cleaned: source.map_or_else(Vec::new, |source| source.cleaned.names.clone()),
            files_not_cleaned: source.map_or_else(Vec::new, |source| source.cleaned.failed.clone()),
            unread_bytes: source.and_then(|source| source.receiving.as_ref()).map(|receiving| receiving.unread_bytes()),
        }
    }
}
