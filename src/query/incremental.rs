//! One query at work: a batch's rows in, its delta and its output out.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::BooleanArray,
        compute::{concat_batches, filter_record_batch},
        datatypes::{Schema, SchemaRef},
        record_batch::RecordBatch,
    },
    common::tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    error::DataFusionError,
    logical_expr::LogicalPlan,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
        collect, displayable,
        execution_plan::reset_plan_states,
    },
    prelude::SessionContext,
};
use tokio::runtime::Runtime;

use super::{
    classify::Shape,
    errors::running,
    feed::{Groups, Rows, Slot},
    identity, order,
    plan::{Analysed, Executor},
};
use crate::{
    job::{QuerySpec, fingerprint::QueryIdentity},
    model::{Error, OutputMode, Result},
    state::{self, KeyedState, Merger, Ordered, Touched},
};

/// What one batch did to one query.
#[derive(Debug, Default)]
pub struct Step {
    /// The batch's partial aggregates, ordered by key and encoded ([`state::encode`]); `None` for a query without state.
    pub delta: Option<Vec<u8>>,
    /// What the sink gets, if it was wanted.
    pub output: Option<Vec<RecordBatch>>,
    /// Rows that passed the filters in front of the state (or of the sink).
    pub rows_filtered: u64,
    /// Groups that received rows.
    pub groups_touched: u64,
}

/// A planned query, with its state.
pub struct Query {
    name: String,
    /// Index of its source in the job.
    source: usize,
    mode: OutputMode,
    shape: Shape,
    identity: QueryIdentity,
    output_schema: SchemaRef,
    key_columns: Vec<usize>,
    /// Whether every group key is an output column.
    shows_key: bool,
    work: Work,
}

enum Work {
    Stateless(Arc<dyn ExecutionPlan>),
    Stateful(Box<Stateful>),
}

struct Stateful {
    /// Partial aggregation of one batch.
    lower: Arc<dyn ExecutionPlan>,
    /// The plan above the aggregate, over what `groups` holds.
    upper: Arc<dyn ExecutionPlan>,
    groups: Slot,
    merger: Merger,
    state: KeyedState,
}

