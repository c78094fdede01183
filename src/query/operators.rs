//! What is done where a plan is cut, batch by batch.

mod aggregate;
mod first_of_key;
mod join;
mod limit;
mod on_time;

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::RecordBatchOptions,
        datatypes::{Schema, SchemaRef},
        record_batch::RecordBatch,
    },
    error::DataFusionError,
    logical_expr::LogicalPlan,
    physical_plan::{ExecutionPlan, collect, displayable, execution_plan::reset_plan_states},
    prelude::SessionContext,
};
use tokio::runtime::Runtime;

use self::{aggregate::Aggregation, first_of_key::FirstOfKey, join::StreamJoin, limit::Limit, on_time::OnTime};
use super::{
    cut::{CutKind, CutStage},
    errors::running,
    feed::{Rows, Slot},
    plan::Executor,
};
use crate::model::{BatchId, Error, Result, Watermarks};

/// One cut at work: it reads what its plans yield, and fills the slot that later plans read.
pub(super) struct Stage {
    operator: Operator,
    /// How much less the watermark is to it, microseconds.
    behind_us: i64,
    pub out: Slot,
}

enum Operator {
    OnTime(OnTime),
    FirstOfKey(Box<FirstOfKey>),
    Union(Vec<Arc<dyn ExecutionPlan>>),
    Aggregate(Box<Aggregation>),
    Join(Box<StreamJoin>),
    Limit(Limit),
}

/// What an operator needs of the batch.
pub(super) struct Batch<'a> {
    /// The query's name.
    pub query: &'a str,
    pub id: BatchId,
    pub executor: &'a Executor,
    pub watermarks: Watermarks,
    /// Whether the query's rows are wanted.
    pub wanted: bool,
}

impl Batch<'_> {
    /// As an operator sees it that takes the watermark to be less.
    fn behind(&self, us: i64) -> Batch<'_> {
        Batch { watermarks: self.watermarks.behind(us), ..*self }
    }
}

/// What a batch did to one operator with state.
#[derive(Debug, Clone, Default)]
pub struct OperatorStep {
    /// In Spark's words.
    pub name: &'static str,
    /// Keys that the batch touched.
    pub rows_updated: u64,
    /// Keys that the watermark removed; of a window over batches, groups of those that left it.
    pub rows_removed: u64,
    /// Late rows, and rows without a time, that were dropped in front of it.
    pub rows_late: u64,
    /// Keys in its state (of a join: rows of both sides; of a window over batches: the groups of each of them).
    pub rows_total: u64,
    pub memory_bytes: u64,
}

/// What an operator keeps, in words, for `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub rows: &'static str,
    /// Whether the watermark lets go of it; `None`: it does not grow.
    pub bounded: Option<bool>,
}

/// What an operator did: what of it is committed, and how much it was.
#[derive(Default)]
pub(super) struct Did {
    pub deltas: Vec<RecordBatch>,
    /// Rows that came to it; `None`: all that its input holds.
    pub rows_in: Option<u64>,
    pub rows_updated: u64,
    pub rows_removed: u64,
    pub rows_late: u64,
}

/// Plans and states of a cut stage.
pub(super) struct Builder<'a> {
    pub context: &'a SessionContext,
    pub runtime: &'a Runtime,
}

impl Builder<'_> {
    pub fn physical(&self, plan: &LogicalPlan) -> std::result::Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let session = self.context.state();
        self.runtime.block_on(session.query_planner().create_physical_plan(plan, &session))
    }

    /// Makes a stage of a cut.
    ///
    /// # Errors
    /// Of DataFusion, which cannot plan it; inside, of ours, where it cannot be state.
    pub fn stage(&self, cut: &CutStage) -> std::result::Result<Result<Stage>, DataFusionError> {
        let inputs = &cut.inputs;
        let operator = match &cut.kind {
            CutKind::OnTime { bounded, counted, .. } => {
                Ok(Operator::OnTime(OnTime { input: self.physical(&inputs[0])?, bounded: *bounded, counted: *counted }))
            }
            CutKind::Union => {
                let plans: std::result::Result<Vec<_>, _> = inputs.iter().map(|input| self.physical(input)).collect();
                Ok(Operator::Union(plans?))
            }
            CutKind::FirstOfKey { columns, keys, time, within_us } => {
                FirstOfKey::new(self.physical(&inputs[0])?, *columns, *keys, *time, *within_us)
                    .map(|operator| Operator::FirstOfKey(Box::new(operator)))
            }
            CutKind::Aggregate { emit, closes, window } => {
                let physical = self.physical(&inputs[0])?;
                Aggregation::new(&physical, &inputs[0], *emit, *closes, *window)?
                    .map(|operator| Operator::Aggregate(Box::new(operator)))
            }
            CutKind::Limit { skip, fetch } => {
                Ok(Operator::Limit(Limit::new(self.physical(&inputs[0])?, *skip, *fetch)))
            }
            CutKind::Join(join) => {
                StreamJoin::new(self, join, inputs)?.map(|operator| Operator::Join(Box::new(operator)))
            }
        };
        Ok(operator.map(|operator| Stage { operator, behind_us: cut.behind_us, out: cut.out.clone() }))
    }
}

