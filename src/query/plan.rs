//! A job's queries, planned once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::{
    common::tree_node::TreeNodeRecursion,
    datasource::ViewTable,
    execution::TaskContext,
    logical_expr::{DdlStatement, LogicalPlan},
    prelude::SessionContext,
};
use tokio::runtime::Runtime;

use super::{
    classify::{Shape, classify},
    errors::{After, Functions, Planning},
    feed::{Rows, Slot, StreamTable},
    incremental::Query,
    now::BatchTime,
    order, session,
};
use crate::{
    job::{At, JobSpec, QuerySpec, fingerprint::QueryIdentity},
    model::{Error, OutputMode, Result},
};

/// All queries of a job, and the slots through which their input enters.
pub struct JobQueries {
    job: JobSpec,
    planner: Planner,
    /// Per source: indexes of the declared columns that some query needs, ascending.
    needed: Vec<Vec<usize>>,
    /// In the order of the job file.
    pub queries: Vec<Query>,
}

/// One query's logical plans.
pub(super) struct Analysed {
    pub shape: Shape,
    pub mode: OutputMode,
    /// Ordered and optimised, whole.
    pub optimised: LogicalPlan,
}

impl JobQueries {
    /// Plans every query of the job for incremental execution.
    ///
    /// # Errors
    /// Of kind `Usage`, with the place in the job file: an unknown column, table or function, a query that cannot run
    /// as a stream, an output mode that does not fit.
    pub fn plan(job: &JobSpec) -> Result<JobQueries> {
        let planner = Planner::new(job)?;
        let mut queries = Vec::with_capacity(job.queries.len());
        let mut needed = vec![BTreeSet::new(); job.sources.len()];
        for spec in &job.queries {
            let analysed = planner.analyse(job, spec)?;
            let source = planner.source_index(job, &analysed.shape);
            for (_, columns) in columns_by_table(&analysed.optimised)? {
                needed[source].extend(columns);
            }
            let planning = planner.planning(job, spec);
            let built = Query::build(&planner.context, &planner.runtime, spec, source, analysed);
            queries.push(built.map_err(|error| planning.error(&error))??);
        }
        let needed = needed.into_iter().map(|columns| columns.into_iter().collect()).collect();
        Ok(JobQueries { job: job.clone(), planner, needed, queries })
    }

    /// Indexes of the declared columns that some query needs of a source, ascending.
    pub fn needed_columns(&self, source: usize) -> &[usize] {
        &self.needed[source]
    }

    /// Whether any query uses `now()` or its kind, so that a plan must be durable before it runs.
    pub fn uses_batch_time(&self) -> bool {
        self.queries.iter().any(|query| query.shape().batch_time)
    }

    /// What the queries will read of a source (by its index in the job) when they run next.
    pub fn feed(&self, source: usize, rows: Rows) {
        self.planner.slots[source].fill(rows);
    }

    /// Sets what `now()` is, microseconds since the Unix epoch.
    pub fn set_batch_time(&self, time_us: i64) {
        self.planner.time.set(time_us);
    }

    pub fn identities(&self) -> Vec<QueryIdentity> {
        self.queries.iter().map(|query| query.identity().clone()).collect()
    }

    /// What DataFusion's plans run on.
    pub(crate) fn executor(&self) -> Executor {
        Executor { handle: self.planner.runtime.handle().clone(), context: self.planner.context.task_ctx() }
    }

    /// Runs every query over what its source was fed, on up to `threads` threads: they share nothing but what they read.
    /// `wants_output` says by query whether its sink needs rows. See [`Query::step`].
    ///
    /// # Errors
    /// As [`Query::step`], of the first query that fails; where an expression fails on the data, with the expression, its
    /// place in the job file, and what gives null in place of failing.
    pub fn step(&mut self, wants_output: &[bool], threads: usize) -> Result<Vec<super::Step>> {
        let executor = self.executor();
        let JobQueries { job, planner, queries, .. } = self;
        let rows_fed: Vec<u64> = planner.slots.iter().map(Slot::row_count).collect();
        let threads = if rows_fed.iter().sum::<u64>() < ROWS_SHARED_MIN { 1 } else { threads.min(queries.len()) };
        let waiting = Mutex::new(queries.iter_mut().zip(wants_output).enumerate());
        let done = Mutex::new(Vec::with_capacity(wants_output.len()));
        let work = || {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((index, (query, wants_output))) = next else { return };
                let step = query.step(&executor, rows_fed[query.source()], *wants_output);
                done.lock().unwrap_or_else(PoisonError::into_inner).push((index, step));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                    tracing::warn!(%error, "no more threads for queries; going on with fewer");
                    break;
                }
            }
            work();
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(index, _)| *index);
        let steps = done.into_iter().map(|(index, step)| {
            step.map_err(|error| {
                let planned = &queries[index];
                let after = if planned.shape().stateful { After::Stateful } else { After::Stateless };
                planner.planning(job, &job.queries[index]).failed_on_data(planned.name(), after, error)
            })
        });
        steps.collect()
    }
}

