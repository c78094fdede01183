//! How long a join of two streams keeps a row: until no row of the other side that is still to come can meet it.

use datafusion::{
    common::ScalarValue,
    logical_expr::{Between, BinaryExpr, Expr, Join, LogicalPlan, Operator, utils::split_conjunction},
};

use super::times::{Lineage, Time, Times, is_the_same_time};

/// A row is kept until the watermark passes one of its columns plus so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    /// Index of the column among the side's own.
    pub column: usize,
    /// Whether it is a window, whose end counts.
    pub window: bool,
    /// Microseconds; one more where a partner may lie exactly there.
    pub plus_us: i64,
}

/// How long the rows of both sides are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    /// By side; none: for ever.
    pub sides: [Vec<Bound>; 2],
    /// How far behind the watermark rows may come to the join, microseconds: it takes the watermark to be less by so much.
    pub behind_us: i64,
}

impl Bounds {
    /// How far behind the watermark the times of a column (its index among its side's) may come out of the join: `below` is
    /// what is known of it there. `None`: a row may be kept for ever.
    pub fn behind_us(&self, side: usize, column: usize, below: Lineage) -> Option<i64> {
        let window = !matches!(below.time, Time::Event { .. });
        let bounds = self.sides[side].iter().filter(|bound| bound.column == column && bound.window == window);
        // a row that comes now is not late, and one that is kept was not over yet
        let kept_us = bounds.map(|bound| bound.plus_us).min()?.max(0);
        Some(self.behind_us.saturating_add(kept_us))
    }
}

/// A time of one side, plus so much.
struct Point {
    side: usize,
    column: usize,
    plus_us: i64,
    /// How far behind the watermark rows of the side may come, where it is the time that they are told late by. Of another
    /// time nothing is known of what is still to come; but it can be what a row of its own side waits for.
    behind_us: Option<i64>,
}

/// What bounds both sides.
pub(super) fn of_join(times: &Times, join: &Join) -> Bounds {
    let sides = [join.left.as_ref(), join.right.as_ref()];
    let mut bounds = Bounds::default();
    for (left, right) in &join.on {
        equal(times, sides, [left, right], &mut bounds);
    }
    for condition in join.filter.iter().flat_map(split_conjunction) {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => compare(times, sides, left, *op, right, &mut bounds),
            Expr::Between(Between { expr, negated: false, low, high }) => {
                compare(times, sides, expr, Operator::GtEq, low, &mut bounds);
                compare(times, sides, expr, Operator::LtEq, high, &mut bounds);
            }
            _ => {}
        }
    }
    bounds
}

/// Equal event times, or equal windows.
fn equal(times: &Times, sides: [&LogicalPlan; 2], pair: [&Expr; 2], bounds: &mut Bounds) {
    let of = |side: usize| {
        let Expr::Column(column) = pair[side] else { return None };
        let index = sides[side].schema().maybe_index_of_column(column)?;
        let lineage = times.of(sides[side], index)?;
        Some((index, lineage.time, lineage.behind_us?))
    };
    let (Some((left, one, left_behind)), Some((right, other, right_behind))) = (of(0), of(1)) else { return };
    if std::mem::discriminant(&one) != std::mem::discriminant(&other) {
        return;
    }
    let window = !matches!(one, Time::Event { .. });
    if window || (is_told_by(times, sides[0], left) && is_told_by(times, sides[1], right)) {
        bounds.sides[0].push(Bound { column: left, window, plus_us: 0 });
        bounds.sides[1].push(Bound { column: right, window, plus_us: 0 });
        bounds.behind_us = bounds.behind_us.max(left_behind).max(right_behind);
    }
}

fn compare(times: &Times, sides: [&LogicalPlan; 2], left: &Expr, op: Operator, right: &Expr, bounds: &mut Bounds) {
    let (Some(left), Some(right)) = (point(times, sides, left), point(times, sides, right)) else { return };
    if left.side == right.side {
        return;
    }
    let mut at_most = |less: &Point, more: &Point, strict: bool| {
        let Some(behind_us) = less.behind_us else { return };
        // less.time + a <= more.time + b: a row of `more` needs partners up to its time + b - a
        let plus_us = more.plus_us.saturating_sub(less.plus_us).saturating_add(i64::from(!strict));
        bounds.sides[more.side].push(Bound { column: more.column, window: false, plus_us });
        bounds.behind_us = bounds.behind_us.max(behind_us).max(more.behind_us.unwrap_or(0));
    };
    match op {
        Operator::Lt => at_most(&left, &right, true),
        Operator::LtEq => at_most(&left, &right, false),
        Operator::Gt => at_most(&right, &left, true),
        Operator::GtEq => at_most(&right, &left, false),
        Operator::Eq => {
            at_most(&left, &right, false);
            at_most(&right, &left, false);
        }
        _ => {}
    }
}

/// Whether the watermark says what of this column may still come: late rows of a side are told by its first event time; what
/// a join of streams gives out is late by none.
fn is_told_by(times: &Times, side: &LogicalPlan, column: usize) -> bool {
    if times.joins_streams(side) {
        return times.of(side, column).is_some_and(|lineage| lineage.behind_us.is_some());
    }
    times.event_column(side).is_some_and(|(event, _)| event == column)
}

/// A time of one of the sides, plus or minus constant intervals.
fn point(times: &Times, sides: [&LogicalPlan; 2], expr: &Expr) -> Option<Point> {
    match expr {
        Expr::Column(column) => {
            let of = |side: usize| {
                let index = sides[side].schema().maybe_index_of_column(column)?;
                if !is_the_same_time(sides[side].schema().field(index).data_type()) {
                    return None;
                }
                let told = is_told_by(times, sides[side], index).then(|| times.of(sides[side], index));
                // where rows may come any time later, nothing is known either
                let behind_us = told.flatten().and_then(|lineage| lineage.behind_us);
                Some(Point { side, column: index, plus_us: 0, behind_us })
            };
            of(0).or_else(|| of(1))
        }
        Expr::Cast(cast) if is_the_same_time(cast.field.data_type()) => point(times, sides, &cast.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
            let (mut found, interval) = match point(times, sides, left) {
                Some(found) => (found, right),
                None => (point(times, sides, right)?, left),
            };
            found.plus_us = found.plus_us.checked_add(interval_us(interval)?)?;
            Some(found)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            let mut found = point(times, sides, left)?;
            found.plus_us = found.plus_us.checked_sub(interval_us(right)?)?;
            Some(found)
        }
        _ => None,
    }
}

/// A constant interval without months, whose length is not always the same; microseconds.
fn interval_us(expr: &Expr) -> Option<i64> {
    const DAY_US: i64 = 86_400_000_000;
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            i64::from(interval.days).checked_mul(DAY_US)?.checked_add(interval.nanoseconds / 1000)
        }
        ScalarValue::IntervalDayTime(Some(interval)) => i64::from(interval.days)
            .checked_mul(DAY_US)?
            .checked_add(i64::from(interval.milliseconds).checked_mul(1000)?),
        ScalarValue::DurationMicrosecond(Some(us)) => Some(*us),
        _ => None,
    }
}
