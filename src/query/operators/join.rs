//! A join of two streams: each row meets those of the other side that came before it, or come while it is kept.

use std::sync::Arc;

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
    state::{JoinRows, Taken},
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
    kept: JoinRows,
}

/// Rows of both sides that belong together.
#[derive(Default)]
struct Pairs {
    left: Vec<u32>,
    right: Vec<u32>,
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
        let kept = nothing(&plans, keys);
        Ok(kept.map(|kept| StreamJoin {
            join_type: join.join_type,
            inputs: plans,
            columns,
            keys,
            bounds: cut.bounds.clone(),
            filter,
            pair_schema,
            kept,
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
            deltas.push(self.kept.delta(side, rows.columns(), self.until(side, &rows)?)?);
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
        let new = [self.kept.add(0, &deltas[0])?, self.kept.add(1, &deltas[1])?];
        let mut done = [Vec::new(), Vec::new()];
        // who met whom is nothing that an inner join keeps
        if given.is_some() || self.join_type != JoinType::Inner {
            done[0] = self.meet(batch, &new, given)?;
        }
        for side in 0..2 {
            if !self.gives_out_alone(side) {
                let rows = new[side].rows.iter().copied();
                done[side].extend(rows.filter(|row| self.kept.is_without_key(side, *row)));
            }
            self.kept.remove(side, &done[side]);
        }
        self.kept.give_back()
    }

    /// Finds what new rows meet, and says which rows of the left side are done with it.
    fn meet(
        &mut self,
        batch: &Batch<'_>,
        [new_left, new_right]: &[Taken; 2],
        given: Option<&mut Vec<RecordBatch>>,
    ) -> Result<Vec<u32>> {
        let mut pairs = Pairs::default();
        for left in &new_left.rows {
            for right in self.kept.partners(0, *left) {
                pairs.left.push(*left);
                pairs.right.push(right);
            }
        }
        for right in &new_right.rows {
            // the new ones are behind the others, and have met it
            let before = self.kept.partners(1, *right).take_while(|left| self.kept.came_before(0, *left, new_left));
            for left in before {
                pairs.left.push(left);
                pairs.right.push(*right);
            }
        }
        let pairs = self.filtered(batch, pairs)?;
        let mut met_first = Vec::new();
        if self.join_type != JoinType::Inner {
            for (left, right) in pairs.left.iter().zip(&pairs.right) {
                if self.kept.meet(0, *left) {
                    met_first.push(*left);
                }
                self.kept.meet(1, *right);
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
        let chosen = |rows: Vec<u32>| {
            let rows = rows.into_iter().enumerate();
            rows.filter(|(pair, _)| kept.is_valid(*pair) && kept.value(*pair)).map(|(_, row)| row).collect()
        };
        Ok(Pairs { left: chosen(pairs.left), right: chosen(pairs.right) })
    }

    /// Lets go of what the watermark has passed; rows without a partner are given out where the join keeps them.
    fn evict(&mut self, batch: &Batch<'_>, mut given: Option<&mut Vec<RecordBatch>>) -> Result<u64> {
        let Some(over_us) = batch.watermarks.over_us else { return Ok(0) };
        let mut removed = 0;
        for side in 0..2 {
            let (over, alone) = self.kept.over(side, over_us);
            let keeps = self.gives_out_alone(side);
            if let (true, false, Some(given)) = (keeps, alone.is_empty(), given.as_deref_mut()) {
                given.push(self.rows_without_partner(side, &alone)?);
            }
            self.kept.remove(side, &over);
            removed += over.len() as u64;
        }
        self.kept.give_back()?;
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

    fn rows_of(&self, side: usize, wanted: &[u32]) -> Result<RecordBatch> {
        let columns = self.kept.gather(side, wanted, self.columns[side])?;
        let fields = match side {
            0 => &self.pair_schema.fields()[..self.columns[0]],
            _ => &self.pair_schema.fields()[self.columns[0]..],
        };
        batch_of(Arc::new(Schema::new(fields.to_vec())), columns, wanted.len())
    }

    fn rows_of_pairs(&self, pairs: &Pairs) -> Result<RecordBatch> {
        let mut columns = self.kept.gather(0, &pairs.left, self.columns[0])?;
        columns.extend(self.kept.gather(1, &pairs.right, self.columns[1])?);
        batch_of(self.pair_schema.clone(), columns, pairs.left.len())
    }

    fn rows_without_partner(&self, side: usize, wanted: &[u32]) -> Result<RecordBatch> {
        let own = self.kept.gather(side, wanted, self.columns[side])?;
        let other = match side {
            0 => &self.pair_schema.fields()[self.columns[0]..],
            _ => &self.pair_schema.fields()[..self.columns[0]],
        };
        let nulls: Vec<ArrayRef> = other.iter().map(|field| new_null_array(field.data_type(), wanted.len())).collect();
        let columns = if side == 0 { [own, nulls].concat() } else { [nulls, own].concat() };
        batch_of(self.pair_schema.clone(), columns, wanted.len())
    }

    pub fn state_schemas(&self) -> Vec<SchemaRef> {
        [0, 1].map(|side| self.kept.schema(side).clone()).to_vec()
    }

    pub fn size(&self) -> (u64, u64) {
        (self.kept.len() as u64, self.kept.memory_bytes() as u64)
    }

    pub fn load(&mut self, part: usize, rows: &RecordBatch) -> Result<()> {
        self.kept.add(part, rows).map(|_| ())
    }

    pub fn whole(&self) -> Result<Vec<Vec<RecordBatch>>> {
        [0, 1].into_iter().map(|side| Ok(vec![self.kept.whole(side)?])).collect()
    }

    pub fn clear(&mut self) -> Result<()> {
        self.kept = nothing(&self.inputs, self.keys)?;
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

fn nothing(plans: &[Arc<dyn ExecutionPlan>; 2], keys: usize) -> Result<JoinRows> {
    let [left, right] = [plans[0].schema(), plans[1].schema()];
    JoinRows::new([left.fields(), right.fields()], keys)
}

fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    use datafusion::arrow::array::RecordBatchOptions;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| failed(&error))
}

fn failed(error: &ArrowError) -> Error {
    Error::failed("rows of a join could not be put together").because(error.to_string())
}
