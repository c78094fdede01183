//! The same queries over all the input at once, on plain DataFusion: what every streaming result is compared with.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    catalog::MemTable,
    error::DataFusionError,
    execution::context::SQLOptions,
    logical_expr::LogicalPlan,
    physical_plan::collect,
};

use super::{
    errors::{After, Functions, Planning, running},
    feed::Rows,
    now::BatchTime,
    order,
    plan::{Planner, columns_by_table},
    session,
};
use crate::{
    job::{At, JobSpec},
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

    /// Which declared columns the queries need of each source, ascending, by source.
    ///
    /// # Errors
    /// Of kind `Usage` where a query cannot be planned.
    pub fn needed_columns(&self, job: &JobSpec) -> Result<Vec<Vec<usize>>> {
        let mut needed = vec![BTreeSet::new(); job.sources.len()];
        for query in 0..job.queries.len() {
            let plan = self.optimised(job, query)?;
            for (table, columns) in columns_by_table(&plan)? {
                if let Some(source) = job.sources.iter().position(|source| source.name == table) {
                    needed[source].extend(columns);
                }
            }
        }
        Ok(needed.into_iter().map(|columns| columns.into_iter().collect()).collect())
    }

    /// Runs one query (by its index in the job) over what was fed.
    ///
    /// # Errors
    /// Of kind `Usage` where the query cannot be planned, `Data` where an expression fails on the data.
    pub fn run(&self, job: &JobSpec, query: usize) -> Result<BatchResult> {
        let optimised = self.optimised(job, query)?;
        let session = self.planner.context.state();
        let rows = self.planner.runtime.block_on(async {
            let physical = session.query_planner().create_physical_plan(&optimised, &session).await?;
            collect(physical, session.task_ctx()).await
        });
        let rows = rows.map_err(|error| {
            let spec = &job.queries[query];
            self.planner.planning(job, spec).failed_on_data(&spec.name, After::Nothing, running(&spec.name, error))
        });
        Ok(BatchResult {
            schema: Arc::new(optimised.schema().as_arrow().clone()),
            keys: order::output_keys(&optimised),
            rows: rows?,
        })
    }

    /// One query's plan, its order completed as the stream completes it.
    fn optimised(&self, job: &JobSpec, query: usize) -> Result<LogicalPlan> {
        let spec = &job.queries[query];
        let planning = self.planner.planning(job, spec);
        planning.check_nothing_ignored()?;
        let plan = self.planner.logical(&spec.sql).map_err(|error| planning.error(&error))?;
        let aggregates = order::aggregates(&plan);
        let plan = if aggregates { order::complete(plan).map_err(|error| planning.error(&error))? } else { plan };
        self.planner.context.state().optimize(&plan).map_err(|error| planning.error(&error))
    }
}

/// A query's result over all the input.
#[derive(Debug)]
pub struct BatchResult {
    pub schema: SchemaRef,
    /// The columns that are the group key, in the order of the key.
    pub keys: Vec<usize>,
    pub rows: Vec<RecordBatch>,
}

/// Any SQL over named results, for `show --sql`.
///
/// # Errors
/// Of kind `Usage` where the SQL cannot be planned, `Failed` where it fails.
pub fn sql_over(
    sql: &str,
    tables: Vec<(String, SchemaRef, Vec<RecordBatch>)>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let context = session::context(&BatchTime::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::failed("the query runtime cannot start").because(error.to_string()))?;
    let names: Vec<String> = tables.iter().map(|(name, ..)| name.clone()).collect();
    for (name, schema, rows) in tables {
        let refused = |error: DataFusionError| {
            Error::failed(format!("the result of '{name}' cannot be a table")).because(error.strip_backtrace())
        };
        let table = MemTable::try_new(schema, vec![rows]).map_err(refused)?;
        context
            .register_table(datafusion::common::TableReference::bare(name.as_str()), Arc::new(table))
            .map_err(refused)?;
    }
    let functions = Functions::of(&context);
    let planning = Planning {
        file: "--sql",
        text: sql,
        sql,
        at: At(0),
        tables: names.iter().map(String::as_str).collect(),
        functions: &functions,
        runtime: &runtime,
        context: &context,
    };
    // Only queries: a statement that would change something is refused, not run on a copy.
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = runtime.block_on(context.sql_with_options(sql, options)).map_err(|error| planning.error(&error))?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let rows = runtime.block_on(frame.collect());
    Ok((schema, rows.map_err(|error| running("--sql", error))?))
}
