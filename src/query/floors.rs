//! How large the addends of a sum of floats were, group by group.
//!
//! Two orders of addition differ by a part of the sum of the *absolute* values, which may be far more than a part of
//! the sum: `1e9 - 1e9 + 0.1` loses digits of `0.1`. So the batch plan is given columns beside those of the query: for
//! each that adds floats up, what the same aggregate makes of the absolute values. Where nothing cancels out, that is
//! the value itself.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::DataType,
    common::{Column, Result},
    functions::math::expr_fn::abs,
    functions_aggregate::{average::avg_udaf, min_max::max_udaf, sum::sum_udaf},
    logical_expr::{
        Aggregate, AggregateUDF, BinaryExpr, Expr, LogicalPlan, Operator, cast, expr::AggregateFunction, lit,
    },
};

use super::closeness::{Closeness, call, of_aggregate};

/// For each column of a query: which column of the plan beside it holds the size of what was added up, if any.
pub(super) type Floors = Vec<Option<usize>>;

/// The plan with its columns first, in their order, and the sizes behind them.
///
/// # Errors
/// Where DataFusion refuses the rebuilt plan.
pub(super) fn beside(plan: &LogicalPlan) -> Result<(LogicalPlan, Floors)> {
    let width = plan.schema().fields().len();
    match plan {
        LogicalPlan::Aggregate(aggregate) => of_groups(aggregate),
        LogicalPlan::Projection(projection) => {
            let (input, floors) = beside(&projection.input)?;
            let mut expr = projection.expr.clone();
            let mut ours = vec![None; width];
            for (column, floor) in projection.expr.iter().zip(&mut ours) {
                if let Some(size) = size(column, &input, &floors) {
                    *floor = Some(expr.len());
                    expr.push(size.alias(format!("__highwater size of {}", expr.len())));
                }
            }
            let projected = datafusion::logical_expr::Projection::try_new(expr, Arc::new(input))?;
            Ok((LogicalPlan::Projection(projected), ours))
        }
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::SubqueryAlias(_) => {
            let (input, floors) = beside(plan.inputs()[0])?;
            Ok((plan.with_new_exprs(plan.expressions(), vec![input])?, floors))
        }
        _ => Ok((plan.clone(), vec![None; width])),
    }
}

fn of_groups(aggregate: &Aggregate) -> Result<(LogicalPlan, Floors)> {
    let width = aggregate.schema.fields().len();
    let keys = width - aggregate.aggr_expr.len();
    let mut calls = aggregate.aggr_expr.clone();
    let mut floors = vec![None; width];
    for (place, expr) in aggregate.aggr_expr.iter().enumerate() {
        let floats = aggregate.schema.field(keys + place).data_type().is_floating();
        if let (true, Some(call)) = (floats, call(expr).filter(|call| of_aggregate(call) == Closeness::Rounded)) {
            floors[keys + place] = Some(keys + calls.len());
            calls.push(of_absolute_values(call).alias(format!("__highwater size of aggregate {place}")));
        }
    }
    let rebuilt = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), calls)?;
    Ok((LogicalPlan::Aggregate(rebuilt), floors))
}

/// What an aggregate is compared with: of the same unit, and no smaller than its value.
fn of_absolute_values(aggregate: &AggregateFunction) -> Expr {
    let made = |function: Arc<AggregateUDF>, argument: Expr| {
        let filter = aggregate.params.filter.clone();
        Expr::AggregateFunction(AggregateFunction::new_udf(function, vec![argument], false, filter, vec![], None))
    };
    let number = aggregate.params.args.first().map(|argument| number(argument.clone()));
    match (aggregate.func.name(), number) {
        ("sum", Some(number)) => made(sum_udaf(), abs(number)),
        ("avg" | "stddev" | "stddev_pop", Some(number)) => made(avg_udaf(), abs(number)),
        ("var" | "var_pop", Some(number)) => made(avg_udaf(), number.clone() * number),
        // A correlation is of size one; of the other moments of two columns the size is not told from sums alone.
        _ => made(max_udaf(), lit(1.0_f64)),
    }
}

/// The size of a column that is computed from others: that of a sum is the sum of the sizes, and so on. A function is
/// taken to change no more than its arguments do.
fn size(expr: &Expr, input: &LogicalPlan, floors: &Floors) -> Option<Expr> {
    let sum = |sizes: [Option<Expr>; 2]| sizes.into_iter().flatten().reduce(|a, b| a + b);
    let of = |expr: &Expr| size(expr, input, floors);
    let absolute = |expr: &Expr| abs(number(expr.clone()));
    match expr {
        Expr::Column(column) => {
            let floor = floors[input.schema().maybe_index_of_column(column)?]?;
            Some(Expr::Column(Column::from(input.schema().qualified_field(floor))))
        }
        Expr::Alias(alias) => of(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Multiply, right }) => {
            sum([of(left).map(|size| size * absolute(right)), of(right).map(|size| size * absolute(left))])
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }) => sum([
            of(left).map(|size| size / absolute(right)),
            of(right).map(|size| absolute(left) / absolute(right) * size / absolute(right)),
        ]),
        _ => {
            let mut columns: Vec<&Column> = expr.column_refs().into_iter().collect();
            columns.sort();
            columns.into_iter().filter_map(|column| of(&Expr::Column(column.clone()))).reduce(|a, b| a + b)
        }
    }
}

fn number(expr: Expr) -> Expr {
    cast(expr, DataType::Float64)
}
