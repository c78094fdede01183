//! Groups, merged from the partial aggregates of each batch.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::BooleanArray,
        compute::{concat_batches, filter_record_batch},
        datatypes::{Schema, SchemaRef},
        error::ArrowError,
        record_batch::RecordBatch,
    },
    error::DataFusionError,
    logical_expr::LogicalPlan,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
        execution_plan::reset_plan_states,
    },
};

use super::{Batch, Did, first_columns, run_as_is};
use crate::{
    model::{BatchId, BatchWindow, Error, Result},
    query::{
        cut::{Closes, Emit},
        errors::running,
        feed::{Rows, Slot},
        times::Time,
    },
    state::{KeyedState, Merger, Ordered, OverAt, Panes, Ring, Sessions, Touched},
};

pub(in crate::query) struct Aggregation {
    /// Partial aggregation of one batch.
    pub(super) lower: Arc<dyn ExecutionPlan>,
    pub merger: Merger,
    emit: Emit,
    closes: Option<Closes>,
    /// Over which of the last batches; `None`: over all.
    window: Option<BatchWindow>,
    groups: Groups,
}

enum Groups {
    /// No watermark closes them.
    All(KeyedState),
    Panes(Panes),
    Sessions(Box<Sessions>),
    /// Those of the last batches, each by itself.
    Ring(Ring),
}

impl Groups {
    fn new(merger: &Merger, emit: Emit, closes: Option<Closes>, window: Option<BatchWindow>) -> Result<Groups> {
        let (schema, keys) = (merger.state_schema(), merger.key_count());
        Ok(match closes {
            _ if window.is_some() => Groups::Ring(Ring::new(schema, keys)?),
            Some(Closes { key, time: Time::Session, .. }) => {
                Groups::Sessions(Box::new(Sessions::new(schema, keys, key)?))
            }
            Some(Closes { key, time, .. }) if emit != Emit::Whole => {
                let over_at = if time == Time::Window { OverAt::End(key) } else { OverAt::Time(key) };
                Groups::Panes(Panes::new(schema, keys, over_at)?)
            }
            _ => Groups::All(KeyedState::new(schema, keys)?),
        })
    }
}

impl Aggregation {
    /// # Errors
    /// Of DataFusion; inside, of ours, where keys or aggregates cannot be state.
    pub fn new(
        physical: &Arc<dyn ExecutionPlan>,
        logical: &LogicalPlan,
        emit: Emit,
        closes: Option<Closes>,
        window: Option<BatchWindow>,
    ) -> std::result::Result<Result<Aggregation>, DataFusionError> {
        let (lower, merger) = match partial(physical, logical)? {
            Ok(partial) => partial,
            Err(error) => return Ok(Err(error)),
        };
        let groups = Groups::new(&merger, emit, closes, window);
        Ok(groups.map(|groups| Aggregation { lower, merger, emit, closes, window, groups }))
    }