impl Stage {
    /// Runs the operator over one batch, and fills its slot.
    ///
    /// # Errors
    /// Of kind `Failed` where an expression or an aggregate fails on the data.
    pub fn step(&mut self, batch: &Batch<'_>) -> Result<Did> {
        let out = &self.out;
        let batch = &batch.behind(self.behind_us);
        match &mut self.operator {
            Operator::OnTime(on_time) => on_time.step(batch, out),
            Operator::FirstOfKey(first) => first.step(batch, out),
            Operator::Union(plans) => {
                let mut rows = Vec::new();
                for plan in plans {
                    rows.extend(run(batch.query, batch.executor, plan)?);
                }
                out.fill(Rows::Batches(Arc::new(rows)));
                Ok(Did::default())
            }
            Operator::Aggregate(aggregate) => aggregate.step(batch, out),
            Operator::Join(join) => join.step(batch, out),
            Operator::Limit(limit) => limit.step(batch, out),
        }
    }

    /// Takes over what a committed batch did; with `batch.wanted`, what it gave out is computed again.
    ///
    /// # Errors
    /// As [`Stage::step`].
    pub fn replay(&mut self, batch: &Batch<'_>, deltas: &[RecordBatch]) -> Result<()> {
        let batch = &batch.behind(self.behind_us);
        match &mut self.operator {
            Operator::OnTime(_) | Operator::Union(_) => Ok(()),
            Operator::FirstOfKey(first) => first.replay(batch, deltas),
            Operator::Aggregate(aggregate) => aggregate.replay(batch, deltas, &self.out),
            Operator::Join(join) => join.replay(batch, deltas),
            Operator::Limit(limit) => deltas.iter().try_for_each(|delta| limit.load(delta)),
        }
    }

