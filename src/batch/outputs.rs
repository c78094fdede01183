//! All sinks of a job, one per query, driven in the order of the life of a batch.

use datafusion::arrow::record_batch::RecordBatch;

use super::engine::MakeSink;
use crate::{
    checkpoint::CommitPermit,
    job::{JobSpec, QuerySpec, SinkConnector},
    model::{BatchId, CrashPoint, Faults, OutputMode, Result, StagedOutput},
    query::{JobQueries, Query},
    sink::{self, Before, Columns, Output, RowKey, Sink},
};

/// Rows for one outlet; `None` where the sink's result lives in the checkpoint.
pub(super) type Rows = Option<Vec<RecordBatch>>;

/// All sinks: first those of the job's queries, in their order, then those for late rows. Wherever rows are given for
/// outlets, they are in this order, and missing ones are none.
pub(super) struct Outputs {
    outlets: Vec<Outlet>,
    faults: Faults,
}

/// One sink, and what goes there.
struct Outlet {
    /// Index of the query.
    query: usize,
    /// As outputs in the log are named.
    name: String,
    /// Not the query's rows, but those that were too late for it.
    late: bool,
    sink: Box<dyn Sink>,
}

impl Outlet {
    fn output<'a>(&self, queries: &'a JobQueries, batch: BatchId, rows: Option<&'a Rows>) -> Output<'a> {
        let query = &queries.queries[self.query];
        let (mode, schema) = match (self.late, query.late_schemas().next()) {
            (true, Some(schema)) => (OutputMode::Append, schema),
            _ => (query.mode(), query.output_schema()),
        };
        let rows = rows.and_then(|rows| rows.as_deref()).unwrap_or_default();
        Output { query: query.name(), batch, mode, schema, rows }
    }
}

impl Outputs {
    /// `sinks`: one for each query.
    pub fn new(job: &JobSpec, sinks: Vec<Box<dyn Sink>>, faults: Faults) -> Outputs {
        let outlet = |(query, sink)| Outlet { query, name: job.queries[query].name.clone(), late: false, sink };
        let mut outlets: Vec<Outlet> = sinks.into_iter().enumerate().map(outlet).collect();
        for (query, spec) in job.queries.iter().enumerate() {
            let spec = job.sink_of(spec);
            let sink = sink::late_sink(spec);
            outlets.extend(sink.map(|sink| Outlet { query, name: spec.late_name(), late: true, sink }));
        }
        Outputs { outlets, faults }
    }

    /// The sink of a query.
    pub fn sink_of(&self, query: usize) -> &dyn Sink {
        self.outlets[query].sink.as_ref()
    }

    /// The queries whose late rows are wanted, in the order of the outlets.
    pub fn wanted_late(&self) -> impl Iterator<Item = usize> {
        self.outlets.iter().filter(|outlet| outlet.late).map(|outlet| outlet.query)
    }

    /// Claims every sink; `before`: what this very checkpoint has published to the sink of this name.
    ///
    /// # Errors
    /// Where a sink's place belongs to another checkpoint, is not the one that was published to, lost some of it, or cannot be
    /// written.
    pub fn open(&mut self, queries: &JobQueries, checkpoint_id: &str, before: &dyn Fn(&str) -> Before) -> Result<()> {
        for outlet in &mut self.outlets {
            let query = &queries.queries[outlet.query];
            let columns = match (outlet.late, query.late_schemas().next()) {
                (true, Some(schema)) => schema.into(),
                _ => columns(query),
            };
            outlet.sink.open(checkpoint_id, &before(&outlet.name), &columns)?;
        }
        Ok(())
    }

    pub fn stage_outside(&self) -> bool {
        self.outlets.iter().any(|outlet| outlet.sink.stages_outside())
    }

    /// Writes what the batch will publish: durable, invisible.
    pub fn stage(&mut self, queries: &JobQueries, batch: BatchId, rows: &[Rows]) -> Result<Vec<StagedOutput>> {
        let stage = |(at, outlet): (usize, &mut Outlet)| {
            let output = outlet.output(queries, batch, rows.get(at));
            outlet.sink.stage(&output)
        };
        self.outlets.iter_mut().enumerate().map(stage).collect()
    }

    /// Makes the batch's output visible. Only a commit can give the permit.
    pub fn publish(
        &mut self,
        permit: &CommitPermit,
        queries: &JobQueries,
        (batch, staged): (BatchId, &[StagedOutput]),
        rows: &[Rows],
    ) -> Result<()> {
        for (at, outlet) in self.outlets.iter_mut().enumerate() {
            // A query that was added after this batch has no output in it.
            let Some(staged) = staged.iter().find(|staged| staged.sink == outlet.name) else { continue };
            let output = outlet.output(queries, batch, rows.get(at));
            outlet.sink.publish(permit, staged, &output)?;
            if at == 0 {
                self.faults.reach(CrashPoint::PublishedFirst)?;
            }
        }
        self.faults.reach(CrashPoint::Published)
    }

    /// Discards everything staged.
    pub fn abort(&mut self) -> Result<()> {
        self.outlets.iter_mut().try_for_each(|outlet| outlet.sink.abort())
    }

    /// Makes invisible what batches after `keep` published; `latest`: the rows of the result as of `keep`.
    pub fn retract(
        &mut self,
        permit: &CommitPermit,
        queries: &JobQueries,
        keep: Option<BatchId>,
        latest: &[Rows],
    ) -> Result<()> {
        for (at, outlet) in self.outlets.iter_mut().enumerate() {
            let output = keep.map(|batch| outlet.output(queries, batch, latest.get(at)));
            outlet.sink.retract(permit, keep, output.as_ref())?;
            if at == 0 {
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
        sink.accepts(&columns(query)).map_err(|error| error.at_if_none(job.place(spec.sql_at)))?;
        if new {
            sink.check_free()?;
        }
        let Some(late) = sink::late_sink(job.sink_of(spec)) else { continue };
        for schema in query.late_schemas() {
            late.accepts(&schema.into()).map_err(|error| error.at_if_none(job.place(spec.sql_at)))?;
        }
        if new {
            late.check_free()?;
        }
    }
    Ok(())
}

/// What a query's sink is told of its rows.
fn columns(query: &Query) -> Columns<'_> {
    // a grouping set has a key besides that no column shows: its number
    let whole = query.shows_key() && query.key_count() == Some(query.key_columns().len());
    let key = match query.mode() {
        OutputMode::Update if !query.gives_out_for_good() && whole => RowKey::Columns(query.key_columns()),
        OutputMode::Update if !query.gives_out_for_good() => RowKey::Hidden,
        OutputMode::Complete if whole => RowKey::All(query.key_columns()),
        _ => RowKey::None,
    };
    Columns { schema: query.output_schema(), key }
}

/// Whether the checkpoint keeps the rows that a query gives out: appended rows are in no state, so `show` (memory) and a
/// second publishing after a crash (console, command, databases) need them. Files are staged, and read back.
pub(super) fn keeps_rows(job: &JobSpec, spec: &QuerySpec, query: &Query) -> bool {
    query.gives_out_for_good() && !matches!(job.sink_of(spec).connector, SinkConnector::Files { .. })
}
