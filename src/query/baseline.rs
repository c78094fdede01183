//! The same queries over all the input at once, on plain DataFusion: what every streaming result is compared with.

use std::sync::Arc;

use datafusion::{
    arrow::{array::ArrayRef, datatypes::SchemaRef, record_batch::RecordBatch},
    logical_expr::LogicalPlan,
    physical_plan::collect,
};

use super::{
    closeness::{self, Closeness},
    cut::{Cut, Uncut},
    equal::{Expected, difference},
    errors::{After, running},
    feed::Rows,
    floors,
    needed::Needed,
    order,
    plan::Planner,
    replayed::{self, BatchInput, Replay},
};
use crate::{job::JobSpec, model::Result};

/// A job as a batch job: no state, no cut, no delta.
pub struct Baseline {
    planner: Planner,
}

impl Baseline {
    /// # Errors
    /// Of kind `Usage`, where a table or view of the job cannot be planned.
    pub fn new(job: &JobSpec) -> Result<Baseline> {
        Ok(Baseline { planner: Planner::new(job)? })
    }

    /// The input of a source, by its index in the job.
    pub fn feed(&self, source: usize, rows: Rows) {
        self.planner.slots[source].fill(rows);
    }

    /// The rows of a static table, by its index in the job.
    pub fn feed_static(&self, table: usize, rows: Rows) {
        self.planner.static_slots[table].fill(rows);
    }

    /// What `now()` is, microseconds since the Unix epoch.
    pub fn set_time(&self, time_us: i64) {
        self.planner.time.set(time_us);
    }

    /// Which declared columns the queries need.
    ///
    /// # Errors
    /// Of kind `Usage` where a query cannot be planned.
    pub fn needed_columns(&self, job: &JobSpec) -> Result<Needed> {
        let mut needed = Needed::of(job);
        for query in 0..job.queries.len() {
            needed.add(job, &self.optimised(job, query)?)?;
            // the cut plan may need others: times that decide what is late
            needed.add(job, &self.planner.analyse(job, &job.queries[query])?.optimised)?;
        }
        Ok(needed)
    }

    /// Runs one query (by its index in the job) over what was fed.
    ///
    /// # Errors
    /// Of kind `Usage` where the query cannot be planned, `Data` where an expression fails on the data.
    pub fn run(&self, job: &JobSpec, query: usize) -> Result<BatchResult> {
        let optimised = self.optimised(job, query)?;
        let rows = self.collect(&optimised).map_err(|error| {
            let spec = &job.queries[query];
            self.planner.planning(job, spec).failed_on_data(&spec.name, After::Nothing, running(&spec.name, error))
        })?;
        Ok(BatchResult {
            schema: Arc::new(optimised.schema().as_arrow().clone()),
            keys: order::output_keys(&optimised),
            closeness: closeness::columns(&optimised),
            rows_are_approximate: closeness::rows_are_approximate(&optimised)
                .map_err(|error| running(&job.queries[query].name, error))?,
            rows,
            sizes: Vec::new(),
        })
    }

    /// As [`Baseline::run`], with the sizes of what was added up: for a result that another is compared with.
    ///
    /// # Errors
    /// As [`Baseline::run`].
    pub fn run_to_compare(&self, job: &JobSpec, query: usize) -> Result<BatchResult> {
        let failed = |error| running(&job.queries[query].name, error);
        let optimised = self.optimised(job, query)?;
        let (plan, floors) = floors::beside(&optimised).map_err(failed)?;
        if floors.iter().all(Option::is_none) {
            return self.run(job, query);
        }
        let batches = self.collect(&plan).map_err(failed)?;
        let own: Vec<usize> = (0..floors.len()).collect();
        let rows: std::result::Result<Vec<_>, _> = batches.iter().map(|batch| batch.project(&own)).collect();
        let of = |batch: &RecordBatch| floors.iter().map(|floor| floor.map(|at| batch.column(at).clone())).collect();
        Ok(BatchResult {
            schema: Arc::new(optimised.schema().as_arrow().clone()),
            keys: order::output_keys(&optimised),
            closeness: closeness::columns(&optimised),
            rows_are_approximate: closeness::rows_are_approximate(&optimised).map_err(failed)?,
            rows: rows.map_err(|error| failed(error.into()))?,
            sizes: batches.iter().map(of).collect(),
        })
    }

