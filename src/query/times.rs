//! Which columns of a plan hold event times, found by following each to the source that it comes from.

use std::collections::BTreeMap;

use datafusion::{
    arrow::datatypes::{DataType, TimeUnit},
    common::Column,
    logical_expr::{Distinct, Expr, JoinType, LogicalPlan},
};

use super::{
    marks::Marked,
    windows::{Kind, kind_of},
};
use crate::job::{EventTimeSpec, JobSpec};

/// What of event time a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// The event time itself; the watermark delay of the sources that it may come from, at most, microseconds.
    Event { delay_us: i64 },
    /// A window of it, over once the watermark passes its end.
    Window,
    /// A session: a window that may still grow.
    Session,
}

/// The event times that a job declares, by source.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    sources: BTreeMap<String, (String, EventTimeSpec)>,
}

impl Times {
    pub fn of_job(job: &JobSpec) -> Times {
        let event_time = |source: &crate::job::SourceSpec| {
            let spec = source.event_time?;
            Some((source.name.clone(), (source.columns[spec.column].name.clone(), spec)))
        };
        Times { sources: job.sources.iter().filter_map(event_time).collect() }
    }

    /// The first column of a plan that holds an event time itself.
    pub fn event_column(&self, plan: &LogicalPlan) -> Option<(usize, i64)> {
        let column = |index| match self.of(plan, index) {
            Some(Time::Event { delay_us }) => Some((index, delay_us)),
            _ => None,
        };
        (0..plan.schema().fields().len()).find_map(column)
    }

    /// What a column of a plan (by its index) holds of event time.
    pub fn of(&self, plan: &LogicalPlan, index: usize) -> Option<Time> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let (column, spec) = self.sources.get(scan.table_name.table())?;
                let is_it = scan.projected_schema.field(index).name() == column;
                is_it.then_some(Time::Event { delay_us: spec.delay_us })
            }
            LogicalPlan::Projection(projection) => self.of_expr(projection.expr.get(index)?, &projection.input),
            LogicalPlan::Filter(filter) => self.of(&filter.input, index),
            LogicalPlan::Sort(sort) => self.of(&sort.input, index),
            LogicalPlan::Limit(limit) => self.of(&limit.input, index),
            LogicalPlan::SubqueryAlias(alias) => self.of(&alias.input, index),
            LogicalPlan::Distinct(Distinct::All(input)) => self.of(input, index),
            LogicalPlan::Distinct(Distinct::On(distinct)) => {
                self.of_expr(distinct.select_expr.get(index)?, &distinct.input)
            }
            LogicalPlan::Unnest(unnest) => self.of(&unnest.input, *unnest.dependency_indices.get(index)?),
            LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.get(index)? {
                Expr::GroupingSet(_) => None,
                expr => self.of_expr(expr, &aggregate.input),
            },
            LogicalPlan::Join(join) => {
                let left = join.left.schema().fields().len();
                match join.join_type {
                    JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => self.of(&join.right, index),
                    _ if index < left => self.of(&join.left, index),
                    _ => self.of(&join.right, index - left),
                }
            }
            LogicalPlan::Union(union) => {
                let mut times = union.inputs.iter().map(|input| self.of(input, index));
                let first = times.next()??;
                times.try_fold(first, |known, other| match (known, other?) {
                    (Time::Event { delay_us: one }, Time::Event { delay_us: other }) => {
                        Some(Time::Event { delay_us: one.max(other) })
                    }
                    (known, other) => (known == other).then_some(known),
                })
            }
            LogicalPlan::Extension(_) => self.of(&Marked::of(plan)?.input, index),
            _ => None,
        }
    }

    /// What an expression over a plan holds of event time.
    pub fn of_expr(&self, expr: &Expr, input: &LogicalPlan) -> Option<Time> {
        match expr {
            Expr::Alias(alias) => self.of_expr(&alias.expr, input),
            Expr::Column(column) => self.of(input, index_of(input, column)?),
            Expr::Cast(cast) if is_the_same_time(cast.field.data_type()) => self.of_expr(&cast.expr, input),
            _ => match kind_of(expr)? {
                (Kind::WindowTime, arguments) => match self.of_expr(&arguments[0], input)? {
                    Time::Window | Time::Session => Some(Time::Event { delay_us: 0 }),
                    Time::Event { .. } => None,
                },
                (kind, arguments) => match self.of_expr(&arguments[0], input)? {
                    Time::Event { .. } if kind == Kind::Session => Some(Time::Session),
                    Time::Event { .. } => Some(Time::Window),
                    _ => None,
                },
            },
        }
    }
}

/// The type of event times: a cast to another one loses or moves something.
pub(super) fn is_the_same_time(to: &DataType) -> bool {
    *to == DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn index_of(plan: &LogicalPlan, column: &Column) -> Option<usize> {
    plan.schema().maybe_index_of_column(column)
}
