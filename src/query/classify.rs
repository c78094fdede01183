//! What can be run incrementally, decided on the logical plan as it was written; the rest is refused with the
//! reason and a way out.

use std::collections::BTreeSet;

use datafusion::{
    arrow::datatypes::DataType,
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::{
        Distinct, Expr, ExprSchemable, Join, JoinType, LogicalPlan, Volatility,
        expr::{Exists, InSubquery},
    },
};

use super::{
    feed::Groups,
    marks::{Mark, Marked},
    now::is_batch_time,
};
use crate::model::OutputMode;

/// What a query is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// The source tables that it reads, each once, in the order in which the query names them.
    pub sources: Vec<String>,
    /// The static tables that it reads.
    pub statics: Vec<String>,
    /// Keeps state: `GROUP BY`, aggregates, `DISTINCT`, a join of streams.
    pub stateful: bool,
    /// Has a result that is kept: `GROUP BY`, aggregates or `SELECT DISTINCT`.
    pub aggregates: bool,
    /// `SELECT DISTINCT` (its rows never change).
    pub distinct: bool,
    /// Joins streams with each other.
    pub joins_streams: bool,
    pub sorted: bool,
    pub limited: bool,
    /// Uses `now()` or its kind.
    pub batch_time: bool,
    /// Aggregates whose own state grows with their group's rows.
    pub growing: Vec<String>,
}

impl Shape {
    /// The mode of a sink that declares none.
    pub fn default_mode(&self) -> OutputMode {
        if self.aggregates { OutputMode::Complete } else { OutputMode::Append }
    }

    /// Whether the query may run in this mode; whether a watermark closes its groups is for the cut to find out.
    pub(super) fn allows(&self, mode: OutputMode) -> Result<(), Refusal> {
        let refuse = |reason: &str, way_out: &str| Err(Refusal::new(reason, way_out));
        match mode {
            OutputMode::Complete if !self.aggregates => refuse(
                "complete mode gives out the whole result after each batch, and a query without an aggregate keeps no result",
                "declare output_mode = 'append' on the sink",
            ),
            OutputMode::Complete => Ok(()),
            OutputMode::Update if self.joins_streams && !self.aggregates => refuse(
                "a join of streams gives out a pair once, when both rows are there, and in update mode a row without a partner would have to be taken back",
                "declare output_mode = 'append' on the sink",
            ),
            _ if self.sorted => refuse(
                "only a whole result can be sorted, and this mode gives out what changed",
                "drop ORDER BY, or aggregate and declare output_mode = 'complete' on the sink",
            )
            .map_err(|refusal| refusal.at("order")),
            OutputMode::Update if self.limited => refuse(
                "LIMIT over what changed in a batch has no meaning for the whole stream",
                "declare output_mode = 'append' on the sink, or aggregate and declare 'complete'",
            )
            .map_err(|refusal| refusal.at("limit")),
            _ => Ok(()),
        }
    }
}

/// Why a query cannot run incrementally, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub way_out: String,
    /// A word of the query to point at.
    pub word: Option<String>,
}

impl Refusal {
    pub(super) fn new(reason: impl Into<String>, way_out: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), way_out: way_out.into(), word: None }
    }

    pub(super) fn at(mut self, word: &str) -> Refusal {
        self.word = Some(word.to_owned());
        self
    }
}

/// Aggregates that hold something for each value they saw.
const GROWING: [&str; 7] = [
    "array_agg",
    "string_agg",
    "median",
    "percentile_cont",
    "nth_value",
    "approx_percentile_cont_with_weight",
    "quantile_cont",
];

