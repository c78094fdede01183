//! A join of two streams: each row meets those of the other side that came before it, or come while it is kept.

use std::{ops::Range, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, new_null_array},
        compute::concat_batches,
        datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType},
        error::ArrowError,
        record_batch::RecordBatch,
    },
    common::NullEquality,
    error::DataFusionError,
    logical_expr::{JoinType, LogicalPlan},
    physical_expr::PhysicalExpr,
    physical_plan::{ExecutionPlan, displayable},
};

use super::{Batch, Builder, Did, Kept, rows_in, run};
use crate::{
    model::{Error, Result},
    query::{
        bounds::Bound,
        cut::JoinCut,
        errors::running,
        feed::{Rows, Slot},
    },
    state::JoinSide,
};

pub(super) struct StreamJoin {
    join_type: JoinType,
    /// Of both sides: the rows, and behind them their keys.
    inputs: [Arc<dyn ExecutionPlan>; 2],
    /// How many columns the rows of each side have.
    columns: [usize; 2],
    keys: usize,
    bounds: [Vec<Bound>; 2],
    /// Over the columns of both sides.
    filter: Option<Arc<dyn PhysicalExpr>>,
    pair_schema: SchemaRef,
    sides: [JoinSide; 2],
}

/// Rows of both sides that belong together.
#[derive(Default)]
struct Pairs {
    left: Vec<u64>,
    right: Vec<u64>,
}

