//! The same queries over all the input at once, on plain DataFusion: what every streaming result is compared with.

use std::sync::Arc;

use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    catalog::MemTable,
    physical_plan::collect,
};

use super::{
    errors::running,
    feed::Rows,
    order,
    plan::Planner,
    session,
    now::BatchTime,
};
use crate::{
    job::JobSpec,
    model::{Error, Result},
};

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

    /// What `now()` is, microseconds since the Unix epoch.
    pub fn set_time(&self, time_us: i64) {
        self.planner.time.set(time_us);
    }

    /// Runs one query (by its index in the job) over what was fed.
    ///
    /// # Errors
    /// Of kind `Usage` where the query cannot be planned, `Failed` where it fails on the data.
    pub fn run(&self, job: &JobSpec, query: usize) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let spec = &job.queries[query];
        let planning = self.planner.planning(job, spec);
        let plan = self.planner.logical(&spec.sql).map_err(|error| planning.error(&error))?;
        let aggregates = order::key_columns(&plan).iter().any(Option::is_some) || super::classify::classify(&plan).is_ok_and(|shape| shape.stateful);
        let plan = if aggregates { order::complete(plan).map_err(|error| planning.error(&error))? } else { plan };
        let session = self.planner.context.state();
        let optimised = session.optimize(&plan).map_err(|error| planning.error(&error))?;
        let schema: SchemaRef = Arc::new(optimised.schema().as_arrow().clone());
        let rows = self.planner.runtime.block_on(async {
            let physical = session.query_planner().create_physical_plan(&optimised, &session).await?;
            collect(physical, session.task_ctx()).await
        });
        Ok((schema, rows.map_err(|error| running(&spec.name, error))?))
    }
}

/// Any SQL over named results, for `show --sql`.
///
/// # Errors
/// Of kind `Usage` where the SQL cannot be planned, `Failed` where it fails.
pub fn sql_over(sql: &str, tables: Vec<(String, SchemaRef, Vec<RecordBatch>)>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let wrong = |error: datafusion::error::DataFusionError| {
        Error::usage("the SQL cannot be run over the results").because(error.strip_backtrace())
    };
    let context = session::context(&BatchTime::default());
    for (name, schema, rows) in tables {
        let table = MemTable::try_new(schema, vec![rows]).map_err(wrong)?;
        context
            .register_table(datafusion::common::TableReference::bare(name), Arc::new(table))
            .map_err(wrong)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::failed("the query runtime cannot start").because(error.to_string()))?;
    runtime.block_on(async {
        // Only queries: a statement that would change something is refused, not run on a copy.
        let options = datafusion::execution::context::SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let frame = context.sql_with_options(sql, options).await.map_err(wrong)?;
        let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
        Ok((schema, frame.collect().await.map_err(wrong)?))
    })
}
