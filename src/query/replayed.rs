//! The batch result of a query whose watermark drops rows: plain SQL over the rows that were not dropped.
//!
//! What is late depends on the batch, so rows go through the first part of the plan batch by batch, with the watermark that
//! the log says. All that keeps state is then computed at once, over all rows that are left, by other code than the stream's:
//! groups by DataFusion's own aggregation, sessions and first rows by sorting, joins by DataFusion's own join.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray},
        compute::filter_record_batch,
        datatypes::TimestampMicrosecondType,
        record_batch::RecordBatch,
        row::{RowConverter, SortField},
    },
    common::{
        Column,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    error::DataFusionError,
    logical_expr::{Aggregate, Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, lit},
};

use super::{
    bounds::Bound,
    cut::{Closes, Cut, CutKind, CutStage, Emit, JoinCut},
    feed::{Groups, Rows, Slot},
    row_sessions::with_sessions,
    times::Time,
};
use crate::model::Watermarks;

/// What a batch read, and what it took for late.
#[derive(Debug, Clone, Default)]
pub struct BatchInput {
    /// By source of the job.
    pub rows: Vec<Vec<RecordBatch>>,
    /// What was late in it, and what was over after it.
    pub watermarks: Watermarks,
}

/// Runs plain plans.
pub(super) type Collect<'a> = &'a dyn Fn(&LogicalPlan) -> datafusion::error::Result<Vec<RecordBatch>>;

/// Whether the result of a query cut like this is a matter of batches.
pub(super) fn depends_on_batches(cut: &Cut) -> bool {
    cut.stages.iter().any(|stage| match &stage.kind {
        CutKind::OnTime { bounded, .. } => *bounded,
        CutKind::FirstOfKey { .. } => true,
        CutKind::Aggregate { window: Some(_), .. } => true,
        CutKind::Aggregate { closes, emit, .. } => {
            closes.is_some_and(|closes| closes.time == Time::Session || *emit != Emit::Whole)
        }
        CutKind::Join(join) => join.join.join_type != JoinType::Inner,
        CutKind::Union | CutKind::Limit { .. } => false,
    })
}

