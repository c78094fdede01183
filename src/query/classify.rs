//! What can be run incrementally, decided on the logical plan as it was written; the rest is refused with the
//! reason and a way out.

use std::collections::BTreeSet;

use datafusion::{
    arrow::datatypes::DataType,
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::{
        Expr, ExprSchemable, LogicalPlan, Volatility,
        expr::{AggregateFunction, Exists, InSubquery},
    },
};

use super::{
    closeness::call,
    now::is_batch_time,
    walk::{is_stream, no_volatile},
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
    /// `DISTINCT ON` with an order: another row may become the first of its key.
    pub first_may_change: bool,
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
            OutputMode::Append if self.first_may_change => refuse(
                "with ORDER BY another row may become the first of its key, and append mode cannot take one back",
                "drop ORDER BY, so that the first in the order of the input is taken; or declare output_mode = 'complete'",
            ),
            OutputMode::Append if self.limited && self.aggregates => refuse(
                "LIMIT over groups takes the first in an order, and append mode gives them out as they close",
                "drop LIMIT, or declare output_mode = 'complete' on the sink",
            )
            .map_err(|refusal| refusal.at("limit")),
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

/// Aggregates whose result is a matter of the order of rows.
const ORDER_SENSITIVE: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

fn order_sensitive(aggregates: &[Expr]) -> impl Iterator<Item = &AggregateFunction> {
    aggregates.iter().filter_map(call).filter(|call| ORDER_SENSITIVE.contains(&call.func.name()))
}

/// The name of the first aggregate that takes rows in the order of the input.
pub(super) fn without_order(aggregates: &[Expr]) -> Option<&str> {
    let call = order_sensitive(aggregates).find(|call| call.params.order_by.is_empty());
    call.map(|call| call.func.name())
}

/// An aggregate without an order takes rows in input order; beside one that has an order DataFusion sorts the rows of
/// all of them, batch by batch, so that its result would depend on where batches end.
pub(super) fn one_order(aggregates: &[Expr]) -> Result<(), Refusal> {
    let calls = || order_sensitive(aggregates);
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

pub(super) fn refused_node(node: &LogicalPlan) -> Refusal {
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

pub(super) fn expressions(node: &LogicalPlan, shape: &mut Shape, streams: &BTreeSet<String>) -> Result<(), Refusal> {
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

fn expression(expr: &Expr, node: &LogicalPlan, shape: &mut Shape, streams: &BTreeSet<String>) -> Result<(), Refusal> {
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