/// Whether a part of a plan reads any of these tables.
pub(super) fn is_stream(plan: &LogicalPlan, streams: &BTreeSet<String>) -> bool {
    let mut found = false;
    let visited = plan.apply(|node| {
        found |= match node {
            LogicalPlan::TableScan(scan) => streams.contains(scan.table_name.table()),
            LogicalPlan::Extension(extension) => extension.node.as_any().is::<Groups>(),
            _ => false,
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    // the visitor itself cannot fail
    visited.is_ok() && found
}

/// Decides what a plan (analysed by nobody yet, as the SQL planner made it) is.
pub(super) fn classify(plan: &LogicalPlan, streams: &BTreeSet<String>) -> Result<Shape, Refusal> {
    let mut shape = Shape::default();
    Walk { streams, shape: &mut shape }.walk(plan)?;
    statics(plan, streams, &mut shape);
    if shape.sources.is_empty() {
        return Err(Refusal::new("this query reads no source table", "select FROM a table that the job declares"));
    }
    Ok(shape)
}

/// Which static tables a plan reads, subqueries included.
fn statics(plan: &LogicalPlan, streams: &BTreeSet<String>, shape: &mut Shape) {
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table().to_owned();
            if !streams.contains(&name) && !shape.statics.contains(&name) {
                shape.statics.push(name);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = visited {
        tracing::debug!("a plan cannot be walked: {error}");
    }
}

/// Goes down the parts of a plan that are streams.
struct Walk<'a> {
    streams: &'a BTreeSet<String>,
    shape: &'a mut Shape,
}

impl Walk<'_> {
    fn walk(&mut self, node: &LogicalPlan) -> Result<(), Refusal> {
        if !is_stream(node, self.streams) {
            // as a whole it is read at the start: anything can be computed of it
            return no_volatile(node);
        }
        expressions(node, self.shape, self.streams)?;
        match node {
            LogicalPlan::Projection(projection) => self.walk(&projection.input),
            LogicalPlan::Filter(filter) => self.walk(&filter.input),
            LogicalPlan::SubqueryAlias(alias) => self.walk(&alias.input),
            LogicalPlan::Unnest(unnest) => self.walk(&unnest.input),
            LogicalPlan::Sort(sort) => {
                above_the_state(self.shape, "ORDER BY below an aggregate", "order")?;
                self.shape.sorted = true;
                self.walk(&sort.input)
            }
            LogicalPlan::Limit(limit) => {
                above_the_state(self.shape, "LIMIT below an aggregate", "limit")?;
                self.shape.limited = true;
                self.walk(&limit.input)?;
                // the rows that came so far are counted, where they are given out for good
                self.shape.stateful = true;
                Ok(())
            }
            LogicalPlan::Aggregate(aggregate) => {
                one_order(&aggregate.aggr_expr)?;
                self.keeps(true);
                self.walk(&aggregate.input)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                self.shape.distinct |= !self.shape.stateful;
                self.keeps(true);
                self.walk(input)
            }
            LogicalPlan::Distinct(Distinct::On(distinct)) => {
                // with an order another row may become the first one
                self.keeps(true);
                self.walk(&distinct.input)
            }
            LogicalPlan::Extension(_) => match Marked::of(node) {
                Some(marked) => {
                    if matches!(marked.mark, Mark::FirstOfKey { .. }) {
                        self.keeps(false);
                    }
                    self.walk(&marked.input)
                }
                None => Err(refused_node(node)),
            },
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let stateful = std::mem::replace(&mut self.shape.stateful, true);
                for input in &union.inputs {
                    if has_state(input, self.streams) {
                        return Err(Refusal::new(
                            "UNION ALL over what keeps state would put groups of different kinds into one result",
                            "aggregate above UNION ALL, or write one INSERT per input",
                        )
                        .at("union"));
                    }
                    self.walk(input)?;
                }
                self.shape.stateful = stateful;
                Ok(())
            }
            LogicalPlan::TableScan(scan) => {
                let name = scan.table_name.table().to_owned();
                if !self.shape.sources.contains(&name) {
                    self.shape.sources.push(name);
                }
                Ok(())
            }
            other => Err(refused_node(other)),
        }
    }

    /// A part with state was met; the first one met is the one that makes the result.
    fn keeps(&mut self, aggregates: bool) {
        self.shape.aggregates |= aggregates && !self.shape.stateful;
        self.shape.stateful = true;
    }

    fn join(&mut self, join: &Join) -> Result<(), Refusal> {
        match [&join.left, &join.right].map(|side| is_stream(side, self.streams)) {
            [true, true] => {
                stream_join(join)?;
                self.shape.joins_streams = true;
                self.keeps(false);
                self.walk(&join.left)?;
                self.walk(&join.right)
            }
            [left, _] => {
                use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
                let keeps_the_stream = match join.join_type {
                    Inner => true,
                    Left | LeftSemi | LeftAnti | LeftMark => left,
                    Right | RightSemi | RightAnti | RightMark => !left,
                    JoinType::Full => false,
                };
                if !keeps_the_stream {
                    return Err(Refusal::new(
                        format!("a {} join gives out rows of the static table that no row of the stream meets, and that is known at the end of the stream only", join.join_type),
                        "use an inner join, or an outer join that keeps all rows of the stream",
                    )
                    .at("join"));
                }
                self.walk(&join.left)?;
                self.walk(&join.right)
            }
        }
    }
}

/// Joins of two streams that can be run.
fn stream_join(join: &Join) -> Result<(), Refusal> {
    use JoinType::{Full, Inner, Left, LeftSemi, Right};
    if !matches!(join.join_type, Inner | Left | Right | Full | LeftSemi) {
        return Err(Refusal::new(
            format!("a {} join of two streams is known at their end only", join.join_type),
            "use an inner, left, right, full or left semi join",
        )
        .at("join"));
    }
    Ok(())
}

/// Whether a part of a plan keeps state over the stream.
fn has_state(plan: &LogicalPlan, streams: &BTreeSet<String>) -> bool {
    let mut found = false;
    let visited = plan.apply(|node| {
        let keeps = match node {
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => true,
            LogicalPlan::Join(join) => is_stream(&join.left, streams) && is_stream(&join.right, streams),
            LogicalPlan::Extension(_) => {
                Marked::of(node).is_some_and(|marked| matches!(marked.mark, Mark::FirstOfKey { .. }))
            }
            _ => false,
        };
        found |= keeps && is_stream(node, streams);
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok() && found
}

/// What is computed of static tables must be the same each time.
fn no_volatile(node: &LogicalPlan) -> Result<(), Refusal> {
    let mut shape = Shape::default();
    let mut refusal = None;
    let visited = node.apply(|node| {
        refusal = refusal.take().or(expressions(node, &mut shape, &BTreeSet::new()).err());
        Ok(TreeNodeRecursion::Continue)
    });
    match (visited, refusal) {
        (_, Some(refusal)) => Err(refusal),
        (Err(_), None) => Err(Refusal::new("a part of it cannot be looked into", "simplify the query")),
        (Ok(_), None) if shape.batch_time => Err(Refusal::new(
            "now() over a static table would change what the table is from batch to batch",
            "compare with now() where the stream is joined",
        )
        .at("now")),
        (Ok(_), None) => Ok(()),
    }
}

fn above_the_state(shape: &Shape, what: &str, word: &str) -> Result<(), Refusal> {
    if !shape.stateful {
        return Ok(());
    }
    let reason = format!("{what} would need the whole stream to be sorted or counted before the first group is known");
    Err(Refusal::new(reason, "move it outside, above GROUP BY").at(word))
}

/// Aggregates whose result is a matter of the order of rows.
const ORDER_SENSITIVE: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

/// An aggregate without an order takes rows in input order; beside one that has an order DataFusion sorts the rows of
/// all of them, batch by batch, so that its result would depend on where batches end.
fn one_order(aggregates: &[Expr]) -> Result<(), Refusal> {
    let calls = || {
        aggregates.iter().filter_map(|expr| match expr {
            Expr::AggregateFunction(call) if ORDER_SENSITIVE.contains(&call.func.name()) => Some(call),
            Expr::Alias(alias) => match alias.expr.as_ref() {
                Expr::AggregateFunction(call) if ORDER_SENSITIVE.contains(&call.func.name()) => Some(call),
                _ => None,
            },
            _ => None,
        })
    };
    if let Some(call) = calls().find(|call| call.params.distinct && call.params.order_by.is_empty()) {
        let name = call.func.name();
        return Err(Refusal::new(
            format!("{name}(DISTINCT ...) gives out its values in no order of their own, and so another one from batch to batch"),
            format!("give it an order, by the very expression that it collects: {name}(DISTINCT x ORDER BY x)"),
        )
        .at(name));
    }
    let ordered = calls().any(|call| !call.params.order_by.is_empty());
    match calls().find(|call| call.params.order_by.is_empty()) {
        Some(call) if ordered => {
            let name = call.func.name();
            Err(Refusal::new(
                format!("{name}() without ORDER BY takes rows in input order, which an aggregate with ORDER BY beside it changes"),
                format!("give {name}() an order, too: {name}(... ORDER BY ...)"),
            )
            .at(name))
        }
        _ => Ok(()),
    }
}

fn refused_node(node: &LogicalPlan) -> Refusal {
    match node {
        LogicalPlan::Window(_) => refused_window(),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            Refusal::new("this query reads no source table", "select FROM a table that the job declares")
        }
        _ => Refusal::new(
            "a part of it is none of filters, expressions, GROUP BY, DISTINCT, ORDER BY and LIMIT",
            "run it with `highwater batch`, which needs no state",
        ),
    }
}

fn expressions(node: &LogicalPlan, shape: &mut Shape, streams: &BTreeSet<String>) -> Result<(), Refusal> {
    let mut refusal = None;
    for expr in node.expressions() {
        // The visitor itself cannot fail: a refusal is carried out beside it.
        let visited = expr.apply(|expr| {
            refusal = expression(expr, node, shape, streams).err();
            Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        if let Err(error) = visited {
            tracing::debug!("expressions of {} cannot be walked: {error}", node.display());
            return Err(Refusal::new("an expression of it cannot be looked into", "simplify the expression"));
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
    }
    Ok(())
}

fn expression(
    expr: &Expr,
    node: &LogicalPlan,
    shape: &mut Shape,
    streams: &BTreeSet<String>,
) -> Result<(), Refusal> {
    if is_batch_time(expr) {
        shape.batch_time = true;
        return Ok(());
    }
    match expr {
        Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Volatile => {
            let name = call.func.name();
            Err(Refusal::new(
                format!(
                    "{name}() gives another value each time, so a batch that is run again would give another result"
                ),
                "compute it from the row, or when the result is read",
            )
            .at(name))
        }
        Expr::AggregateFunction(call) => {
            let name = call.func.name();
            let structs = call.params.args.iter().any(|argument| {
                let types = node.inputs().first().map(|input| argument.get_type(input.schema()));
                matches!(types, Some(Ok(DataType::Struct(_))))
            });
            if structs && matches!(name, "min" | "max") {
                return Err(Refusal::new(
                    format!("{name}() over a struct is not well defined where fields are null"),
                    format!("use first_value(... ORDER BY ...) in place of {name}()"),
                )
                .at(name));
            }
            if GROWING.contains(&name) || (call.params.distinct && name != "approx_distinct") {
                shape.growing.push(expr.schema_name().to_string());
            }
            Ok(())
        }
        // over a static table any function can be
        Expr::WindowFunction(_) if is_stream(node, streams) => Err(refused_window()),
        Expr::ScalarSubquery(subquery)
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::Exists(Exists { subquery, .. })
            if is_stream(&subquery.subquery, streams) =>
        {
            Err(Refusal::new(
                "a subquery over the stream would change rows that were already given out",
                "write its result to a sink of its own, or join the streams",
            ))
        }
        Expr::ScalarSubquery(subquery)
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::Exists(Exists { subquery, .. }) => no_volatile(&subquery.subquery),
        _ => Ok(()),
    }
}

fn refused_window() -> Refusal {
    Refusal::new(
        "a window function over the stream would change rows that were already given out",
        "aggregate with GROUP BY instead",
    )
    .at("over")
}