    /// The result of a query whose watermark drops rows, over what the batches read; `over_us`: the watermark of the newest.
    /// The inner error: why the query has no batch result.
    ///
    /// # Errors
    /// As [`Baseline::run`].
    pub fn replay(
        &self,
        job: &JobSpec,
        query: usize,
        batches: &[BatchInput],
        over_us: Option<i64>,
    ) -> Result<std::result::Result<BatchResult, &'static str>> {
        let failed = |error| running(&job.queries[query].name, error);
        let cut = self.cut(job, query)?;
        if let Some(why) = replayed::why_without_result(&cut).map_err(failed)? {
            return Ok(Err(why));
        }
        let collect = |plan: &LogicalPlan| self.collect(plan);
        let replay = Replay { cut: &cut, slots: &self.planner.slots, batches, over_us, collect: &collect };
        let optimised = self.optimised(job, query)?;
        Ok(Ok(BatchResult {
            schema: Arc::new(optimised.schema().as_arrow().clone()),
            keys: order::output_keys(&optimised),
            closeness: closeness::columns(&optimised),
            rows_are_approximate: closeness::rows_are_approximate(&optimised).map_err(failed)?,
            rows: replay.rows().map_err(failed)?,
            sizes: Vec::new(),
        }))
    }

    /// Whether the batch result of a query is a matter of which batch a row came in.
    ///
    /// # Errors
    /// As [`Baseline::run`].
    pub fn depends_on_batches(&self, job: &JobSpec, query: usize) -> Result<bool> {
        Ok(replayed::depends_on_batches(&self.cut(job, query)?))
    }

    fn cut(&self, job: &JobSpec, query: usize) -> Result<Cut> {
        let spec = &job.queries[query];
        let planning = self.planner.planning(job, spec);
        let analysed = self.planner.analyse(job, spec)?;
        let cutter = self.planner.cutter(job, spec, analysed.mode);
        cutter.cut(&analysed.optimised).map_err(|uncut| match uncut {
            Uncut::Refused(refusal) => planning.refusal(&spec.name, &refusal),
            Uncut::Failed(error) => planning.error(&error),
        })
    }

    fn collect(&self, plan: &LogicalPlan) -> datafusion::error::Result<Vec<RecordBatch>> {
        let session = self.planner.context.state();
        self.planner.runtime.block_on(async {
            let physical = session.query_planner().create_physical_plan(plan, &session).await?;
            collect(physical, session.task_ctx()).await
        })
    }

    /// One query's plan, its order completed as the stream completes it.
    fn optimised(&self, job: &JobSpec, query: usize) -> Result<LogicalPlan> {
        let spec = &job.queries[query];
        let planning = self.planner.planning(job, spec);
        planning.check_nothing_ignored()?;
        let plan = self.planner.written_out(job, spec, false)?;
        let aggregates = order::aggregates(&plan);
        let plan = if aggregates { order::complete(plan).map_err(|error| planning.error(&error))? } else { plan };
        self.planner.context.state().optimize(&plan).map_err(|error| planning.error(&error))
    }
}

/// A query's result over all the input.
#[derive(Debug, Clone)]
pub struct BatchResult {
    pub schema: SchemaRef,
    /// The columns that are the group key, in the order of the key.
    pub keys: Vec<usize>,
    pub rows: Vec<RecordBatch>,
    /// How close to each column a streaming result must be.
    pub closeness: Vec<Closeness>,
    /// An approximate value decides which rows there are.
    pub rows_are_approximate: bool,
    /// As [`Expected::sizes`]; empty: they are not known.
    pub sizes: Vec<Vec<Option<ArrayRef>>>,
}

impl BatchResult {
    /// The first difference of another result, in words; `None`: it equals this one.
    ///
    /// # Errors
    /// As [`difference`].
    pub fn difference(&self, ours: &[RecordBatch]) -> Result<Option<String>> {
        let expected = Expected { rows: &self.rows, closeness: &self.closeness, sizes: &self.sizes };
        difference(ours, &expected)
    }

    /// Names of the columns that are approximate.
    pub fn approximate_columns(&self) -> impl Iterator<Item = &str> {
        let columns = self.schema.fields().iter().zip(&self.closeness);
        columns.filter(|(_, close)| **close == Closeness::Approximate).map(|(field, _)| field.name().as_str())
    }
}