impl Query {
    pub(super) fn build(
        context: &SessionContext,
        runtime: &Runtime,
        spec: &QuerySpec,
        source: usize,
        analysed: Analysed,
    ) -> Result<Result<Query>, DataFusionError> {
        let Analysed { shape, mode, optimised } = analysed;
        let output_schema: SchemaRef = Arc::new(optimised.schema().as_arrow().clone());
        let key_columns = order::output_keys(&optimised);
        let session = context.state();
        let physical =
            |plan: &LogicalPlan| runtime.block_on(session.query_planner().create_physical_plan(plan, &session));
        let mut shows_key = true;
        let (work, identity) = if shape.stateful {
            let cut = Cut::new(&optimised)?;
            shows_key = order::group_keys(&cut.aggregate) == key_columns.len();
            let (lower, merger) = match partial(&physical(&cut.aggregate)?, &cut.aggregate)? {
                Ok(partial) => partial,
                Err(error) => return Ok(Err(error)),
            };
            let state = match KeyedState::new(merger.state_schema(), merger.key_count()) {
                Ok(state) => state,
                Err(error) => return Ok(Err(error)),
            };
            let identity = identity::stateful(&spec.name, mode, &cut, &merger);
            let upper = physical(&cut.upper)?;
            (Work::Stateful(Box::new(Stateful { lower, upper, groups: cut.groups, merger, state })), identity)
        } else {
            (Work::Stateless(physical(&optimised)?), identity::stateless(&spec.name, mode, &optimised))
        };
        Ok(Ok(Query {
            name: spec.name.clone(),
            source,
            mode,
            shape,
            identity,
            output_schema,
            key_columns,
            shows_key,
            work,
        }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Index of its source in the job.
    pub fn source(&self) -> usize {
        self.source
    }

    pub fn mode(&self) -> OutputMode {
        self.mode
    }

    /// Append mode: a row once, never changed; its rows are in no state.
    pub fn gives_out_for_good(&self) -> bool {
        // Rows of a query without state never change: update mode is append mode to it, as in Spark.
        self.mode == OutputMode::Append || self.stateful().is_none()
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn identity(&self) -> &QueryIdentity {
        &self.identity
    }

    pub fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }

    /// The output columns that are the group key, in the order of the key.
    pub fn key_columns(&self) -> &[usize] {
        &self.key_columns
    }

    /// Whether [`Query::key_columns`] are the whole group key, so that a row is known by them.
    pub fn shows_key(&self) -> bool {
        self.shows_key
    }

    /// The schema of deltas and snapshots; `None` without state.
    pub fn state_schema(&self) -> Option<&SchemaRef> {
        self.stateful().map(|stateful| stateful.merger.state_schema())
    }

    /// How many columns of [`Query::state_schema`] are the group key.
    pub fn key_count(&self) -> usize {
        self.stateful().map_or(0, |stateful| stateful.merger.key_count())
    }

    /// Number of groups in the state.
    pub fn state_rows(&self) -> u64 {
        self.stateful().map_or(0, |stateful| stateful.state.len() as u64)
    }

    /// Bytes that the state holds in memory.
    pub fn state_memory_bytes(&self) -> u64 {
        self.stateful().map_or(0, |stateful| stateful.state.memory_bytes() as u64)
    }

    /// The streaming plan as text, for `explain`.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let text = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
        match &self.work {
            Work::Stateless(plan) => vec![("each batch", text(plan))],
            Work::Stateful(stateful) => vec![
                ("each batch, partial aggregation (the delta)", text(&stateful.lower)),
                ("over the groups that it touched, or all", text(&stateful.upper)),
            ],
        }
    }

    /// Runs the query over what its source was fed, and merges the delta into the state.
    ///
    /// # Errors
    /// Of kind `Failed` where an expression or an aggregate fails on the data. The state is then not to be used
    /// any more: the batch is not committed, and recovery restores it.
    pub(super) fn step(&mut self, executor: &Executor, rows_fed: u64, want_output: bool) -> Result<Step> {
        let Work::Stateful(stateful) = &mut self.work else {
            let Work::Stateless(plan) = &self.work else { unreachable!("a query is stateless or stateful") };
            let output = run(&self.name, executor, plan)?;
            let rows_filtered = output.iter().map(|batch| batch.num_rows() as u64).sum();
            return Ok(Step { output: Some(output), rows_filtered, ..Step::default() });
        };
        let (delta, rows_filtered) = stateful.delta(&self.name, executor)?;
        let rows_filtered = rows_filtered.unwrap_or(rows_fed);
        let touched = stateful.state.merge(&stateful.merger, &delta)?;
        let delta = delta.rows;
        let groups_touched = touched.state.num_rows() as u64;
        let output = if want_output { Some(stateful.emit(&self.name, executor, self.mode, &touched)?) } else { None };
        let delta = state::encode(stateful.merger.state_schema(), &[delta])?;
        Ok(Step { delta: Some(delta), output, rows_filtered, groups_touched })
    }

    /// Merges a delta from the log; what the batch gave out is computed again where it is wanted.
    ///
    /// # Errors
    /// As [`Query::step`].
    pub fn replay(
        &mut self,
        executor: &Executor,
        delta: &RecordBatch,
        want_output: bool,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let (mode, name) = (self.mode, &self.name);
        let Work::Stateful(stateful) = &mut self.work else { return Ok(None) };
        let delta = stateful.state.ordered(delta.clone())?;
        let touched = stateful.state.merge(&stateful.merger, &delta)?;
        if want_output { stateful.emit(name, executor, mode, &touched).map(Some) } else { Ok(None) }
    }

    /// Takes over a snapshot's rows; only into an empty state.
    ///
    /// # Errors
    /// As [`KeyedState::load`].
    pub fn load(&mut self, snapshot: &RecordBatch) -> Result<()> {
        match &mut self.work {
            Work::Stateful(stateful) => stateful.state.load(snapshot),
            Work::Stateless(_) => Ok(()),
        }
    }

    /// The whole state in parts, for a snapshot; `None` without state.
    ///
    /// # Errors
    /// As [`KeyedState::parts`].
    pub fn whole_state(&self) -> Result<Option<Vec<RecordBatch>>> {
        self.stateful().map(|stateful| stateful.state.parts()).transpose()
    }

    /// Forgets the state.
    ///
    /// # Errors
    /// As [`KeyedState::new`].
    pub fn clear(&mut self) -> Result<()> {
        if let Work::Stateful(stateful) = &mut self.work {
            stateful.state = KeyedState::new(stateful.merger.state_schema(), stateful.merger.key_count())?;
        }
        Ok(())
    }

    /// The result as of the state: the finalised groups through the rest of the query. Empty without state.
    ///
    /// # Errors
    /// As [`Query::step`].
    pub fn result(&self, executor: &Executor) -> Result<Vec<RecordBatch>> {
        match &self.work {
            Work::Stateful(stateful) => stateful.finish(&self.name, executor, &stateful.state.whole()?),
            Work::Stateless(_) => Ok(Vec::new()),
        }
    }

    fn stateful(&self) -> Option<&Stateful> {
        match &self.work {
            Work::Stateful(stateful) => Some(stateful),
            Work::Stateless(_) => None,
        }
    }
}

impl Stateful {
    /// The batch's partial aggregates, ordered by key, and how many rows went into them (`None`: all that were fed,
    /// since nothing stands before the aggregate).
    fn delta(&self, name: &str, executor: &Executor) -> Result<(Ordered, Option<u64>)> {
        let lower = reset_plan_states(Arc::clone(&self.lower)).map_err(|error| running(name, error))?;
        let parts = run_as_is(name, executor, &lower)?;
        let input = lower.children().into_iter().next().filter(|input| !input.children().is_empty());
        let rows = input.and_then(|input| input.metrics()).and_then(|metrics| metrics.output_rows());
        let delta = concat_batches(self.merger.state_schema(), &parts)
            .map_err(|error| Error::failed(format!("query '{name}' failed")).because(error.to_string()))?;
        Ok((self.state.ordered(delta)?, rows.map(|rows| rows as u64)))
    }

    fn emit(&self, name: &str, executor: &Executor, mode: OutputMode, touched: &Touched) -> Result<Vec<RecordBatch>> {
        match mode {
            OutputMode::Complete => self.finish(name, executor, &self.state.whole()?),
            OutputMode::Update => self.finish(name, executor, &touched.state),
            OutputMode::Append => {
                let new = BooleanArray::from(touched.new.clone());
                let rows = filter_record_batch(&touched.state, &new)
                    .map_err(|error| Error::failed(format!("query '{name}' failed")).because(error.to_string()))?;
                self.finish(name, executor, &rows)
            }
        }
    }

    /// Finalises rows of state and runs the plan above the aggregate over them.
    fn finish(&self, name: &str, executor: &Executor, state: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let groups = self.merger.evaluate(state)?;
        self.groups.fill(Rows::Batches(Arc::new(vec![groups])));
        let output = run(name, executor, &self.upper);
        self.groups.fill(Rows::None);
        output
    }
}

/// Executes a plan from its beginning, whatever it executed before.
fn run(name: &str, executor: &Executor, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
    let plan = reset_plan_states(Arc::clone(plan)).map_err(|error| running(name, error))?;
    run_as_is(name, executor, &plan)
}

fn run_as_is(name: &str, executor: &Executor, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
    let execution = collect(Arc::clone(plan), Arc::clone(&executor.context));
    executor.handle.block_on(execution).map_err(|error| running(name, error))
}

/// An optimised plan, cut at its aggregate.
pub(super) struct Cut {
    /// The aggregate and what is below.
    pub aggregate: LogicalPlan,
    /// What is above, over [`Groups`].
    pub upper: LogicalPlan,
    pub groups: Slot,
}

impl Cut {
    fn new(optimised: &LogicalPlan) -> Result<Cut, DataFusionError> {
        let mut found = None;
        optimised.apply(|node| {
            if matches!(node, LogicalPlan::Aggregate(_)) {
                found = Some(node.clone());
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let aggregate = found.ok_or_else(|| DataFusionError::Plan("the optimizer removed the aggregate".into()))?;
        let groups = Slot::default();
        let leaf = Groups { schema: Arc::clone(aggregate.schema()), slot: groups.clone() }.node();
        let upper = optimised.clone().transform_down(|node| {
            Ok(match node {
                LogicalPlan::Aggregate(_) => Transformed::new(leaf.clone(), true, TreeNodeRecursion::Jump),
                node => Transformed::no(node),
            })
        })?;
        Ok(Cut { aggregate, upper: upper.data, groups })
    }
}

type Partial = (Arc<dyn ExecutionPlan>, Merger);

/// Rebuilds a planned aggregation as a partial one, and says how its states merge.
fn partial(physical: &Arc<dyn ExecutionPlan>, aggregate: &LogicalPlan) -> Result<Result<Partial>, DataFusionError> {
    let planned = find_aggregation(physical)
        .ok_or_else(|| DataFusionError::Plan("the aggregate has no physical counterpart".into()))?;
    let lower = AggregateExec::try_new(
        AggregateMode::Partial,
        planned.group_expr().clone(),
        planned.aggr_expr().to_vec(),
        planned.filter_expr().to_vec(),
        Arc::clone(planned.input()),
        planned.input_schema(),
    )?;
    // Grouping sets add a column to the key, so the number of expressions is not its width.
    let key_count = lower.group_expr().num_group_exprs();
    let state_schema = lower.schema();
    let aggregates = lower.aggr_expr().to_vec();
    let result_schema: SchemaRef = Arc::new(Schema::clone(aggregate.schema().as_arrow()));
    Ok(Merger::new(aggregates, key_count, state_schema, result_schema)
        .map(|merger| (Arc::new(lower) as Arc<dyn ExecutionPlan>, merger)))
}

/// The aggregation next to the input: with one partition the planner may have made one of two phases, or a single one.
fn find_aggregation(plan: &Arc<dyn ExecutionPlan>) -> Option<AggregateExec> {
    let below = plan.children().into_iter().find_map(find_aggregation);
    below.or_else(|| plan.downcast_ref::<AggregateExec>().cloned())
}