/// Why a query cut like this has no batch result; `None`: it has one.
///
/// # Errors
/// Of DataFusion.
pub(super) fn why_without_result(cut: &Cut) -> Result<Option<&'static str>> {
    let at_once = at_once(cut)?;
    for stage in &cut.stages {
        match &stage.kind {
            CutKind::FirstOfKey { keys, time: Some(time), .. } if time == keys => {
                return Ok(Some("forgets keys by the watermark, and a forgotten key may come out again"));
            }
            CutKind::Aggregate { closes: Some(Closes { time: Time::Session, .. }), .. }
                if reads(cut, stage)?.into_iter().any(|earlier| at_once[earlier]) =>
            {
                return Ok(Some(
                    "makes sessions of what a watermark let out, and they hang on the batches that it came in",
                ));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Of each stage, whether all that it yields is computed at once: which batch it came in is not known then.
fn at_once(cut: &Cut) -> Result<Vec<bool>> {
    let mut at_once = Vec::with_capacity(cut.stages.len());
    for stage in &cut.stages {
        let keeps_state = !matches!(stage.kind, CutKind::OnTime { .. } | CutKind::Union);
        at_once.push(keeps_state || reads(cut, stage)?.into_iter().any(|earlier| at_once[earlier]));
    }
    Ok(at_once)
}

/// Which earlier stages a stage reads.
fn reads(cut: &Cut, stage: &CutStage) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for input in &stage.inputs {
        input.apply(|node| {
            if let LogicalPlan::Extension(extension) = node
                && let Some(groups) = extension.node.as_any().downcast_ref::<Groups>()
            {
                found.extend(cut.stages.iter().position(|stage| stage.out.is(&groups.slot)));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(found)
}

/// One query, replayed.
pub(super) struct Replay<'a> {
    pub cut: &'a Cut,
    /// Of the job's sources.
    pub slots: &'a [Slot],
    pub batches: &'a [BatchInput],
    /// The watermark of the newest batch, microseconds.
    pub over_us: Option<i64>,
    pub collect: Collect<'a>,
}

/// What a stage yields: by batch, or at once.
enum Yielded {
    ByBatch(Vec<Vec<RecordBatch>>),
    AtOnce(Vec<RecordBatch>),
}

type Result<T> = std::result::Result<T, DataFusionError>;

impl Replay<'_> {
    /// The rows that the query's result must be.
    ///
    /// # Errors
    /// Of DataFusion.
    pub fn rows(&self) -> Result<Vec<RecordBatch>> {
        let mut yielded: Vec<Yielded> = Vec::with_capacity(self.cut.stages.len());
        for (stage, at_once) in self.cut.stages.iter().zip(at_once(self.cut)?) {
            let next = self.stage(stage, at_once, &yielded)?;
            yielded.push(next);
        }
        self.feed_all(&yielded);
        let rows = (self.collect)(&self.cut.last);
        self.cut.stages.iter().for_each(|stage| stage.out.fill(Rows::None));
        rows
    }

    fn stage(&self, stage: &CutStage, at_once: bool, yielded: &[Yielded]) -> Result<Yielded> {
        if at_once {
            self.feed_all(yielded);
            if let (CutKind::Aggregate { emit, closes: Some(closes), .. }, LogicalPlan::Aggregate(aggregate)) =
                (&stage.kind, &stage.inputs[0])
                && closes.time == Time::Session
            {
                let groups = self.sessions(aggregate, closes.key, *emit, yielded)?;
                return self.closed(groups, *emit, *closes, stage.behind_us).map(Yielded::AtOnce);
            }
            return self.run(stage, None).map(Yielded::AtOnce);
        }
        let mut by_batch = Vec::with_capacity(self.batches.len());
        for (number, batch) in self.batches.iter().enumerate() {
            self.feed_batch(number, yielded);
            by_batch.push(self.run(stage, batch.watermarks.behind(stage.behind_us).late_us)?);
        }
        Ok(Yielded::ByBatch(by_batch))
    }

    /// The rows of one batch into the slots of what goes batch by batch.
    fn feed_batch(&self, number: usize, yielded: &[Yielded]) {
        for (slot, rows) in self.slots.iter().zip(&self.batches[number].rows) {
            slot.fill(Rows::Batches(Arc::new(rows.clone())));
        }
        for (earlier, stage) in yielded.iter().zip(&self.cut.stages) {
            if let Yielded::ByBatch(batches) = earlier {
                stage.out.fill(Rows::Batches(Arc::new(batches[number].clone())));
            }
        }
    }

    /// All rows of all batches into all slots.
    fn feed_all(&self, yielded: &[Yielded]) {
        for (source, slot) in self.slots.iter().enumerate() {
            let rows = self.batches.iter().filter_map(|batch| batch.rows.get(source)).flatten().cloned().collect();
            slot.fill(Rows::Batches(Arc::new(rows)));
        }
        for (rows, stage) in yielded.iter().zip(&self.cut.stages) {
            let rows = match rows {
                Yielded::ByBatch(batches) => batches.iter().flatten().cloned().collect(),
                Yielded::AtOnce(rows) => rows.clone(),
            };
            stage.out.fill(Rows::Batches(Arc::new(rows)));
        }
    }

    fn run(&self, stage: &CutStage, late_us: Option<i64>) -> Result<Vec<RecordBatch>> {
        let inputs = &stage.inputs;
        match &stage.kind {
            CutKind::OnTime { bounded, .. } => {
                let rows = (self.collect)(&inputs[0])?;
                rows.iter().map(|rows| on_time(rows, late_us.filter(|_| *bounded))).collect()
            }
            CutKind::Union => {
                let mut rows = Vec::new();
                for input in inputs {
                    rows.extend((self.collect)(input)?);
                }
                Ok(rows)
            }
            CutKind::FirstOfKey { columns, keys, .. } => first_of_key(&(self.collect)(&inputs[0])?, *columns, *keys),
            CutKind::Aggregate { emit, closes, .. } => {
                let rows = (self.collect)(&inputs[0])?;
                closes.map_or(Ok(rows.clone()), |closes| self.closed(rows, *emit, closes, stage.behind_us))
            }
            CutKind::Join(join) => self.joined(join, stage.behind_us),
            CutKind::Limit { skip, fetch } => Ok(limited((self.collect)(&inputs[0])?, *skip, *fetch)),
        }
    }

    /// Without the groups that the watermark has not closed yet (or, in update mode, has closed).
    fn closed(&self, rows: Vec<RecordBatch>, emit: Emit, closes: Closes, behind_us: i64) -> Result<Vec<RecordBatch>> {
        if !matches!(emit, Emit::Closed | Emit::Touched) {
            return Ok(rows);
        }
        let is_over = |time: Option<i64>| time.zip(self.over_us(behind_us)).is_some_and(|(time, over)| time <= over);
        rows.iter()
            .map(|rows| {
                let times = times(rows.column(closes.key), !matches!(closes.time, Time::Event { .. }))?;
                let kept = times.iter().map(|time| Some(is_over(*time) == (emit == Emit::Closed)));
                Ok(filter_record_batch(rows, &kept.collect::<BooleanArray>())?)
            })
            .collect()
    }

    /// What the newest watermark says is over, to a stage that takes it to be less.
    fn over_us(&self, behind_us: i64) -> Option<i64> {
        Some(self.over_us?.saturating_sub(behind_us))
    }

    /// Gives each row the session that it is in, then groups by plain SQL. A session that was closed is closed: a row that
    /// comes later begins one of its own.
    fn sessions(&self, aggregate: &Aggregate, key: usize, emit: Emit, yielded: &[Yielded]) -> Result<Vec<RecordBatch>> {
        let width = aggregate.input.schema().fields().len();
        let columns = aggregate.input.schema().iter().map(|field| Expr::Column(Column::from(field)));
        let named = aggregate.group_expr.iter().enumerate();
        let keys = named.map(|(at, expr)| expr.clone().unalias().alias(format!("__key{at}")));
        let plan = LogicalPlanBuilder::from((*aggregate.input).clone())
            .project(columns.chain(keys).collect::<Vec<_>>())?
            .build()?;
        let mut batches = Vec::new();
        for (number, batch) in self.batches.iter().enumerate() {
            self.feed_batch(number, yielded);
            let over_us = batch.watermarks.over_us.filter(|_| emit == Emit::Closed);
            batches.extend((self.collect)(&plan)?.into_iter().map(|rows| (rows, None)));
            batches.push((RecordBatch::new_empty(Arc::new(plan.schema().as_arrow().clone())), over_us));
        }
        let rows = with_sessions(&batches, width, key)?;
        let slot = Slot::default();
        slot.fill(Rows::Batches(Arc::new(vec![rows])));
        let leaf = Groups { schema: plan.schema().clone(), slot }.node();
        let group_expr = aggregate.group_expr.iter().enumerate().map(|(at, expr)| {
            let name = expr.schema_name().to_string();
            Expr::Column(Column::from_name(format!("__key{at}"))).alias(name)
        });
        let grouped = Aggregate::try_new(Arc::new(leaf), group_expr.collect::<Vec<_>>(), aggregate.aggr_expr.clone())?;
        (self.collect)(&LogicalPlan::Aggregate(grouped))
    }

    /// DataFusion's own join of all rows, without those rows whose partner may still come.
    fn joined(&self, cut: &JoinCut, behind_us: i64) -> Result<Vec<RecordBatch>> {
        let there = |side: &LogicalPlan, name: &str| {
            let columns = side.schema().iter().map(|field| Expr::Column(Column::from(field)));
            let there = lit(true).alias(name);
            LogicalPlanBuilder::from(side.clone()).project(columns.chain([there]).collect::<Vec<_>>())?.build()
        };
        if cut.join.join_type == JoinType::LeftSemi {
            let join = Join {
                left: Arc::new(cut.sides[0].clone()),
                right: Arc::new(cut.sides[1].clone()),
                ..cut.join.clone()
            };
            return (self.collect)(&LogicalPlan::Join(join).recompute_schema()?);
        }
        let sides = [there(&cut.sides[0], "__left")?, there(&cut.sides[1], "__right")?];
        let [left, right] = sides;
        let width = [left.schema().fields().len(), right.schema().fields().len()];
        let join = Join { left: Arc::new(left), right: Arc::new(right), ..cut.join.clone() };
        let rows = (self.collect)(&LogicalPlan::Join(join).recompute_schema()?)?;
        rows.iter().map(|rows| self.without_waiting(rows, width, cut, behind_us)).collect()
    }

    fn without_waiting(
        &self,
        rows: &RecordBatch,
        width: [usize; 2],
        JoinCut { bounds, .. }: &JoinCut,
        behind_us: i64,
    ) -> Result<RecordBatch> {
        let (left_there, right_there) = (width[0] - 1, width[0] + width[1] - 1);
        let until = [until(rows, 0, &bounds[0])?, until(rows, width[0], &bounds[1])?];
        let kept = (0..rows.num_rows()).map(|row| {
            let alone = match (rows.column(left_there).is_valid(row), rows.column(right_there).is_valid(row)) {
                (true, true) => return Some(true),
                (true, false) => 0,
                _ => 1,
            };
            Some(self.over_us(behind_us).is_some_and(|over| until[alone][row] <= over))
        });
        let rows = filter_record_batch(rows, &kept.collect::<BooleanArray>())?;
        let columns: Vec<usize> =
            (0..rows.num_columns()).filter(|at| *at != left_there && *at != right_there).collect();
        Ok(rows.project(&columns)?)
    }
}

/// When each row of one side of a join is let go; its columns begin at `offset`.
fn until(rows: &RecordBatch, offset: usize, bounds: &[Bound]) -> Result<Vec<i64>> {
    let mut until = vec![i64::MAX; rows.num_rows()];
    for bound in bounds {
        let times = times(rows.column(offset + bound.column), bound.window)?;
        for (until, time) in until.iter_mut().zip(times) {
            // a condition over a null is never met
            *until = time.map_or(i64::MIN, |time| (*until).min(time.saturating_add(bound.plus_us)));
        }
    }
    Ok(until)
}

/// Times of a column: of windows their ends.
fn times(column: &ArrayRef, window: bool) -> Result<Vec<Option<i64>>> {
    let times = if window { column.as_struct().column_by_name("end").cloned() } else { Some(column.clone()) };
    let times = times.ok_or_else(|| DataFusionError::Plan("a window has no end".to_owned()))?;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>();
    Ok(times.ok_or_else(|| DataFusionError::Plan("an event time is no TIMESTAMP".to_owned()))?.iter().collect())
}

fn on_time(rows: &RecordBatch, late_us: Option<i64>) -> Result<RecordBatch> {
    let last = rows.num_columns() - 1;
    let times = times(rows.column(last), false)?;
    let kept = times.iter().map(|time| Some(time.is_some_and(|time| late_us.is_none_or(|late| time > late))));
    let kept = filter_record_batch(rows, &kept.collect::<BooleanArray>())?;
    Ok(kept.project(&(0..last).collect::<Vec<_>>())?)
}

fn limited(rows: Vec<RecordBatch>, skip: u64, fetch: Option<u64>) -> Vec<RecordBatch> {
    let (mut skip, mut left) = (skip as usize, fetch.map_or(usize::MAX, |fetch| fetch as usize));
    let mut given = Vec::with_capacity(rows.len());
    for rows in rows {
        let from = skip.min(rows.num_rows());
        let count = left.min(rows.num_rows() - from);
        given.push(rows.slice(from, count));
        (skip, left) = (skip - from, left - count);
    }
    given
}

fn first_of_key(rows: &[RecordBatch], columns: usize, keys: usize) -> Result<Vec<RecordBatch>> {
    let mut seen: HashSet<Box<[u8]>> = HashSet::new();
    let mut first = Vec::with_capacity(rows.len());
    for rows in rows {
        let keys = encoded(&rows.columns()[columns..columns + keys])?;
        let new = keys.into_iter().map(|key| Some(seen.insert(key)));
        let kept = filter_record_batch(rows, &new.collect::<BooleanArray>())?;
        first.push(kept.project(&(0..columns).collect::<Vec<_>>())?);
    }
    Ok(first)
}

pub(super) fn encoded(columns: &[ArrayRef]) -> Result<Vec<Box<[u8]>>> {
    let rows = columns.first().map_or(0, |column| column.len());
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let keys = RowConverter::new(fields)?.convert_columns(columns)?;
    Ok((0..rows).map(|row| keys.row(row).as_ref().into()).collect())
}
