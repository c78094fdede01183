//! The watermark of a job: what its plans use, and what batches add to it.

use datafusion::arrow::{
    array::{Array, AsArray},
    compute,
    datatypes::TimestampMicrosecondType,
};

use super::{engine::Engine, input::SourceRead};
use crate::{
    job::SourceSpec,
    model::{BatchPlan, Watermarks},
    progress::{self, EventTime},
};

/// The event times of one batch of one source, microseconds.
#[derive(Debug, Clone, Copy)]
struct Span {
    min: i64,
    max: i64,
    sum: i128,
    count: u64,
}

impl Span {
    fn of(spec: &SourceSpec, reads: &SourceRead) -> Option<Span> {
        let column = &spec.columns[spec.event_time?.column].name;
        let mut span: Option<Span> = None;
        for batch in reads.iter().flat_map(|read| &read.decoded.batches) {
            let times = batch.column_by_name(column)?.as_primitive_opt::<TimestampMicrosecondType>()?;
            let (Some(min), Some(max)) = (compute::min(times), compute::max(times)) else { continue };
            let sum = times.iter().flatten().map(i128::from).sum();
            let count = (batch.num_rows() - times.null_count()) as u64;
            span = Some(Span { min, max, sum, count }.and(span));
        }
        span
    }

    fn and(self, other: Option<Span>) -> Span {
        let Some(other) = other else { return self };
        Span {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: self.sum + other.sum,
            count: self.count + other.count,
        }
    }
}

impl Engine {
    /// The watermark that the next batch uses: of what the batches so far saw, and never less than the one before.
    pub(super) fn watermark_us(&self) -> Option<i64> {
        let newest = self.checkpoint.history().newest()?;
        let own = newest.plan.inputs.iter().zip(&newest.watermarks_us);
        let with_time = self.job.sources.iter().filter(|source| source.event_time.is_some());
        let of_sources =
            with_time.map(|source| own.clone().find(|(input, _)| input.source == source.name)?.1.to_owned());
        self.job.settings.watermark_policy.of(of_sources).max(newest.plan.watermark_us)
    }

    /// The plan of a batch without data, if one is due: the watermark rose, and that changes something.
    pub(super) fn plan_without_data(&self, batch_time_us: i64) -> Option<BatchPlan> {
        if !self.queries.are_bounded() {
            return None;
        }
        let newest = self.checkpoint.history().newest()?;
        let watermark_us = self.watermark_us();
        let is_due = watermark_us > newest.plan.watermark_us;
        is_due.then(|| BatchPlan {
            batch: self.checkpoint.history().next_batch(),
            batch_time_us,
            watermark_us,
            inputs: self.inputs.nothing(),
        })
    }

    /// What is late in a batch, and what is over.
    pub(super) fn watermarks(&self, plan: &BatchPlan) -> Watermarks {
        let before = self.checkpoint.history().newest();
        Watermarks { late_us: before.and_then(|commit| commit.plan.watermark_us), over_us: plan.watermark_us }
    }

    /// Each source's own watermark after a batch, per input of its plan.
    pub(super) fn watermarks_after(&self, plan: &BatchPlan, reads: &[SourceRead]) -> Vec<Option<i64>> {
        let newest = self.checkpoint.history().newest();
        let before = |source: &str| {
            let newest = newest?;
            let at = newest.plan.inputs.iter().position(|input| input.source == source)?;
            newest.watermarks_us.get(at).copied().flatten()
        };
        let after = |(input, reads): (&crate::model::SourceInput, &SourceRead)| {
            let spec = self.job.source(&input.source)?;
            let delay_us = spec.event_time?.delay_us;
            let seen = Span::of(spec, reads).map(|span| span.max.saturating_sub(delay_us));
            seen.max(before(&input.source))
        };
        plan.inputs.iter().zip(reads).map(after).collect()
    }

    /// The event times of a batch, for its progress.
    pub(super) fn event_times(&self, plan: &BatchPlan, reads: &[SourceRead]) -> EventTime {
        let spans =
            plan.inputs.iter().zip(reads).filter_map(|(input, reads)| Span::of(self.job.source(&input.source)?, reads));
        let span = spans.fold(None, |known: Option<Span>, span| Some(span.and(known)));
        let average =
            |span: Span| i64::try_from(span.sum.div_euclid(i128::from(span.count.max(1)))).unwrap_or(span.max);
        EventTime {
            avg: span.map(|span| progress::timestamp(average(span))),
            max: span.map(|span| progress::timestamp(span.max)),
            min: span.map(|span| progress::timestamp(span.min)),
            watermark: plan.watermark_us.map(progress::timestamp),
        }
    }
}
