//! An optimised plan, cut into parts that run batch by batch: below and above each place where state is kept.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    common::{Column, tree_node::TreeNode},
    error::DataFusionError,
    logical_expr::{Aggregate, Expr, FetchType, Join, JoinType, Limit, LogicalPlan, LogicalPlanBuilder, SkipType},
};

use super::{
    bounds::{self, Bound},
    classify::{Refusal, without_order},
    feed::{Groups, Slot},
    marks::{Mark, Marked},
    over_batches,
    times::{Lineage, Time, Times},
    walk::{has_state, is_stream, joins_streams},
    windows::{Kind, kind_of},
};
use crate::model::{BatchWindow, OutputMode};

/// A plan in parts.
pub(super) struct Cut {
    /// In the order in which they run: each yields into its slot what later ones read.
    pub stages: Vec<CutStage>,
    /// What is above all of them: the query's rows.
    pub last: LogicalPlan,
}

impl Cut {
    /// The aggregate that makes the result, if one does.
    pub fn result(&self) -> Option<&LogicalPlan> {
        let stage = self.stages.iter().rev().find(|stage| matches!(stage.kind, CutKind::Aggregate { .. }))?;
        stage.inputs.first()
    }

    /// Over which of the last batches the result is; `None`: over all.
    pub fn window(&self) -> Option<BatchWindow> {
        self.stages.iter().find_map(|stage| match stage.kind {
            CutKind::Aggregate { window, .. } => window,
            _ => None,
        })
    }
}

/// One place where the plan is cut.
pub(super) struct CutStage {
    pub kind: CutKind,
    /// Plans over sources, static tables and the slots of earlier stages.
    pub inputs: Vec<LogicalPlan>,
    /// How much less the watermark is to it, microseconds: rows may come so far behind.
    pub behind_us: i64,
    pub out: Slot,
}

/// What is done there.
pub(super) enum CutKind {
    /// The input's last column is the time; it is no column of the output.
    OnTime { bounded: bool, counted: bool, number: usize },
    /// The input's columns are followed by the keys and, if it is none of them, the time.
    FirstOfKey { columns: usize, keys: usize, time: Option<usize>, within_us: i64 },
    /// The inputs' rows, one input after the other.
    Union,
    /// The input is the aggregate itself; `window`: over which of the last batches, if not over all.
    Aggregate { emit: Emit, closes: Option<Closes>, window: Option<BatchWindow> },
    /// The first rows of the whole stream.
    Limit { skip: u64, fetch: Option<u64> },
    /// The inputs' columns are followed by the join's keys.
    Join(Box<JoinCut>),
}

/// A join of two streams.
pub(super) struct JoinCut {
    pub join: Join,
    /// Both sides, without keys behind their columns.
    pub sides: [LogicalPlan; 2],
    /// How long rows of each side are kept; none: for ever.
    pub bounds: [Vec<Bound>; 2],
}

/// What an aggregate gives out of its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emit {
    /// Those that the watermark has closed.
    Closed,
    /// Those that are new, and never change.
    New,
    /// Those that received rows.
    Touched,
    /// All.
    Whole,
}

/// Which group key the watermark closes groups by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closes {
    /// Index of the key.
    pub key: usize,
    pub time: Time,
    /// As [`Lineage::behind_us`].
    pub behind_us: Option<i64>,
}

/// Why a plan was not cut.
pub(super) enum Uncut {
    Refused(Refusal),
    Failed(DataFusionError),
}

impl From<DataFusionError> for Uncut {
    fn from(error: DataFusionError) -> Uncut {
        Uncut::Failed(error)
    }
}

/// Cuts a query's plan.
pub(super) struct Cutter<'a> {
    pub times: &'a Times,
    /// Names of the tables that are streams.
    pub streams: &'a BTreeSet<String>,
    pub mode: OutputMode,
    /// Over which of the last batches it aggregates; [`over_batches::check`] has let it pass.
    pub window: Option<BatchWindow>,
    pub stages: Vec<CutStage>,
    /// Marks that were left out, since nothing asks for a time there.
    pub unmarked: usize,
}