    /// Spark's name of an operator with state; `None`: it has none.
    pub fn name(&self) -> Option<&'static str> {
        match &self.operator {
            Operator::OnTime(_) | Operator::Union(_) => None,
            Operator::FirstOfKey(first) => Some(first.name()),
            Operator::Aggregate(aggregate) => Some(aggregate.name()),
            Operator::Join(_) => Some("symmetricHashJoin"),
            Operator::Limit(_) => Some("globalLimit"),
        }
    }

    /// What is kept from batch to batch; `None`: nothing.
    pub fn kept(&self) -> Option<Kept> {
        let bounded = Some(self.is_bounded());
        match &self.operator {
            Operator::OnTime(_) | Operator::Union(_) => None,
            Operator::FirstOfKey(_) => Some(Kept { rows: "one row per key of DISTINCT ON", bounded }),
            Operator::Aggregate(aggregate) if aggregate.merger.key_count() == 0 => {
                Some(Kept { rows: "one row", bounded: None })
            }
            Operator::Aggregate(_) => Some(Kept { rows: "one row per group", bounded }),
            Operator::Join(join) => Some(join.kept()),
            Operator::Limit(_) => Some(Kept { rows: "a count of rows", bounded: None }),
        }
    }

    /// The aggregate, if it is one.
    pub fn aggregate(&self) -> Option<&Aggregation> {
        match &self.operator {
            Operator::Aggregate(aggregate) => Some(aggregate),
            _ => None,
        }
    }

    /// Whether the watermark changes what the operator holds or gives out.
    pub fn is_bounded(&self) -> bool {
        match &self.operator {
            Operator::OnTime(on_time) => on_time.bounded,
            Operator::Union(_) | Operator::Limit(_) => false,
            Operator::FirstOfKey(first) => first.is_bounded(),
            Operator::Aggregate(aggregate) => aggregate.is_bounded(),
            Operator::Join(join) => join.is_bounded(),
        }
    }

    /// Schemas of its deltas and snapshots, in their order; empty: it keeps no state.
    pub fn state_schemas(&self) -> Vec<SchemaRef> {
        match &self.operator {
            Operator::OnTime(_) | Operator::Union(_) => Vec::new(),
            Operator::FirstOfKey(first) => vec![first.state_schema()],
            Operator::Aggregate(aggregate) => vec![aggregate.state_schema().clone()],
            Operator::Join(join) => join.state_schemas(),
            Operator::Limit(limit) => vec![limit.state_schema()],
        }
    }

    /// Keys in the state, and the bytes that it takes in memory.
    pub fn size(&self) -> (u64, u64) {
        match &self.operator {
            Operator::OnTime(_) | Operator::Union(_) => (0, 0),
            Operator::FirstOfKey(first) => first.size(),
            Operator::Aggregate(aggregate) => aggregate.size(),
            Operator::Join(join) => join.size(),
            Operator::Limit(_) => (1, 8),
        }
    }

    /// Takes over rows of a snapshot.
    ///
    /// # Errors
    /// Of kind `Refused`, where they cannot be a snapshot of it.
    pub fn load(&mut self, part: usize, rows: &RecordBatch) -> Result<()> {
        match &mut self.operator {
            Operator::OnTime(_) | Operator::Union(_) => Ok(()),
            Operator::FirstOfKey(first) => first.load(rows),
            Operator::Aggregate(aggregate) => aggregate.load(rows),
            Operator::Join(join) => join.load(part, rows),
            Operator::Limit(limit) => limit.load(rows),
        }
    }

    /// The state whole, for a snapshot, by schema.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn whole(&self) -> Result<Vec<Vec<RecordBatch>>> {
        match &self.operator {
            Operator::OnTime(_) | Operator::Union(_) => Ok(Vec::new()),
            Operator::FirstOfKey(first) => Ok(vec![vec![first.whole()?]]),
            Operator::Aggregate(aggregate) => Ok(vec![aggregate.parts()?]),
            Operator::Join(join) => join.whole(),
            Operator::Limit(limit) => Ok(vec![vec![limit.whole()?]]),
        }
    }

    /// Forgets the state.
    ///
    /// # Errors
    /// Of kind `Usage`, as it was made.
    pub fn clear(&mut self) -> Result<()> {
        match &mut self.operator {
            Operator::OnTime(_) | Operator::Union(_) => Ok(()),
            Operator::FirstOfKey(first) => first.clear(),
            Operator::Aggregate(aggregate) => aggregate.clear(),
            Operator::Join(join) => join.clear(),
            Operator::Limit(limit) => {
                limit.clear();
                Ok(())
            }
        }
    }

    /// What it runs, as text, for `explain`.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let text = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
        match &self.operator {
            Operator::OnTime(on_time) if on_time.bounded => {
                vec![("each batch, rows that are not late", text(&on_time.input))]
            }
            Operator::OnTime(on_time) => vec![("each batch, rows that have a time", text(&on_time.input))],
            Operator::FirstOfKey(first) => vec![("each batch, the first row of each key", text(&first.input))],
            Operator::Union(plans) => {
                plans.iter().map(|plan| ("each batch, one of several inputs", text(plan))).collect()
            }
            Operator::Aggregate(aggregate) => {
                vec![("each batch, partial aggregation (the delta)", text(&aggregate.lower))]
            }
            Operator::Join(join) => join.describe(),
            Operator::Limit(limit) => vec![("each batch, as long as there is room", text(&limit.input))],
        }
    }
}

/// Executes a plan from its beginning, whatever it executed before.
pub(super) fn run(name: &str, executor: &Executor, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
    let plan = reset_plan_states(Arc::clone(plan)).map_err(|error| running(name, error))?;
    run_as_is(name, executor, &plan)
}

pub(super) fn run_as_is(name: &str, executor: &Executor, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
    let execution = collect(Arc::clone(plan), Arc::clone(&executor.context));
    executor.handle.block_on(execution).map_err(|error| running(name, error))
}

/// The first columns of rows.
fn first_columns(rows: &RecordBatch, columns: usize) -> Result<RecordBatch> {
    let schema = Arc::new(Schema::new(rows.schema().fields()[..columns].to_vec()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema, rows.columns()[..columns].to_vec(), &options)
        .map_err(|error| Error::failed("rows could not be cut to their columns").because(error.to_string()))
}

fn rows_in(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}
