//! All sinks of a job, one per query, driven in the order of the life of a batch.

use datafusion::arrow::record_batch::RecordBatch;

use super::engine::MakeSink;
use crate::{
    checkpoint::CommitPermit,
    job::{JobSpec, QuerySpec, SinkConnector},
    model::{BatchId, CrashPoint, Faults, Result, StagedOutput},
    query::{JobQueries, Query},
    sink::{Output, Sink},
};

/// Rows for one query's sink; `None` where the sink's result lives in the checkpoint.
pub(super) type Rows = Option<Vec<RecordBatch>>;

/// The sinks, in the order of the job's queries.
pub(super) struct Outputs {
    sinks: Vec<Box<dyn Sink>>,
    faults: Faults,
}

impl Outputs {
    pub fn new(sinks: Vec<Box<dyn Sink>>, faults: Faults) -> Outputs {
        Outputs { sinks, faults }
    }

    pub fn sinks(&self) -> &[Box<dyn Sink>] {
        &self.sinks
    }

    /// Claims every sink; `newest`: what the newest batch of this very checkpoint published, which must be there.
    ///
    /// # Errors
    /// Where a sink's place belongs to another checkpoint, is not the one that was published to, or cannot be written.
    pub fn open(&mut self, queries: &JobQueries, checkpoint_id: &str, newest: &[StagedOutput]) -> Result<()> {
        for (sink, query) in self.sinks.iter_mut().zip(&queries.queries) {
            let resumes = newest.iter().any(|output| output.sink == query.name() && !output.name.is_empty());
            sink.open(checkpoint_id, resumes)?;
        }
        Ok(())
    }

    pub fn stage_outside(&self) -> bool {
        self.sinks.iter().any(|sink| sink.stages_outside())
    }

    /// Writes what the batch will publish: durable, invisible.
    pub fn stage(&mut self, queries: &JobQueries, batch: BatchId, rows: &[Rows]) -> Result<Vec<StagedOutput>> {
        let sinks = self.sinks.iter_mut();
        let outputs = (0..).zip(rows).map(|(query, rows)| output(queries, query, batch, rows));
        sinks.zip(outputs).map(|(sink, output)| sink.stage(&output)).collect()
    }

    /// Makes the batch's output visible. Only a commit can give the permit.
    pub fn publish(
        &mut self,
        permit: &CommitPermit,
        queries: &JobQueries,
        (batch, staged): (BatchId, &[StagedOutput]),
        rows: &[Rows],
    ) -> Result<()> {
        for (query, sink) in self.sinks.iter_mut().enumerate() {
            // A query that was added after this batch has no output in it.
            let name = queries.queries[query].name();
            let Some(staged) = staged.iter().find(|staged| staged.sink == name) else { continue };
            sink.publish(permit, staged, &output(queries, query, batch, &rows[query]))?;
            if query == 0 {
                self.faults.reach(CrashPoint::PublishedFirst)?;
            }
        }
        self.faults.reach(CrashPoint::Published)
    }

    /// Discards everything staged.
    pub fn abort(&mut self) -> Result<()> {
        self.sinks.iter_mut().try_for_each(|sink| sink.abort())
    }

    /// Makes invisible what batches after `keep` published; `latest`: the rows of the result as of `keep`.
    pub fn retract(
        &mut self,
        permit: &CommitPermit,
        queries: &JobQueries,
        keep: Option<BatchId>,
        latest: &[Rows],
    ) -> Result<()> {
        for (query, sink) in self.sinks.iter_mut().enumerate() {
            let output = keep.map(|batch| output(queries, query, batch, &latest[query]));
            sink.retract(permit, keep, output.as_ref())?;
            if query == 0 {
                self.faults.reach(CrashPoint::RetractedFirst)?;
            }
        }
        self.faults.reach(CrashPoint::Retracted)
    }
}

/// Refuses a query whose rows its sink could not write and, for a checkpoint that is still to be made (`new`), a sink's
/// place that is taken; touches nothing.
///
/// # Errors
/// Of kind `Usage`, with the query's place in the job file; `Refused` for a place.
pub(super) fn check_sinks(job: &JobSpec, queries: &JobQueries, make_sink: MakeSink<'_>, new: bool) -> Result<()> {
    for (spec, query) in job.queries.iter().zip(&queries.queries) {
        let sink = make_sink(job.sink_of(spec), query.mode())?;
        sink.accepts(query.output_schema()).map_err(|error| error.at_if_none(job.place(spec.sql_at)))?;
        if new {
            sink.check_free()?;
        }
    }
    Ok(())
}

/// Whether the checkpoint keeps the rows that a query gives out: appended rows are in no state, so `show` (memory) and a
/// second printing after a crash (console) need them.
pub(super) fn keeps_rows(job: &JobSpec, spec: &QuerySpec, query: &Query) -> bool {
    query.gives_out_for_good() && matches!(job.sink_of(spec).connector, SinkConnector::Memory | SinkConnector::Console)
}

fn output<'a>(queries: &'a JobQueries, query: usize, batch: BatchId, rows: &'a Rows) -> Output<'a> {
    let query = &queries.queries[query];
    let rows = rows.as_deref().unwrap_or_default();
    Output { query: query.name(), batch, mode: query.mode(), schema: query.output_schema(), rows }
}