/// What is above a part of the plan.
#[derive(Debug, Clone, Copy)]
struct Above {
    /// Something keeps state.
    state: bool,
    /// The watermark bounds it.
    bound: bool,
}

impl Cutter<'_> {
    /// # Errors
    /// What of the plan cannot run in this mode, or an error of DataFusion.
    pub fn cut(mut self, optimised: &LogicalPlan) -> Result<Cut, Uncut> {
        let last = self.part(optimised, Above { state: false, bound: false })?;
        Ok(Cut { stages: self.stages, last })
    }

    fn part(&mut self, plan: &LogicalPlan, above: Above) -> Result<LogicalPlan, Uncut> {
        if !is_stream(plan, self.streams) {
            return Ok(plan.clone());
        }
        match plan {
            LogicalPlan::Aggregate(aggregate) => self.aggregate(plan, aggregate, above),
            LogicalPlan::Extension(_) => match Marked::of(plan) {
                Some(marked) => self.marked(plan, marked, above),
                None => Ok(plan.clone()),
            },
            LogicalPlan::Join(join) if is_stream(&join.left, self.streams) && is_stream(&join.right, self.streams) => {
                self.join(plan, join)
            }
            LogicalPlan::Union(union) => {
                let mut inputs = Vec::with_capacity(union.inputs.len());
                for input in &union.inputs {
                    inputs.push(self.part(input, above)?);
                }
                Ok(self.stage(plan, CutKind::Union, inputs, 0))
            }
            // of a window over batches the whole result is there, and LIMIT is of it
            LogicalPlan::Limit(limit) if self.mode == OutputMode::Append && self.window.is_none() => {
                let (skip, fetch) = literals(limit)?;
                let input = self.part(&limit.input, Above { state: true, bound: above.bound })?;
                Ok(self.stage(plan, CutKind::Limit { skip, fetch }, vec![input], 0))
            }
            plan => {
                let before = (self.stages.len(), self.unmarked);
                let mut inputs = Vec::new();
                for input in plan.inputs() {
                    inputs.push(self.part(input, above)?);
                }
                if (self.stages.len(), self.unmarked) == before {
                    return Ok(plan.clone());
                }
                Ok(plan.with_new_exprs(plan.expressions(), inputs)?)
            }
        }
    }

    /// Adds a stage that stands for `plan`, and gives the leaf that takes its place.
    fn stage(&mut self, plan: &LogicalPlan, kind: CutKind, inputs: Vec<LogicalPlan>, behind_us: i64) -> LogicalPlan {
        let out = Slot::default();
        self.stages.push(CutStage { kind, inputs, behind_us, out: out.clone() });
        Groups { schema: Arc::clone(plan.schema()), slot: out }.node()
    }

    fn marked(&mut self, plan: &LogicalPlan, marked: &Marked, above: Above) -> Result<LogicalPlan, Uncut> {
        match marked.mark {
            // nothing asks for a time: rows without one are rows like others, as in plain SQL
            Mark::OnTime { bounded, window: false, .. } if !(bounded && above.bound) => {
                self.unmarked += 1;
                self.part(&marked.input, above)
            }
            Mark::OnTime { bounded, counted, number, .. } => {
                if !above.state && has_state(&marked.input, self.streams) {
                    let reason =
                        "a window over the result of an aggregate would have to be computed again whenever it is shown";
                    return Err(Uncut::Refused(
                        Refusal::new(reason, "aggregate by it, or compute it below").at("window"),
                    ));
                }
                let bounded = bounded && above.bound;
                let lineage = self.times.of_time(&marked.expressions[0], &marked.input);
                let behind_us = if bounded { behind(lineage.and_then(|lineage| lineage.behind_us))? } else { 0 };
                let input = self.part(&marked.input, above)?;
                let input = with_columns(input, &marked.expressions)?;
                Ok(self.stage(plan, CutKind::OnTime { bounded, counted, number }, vec![input], behind_us))
            }
            Mark::FirstOfKey { time, keys, within_us } => {
                let lineage = time.and_then(|time| self.times.of_expr(&marked.expressions[time], &marked.input));
                let behind_us = if time.is_some() { behind(lineage.and_then(|lineage| lineage.behind_us))? } else { 0 };
                let input = self.part(&marked.input, Above { state: true, bound: time.is_some() })?;
                let columns = input.schema().fields().len();
                let input = with_columns(input, &marked.expressions)?;
                Ok(self.stage(plan, CutKind::FirstOfKey { columns, keys, time, within_us }, vec![input], behind_us))
            }
        }
    }

    fn aggregate(&mut self, plan: &LogicalPlan, aggregate: &Aggregate, above: Above) -> Result<LogicalPlan, Uncut> {
        let grouping_sets = aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)));
        let closing = |(key, expr)| {
            let Lineage { time, behind_us } = self.times.of_expr(expr, &aggregate.input)?;
            Some(Closes { key, time, behind_us })
        };
        let closing: Vec<Closes> = aggregate.group_expr.iter().enumerate().filter_map(closing).collect();
        let sessions = |expr: &Expr| expr.exists(|expr| Ok(matches!(kind_of(expr), Some((Kind::Session, _)))));
        let mut session = closing.iter().any(|closes| closes.time == Time::Session);
        for expr in &aggregate.group_expr {
            session |= sessions(expr)?;
        }
        over_batches::check_times(self.window, self.mode, &closing).map_err(Uncut::Refused)?;
        let whole = self.mode == OutputMode::Complete && !above.state;
        if (closing.len() > 1 && (session || !whole)) || (session && (grouping_sets || closing.is_empty())) {
            return Err(Uncut::Refused(
                Refusal::new(
                    "these groups have more than one time, or a session in grouping sets: which of them closes a group is not told",
                    "group by one window, session or event time; others can be computed above",
                )
                .at("group"),
            ));
        }
        let closes = closing.first().copied().filter(|_| !grouping_sets);
        if let Some(name) = without_order(&aggregate.aggr_expr).filter(|_| session) {
            let reason = format!(
                "{name}() without ORDER BY takes rows in the order of the input, and sessions put theirs together by time"
            );
            return Err(Uncut::Refused(
                Refusal::new(reason, format!("give it an order: {name}(... ORDER BY ...)")).at(name),
            ));
        }
        let emit = self.emit(aggregate, closes, above.state).map_err(Uncut::Refused)?;
        let bound = closes.filter(|_| emit != Emit::Whole);
        let behind_us = bound.map_or(Ok(0), |closes| behind(closes.behind_us))?;
        if session && joins_streams(&aggregate.input, self.streams) {
            let reason = "sessions over a join of streams would depend on when the join gives out its rows";
            let way_out = "compute the sessions of one stream, or write the join to a sink of its own";
            return Err(Uncut::Refused(Refusal::new(reason, way_out).at("session_window")));
        }
        let input = self.part(&aggregate.input, Above { state: true, bound: bound.is_some() })?;
        let lower = plan.with_new_exprs(plan.expressions(), vec![input])?;
        let kind = CutKind::Aggregate { emit, closes, window: self.window };
        Ok(self.stage(plan, kind, vec![lower], behind_us))
    }

    /// What an aggregate gives out; below another operator with state it is what will not change any more.
    fn emit(&self, aggregate: &Aggregate, closes: Option<Closes>, below_state: bool) -> Result<Emit, Refusal> {
        let never_changes = aggregate.aggr_expr.is_empty();
        let is_session = closes.is_some_and(|closes| closes.time == Time::Session);
        let mode = if below_state { OutputMode::Append } else { self.mode };
        match mode {
            OutputMode::Complete => Ok(Emit::Whole),
            _ if self.window.is_some() => Ok(Emit::Whole),
            OutputMode::Update if is_session => Err(Refusal::new(
                "sessions that merge would have to be taken back, and update mode cannot",
                "declare output_mode = 'append' on the sink, or 'complete'",
            )
            .at("session_window")),
            OutputMode::Update => Ok(Emit::Touched),
            OutputMode::Append if never_changes && !is_session => Ok(Emit::New),
            OutputMode::Append if closes.is_some() && below_state && self.mode != OutputMode::Append => {
                Err(Refusal::new(
                    format!(
                        "an aggregate over an aggregate gives out what is closed, and {} mode would give out groups that are not",
                        self.mode
                    ),
                    "declare output_mode = 'append' on the sink",
                ))
            }
            OutputMode::Append if closes.is_some() => Ok(Emit::Closed),
            OutputMode::Append if below_state => Err(Refusal::new(
                "an aggregate over an aggregate would need retractions, since the inner groups change with each batch",
                "group the inner one by a window of event time, with a watermark that closes it; or write its result to a sink of its own, and aggregate that",
            )),
            OutputMode::Append => Err(Refusal::new(
                "append mode gives out a row when it can no longer change, and an aggregate without a watermark can always change",
                "group by a window of event time (declare event_time and watermark_delay on the source), or declare output_mode = 'update' or 'complete' on the sink",
            )),
        }
    }

    fn join(&mut self, plan: &LogicalPlan, join: &Join) -> Result<LogicalPlan, Uncut> {
        if join.on.is_empty() {
            return Err(Uncut::Refused(
                Refusal::new(
                    "a join of two streams needs an equality: without it every row would be compared with all that came before",
                    "add a condition like a.id = b.id",
                )
                .at("join"),
            ));
        }
        let bounds = bounds::of_join(self.times, join);
        let kept_alone: &[usize] = match join.join_type {
            JoinType::Left => &[0],
            JoinType::Right => &[1],
            JoinType::Full => &[0, 1],
            _ => &[],
        };
        if kept_alone.iter().any(|side| bounds.sides[*side].is_empty()) {
            let reason = format!(
                "a {} join gives out a row without a partner once none can come any more, and nothing says when that is",
                join.join_type
            );
            let way_out = "declare event_time and watermark_delay on both sources, and bound the times: AND b.time BETWEEN a.time AND a.time + INTERVAL '1 hour'";
            return Err(Uncut::Refused(Refusal::new(reason, way_out).at("join")));
        }
        let above = Above { state: true, bound: bounds.sides.iter().any(|bounds| !bounds.is_empty()) };
        let sides = [self.part(&join.left, above)?, self.part(&join.right, above)?];
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let left = with_columns(sides[0].clone(), &left_keys)?;
        let right = with_columns(sides[1].clone(), &right_keys)?;
        let kind = CutKind::Join(Box::new(JoinCut { join: join.clone(), sides, bounds: bounds.sides }));
        Ok(self.stage(plan, kind, vec![left, right], bounds.behind_us))
    }
}

