//! What can be run incrementally, decided on the logical plan as it was written; the rest is refused with the
//! reason and a way out.

use datafusion::{
    arrow::datatypes::DataType,
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, Volatility},
};

use super::now::is_batch_time;
use crate::model::OutputMode;

/// What a query is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The source table that it reads.
    pub source: String,
    /// Keeps state: `GROUP BY`, aggregates or `DISTINCT`.
    pub stateful: bool,
    /// `SELECT DISTINCT` (its rows never change).
    pub distinct: bool,
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
        if self.stateful { OutputMode::Complete } else { OutputMode::Append }
    }

    /// Whether the query may run in this mode.
    pub fn allows(&self, mode: OutputMode) -> Result<(), Refusal> {
        let refuse = |reason: &str, way_out: &str| Err(Refusal::new(reason, way_out));
        match mode {
            OutputMode::Append if self.stateful && !self.distinct => refuse(
                "append mode gives out a row when it can no longer change, and an aggregate without a watermark can always change",
                "declare output_mode = 'update' or 'complete' on the sink",
            ),
            OutputMode::Complete if !self.stateful => refuse(
                "complete mode gives out the whole result after each batch, and a query without an aggregate keeps no result",
                "declare output_mode = 'append' on the sink",
            ),
            OutputMode::Complete => Ok(()),
            _ if self.sorted => refuse(
                "only a whole result can be sorted, and this mode gives out what changed",
                "drop ORDER BY, or aggregate and declare output_mode = 'complete' on the sink",
            )
            .map_err(|refusal| refusal.at("order")),
            _ if self.limited => refuse(
                "LIMIT over what changed in a batch has no meaning for the whole stream",
                "drop LIMIT, or aggregate and declare output_mode = 'complete' on the sink",
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
    fn new(reason: impl Into<String>, way_out: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), way_out: way_out.into(), word: None }
    }

    fn at(mut self, word: &str) -> Refusal {
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

/// Decides what a plan (analysed by nobody yet, as the SQL planner made it) is.
pub(super) fn classify(plan: &LogicalPlan) -> Result<Shape, Refusal> {
    let mut shape = Shape {
        source: String::new(),
        stateful: false,
        distinct: false,
        sorted: false,
        limited: false,
        batch_time: false,
        growing: Vec::new(),
    };
    let mut node = plan;
    loop {
        expressions(node, &mut shape)?;
        node = match node {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Unnest(unnest) => &unnest.input,
            LogicalPlan::Sort(sort) => {
                above_the_aggregate(&shape, "ORDER BY below an aggregate", "order")?;
                shape.sorted = true;
                &sort.input
            }
            LogicalPlan::Limit(limit) => {
                above_the_aggregate(&shape, "LIMIT below an aggregate", "limit")?;
                shape.limited = true;
                &limit.input
            }
            LogicalPlan::Aggregate(aggregate) => {
                one_aggregate(&mut shape)?;
                one_order(&aggregate.aggr_expr)?;
                &aggregate.input
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                one_aggregate(&mut shape)?;
                shape.distinct = true;
                input
            }
            LogicalPlan::TableScan(scan) => {
                shape.source = scan.table_name.table().to_owned();
                return Ok(shape);
            }
            other => return Err(refused_node(other)),
        };
    }
}

fn above_the_aggregate(shape: &Shape, what: &str, word: &str) -> Result<(), Refusal> {
    if !shape.stateful {
        return Ok(());
    }
    let reason = format!("{what} would need the whole stream to be sorted or counted before the first group is known");
    Err(Refusal::new(reason, "move it outside, above GROUP BY").at(word))
}

fn one_aggregate(shape: &mut Shape) -> Result<(), Refusal> {
    if shape.stateful {
        return Err(Refusal::new(
            "an aggregate over an aggregate would need retractions, since the inner groups change with each batch",
            "write the inner result to a sink of its own, and aggregate that",
        ));
    }
    shape.stateful = true;
    Ok(())
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
        LogicalPlan::Join(_) => {
            Refusal::new("joins are not built yet", "write each side to a sink, and join those").at("join")
        }
        LogicalPlan::Union(_) => Refusal::new(
            "a query that reads several inputs is not built yet",
            "write one INSERT per input, or put the files into one source",
        )
        .at("union"),
        LogicalPlan::Distinct(Distinct::On(_)) => {
            Refusal::new("DISTINCT ON is not built yet", "use first_value(... ORDER BY ...) with GROUP BY")
                .at("distinct")
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            Refusal::new("this query reads no source table", "select FROM a table that the job declares")
        }
        _ => Refusal::new(
            "a part of it is none of filters, expressions, GROUP BY, DISTINCT, ORDER BY and LIMIT",
            "run it with `highwater batch`, which needs no state",
        ),
    }
}

fn expressions(node: &LogicalPlan, shape: &mut Shape) -> Result<(), Refusal> {
    let mut refusal = None;
    for expr in node.expressions() {
        // The visitor itself cannot fail: a refusal is carried out beside it.
        let visited = expr.apply(|expr| {
            refusal = expression(expr, node, shape).err();
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

fn expression(expr: &Expr, node: &LogicalPlan, shape: &mut Shape) -> Result<(), Refusal> {
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
        Expr::WindowFunction(_) => Err(refused_window()),
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => Err(Refusal::new(
            "a subquery over the stream would change rows that were already given out",
            "write its result to a sink of its own",
        )),
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
