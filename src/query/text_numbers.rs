//! Comparing a string with a number must not fail on one odd value.
//!
//! DataFusion would cast the string column to a number and fail the job on `Port46272`. Here `=`, `<>`, `IN`, `CASE x
//! WHEN` and `IS DISTINCT FROM` with a number literal compare its text; `<`, `>`, `BETWEEN`, arithmetic and numbers that
//! are computed convert the string, null where it is no number. Binary operators are met while the SQL is planned, the
//! rest before types are coerced.

use datafusion::{
    arrow::datatypes::DataType,
    common::{
        DFSchema, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        Between, BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator, TryCast,
        expr::InList,
        expr_rewriter::NamePreserver,
        lit, not,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
        utils::{disjunction, merge_schema},
    },
    optimizer::AnalyzerRule,
    scalar::ScalarValue,
    sql::sqlparser::ast::BinaryOperator,
};

#[derive(Debug)]
pub(super) struct TextNumbers;

impl ExprPlanner for TextNumbers {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let equality = matches!(raw.op, BinaryOperator::Eq | BinaryOperator::NotEq);
        let numeric = matches!(
            raw.op,
            BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq
                | BinaryOperator::Plus
                | BinaryOperator::Minus
                | BinaryOperator::Multiply
                | BinaryOperator::Divide
                | BinaryOperator::Modulo
        );
        if !equality && !numeric {
            return Ok(PlannerResult::Original(raw));
        }
        let RawBinaryExpr { op, mut left, mut right } = raw;
        let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
        if is_text(&left_type) && right_type.is_numeric() {
            (left, right) = paired(equality, left, right);
        } else if left_type.is_numeric() && is_text(&right_type) {
            (right, left) = paired(equality, right, left);
        }
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// A text and a number, made comparable.
fn paired(equality: bool, text: Expr, number: Expr) -> (Expr, Expr) {
    match number_text(&number) {
        Some(literal) if equality => (text, lit(literal)),
        _ if is_string_literal(&text) => (text, number),
        _ => (as_number(text), number),
    }
}

impl AnalyzerRule for TextNumbers {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            let renamed = |expr: Expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| compare_text(expr, &schema))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            };
            node.map_expressions(|expr| match expr {
                // each of its keys is a column of the result, and keeps its name by itself
                Expr::GroupingSet(_) => expr.map_children(renamed),
                expr => renamed(expr),
            })
        })
        .map(|rewritten| rewritten.data)
    }

    fn name(&self) -> &str {
        "text_numbers"
    }
}

fn compare_text(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::InList(list) => in_list(list, schema),
        Expr::Between(between) => range(between, schema),
        Expr::Case(Case { expr: Some(operand), when_then_expr, else_expr }) => {
            case(*operand, when_then_expr, else_expr, schema)
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::IsDistinctFrom | Operator::IsNotDistinctFrom),
            right,
        }) if mixed(&left, &right, schema)? => {
            let same = same_or_both_null(*left, *right, schema)?;
            Ok(Transformed::yes(if op == Operator::IsDistinctFrom { not(same) } else { same }))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether one side is text and the other a number.
fn mixed(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<bool> {
    let (left, right) = (left.get_type(schema)?, right.get_type(schema)?);
    Ok((is_text(&left) && right.is_numeric()) || (left.is_numeric() && is_text(&right)))
}

/// `left = right`, a text and a number made comparable.
fn equal(left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
    if !mixed(&left, &right, schema)? {
        return Ok(left.eq(right));
    }
    let (text, number) = if is_text(&left.get_type(schema)?) { (left, right) } else { (right, left) };
    let (text, number) = paired(true, text, number);
    Ok(text.eq(number))
}

/// Text among numbers, or numbers among text: literals become text where that is enough, else each pair is compared.
fn in_list(InList { expr, list, negated }: InList, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut any_mixed = false;
    for item in &list {
        any_mixed |= mixed(&expr, item, schema)?;
    }
    if !any_mixed {
        return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
    }
    let texts: Option<Vec<Expr>> = list
        .iter()
        .map(|item| number_text(item).map(lit).or_else(|| is_string_literal(item).then(|| item.clone())))
        .collect();
    if let (true, Some(list)) = (is_text(&expr.get_type(schema)?), texts) {
        return Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })));
    }
    let pairs = list.into_iter().map(|item| equal(expr.as_ref().clone(), item, schema));
    let any = disjunction(pairs.collect::<Result<Vec<_>>>()?).unwrap_or_else(|| lit(false));
    Ok(Transformed::yes(if negated { not(any) } else { any }))
}

/// A range in which any of the three is a number is one of numbers.
fn range(Between { expr, negated, low, high }: Between, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut sides = [*expr, *low, *high];
    let types = [sides[0].get_type(schema)?, sides[1].get_type(schema)?, sides[2].get_type(schema)?];
    let of_numbers = types.iter().any(DataType::is_numeric) && types.iter().any(is_text);
    if of_numbers {
        for (side, data_type) in sides.iter_mut().zip(&types) {
            if is_text(data_type) && !is_string_literal(side) {
                *side = as_number(std::mem::take(side));
            }
        }
    }
    let [expr, low, high] = sides.map(Box::new);
    Ok(Transformed::new_transformed(Expr::Between(Between { expr, negated, low, high }), of_numbers))
}

/// `CASE operand WHEN value ...` becomes `CASE WHEN operand = value ...` where text meets a number.
fn case(
    operand: Expr,
    branches: Vec<(Box<Expr>, Box<Expr>)>,
    otherwise: Option<Box<Expr>>,
    schema: &DFSchema,
) -> Result<Transformed<Expr>> {
    let mut any_mixed = false;
    for (value, _) in &branches {
        any_mixed |= mixed(&operand, value, schema)?;
    }
    if !any_mixed {
        let case = Case { expr: Some(Box::new(operand)), when_then_expr: branches, else_expr: otherwise };
        return Ok(Transformed::no(Expr::Case(case)));
    }
    let branches = branches.into_iter().map(|(value, then)| {
        let met = equal(operand.clone(), *value, schema)?;
        Ok((Box::new(met), then))
    });
    let when_then_expr = branches.collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(Expr::Case(Case { expr: None, when_then_expr, else_expr: otherwise })))
}

/// `IS NOT DISTINCT FROM` between a text and a number. Text that is no number is not null, so it is not the same as a
/// null number, which it becomes when it is converted.
fn same_or_both_null(left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
    let (text, number) = if is_text(&left.get_type(schema)?) { (left, right) } else { (right, left) };
    let (as_compared, with) = paired(true, text.clone(), number.clone());
    let same = Expr::BinaryExpr(BinaryExpr::new(Box::new(as_compared), Operator::IsNotDistinctFrom, Box::new(with)));
    Ok(same.and(text.is_null().or(number.is_not_null())))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_string_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if is_text(&value.data_type()))
}

fn as_number(text: Expr) -> Expr {
    Expr::TryCast(TryCast::new(Box::new(text), DataType::Float64))
}

/// The text of a number literal, as it would be written.
fn number_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_numeric() && !value.is_null() => Some(match value {
            // `80.0` was written with its point, which `Display` would drop
            ScalarValue::Float64(Some(value)) => format!("{value:?}"),
            ScalarValue::Float32(Some(value)) => format!("{value:?}"),
            other => other.to_string(),
        }),
        Expr::Negative(inner) => number_text(inner).map(|text| format!("-{text}")),
        _ => None,
    }
}
