//! A job's queries, planned once.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::{
    common::tree_node::TreeNode,
    datasource::{TableProvider, ViewTable},
    execution::TaskContext,
    logical_expr::{DdlStatement, LogicalPlan},
    prelude::SessionContext,
    sql::parser::Statement as DFStatement,
};
use tokio::runtime::Runtime;

use super::{
    classify::{Refusal, Shape},
    cut::Cutter,
    errors::{After, Functions, Planning},
    feed::{Rows, Slot, StreamTable},
    hidden,
    identity::Facts,
    incremental::{Query, Unbuilt},
    late::{self, LateRows, OnTimePlan},
    marks::{Mark, Marked},
    needed::Needed,
    now::BatchTime,
    operators::Builder,
    order, over_batches,
    rewrite::Rewriter,
    session,
    spellings::spell_out,
    times::Times,
    walk::classify,
};
use crate::{
    job::{At, JobSpec, QuerySpec, fingerprint::QueryIdentity},
    model::{BatchId, Error, OutputMode, Result, Watermarks},
};

/// All queries of a job, and the slots through which their input enters.
pub struct JobQueries {
    job: JobSpec,
    planner: Planner,
    needed: Needed,
    /// In the order of the job file.
    pub queries: Vec<Query>,
}

/// One query's logical plans.
pub(super) struct Analysed {
    pub shape: Shape,
    pub mode: OutputMode,
    /// Ordered and optimised, whole.
    pub optimised: LogicalPlan,
    /// What yields the rows that may be late, where those are wanted.
    pub on_time: Option<Vec<OnTimePlan>>,
}

impl JobQueries {
    /// Plans every query of the job for incremental execution.
    ///
    /// # Errors
    /// Of kind `Usage`, with the place in the job file: an unknown column, table or function, a query that cannot run
    /// as a stream, an output mode that does not fit.
    pub fn plan(job: &JobSpec) -> Result<JobQueries> {
        JobQueries::plan_with(job, &vec![None; job.statics.len()])
    }

    /// As [`JobQueries::plan`]; `statics`: what says which rows each static table has, as far as they were read.
    ///
    /// # Errors
    /// As [`JobQueries::plan`].
    pub fn plan_with(job: &JobSpec, statics: &[Option<String>]) -> Result<JobQueries> {
        let planner = Planner::new(job)?;
        let mut queries = Vec::with_capacity(job.queries.len());
        let mut needed = Needed::of(job);
        for spec in &job.queries {
            let analysed = planner.analyse(job, spec)?;
            let sources = needed.add(job, &analysed.optimised)?;
            for part in analysed.on_time.iter().flatten() {
                needed.add(job, &part.plan)?;
            }
            let planning = planner.planning(job, spec);
            let mode = analysed.mode;
            let cutter = || planner.cutter(job, spec, mode);
            let facts = Facts::of(job, job.sink_of(spec), statics);
            let builder = Builder { context: &planner.context, runtime: &planner.runtime };
            let built = cutter().cut(&analysed.optimised).map_err(Unbuilt::from);
            let built = built.and_then(|cut| {
                let on_time = analysed.on_time.as_ref();
                let late = on_time.map(|plans| LateRows::new(&builder, plans, &cut, cutter)).transpose()?;
                Query::build(&builder, spec, sources, analysed, &cut, late, &facts)
            });
            queries.push(built.map_err(|unbuilt| match unbuilt {
                Unbuilt::Refused(refusal) => planning.refusal(&spec.name, &refusal),
                Unbuilt::Failed(error) => planning.error(&error),
                Unbuilt::Ours(error) => error,
            })?);
        }
        Ok(JobQueries { job: job.clone(), planner, needed, queries })
    }

    /// Indexes of the declared columns that some query needs of a source, ascending.
    pub fn needed_columns(&self, source: usize) -> &[usize] {
        &self.needed.sources[source]
    }

    /// Indexes of the declared columns that some query needs of a static table, ascending.
    pub fn needed_of_static(&self, table: usize) -> &[usize] {
        &self.needed.statics[table]
    }

    /// The rows of a static table (by its index in the job), for all that runs from now on.
    pub fn feed_static(&self, table: usize, rows: Rows) {
        self.planner.static_slots[table].fill(rows);
    }

