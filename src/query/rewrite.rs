//! What windows and deduplication mean, written out in the logical plan: rows for each of several windows, and marks
//! where a streaming query will be cut.

use std::{cell::Cell, collections::BTreeSet, sync::Arc};

use datafusion::{
    common::{
        Column, Result, UnnestOptions,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    error::DataFusionError,
    functions::core::expr_fn::get_field,
    logical_expr::{
        Aggregate, Distinct, DistinctOn, Expr, Join, LogicalPlan, LogicalPlanBuilder, Projection,
        expr_rewriter::NamePreserver,
    },
    scalar::ScalarValue,
};

use super::{
    classify::Refusal,
    marks::{Mark, Marked},
    times::{Lineage, Time, Times},
    walk::{is_stream, joins_streams},
    windows::{Kind, Layout, function, kind_of},
};

/// How a plan is rewritten.
pub(super) struct Rewriter<'a> {
    pub times: &'a Times,
    /// Names of the tables that are streams.
    pub streams: &'a BTreeSet<String>,
    /// Whether there are marks: otherwise plain SQL has no watermark, and drops rows without a time by a filter.
    pub marks: bool,
    /// Whether keys of `DISTINCT ON` are forgotten by the watermark.
    pub dedup_within: bool,
    /// How many marks there are.
    pub marked: Cell<usize>,
}

/// Which rows a mark drops.
#[derive(Debug, Clone, Copy)]
struct Told {
    bounded: bool,
    counted: bool,
    window: bool,
}

impl Told {
    /// By an event time itself.
    fn event() -> Told {
        Told { bounded: true, counted: true, window: false }
    }
}