    pub fn name(&self) -> &'static str {
        match self.groups {
            Groups::Sessions(_) => "sessionWindowStateStoreSave",
            _ if self.emit == Emit::New => "dedupe",
            _ => "stateStoreSave",
        }
    }

    pub fn is_bounded(&self) -> bool {
        self.closes.is_some() && self.emit != Emit::Whole
    }

    pub fn step(&mut self, batch: &Batch<'_>, out: &Slot) -> Result<Did> {
        let (delta, rows_in) = self.delta(batch)?;
        let touched = self.merge(batch.id, &delta)?;
        let rows_updated = touched.state.num_rows() as u64;
        let (rows_removed, over) = self.evict(batch)?;
        self.give_out(batch, &touched, over, out)?;
        let delta = match &self.groups {
            Groups::Ring(ring) => ring.written(batch.id, &delta.rows)?,
            _ => delta.rows,
        };
        Ok(Did { deltas: vec![delta], rows_in, rows_updated, rows_removed, rows_late: 0 })
    }

    pub fn replay(&mut self, batch: &Batch<'_>, deltas: &[RecordBatch], out: &Slot) -> Result<()> {
        for delta in deltas {
            let delta = match &self.groups {
                // the batch that it is of stands behind its columns
                Groups::Ring(_) => self.ordered(first_columns(delta, delta.num_columns().saturating_sub(1))?)?,
                _ => self.ordered(delta.clone())?,
            };
            let touched = self.merge(batch.id, &delta)?;
            let (_, over) = self.evict(batch)?;
            self.give_out(batch, &touched, over, out)?;
        }
        Ok(())
    }

    /// The batch's partial aggregates, ordered by key, and how many rows went into them (`None`: all that its
    /// input holds, since nothing stands before the aggregate).
    fn delta(&self, batch: &Batch<'_>) -> Result<(Ordered, Option<u64>)> {
        let lower = reset_plan_states(Arc::clone(&self.lower)).map_err(|error| running(batch.query, error))?;
        let parts = run_as_is(batch.query, batch.executor, &lower)?;
        let input = lower.children().into_iter().next().filter(|input| !input.children().is_empty());
        let rows = input.and_then(|input| input.metrics()).and_then(|metrics| metrics.output_rows());
        let delta = concat_batches(self.merger.state_schema(), &parts).map_err(|error| failed(batch, &error))?;
        Ok((self.ordered(delta)?, rows.map(|rows| rows as u64)))
    }

    fn ordered(&self, delta: RecordBatch) -> Result<Ordered> {
        match &self.groups {
            Groups::All(state) => state.ordered(delta),
            Groups::Panes(panes) => panes.ordered(delta),
            Groups::Sessions(sessions) => sessions.ordered(&self.merger, delta),
            Groups::Ring(ring) => ring.ordered(delta),
        }
    }

    fn merge(&mut self, batch: BatchId, delta: &Ordered) -> Result<Touched> {
        match &mut self.groups {
            Groups::All(state) => state.merge(&self.merger, delta),
            Groups::Panes(panes) => panes.merge(&self.merger, delta),
            Groups::Sessions(sessions) => sessions.merge(&self.merger, &delta.rows),
            Groups::Ring(ring) => {
                ring.add(batch, delta.rows.clone());
                Ok(Touched { state: delta.rows.clone(), new: Vec::new() })
            }
        }
    }

    /// How many groups go, and those that are given out for it: what the watermark closes.
    fn evict(&mut self, batch: &Batch<'_>) -> Result<(u64, Option<RecordBatch>)> {
        if let (Groups::Ring(ring), Some(window)) = (&mut self.groups, self.window) {
            return Ok((ring.let_go(window.first_of(batch.id)), None));
        }
        let Some(over_us) = batch.watermarks.over_us.filter(|_| self.is_bounded()) else { return Ok((0, None)) };
        let over = match &mut self.groups {
            Groups::All(_) | Groups::Ring(_) => return Ok((0, None)),
            Groups::Panes(panes) => panes.evict(over_us)?,
            Groups::Sessions(sessions) => sessions.evict(over_us)?,
        };
        Ok((over.num_rows() as u64, Some(over)))
    }

    fn give_out(&self, batch: &Batch<'_>, touched: &Touched, over: Option<RecordBatch>, out: &Slot) -> Result<()> {
        if !batch.wanted {
            return Ok(());
        }
        let none = || self.merger.evaluate(&RecordBatch::new_empty(self.merger.state_schema().clone()));
        let groups = match self.emit {
            Emit::Whole if self.window.is_some_and(|window| !window.ends_with(batch.id)) => none()?,
            Emit::Whole => self.merger.evaluate(&self.whole()?)?,
            Emit::Touched => self.merger.evaluate(&touched.state)?,
            Emit::New => {
                let new = BooleanArray::from(touched.new.clone());
                let rows = filter_record_batch(&touched.state, &new).map_err(|error| failed(batch, &error))?;
                self.merger.evaluate(&rows)?
            }
            Emit::Closed => match over {
                Some(over) => self.merger.evaluate(&over)?,
                None => none()?,
            },
        };
        out.fill(Rows::Batches(Arc::new(vec![groups])));
        Ok(())
    }

    /// All groups, finalised.
    ///
    /// # Errors
    /// Of kind `Failed` where an aggregate cannot be evaluated.
    pub fn result(&self) -> Result<RecordBatch> {
        self.merger.evaluate(&self.whole()?)
    }

    fn whole(&self) -> Result<RecordBatch> {
        match &self.groups {
            Groups::All(state) => state.whole(),
            Groups::Panes(panes) => panes.whole(),
            Groups::Sessions(sessions) => {
                let parts = sessions.parts()?;
                concat_batches(self.state_schema(), &parts)
                    .map_err(|error| Error::failed("state rows could not be put together").because(error.to_string()))
            }
            Groups::Ring(ring) => ring.merged(&self.merger),
        }
    }

    /// Of deltas and snapshots.
    pub fn state_schema(&self) -> &SchemaRef {
        match &self.groups {
            Groups::Ring(ring) => ring.schema(),
            _ => self.merger.state_schema(),
        }
    }

    pub fn size(&self) -> (u64, u64) {
        let (rows, bytes) = match &self.groups {
            Groups::All(state) => (state.len(), state.memory_bytes()),
            Groups::Panes(panes) => (panes.len(), panes.memory_bytes()),
            Groups::Sessions(sessions) => (sessions.len(), sessions.memory_bytes()),
            Groups::Ring(ring) => (ring.len(), ring.memory_bytes()),
        };
        (rows as u64, bytes as u64)
    }

    pub fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        match &mut self.groups {
            Groups::All(state) => state.load(rows),
            Groups::Panes(panes) => panes.load(rows),
            Groups::Sessions(sessions) => sessions.load(rows),
            Groups::Ring(ring) => ring.load(rows),
        }
    }

    pub fn parts(&self) -> Result<Vec<RecordBatch>> {
        match &self.groups {
            Groups::All(state) => state.parts(),
            Groups::Panes(panes) => panes.parts(),
            Groups::Sessions(sessions) => sessions.parts(),
            Groups::Ring(ring) => ring.parts(),
        }
    }

    pub fn clear(&mut self) -> Result<()> {
        self.groups = Groups::new(&self.merger, self.emit, self.closes, self.window)?;
        Ok(())
    }
}

fn failed(batch: &Batch<'_>, error: &ArrowError) -> Error {
    Error::failed(format!("query '{}' failed", batch.query)).because(error.to_string())
}

type Partial = (Arc<dyn ExecutionPlan>, Merger);

/// Rebuilds a planned aggregation as a partial one, and says how its states merge.
fn partial(
    physical: &Arc<dyn ExecutionPlan>,
    aggregate: &LogicalPlan,
) -> std::result::Result<Result<Partial>, DataFusionError> {
    let planned = aggregation_of(physical)
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
fn aggregation_of(plan: &Arc<dyn ExecutionPlan>) -> Option<AggregateExec> {
    let Some(found) = plan.downcast_ref::<AggregateExec>() else {
        return plan.children().into_iter().find_map(aggregation_of);
    };
    match found.mode() {
        AggregateMode::Final | AggregateMode::FinalPartitioned => {
            plan.children().into_iter().find_map(aggregation_of).or_else(|| Some(found.clone()))
        }
        _ => Some(found.clone()),
    }
}
