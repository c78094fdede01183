//! Group keys that are windows, and expressions that are one end of a window.

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan},
    scalar::ScalarValue,
};

use super::windows::{Kind, kind_of};

/// The column whose `start` or `end` an expression is.
pub(super) fn end_of(expr: &Expr) -> Option<&Column> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match (call.func.name(), call.args.as_slice()) {
        ("get_field", [Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(name)), _)])
            if matches!(name.as_str(), "start" | "end") =>
        {
            Some(column)
        }
        _ => None,
    }
}

/// Whether a key of the aggregate below a plan is a window. Of a struct that only looks like one, many values may begin alike.
pub(super) fn is_key(plan: &LogicalPlan, key: usize) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.get(key).is_some_and(|expr| is_window(expr, &aggregate.input))
        }
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::SubqueryAlias(_) => is_key(plan.inputs()[0], key),
        _ => false,
    }
}

/// Whether an expression over a plan is a window, made by the call that it comes from.
fn is_window(expr: &Expr, input: &LogicalPlan) -> bool {
    match expr {
        Expr::Alias(alias) => is_window(&alias.expr, input),
        Expr::Column(column) => holds_window(input, column),
        _ => matches!(kind_of(expr), Some((Kind::Window | Kind::Windows | Kind::Session, _))),
    }
}

/// Whether a column of a plan is one of windows.
fn holds_window(plan: &LogicalPlan, column: &Column) -> bool {
    let Some(index) = plan.schema().maybe_index_of_column(column) else { return false };
    match plan {
        LogicalPlan::Projection(projection) => is_window(&projection.expr[index], &projection.input),
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.get(index).is_some_and(|expr| is_window(expr, &aggregate.input))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            holds_window(&alias.input, &Column::from(alias.input.schema().qualified_field(index)))
        }
        // an unnested column keeps its name: each window of those that overlap
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Extension(_) => match plan.inputs().as_slice() {
            [input] => holds_window(input, column),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::{job, query::JobQueries};

    /// The columns that a row is known by, if they are the whole key.
    fn keys(select: &str) -> Option<Vec<String>> {
        let text = format!(
            "CREATE TABLE t (k STRING, at TIMESTAMP) WITH (connector = 'files', path = 'in', format = 'json');
             CREATE TABLE out WITH (connector = 'memory', output_mode = 'complete');
             INSERT INTO out {select};"
        );
        let job = job::parse("job.sql", "job", &text, &job::Variables::new(Default::default())).unwrap();
        let queries = JobQueries::plan(&job).unwrap();
        let query = &queries.queries[0];
        let names = query.key_columns().iter().map(|column| query.output_schema().field(*column).name().clone());
        query.shows_key().then(|| names.collect())
    }

    #[test]
    fn one_end_of_a_window_is_its_key() {
        let of_window = [
            "SELECT count(*) AS c, window.start AS s, k FROM t GROUP BY window(at, '5 minutes'), k ORDER BY c DESC",
            "SELECT window.end AS s, k, count(*) AS c FROM t GROUP BY window(at, '5 minutes', '1 minute'), k",
            "SELECT w.start AS s, k, count(*) AS c FROM (SELECT window(at, '5 minutes') AS w, k FROM t) GROUP BY w, k",
            "SELECT s, k FROM (SELECT window.start AS s, k, count(*) AS c FROM t GROUP BY window(at, '1 hour'), k) WHERE c > 1",
            "SELECT window.start AS s, window.end AS e, k, count(*) AS c FROM t GROUP BY window(at, '5 minutes'), k",
        ];
        for select in of_window {
            let found = keys(select).unwrap_or_else(|| panic!("{select}: it shows its key"));
            assert_eq!(
                found.iter().collect::<std::collections::BTreeSet<_>>(),
                ["k", "s"].map(String::from).iter().collect(),
                "{select}"
            );
        }
    }

    #[test]
    fn a_part_of_another_key_is_not() {
        let of_struct = [
            "SELECT w.start AS s, count(*) AS c FROM (SELECT named_struct('start', at, 'end', at) AS w FROM t) GROUP BY w",
            "SELECT date_trunc('hour', window.start) AS s, count(*) AS c FROM t GROUP BY window(at, '5 minutes')",
            "SELECT k, count(*) AS c FROM t GROUP BY window(at, '5 minutes'), k",
        ];
        for select in of_struct {
            assert_eq!(keys(select), None, "{select}");
        }
    }
}
