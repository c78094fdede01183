//! How closely each column of a result must equal the batch result, told from the plan.

use std::collections::BTreeSet;

use datafusion::{
    common::{
        DFSchema, Result,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Aggregate, Expr, LogicalPlan, expr::AggregateFunction},
};

use super::order::key_columns;

/// What "equals" means for a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Closeness {
    /// The same value.
    #[default]
    Exact,
    /// Made of sums of floats: the order of addition decides the last digits.
    Rounded,
    /// Made of a sketch whose content depends on where batches end.
    Approximate,
}

/// Aggregates that add floats up.
const ROUNDED: [&str; 8] = ["sum", "avg", "stddev", "stddev_pop", "var", "var_pop", "covar", "corr"];
/// The t-digest: its merged centroids depend on what was merged when.
const APPROXIMATE: [&str; 3] = ["approx_median", "approx_percentile_cont", "approx_percentile_cont_with_weight"];

/// How close an aggregate's result is.
pub(super) fn of_aggregate(call: &AggregateFunction) -> Closeness {
    let name = call.func.name();
    if APPROXIMATE.contains(&name) {
        Closeness::Approximate
    } else if ROUNDED.contains(&name) || name.starts_with("covar_") || name.starts_with("regr_") {
        // over integers and decimals a sum is exact, and no float comes out
        Closeness::Rounded
    } else {
        Closeness::Exact
    }
}

/// The aggregate call of an expression of an [`Aggregate`].
pub(super) fn call(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(call) => Some(call),
        Expr::Alias(alias) => call(&alias.expr),
        _ => None,
    }
}

/// How close each output column of a plan is.
pub(super) fn columns(plan: &LogicalPlan) -> Vec<Closeness> {
    let width = plan.schema().fields().len();
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let keys = width - aggregate.aggr_expr.len();
            let below = columns(&aggregate.input);
            let calls = aggregate.aggr_expr.iter().map(|expr| {
                let own = call(expr).map_or(Closeness::Approximate, of_aggregate);
                own.max(worst(expr, aggregate.input.schema(), &below))
            });
            std::iter::repeat_n(Closeness::Exact, keys).chain(calls).collect()
        }
        LogicalPlan::Projection(projection) => {
            let below = columns(&projection.input);
            projection.expr.iter().map(|expr| worst(expr, projection.input.schema(), &below)).collect()
        }
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::SubqueryAlias(_) => {
            columns(plan.inputs()[0])
        }
        _ => {
            let below = plan.inputs().into_iter().flat_map(columns).max().unwrap_or_default();
            vec![below; width]
        }
    }
}

fn worst(expr: &Expr, schema: &DFSchema, below: &[Closeness]) -> Closeness {
    let indexes = expr.column_refs().into_iter().filter_map(|column| schema.maybe_index_of_column(column));
    indexes.map(|index| below[index]).max().unwrap_or_default()
}

/// Whether an approximate value decides which rows there are: in a filter, or in what is sorted before a limit.
///
/// # Errors
/// Where the plan cannot be walked.
pub(super) fn rows_are_approximate(plan: &LogicalPlan) -> Result<bool> {
    let limited = plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::Limit(_)) || matches!(node, LogicalPlan::Sort(sort) if sort.fetch.is_some()))
    })?;
    let mut found = false;
    plan.apply(|node| {
        let about =
            |expr: &Expr, input: &LogicalPlan| worst(expr, input.schema(), &columns(input)) == Closeness::Approximate;
        found |= match node {
            LogicalPlan::Filter(filter) => about(&filter.predicate, &filter.input),
            LogicalPlan::Sort(sort) if limited => {
                let (key_of, all) = (key_columns(&sort.input), key_count(&sort.input));
                let mut keys = BTreeSet::new();
                sort.expr.iter().any(|by| {
                    // Once the whole key was compared, nothing else is.
                    let decided = all.is_some_and(|all| keys.len() == all);
                    if let Expr::Column(column) = &by.expr {
                        let index = sort.input.schema().maybe_index_of_column(column);
                        keys.extend(index.and_then(|index| key_of[index]));
                    }
                    !decided && about(&by.expr, &sort.input)
                })
            }
            _ => false,
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// How many columns tell the groups below a plan apart.
fn key_count(plan: &LogicalPlan) -> Option<usize> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => Some(group_columns(aggregate)),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::SubqueryAlias(_) => key_count(plan.inputs()[0]),
        _ => None,
    }
}

/// The columns of an aggregate that are its key, the number of the grouping set included.
pub(super) fn group_columns(aggregate: &Aggregate) -> usize {
    aggregate.schema.fields().len() - aggregate.aggr_expr.len()
}