/// How far behind the watermark rows may come; there must be an end to it, or the watermark closes nothing.
fn behind(known_us: Option<i64>) -> Result<i64, Uncut> {
    known_us.ok_or_else(|| {
        let reason = "a join of streams below keeps rows of this time for ever, so the watermark never says that no more can come";
        let way_out = "bound the time that is used above on both sides of the join: AND b.time BETWEEN a.time AND a.time + INTERVAL '1 hour'; or aggregate in complete mode";
        Uncut::Refused(Refusal::new(reason, way_out).at("join"))
    })
}

/// How many rows a limit leaves out, and how many follow.
fn literals(limit: &Limit) -> Result<(u64, Option<u64>), DataFusionError> {
    match (limit.get_skip_type()?, limit.get_fetch_type()?) {
        (SkipType::Literal(skip), FetchType::Literal(fetch)) => Ok((skip as u64, fetch.map(|fetch| fetch as u64))),
        _ => Err(DataFusionError::Plan("LIMIT and OFFSET of a stream must be numbers".to_owned())),
    }
}

/// All columns of a plan, and behind them expressions over it.
fn with_columns(input: LogicalPlan, expressions: &[Expr]) -> Result<LogicalPlan, DataFusionError> {
    let columns = input.schema().iter().map(|field| Expr::Column(Column::from(field))).collect::<Vec<_>>();
    let more = expressions.iter().enumerate().map(|(index, expr)| expr.clone().alias(format!("__{index}")));
    LogicalPlanBuilder::from(input).project(columns.into_iter().chain(more).collect::<Vec<_>>())?.build()
}
