//! Comparing a string with a number must not fail on one odd value.
//!
//! DataFusion would cast the string column to a number and fail the job on `Port46272`. Here `=`, `<>` and `IN` with a
//! number literal compare its text; `<`, `>`, `BETWEEN` and arithmetic convert the string, null where it is no
//! number. Binary operators are met while the SQL is planned, lists and ranges before types are coerced.

use datafusion::{
    arrow::datatypes::DataType,
    common::{
        DFSchema, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        Between, Expr, ExprSchemable, LogicalPlan, TryCast,
        expr::InList,
        expr_rewriter::NamePreserver,
        lit,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
        utils::merge_schema,
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
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| compare_text(expr, &schema))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
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
        Expr::InList(InList { expr, list, negated }) if is_text(&expr.get_type(schema)?) => {
            let list = list.into_iter().map(|item| number_text(&item).map_or(item, lit)).collect();
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::Between(Between { expr, negated, low, high })
            if is_text(&expr.get_type(schema)?)
                && (low.get_type(schema)?.is_numeric() || high.get_type(schema)?.is_numeric()) =>
        {
            let expr = Box::new(as_number(*expr));
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        other => Ok(Transformed::no(other)),
    }
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
