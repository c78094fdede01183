//! The order of a result: the query's own, completed by the group key, then by the other columns.
//!
//! An `ORDER BY` alone leaves ties open, and with a `LIMIT` even the set of rows. Both the stream and the baseline
//! order by the same completed list, so that equal results are equal row by row.

use std::sync::Arc;

use datafusion::{
    common::{Column, Result},
    logical_expr::{Aggregate, Distinct, Expr, Limit, LogicalPlan, LogicalPlanBuilder, Sort, SortExpr},
};

use super::window_keys;

/// Completes the order of a stateful query's result.
///
/// # Errors
/// Where DataFusion refuses the rebuilt plan.
pub(super) fn complete(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(sort) => {
            let mut expr = sort.expr;
            expr.extend(tie_breakers(&sort.input, &expr));
            sorted(sort.input, expr, sort.fetch)
        }
        LogicalPlan::Limit(limit) => {
            let input = Arc::new(complete(Arc::unwrap_or_clone(limit.input))?);
            Ok(LogicalPlan::Limit(Limit { skip: limit.skip, fetch: limit.fetch, input }))
        }
        // A projection that only drops what the sort below it needed.
        LogicalPlan::Projection(projection)
            if matches!(*projection.input, LogicalPlan::Sort(_) | LogicalPlan::Limit(_)) =>
        {
            let input = complete(projection.input.as_ref().clone())?;
            let plan = LogicalPlan::Projection(projection);
            plan.with_new_exprs(plan.expressions(), vec![input])
        }
        LogicalPlan::SubqueryAlias(alias) if matches!(*alias.input, LogicalPlan::Sort(_) | LogicalPlan::Limit(_)) => {
            let input = complete(alias.input.as_ref().clone())?;
            let plan = LogicalPlan::SubqueryAlias(alias);
            plan.with_new_exprs(vec![], vec![input])
        }
        plan => {
            let expr = tie_breakers(&plan, &[]);
            if expr.is_empty() && hidden_keys(&plan).is_empty() {
                return Ok(plan);
            }
            sorted(Arc::new(plan), expr, None)
        }
    }
}

/// Sorts by `expr`, then by those keys that the query does not show: they are computed below and dropped above.
fn sorted(input: Arc<LogicalPlan>, mut expr: Vec<SortExpr>, fetch: Option<usize>) -> Result<LogicalPlan> {
    let hidden = hidden_keys(&input);
    if hidden.is_empty() {
        return Ok(LogicalPlan::Sort(Sort { expr, input, fetch }));
    }
    expr.extend(hidden.into_iter().map(|key| Expr::Column(key).sort(true, true)));
    LogicalPlanBuilder::from(input).sort_with_limit(expr, fetch)?.build()
}

/// Group keys that are no column of `plan`.
fn hidden_keys(plan: &LogicalPlan) -> Vec<Column> {
    let shown = key_columns(plan);
    let (mut node, mut projections) = (plan, 0);
    while let LogicalPlan::Projection(_) | LogicalPlan::Filter(_) = node {
        projections += usize::from(matches!(node, LogicalPlan::Projection(_)));
        node = node.inputs()[0];
    }
    // What one projection left out can be carried through it; through two, where a key may have been taken apart (`w.start`),
    // it cannot. All columns that are shown are sorted by then: rows that tie are alike.
    if projections > 1 {
        return Vec::new();
    }
    let LogicalPlan::Aggregate(aggregate) = node else { return Vec::new() };
    let keys = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let hidden = (0..keys).filter(|key| !shown.contains(&Some(*key)));
    let column = |key: usize| Column::from(aggregate.schema.qualified_field(key));
    hidden.map(column).filter(|column| column.name != Aggregate::INTERNAL_GROUPING_ID).collect()
}

/// Sort expressions over all columns of `plan` that `sorted` does not hold: the group key first, in its own
/// order, then the rest.
fn tie_breakers(plan: &LogicalPlan, sorted: &[SortExpr]) -> Vec<SortExpr> {
    let keys = key_columns(plan);
    let mut columns: Vec<(usize, usize)> =
        (0..keys.len()).map(|column| (keys[column].unwrap_or(usize::MAX), column)).collect();
    columns.sort_unstable();
    let schema = plan.schema();
    columns
        .into_iter()
        .map(|(_, column)| Expr::Column(Column::from(schema.qualified_field(column))))
        .filter(|expr| !sorted.iter().any(|sort| sort.expr == *expr))
        .map(|expr| expr.sort(true, true))
        .collect()
}

/// Whether the result is one of groups, along the chain from its root: then its order is completed.
pub(super) fn aggregates(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => true,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::SubqueryAlias(_) => plan.inputs().into_iter().any(aggregates),
        _ => false,
    }
}

/// The output columns that tell groups apart, in the order of the key: the keys, and of a window that is not selected as
/// it is its start or its end.
pub(super) fn output_keys(plan: &LogicalPlan) -> Vec<usize> {
    let (whole, ends) = (key_columns(plan), keys_or_ends(plan, &window_keys::of_end));
    let place = |keys: &[Option<usize>], key: usize| keys.iter().position(|found| *found == Some(key));
    let mut keys: Vec<usize> = ends.iter().copied().flatten().collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().filter_map(|key| place(&whole, key).or_else(|| place(&ends, key))).collect()
}

/// How many keys an aggregate groups by, without the number of the grouping set.
pub(super) fn group_keys(aggregate: &LogicalPlan) -> usize {
    let LogicalPlan::Aggregate(aggregate) = aggregate else { return 0 };
    let keys = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let names = aggregate.schema.fields().iter().take(keys);
    names.filter(|field| field.name() != Aggregate::INTERNAL_GROUPING_ID).count()
}

/// For each output column: which group expression it is, if it is one unchanged.
pub(super) fn key_columns(plan: &LogicalPlan) -> Vec<Option<usize>> {
    keys_or_ends(plan, &|_, _, _| None)
}

/// The same, or what an expression over the columns of a plan, which are these keys, stands for.
type StandsFor<'a> = &'a dyn Fn(&Expr, &LogicalPlan, &[Option<usize>]) -> Option<usize>;

fn keys_or_ends(plan: &LogicalPlan, other: StandsFor<'_>) -> Vec<Option<usize>> {
    let width = plan.schema().fields().len();
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let keys = width - aggregate.aggr_expr.len();
            (0..width).map(|column| (column < keys).then_some(column)).collect()
        }
        LogicalPlan::Distinct(Distinct::All(_)) => (0..width).map(Some).collect(),
        LogicalPlan::Projection(projection) => {
            let input = keys_or_ends(&projection.input, other);
            let schema = projection.input.schema();
            let key_of = |expr: &Expr| match expr.clone().unalias() {
                Expr::Column(column) => schema.maybe_index_of_column(&column).and_then(|index| input[index]),
                expr => other(&expr, &projection.input, &input),
            };
            projection.expr.iter().map(key_of).collect()
        }
        LogicalPlan::Filter(filter) => keys_or_ends(&filter.input, other),
        LogicalPlan::Sort(sort) => keys_or_ends(&sort.input, other),
        LogicalPlan::Limit(limit) => keys_or_ends(&limit.input, other),
        LogicalPlan::SubqueryAlias(alias) => keys_or_ends(&alias.input, other),
        _ => vec![None; width],
    }
}