impl StreamJoin {
    pub fn new(
        builder: &Builder<'_>,
        cut: &JoinCut,
        inputs: &[LogicalPlan],
    ) -> std::result::Result<Result<StreamJoin>, DataFusionError> {
        let join = &cut.join;
        if join.null_equality != NullEquality::NullEqualsNothing {
            return Err(DataFusionError::Plan("a join of two streams where null equals null".to_owned()));
        }
        let plans = [builder.physical(&inputs[0])?, builder.physical(&inputs[1])?];
        let columns = [join.left.schema().fields().len(), join.right.schema().fields().len()];
        let both = join.left.schema().join(join.right.schema())?;
        let filter = join.filter.as_ref();
        let filter =
            filter.map(|filter| builder.context.state().create_physical_expr(filter.clone(), &both)).transpose()?;
        let nullable = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(true));
        let pair_schema = Arc::new(Schema::new(both.fields().iter().map(nullable).collect::<Vec<_>>()));
        let keys = join.on.len();
        let sides = sides(&plans, keys);
        Ok(sides.map(|sides| StreamJoin {
            join_type: join.join_type,
            inputs: plans,
            columns,
            keys,
            bounds: cut.bounds.clone(),
            filter,
            pair_schema,
            sides,
        }))
    }

    pub fn kept(&self) -> Kept {
        let bounded = [&self.bounds[0], &self.bounds[1]].map(|bounds| !bounds.is_empty());
        let rows = match bounded {
            [true, false] => {
                "the rows of both sides of a join: of the left one until the watermark closes them, of the right one"
            }
            [false, true] => {
                "the rows of both sides of a join: of the right one until the watermark closes them, of the left one"
            }
            _ => "the rows of both sides of a join",
        };
        Kept { rows, bounded: Some(bounded == [true, true]) }
    }

    pub fn is_bounded(&self) -> bool {
        self.bounds.iter().any(|bounds| !bounds.is_empty())
    }

    pub fn step(&mut self, batch: &Batch<'_>, out: &Slot) -> Result<Did> {
        let mut deltas = Vec::with_capacity(2);
        for side in 0..2 {
            let rows = run(batch.query, batch.executor, &self.inputs[side])?;
            let rows = concat_batches(&self.inputs[side].schema(), &rows).map_err(|error| failed(&error))?;
            deltas.push(self.sides[side].delta(rows.columns(), self.until(side, &rows)?)?);
        }
        let rows_in = rows_in(&deltas);
        let mut given = Vec::new();
        self.take_in(batch, &deltas, Some(&mut given))?;
        let rows_removed = self.evict(batch, Some(&mut given))?;
        out.fill(Rows::Batches(Arc::new(given)));
        Ok(Did { deltas, rows_in: Some(rows_in), rows_updated: rows_in, rows_removed, rows_late: 0 })
    }

    pub fn replay(&mut self, batch: &Batch<'_>, deltas: &[RecordBatch]) -> Result<()> {
        if deltas.len() == 2 {
            self.take_in(batch, deltas, None)?;
        }
        self.evict(batch, None).map(|_| ())
    }

    /// Adds both sides' rows, finds what they meet, and lets go of those that nothing is kept for.
    fn take_in(
        &mut self,
        batch: &Batch<'_>,
        deltas: &[RecordBatch],
        given: Option<&mut Vec<RecordBatch>>,
    ) -> Result<()> {
        let new = [self.sides[0].add(&deltas[0])?, self.sides[1].add(&deltas[1])?];
        let mut done = [Vec::new(), Vec::new()];
        // who met whom is nothing that an inner join keeps
        if given.is_some() || self.join_type != JoinType::Inner {
            done[0] = self.meet(batch, &new, given)?;
        }
        for side in 0..2 {
            if !self.gives_out_alone(side) {
                done[side].extend(new[side].clone().filter(|id| self.sides[side].key(*id).is_none()));
            }
            self.sides[side].remove(&done[side]);
        }
        Ok(())
    }

    /// Finds what new rows meet, and says which rows of the left side are done with it.
    fn meet(
        &mut self,
        batch: &Batch<'_>,
        [new_left, new_right]: &[Range<u64>; 2],
        given: Option<&mut Vec<RecordBatch>>,
    ) -> Result<Vec<u64>> {
        let mut pairs = Pairs::default();
        for left in new_left.clone() {
            for right in self.sides[1].partners(&self.sides[0].key(left)) {
                pairs.left.push(left);
                pairs.right.push(right);
            }
        }
        for right in new_right.clone() {
            let key = self.sides[1].key(right);
            for left in self.sides[0].partners(&key).filter(|left| !new_left.contains(left)) {
                pairs.left.push(left);
                pairs.right.push(right);
            }
        }
        let pairs = self.filtered(batch, pairs)?;
        let mut met_first = Vec::new();
        if self.join_type != JoinType::Inner {
            for (left, right) in pairs.left.iter().zip(&pairs.right) {
                if self.sides[0].meet(*left) {
                    met_first.push(*left);
                }
                self.sides[1].meet(*right);
            }
        }
        let is_semi = self.join_type == JoinType::LeftSemi;
        if let Some(given) = given {
            given.push(if is_semi { self.rows_of(0, &met_first)? } else { self.rows_of_pairs(&pairs)? });
        }
        Ok(if is_semi { met_first } else { Vec::new() })
    }

    /// Whether the join gives out rows of a side that met no partner.
    fn gives_out_alone(&self, side: usize) -> bool {
        match self.join_type {
            JoinType::Left => side == 0,
            JoinType::Right => side == 1,
            JoinType::Full => true,
            _ => false,
        }
    }

    /// The pairs that meet the other conditions.
    fn filtered(&self, batch: &Batch<'_>, pairs: Pairs) -> Result<Pairs> {
        let Some(filter) = self.filter.as_ref().filter(|_| !pairs.left.is_empty()) else { return Ok(pairs) };
        let rows = self.rows_of_pairs(&pairs)?;
        let kept = filter.evaluate(&rows).and_then(|value| value.into_array(rows.num_rows()));
        let kept = kept.map_err(|error| running(batch.query, error))?;
        let kept: &BooleanArray = kept.as_boolean();
        let chosen = |ids: Vec<u64>| {
            let ids = ids.into_iter().enumerate();
            ids.filter(|(row, _)| kept.is_valid(*row) && kept.value(*row)).map(|(_, id)| id).collect()
        };
        Ok(Pairs { left: chosen(pairs.left), right: chosen(pairs.right) })
    }

    /// Lets go of what the watermark has passed; rows without a partner are given out where the join keeps them.
    fn evict(&mut self, batch: &Batch<'_>, mut given: Option<&mut Vec<RecordBatch>>) -> Result<u64> {
        let Some(over_us) = batch.watermarks.over_us else { return Ok(0) };
        let mut removed = 0;
        for side in 0..2 {
            let (over, alone) = self.sides[side].over(over_us);
            let keeps = self.gives_out_alone(side);
            if let (true, false, Some(given)) = (keeps, alone.is_empty(), given.as_deref_mut()) {
                given.push(self.rows_without_partner(side, &alone)?);
            }
            self.sides[side].remove(&over);
            removed += over.len() as u64;
        }
        Ok(removed)
    }

    /// When each row is let go.
    fn until(&self, side: usize, rows: &RecordBatch) -> Result<Vec<i64>> {
        let mut until = vec![i64::MAX; rows.num_rows()];
        for bound in &self.bounds[side] {
            let column = rows.column(bound.column);
            let times = if bound.window {
                column.as_struct_opt().and_then(|window| window.column_by_name("end")).cloned()
            } else {
                Some(column.clone())
            };
            let times: ArrayRef = times.ok_or_else(|| Error::failed("a window has no end"))?;
            let times = times.as_primitive_opt::<TimestampMicrosecondType>();
            let times = times.ok_or_else(|| Error::failed("an event time is no TIMESTAMP"))?;
            for (until, time) in until.iter_mut().zip(times) {
                // a condition over a null is never met
                *until = time.map_or(i64::MIN, |time| (*until).min(time.saturating_add(bound.plus_us)));
            }
        }
        Ok(until)
    }

    fn rows_of(&self, side: usize, ids: &[u64]) -> Result<RecordBatch> {
        let columns = self.sides[side].gather(ids, self.columns[side])?;
        let fields = match side {
            0 => &self.pair_schema.fields()[..self.columns[0]],
            _ => &self.pair_schema.fields()[self.columns[0]..],
        };
        batch_of(Arc::new(Schema::new(fields.to_vec())), columns, ids.len())
    }

    fn rows_of_pairs(&self, pairs: &Pairs) -> Result<RecordBatch> {
        let mut columns = self.sides[0].gather(&pairs.left, self.columns[0])?;
        columns.extend(self.sides[1].gather(&pairs.right, self.columns[1])?);
        batch_of(self.pair_schema.clone(), columns, pairs.left.len())
    }

    fn rows_without_partner(&self, side: usize, ids: &[u64]) -> Result<RecordBatch> {
        let own = self.sides[side].gather(ids, self.columns[side])?;
        let other = match side {
            0 => &self.pair_schema.fields()[self.columns[0]..],
            _ => &self.pair_schema.fields()[..self.columns[0]],
        };
        let nulls: Vec<ArrayRef> = other.iter().map(|field| new_null_array(field.data_type(), ids.len())).collect();
        let columns = if side == 0 { [own, nulls].concat() } else { [nulls, own].concat() };
        batch_of(self.pair_schema.clone(), columns, ids.len())
    }

    pub fn state_schemas(&self) -> Vec<SchemaRef> {
        self.sides.iter().map(|side| side.schema().clone()).collect()
    }

    pub fn size(&self) -> (u64, u64) {
        let count = |size: fn(&JoinSide) -> usize| self.sides.iter().map(|side| size(side) as u64).sum();
        (count(JoinSide::len), count(JoinSide::memory_bytes))
    }

    pub fn load(&mut self, part: usize, rows: &RecordBatch) -> Result<()> {
        self.sides[part].add(rows).map(|_| ())
    }

    pub fn whole(&self) -> Result<Vec<Vec<RecordBatch>>> {
        self.sides.iter().map(|side| Ok(vec![side.whole()?])).collect()
    }

    pub fn clear(&mut self) -> Result<()> {
        self.sides = sides(&self.inputs, self.keys)?;
        Ok(())
    }

    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let text = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
        vec![
            ("each batch, the left side of the join", text(&self.inputs[0])),
            ("each batch, the right side of the join", text(&self.inputs[1])),
        ]
    }
}

fn sides(plans: &[Arc<dyn ExecutionPlan>; 2], keys: usize) -> Result<[JoinSide; 2]> {
    let side = |plan: &Arc<dyn ExecutionPlan>| JoinSide::new(plan.schema().fields(), keys);
    Ok([side(&plans[0])?, side(&plans[1])?])
}

fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    use datafusion::arrow::array::RecordBatchOptions;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| failed(&error))
}

fn failed(error: &ArrowError) -> Error {
    Error::failed("rows of a join could not be put together").because(error.to_string())
}