    /// Whether any query changes when the watermark rises.
    pub fn are_bounded(&self) -> bool {
        self.queries.iter().any(Query::is_bounded)
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
    pub fn step(
        &mut self,
        wants_output: &[bool],
        batch: (BatchId, Watermarks),
        threads: usize,
    ) -> Result<Vec<super::Step>> {
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
                let rows_fed = query.sources().iter().map(|source| rows_fed[*source]).sum();
                let step = query.step(&executor, rows_fed, batch, *wants_output);
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
    /// Per static table of the job, in its order.
    pub static_slots: Vec<Slot>,
    pub times: Times,
    /// Names of the sources.
    pub streams: BTreeSet<String>,
    /// Names of the tables that have a hidden column.
    with_hidden: BTreeSet<String>,
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
        let mut planner = Planner {
            runtime,
            context,
            time,
            slots: Vec::new(),
            static_slots: Vec::new(),
            times: Times::of_job(job),
            streams: job.sources.iter().map(|source| source.name.clone()).collect(),
            with_hidden: BTreeSet::new(),
            functions,
        };
        planner.add_tables(job)?;
        planner.add_views(job)?;
        Ok(planner)
    }

    fn add_tables(&mut self, job: &JobSpec) -> Result<()> {
        let mut with_hidden: BTreeMap<String, Arc<dyn TableProvider>> = BTreeMap::new();
        for source in job.sources.iter().chain(&job.statics) {
            let slot = Slot::default();
            if source.has_hidden() {
                let table = StreamTable { schema: source.schema(), slot: slot.clone() };
                with_hidden.insert(source.name.clone(), Arc::new(table));
            }
            let table = StreamTable { schema: source.declared_schema(), slot: slot.clone() };
            if source.is_static { &mut self.static_slots } else { &mut self.slots }.push(slot);
            self.context
                .register_table(datafusion::common::TableReference::bare(source.name.as_str()), Arc::new(table))
                .map_err(|error| {
                    Error::usage(format!("table '{}' cannot be declared", source.name))
                        .at(job.place(source.at))
                        .because(error.strip_backtrace())
                })?;
        }
        self.with_hidden = with_hidden.keys().cloned().collect();
        hidden::register(&self.context, with_hidden).map_err(|error| {
            Error::failed("columns of the file's name cannot be declared").because(error.strip_backtrace())
        })
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
        let tables = job.sources.iter().chain(&job.statics).map(|source| source.name.as_str());
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
        let state = self.context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let mut statement = state.sql_to_statement(sql, &dialect)?;
        if let DFStatement::Statement(statement) = &mut statement {
            spell_out(statement);
            hidden::reveal(statement, &self.with_hidden);
        }
        self.runtime.block_on(state.statement_to_plan(statement))
    }

    /// Classifies, orders and optimises one query.
    pub fn analyse(&self, job: &JobSpec, spec: &QuerySpec) -> Result<Analysed> {
        let planning = self.planning(job, spec);
        planning.check_nothing_ignored()?;
        let plan = self.written_out(job, spec, true)?;
        if job.sink_of(spec).dedup_within_watermark && !forgets_first_rows(&plan) {
            let reason = "dedup_within_watermark says how long keys of DISTINCT ON are kept, and this query has no DISTINCT ON whose first row is that of the input";
            let refusal =
                Refusal::new(reason, "leave the option out, or write SELECT DISTINCT ON (key) ... without ORDER BY");
            return Err(planning.refusal(&spec.name, &refusal));
        }
        let shape = classify(&plan, &self.streams).map_err(|refusal| planning.refusal(&spec.name, &refusal))?;
        let mode = job.sink_of(spec).output_mode.unwrap_or_else(|| shape.default_mode());
        let allowed = match job.sink_of(spec).batch_window {
            Some(window) => over_batches::check(&plan, mode, window, &self.streams),
            None => shape.allows(mode),
        };
        allowed.map_err(|refusal| planning.refusal(&spec.name, &refusal))?;
        let on_time = job.sink_of(spec).late_rows.as_ref().map(|_| late::plans(&plan, &self.streams)).transpose();
        let mut on_time = on_time.map_err(|refusal| planning.refusal(&spec.name, &refusal))?;
        for part in on_time.iter_mut().flatten() {
            part.plan = part.optimised(&self.context).map_err(|error| planning.error(&error))?;
        }
        let optimised = self.ordered(plan, &shape).map_err(|error| planning.error(&error))?;
        Ok(Analysed { shape, mode, optimised, on_time })
    }

    /// What cuts the plan of a query.
    pub fn cutter(&self, job: &JobSpec, spec: &QuerySpec, mode: OutputMode) -> Cutter<'_> {
        let window = job.sink_of(spec).batch_window;
        Cutter { times: &self.times, streams: &self.streams, mode, window, stages: Vec::new(), unmarked: 0 }
    }

    /// The query's plan, with windows and deduplication written out; `marks`: for a stream that is to be cut.
    pub fn written_out(&self, job: &JobSpec, spec: &QuerySpec, marks: bool) -> Result<LogicalPlan> {
        let planning = self.planning(job, spec);
        let plan = self.logical(&spec.sql).map_err(|error| planning.error(&error))?;
        let dedup_within = job.sink_of(spec).dedup_within_watermark;
        let (times, streams, marked) = (&self.times, &self.streams, Cell::default());
        let rewriter = Rewriter { times, streams, marks, dedup_within, marked };
        let rewritten = rewriter.rewrite(plan).map_err(|error| planning.error(&error))?;
        rewritten.map_err(|refusal| planning.refusal(&spec.name, &refusal))
    }

    fn ordered(&self, plan: LogicalPlan, shape: &Shape) -> datafusion::error::Result<LogicalPlan> {
        let plan = if shape.aggregates { order::complete(plan)? } else { plan };
        self.context.state().optimize(&plan)
    }
}

/// Whether some of a plan keeps the first rows of keys, within the watermark.
fn forgets_first_rows(plan: &LogicalPlan) -> bool {
    let forgets = |node: &LogicalPlan| {
        let mark = Marked::of(node).map(|marked| marked.mark);
        matches!(mark, Some(Mark::FirstOfKey { time: Some(time), keys, .. }) if time == keys)
    };
    // the visitor itself cannot fail
    plan.exists(|node| Ok(forgets(node))).unwrap_or(false)
}
