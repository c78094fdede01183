//! Which columns of a plan hold event times, found by following each to the source that it comes from.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::{
    arrow::datatypes::{DataType, TimeUnit},
    common::Column,
    logical_expr::{Distinct, Expr, Join, JoinType, LogicalPlan},
};

use super::{
    bounds,
    marks::Marked,
    walk::{is_stream, joins_streams},
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

/// What is known of a column that holds event times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lineage {
    pub time: Time,
    /// How far behind the watermark its rows may come, microseconds: each of their times (their windows' ends) is after the
    /// watermark less so much, since something below keeps rows back, as a join does until partners can come no more.
    /// `None`: there is no end to it.
    pub behind_us: Option<i64>,
}

/// The event times that a job declares, by source.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    sources: BTreeMap<String, (String, EventTimeSpec)>,
    /// All sources, with an event time or without.
    streams: BTreeSet<String>,
}

impl Times {
    pub fn of_job(job: &JobSpec) -> Times {
        let event_time = |source: &crate::job::SourceSpec| {
            let spec = source.event_time?;
            Some((source.name.clone(), (source.columns[spec.column].name.clone(), spec)))
        };
        let streams = job.sources.iter().map(|source| source.name.clone()).collect();
        Times { sources: job.sources.iter().filter_map(event_time).collect(), streams }
    }

    /// The first column of a plan that holds an event time itself, and the delay of its watermark.
    pub fn event_column(&self, plan: &LogicalPlan) -> Option<(usize, i64)> {
        let column = |index| match self.of(plan, index)?.time {
            Time::Event { delay_us } => Some((index, delay_us)),
            Time::Window | Time::Session => None,
        };
        (0..plan.schema().fields().len()).find_map(column)
    }

    /// What a column of a plan (by its index) holds of event time.
    pub fn of(&self, plan: &LogicalPlan, index: usize) -> Option<Lineage> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let (column, spec) = self.sources.get(scan.table_name.table())?;
                let is_it = scan.projected_schema.field(index).name() == column;
                let time = Time::Event { delay_us: spec.delay_us };
                is_it.then_some(Lineage { time, behind_us: Some(0) })
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
            LogicalPlan::Join(join) => self.of_joined(join, index),
            LogicalPlan::Union(union) => {
                let mut times = union.inputs.iter().map(|input| self.of(input, index));
                let first = times.next()??;
                times.try_fold(first, |known, other| known.or(other?))
            }
            LogicalPlan::Extension(_) => self.of(&Marked::of(plan)?.input, index),
            _ => None,
        }
    }

    /// Whether a part of a plan joins streams with each other.
    pub fn joins_streams(&self, plan: &LogicalPlan) -> bool {
        joins_streams(plan, &self.streams)
    }

    fn of_joined(&self, join: &Join, index: usize) -> Option<Lineage> {
        let left = join.left.schema().fields().len();
        let (side, column) = match join.join_type {
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (1, index),
            _ if index < left => (0, index),
            _ => (1, index - left),
        };
        let below = self.of([&join.left, &join.right][side], column)?;
        // a join with a static table keeps no row back
        if ![&join.left, &join.right].into_iter().all(|side| is_stream(side, &self.streams)) {
            return Some(below);
        }
        Some(Lineage { behind_us: bounds::of_join(self, join).behind_us(side, column, below), ..below })
    }

    /// What an expression over a plan holds of event time.
    pub fn of_expr(&self, expr: &Expr, input: &LogicalPlan) -> Option<Lineage> {
        match expr {
            Expr::Alias(alias) => self.of_expr(&alias.expr, input),
            Expr::Column(column) => self.of(input, index_of(input, column)?),
            Expr::Cast(cast) if is_the_same_time(cast.field.data_type()) => self.of_expr(&cast.expr, input),
            _ => {
                let (kind, arguments) = kind_of(expr)?;
                let of = self.of_expr(&arguments[0], input)?;
                // a window ends after the times in it, and the time of a window is before its end: a microsecond
                let (time, later_us) = match (kind, of.time) {
                    (Kind::WindowTime, Time::Window | Time::Session) => (Time::Event { delay_us: 0 }, 1),
                    (Kind::Session, Time::Event { .. }) => (Time::Session, -1),
                    (Kind::Window | Kind::Windows, Time::Event { .. }) => (Time::Window, -1),
                    _ => return None,
                };
                Some(Lineage { time, behind_us: of.behind_us.map(|us| us.saturating_add(later_us).max(0)) })
            }
        }
    }

    /// What the time of a mark holds of event time: a column, or the end of a window.
    pub fn of_time(&self, expr: &Expr, input: &LogicalPlan) -> Option<Lineage> {
        match expr {
            Expr::ScalarFunction(call) if call.func.name() == "get_field" => self.of_expr(call.args.first()?, input),
            expr => self.of_expr(expr, input),
        }
    }
}

impl Lineage {
    /// Of rows that may come from here or from there; `None`: they are of two kinds.
    fn or(self, other: Lineage) -> Option<Lineage> {
        let time = match (self.time, other.time) {
            (Time::Event { delay_us: one }, Time::Event { delay_us: other }) => {
                Time::Event { delay_us: one.max(other) }
            }
            (one, other) if one == other => one,
            _ => return None,
        };
        let behind_us = self.behind_us.zip(other.behind_us).map(|(one, other)| one.max(other));
        Some(Lineage { time, behind_us })
    }
}

/// The type of event times: a cast to another one loses or moves something.
pub(super) fn is_the_same_time(to: &DataType) -> bool {
    *to == DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn index_of(plan: &LogicalPlan, column: &Column) -> Option<usize> {
    plan.schema().maybe_index_of_column(column)
}