impl Rewriter<'_> {
    /// # Errors
    /// Of DataFusion; inside, what cannot be.
    pub fn rewrite(&self, plan: LogicalPlan) -> Result<std::result::Result<LogicalPlan, Refusal>> {
        let mut refusal = None;
        let rewritten = plan.transform_up(|node| match self.node(node)? {
            Ok(node) => Ok(Transformed::yes(node)),
            Err(why) => {
                refusal = Some(why);
                Err(DataFusionError::Plan("refused".to_owned()))
            }
        });
        match (refusal, rewritten) {
            (Some(refusal), _) => Ok(Err(refusal)),
            (None, rewritten) => Ok(Ok(rewritten?.data.recompute_schema()?)),
        }
    }

    fn node(&self, node: LogicalPlan) -> Result<std::result::Result<LogicalPlan, Refusal>> {
        let call = match window_call(&node)? {
            Ok(call) => call,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(call) = call {
            return self.windowed(node, &call);
        }
        let stream = self.marks && is_stream(&node, self.streams);
        Ok(Ok(match node {
            LogicalPlan::Aggregate(aggregate) if stream => {
                let time = aggregate.group_expr.iter().find(|expr| self.is_event(expr, &aggregate.input)).cloned();
                match time {
                    Some(time) => {
                        let input = self.on_time((*aggregate.input).clone(), time, Told::event())?;
                        let Aggregate { group_expr, aggr_expr, .. } = aggregate;
                        LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), group_expr, aggr_expr)?)
                    }
                    None => LogicalPlan::Aggregate(aggregate),
                }
            }
            LogicalPlan::Distinct(Distinct::All(input)) if stream => {
                LogicalPlan::Distinct(Distinct::All(Arc::new(self.event_on_time(Arc::unwrap_or_clone(input))?)))
            }
            LogicalPlan::Distinct(Distinct::On(distinct)) if stream && distinct.sort_expr.is_none() => {
                return self.first_of_key(distinct);
            }
            LogicalPlan::Join(join)
                if stream && is_stream(&join.left, self.streams) && is_stream(&join.right, self.streams) =>
            {
                let left = Arc::new(self.side_on_time(Arc::unwrap_or_clone(join.left))?);
                let right = Arc::new(self.side_on_time(Arc::unwrap_or_clone(join.right))?);
                LogicalPlan::Join(Join { left, right, ..join })
            }
            node => node,
        }))
    }

    fn is_event(&self, expr: &Expr, input: &LogicalPlan) -> bool {
        matches!(self.times.of_expr(expr, input), Some(Lineage { time: Time::Event { .. }, .. }))
    }

    /// Late rows are dropped by the input's event time, if it has one.
    fn event_on_time(&self, input: LogicalPlan) -> Result<LogicalPlan> {
        match self.times.event_column(&input) {
            Some((index, _)) => {
                let time = Expr::Column(Column::from(input.schema().qualified_field(index)));
                self.on_time(input, time, Told::event())
            }
            None => Ok(input),
        }
    }

    /// Nothing that a join of streams gives out is late to another join, and a row without a partner may lack a time.
    fn side_on_time(&self, side: LogicalPlan) -> Result<LogicalPlan> {
        if joins_streams(&side, self.streams) { Ok(side) } else { self.event_on_time(side) }
    }

    fn on_time(&self, input: LogicalPlan, time: Expr, told: Told) -> Result<LogicalPlan> {
        let Told { bounded, counted, window } = told;
        if self.marks && is_stream(&input, self.streams) {
            let number = self.marked.replace(self.marked.get() + 1);
            return Ok(Marked::node(Mark::OnTime { bounded, counted, window, number }, input, vec![time]));
        }
        LogicalPlanBuilder::from(input).filter(time.is_not_null())?.build()
    }

    /// A node with a call of `window` or `session_window`.
    fn windowed(&self, node: LogicalPlan, call: &Expr) -> Result<std::result::Result<LogicalPlan, Refusal>> {
        let Some((kind, arguments)) = kind_of(call) else { return Ok(Ok(node)) };
        let slides = match (kind, layout(kind, arguments)) {
            (_, Err(wrong)) => {
                return Ok(Err(
                    Refusal::new(wrong, "write it like window(time, '10 minutes', '5 minutes')").at("window")
                ));
            }
            (_, Ok(layout)) => layout.is_some_and(|layout| layout.slides()),
        };
        let input = match node.inputs().first() {
            Some(input) => (*input).clone(),
            None => return Ok(Ok(node)),
        };
        let bounded = self.is_event(&arguments[0], &input);
        if kind == Kind::Session && !bounded && self.marks && is_stream(&input, self.streams) {
            return Ok(Err(Refusal::new(
                "sessions merge by the event time of a source, and this is another time",
                "declare event_time and watermark_delay on the source, and give session_window that column itself",
            )
            .at("session_window")));
        }
        let told = Told { bounded, counted: true, window: true };
        let input = self.on_time(input, get_field(call.clone(), "end"), told)?;
        if !slides {
            return Ok(Ok(with_input(node, input, None)?));
        }
        let columns = input.schema().iter().map(|field| Expr::Column(Column::from(field)));
        // the name that the call would give its column, so that what is above finds it
        let name = call.schema_name().to_string();
        let windows = function(Kind::Windows).call(arguments.to_vec()).alias(&name);
        let options = UnnestOptions::new().with_preserve_nulls(false);
        let rows = LogicalPlanBuilder::from(input.clone())
            .project(columns.chain([windows]).collect::<Vec<_>>())?
            .unnest_column_with_options(Column::from_name(&name), options)?
            .build()?;
        let window = Expr::Column(Column::from_name(&name));
        let rows = match self.marks && is_stream(&rows, self.streams) {
            true => self.on_time(rows, get_field(window.clone(), "end"), Told { counted: false, ..told })?,
            false => rows,
        };
        Ok(Ok(with_input(node, rows, Some((call, &window)))?))
    }

    /// `DISTINCT ON` without an order: the first row of each key, in the order of the input.
    fn first_of_key(&self, distinct: DistinctOn) -> Result<std::result::Result<LogicalPlan, Refusal>> {
        let DistinctOn { on_expr, select_expr, input, .. } = distinct;
        let event_key = on_expr.iter().position(|expr| self.is_event(expr, &input));
        let keys = on_expr.len();
        let input = match (event_key, self.dedup_within) {
            // keys that are kept for ever know no late row
            (None, false) => Arc::unwrap_or_clone(input),
            (Some(key), false) => self.on_time(Arc::unwrap_or_clone(input), on_expr[key].clone(), Told::event())?,
            (_, true) => self.event_on_time(Arc::unwrap_or_clone(input))?,
        };
        let mut expressions = on_expr;
        let (time, within_us) = match (event_key, self.dedup_within, self.times.event_column(&input)) {
            (_, true, Some((index, delay_us))) => {
                expressions.push(Expr::Column(Column::from(input.schema().qualified_field(index))));
                (Some(keys), delay_us)
            }
            (_, true, None) => {
                return Ok(Err(Refusal::new(
                    "dedup_within_watermark is set, and the query's rows have no event time",
                    "declare event_time and watermark_delay on the source, and keep that column in the query",
                )
                .at("distinct")));
            }
            (event_key, false, _) => (event_key, 0),
        };
        let marked = Marked::node(Mark::FirstOfKey { time, keys, within_us }, input, expressions);
        let projection = Projection::try_new(select_expr, Arc::new(marked))?;
        Ok(Ok(LogicalPlan::Projection(projection)))
    }
}