/// Fewer rows are not worth a thread.
const ROWS_SHARED_MIN: u64 = 2048;

/// Runs plans to their end on the calling thread.
pub struct Executor {
    pub(super) handle: tokio::runtime::Handle,
    pub(super) context: Arc<TaskContext>,
}

/// A session with the job's tables and views in it.
pub(super) struct Planner {
    pub runtime: Runtime,
    pub context: SessionContext,
    pub time: BatchTime,
    /// Per source of the job, in its order.
    pub slots: Vec<Slot>,
    functions: Functions,
}

impl Planner {
    pub fn new(job: &JobSpec) -> Result<Planner> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| Error::failed("the query runtime cannot start").because(error.to_string()))?;
        let time = BatchTime::default();
        let context = session::context(&time);
        let functions = Functions::of(&context);
        let mut planner = Planner { runtime, context, time, slots: Vec::new(), functions };
        for source in &job.sources {
            let slot = Slot::default();
            let table = StreamTable { schema: source.schema(), slot: slot.clone() };
            planner.slots.push(slot);
            planner
                .context
                .register_table(datafusion::common::TableReference::bare(source.name.as_str()), Arc::new(table))
                .map_err(|error| {
                    Error::usage(format!("table '{}' cannot be declared", source.name))
                        .at(job.place(source.at))
                        .because(error.strip_backtrace())
                })?;
        }
        planner.add_views(job)?;
        Ok(planner)
    }

    fn add_views(&self, job: &JobSpec) -> Result<()> {
        for view in &job.views {
            let planning = self.planning_of(job, &view.sql, view.sql_at);
            planning.check_nothing_ignored()?;
            let plan = self.logical(&view.sql).map_err(|error| planning.error(&error))?;
            let LogicalPlan::Ddl(DdlStatement::CreateView(create)) = plan else {
                return Err(Error::usage(format!("'{}' is no view", view.name)).at(job.place(view.at)));
            };
            let table = ViewTable::new(Arc::unwrap_or_clone(create.input), Some(view.sql.clone()));
            self.context
                .register_table(datafusion::common::TableReference::bare(view.name.as_str()), Arc::new(table))
                .map_err(|error| planning.error(&error))?;
        }
        Ok(())
    }

    pub fn planning<'a>(&'a self, job: &'a JobSpec, spec: &'a QuerySpec) -> Planning<'a> {
        self.planning_of(job, &spec.sql, spec.sql_at)
    }

    fn planning_of<'a>(&'a self, job: &'a JobSpec, sql: &'a str, at: At) -> Planning<'a> {
        let tables = job.sources.iter().map(|source| source.name.as_str());
        Planning {
            file: &job.file,
            text: &job.text,
            sql,
            at,
            tables: tables.chain(job.views.iter().map(|view| view.name.as_str())).collect(),
            functions: &self.functions,
            runtime: &self.runtime,
            context: &self.context,
        }
    }

    /// The query as it was written, not analysed.
    pub fn logical(&self, sql: &str) -> datafusion::error::Result<LogicalPlan> {
        self.runtime.block_on(self.context.state().create_logical_plan(sql))
    }

    /// Classifies, orders and optimises one query.
    pub fn analyse(&self, job: &JobSpec, spec: &QuerySpec) -> Result<Analysed> {
        let planning = self.planning(job, spec);
        planning.check_nothing_ignored()?;
        let plan = self.logical(&spec.sql).map_err(|error| planning.error(&error))?;
        let shape = classify(&plan).map_err(|refusal| planning.refusal(&spec.name, &refusal))?;
        let mode = job.sink_of(spec).output_mode.unwrap_or_else(|| shape.default_mode());
        shape.allows(mode).map_err(|refusal| planning.refusal(&spec.name, &refusal))?;
        let optimised = self.ordered(plan, &shape).map_err(|error| planning.error(&error))?;
        Ok(Analysed { shape, mode, optimised })
    }

    fn ordered(&self, plan: LogicalPlan, shape: &Shape) -> datafusion::error::Result<LogicalPlan> {
        let plan = if shape.stateful { order::complete(plan)? } else { plan };
        self.context.state().optimize(&plan)
    }

    fn source_index(&self, job: &JobSpec, shape: &Shape) -> usize {
        job.sources
            .iter()
            .position(|source| source.name == shape.source)
            .expect("a table that was planned is one of the job's sources: no other table is registered")
    }
}

/// Indexes of the declared columns that the optimised plan's scans yield, by table.
pub(super) fn columns_by_table(plan: &LogicalPlan) -> Result<Vec<(String, Vec<usize>)>> {
    let mut found = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let all = || (0..scan.source.schema().fields().len()).collect();
            let columns = scan.projection.clone().unwrap_or_else(all);
            found.push((scan.table_name.table().to_owned(), columns));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(|error| Error::failed("a plan could not be walked").because(error.strip_backtrace()))?;
    Ok(found)
}