/// The one call of a window function among a node's expressions.
fn window_call(node: &LogicalPlan) -> Result<std::result::Result<Option<Expr>, Refusal>> {
    let mut calls: Vec<Expr> = Vec::new();
    for expr in node.expressions() {
        expr.apply(|expr| {
            if matches!(kind_of(expr), Some((Kind::Window | Kind::Session, _))) && !calls.contains(expr) {
                calls.push(expr.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(match (calls.len(), node) {
        (0, _) => Ok(None),
        (1, LogicalPlan::Aggregate(_) | LogicalPlan::Projection(_)) => Ok(calls.pop()),
        (1, _) => Err(Refusal::new(
            "a window stands where there are no rows to be given to it",
            "compute the window in a subquery: SELECT window(time, '10 minutes') AS w, ... and use w above it",
        )
        .at("window")),
        _ => Err(Refusal::new("a query has more than one window", "use one of them, or a query for each").at("window")),
    })
}

/// The layout of `window`; `None` for a session, whose gap may be an expression.
fn layout(kind: Kind, arguments: &[Expr]) -> std::result::Result<Option<Layout>, String> {
    if kind == Kind::Session {
        return Ok(None);
    }
    let texts: Vec<Option<&str>> = arguments[1..].iter().map(literal).collect();
    Layout::parse(&texts).map(Some)
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text), _) => {
            text.as_deref()
        }
        Expr::Cast(cast) => literal(&cast.expr),
        _ => None,
    }
}

/// The node over another input; `replace`: what stands for an expression of it from then on.
fn with_input(node: LogicalPlan, input: LogicalPlan, replace: Option<(&Expr, &Expr)>) -> Result<LogicalPlan> {
    let names = NamePreserver::new_for_projection();
    let replaced = |list: Vec<Expr>| -> Result<Vec<Expr>> {
        let Some((from, to)) = replace else { return Ok(list) };
        let one = |expr: Expr| {
            let name = names.save(&expr);
            let changed = expr.transform_down(|expr| {
                Ok(if expr == *from {
                    Transformed::new(to.clone(), true, TreeNodeRecursion::Jump)
                } else {
                    Transformed::no(expr)
                })
            })?;
            Ok(name.restore(changed.data))
        };
        list.into_iter().map(one).collect()
    };
    match node {
        LogicalPlan::Aggregate(Aggregate { group_expr, aggr_expr, .. }) => Ok(LogicalPlan::Aggregate(
            Aggregate::try_new(Arc::new(input), replaced(group_expr)?, replaced(aggr_expr)?)?,
        )),
        LogicalPlan::Projection(Projection { expr, .. }) => {
            Ok(LogicalPlan::Projection(Projection::try_new(replaced(expr)?, Arc::new(input))?))
        }
        node => node.with_new_exprs(node.expressions(), vec![input]),
    }
}
