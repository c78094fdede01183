//! Group keys that are windows, and expressions that are one end of a window.

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan},
    scalar::ScalarValue,
};

use super::windows::{Kind, kind_of};

/// The key that an expression over a plan is one end of: a window among `keys`, which say of each column which key it is. A
/// window that does not overlap with others is known by either end; of those that do, the last ones may end together, since
/// no time is later than the last.
pub(super) fn of_end(expr: &Expr, plan: &LogicalPlan, keys: &[Option<usize>]) -> Option<usize> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let (column, name) = match (call.func.name(), call.args.as_slice()) {
        ("get_field", [Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(name)), _)]) => (column, name),
        _ => return None,
    };
    let key = keys[plan.schema().maybe_index_of_column(column)?]?;
    let known_by_end = match window_of_key(plan, key)? {
        Kind::Window | Kind::Session => true,
        Kind::Windows | Kind::WindowTime => false,
    };
    (name == "start" || name == "end" && known_by_end).then_some(key)
}

/// What made the windows that a key of the aggregate below a plan is. `None`: they are none; of a struct that only looks like
/// a window, many values may begin alike.
fn window_of_key(plan: &LogicalPlan, key: usize) -> Option<Kind> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => window_of(aggregate.group_expr.get(key)?, &aggregate.input),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::SubqueryAlias(_) => window_of_key(plan.inputs()[0], key),
        _ => None,
    }
}

/// The call that an expression over a plan comes from.
fn window_of(expr: &Expr, input: &LogicalPlan) -> Option<Kind> {
    match expr {
        Expr::Alias(alias) => window_of(&alias.expr, input),
        Expr::Column(column) => window_of_column(input, column),
        _ => kind_of(expr).map(|(kind, _)| kind).filter(|kind| *kind != Kind::WindowTime),
    }
}

fn window_of_column(plan: &LogicalPlan, column: &Column) -> Option<Kind> {
    let index = plan.schema().maybe_index_of_column(column)?;
    match plan {
        LogicalPlan::Projection(projection) => window_of(&projection.expr[index], &projection.input),
        LogicalPlan::Aggregate(aggregate) => window_of(aggregate.group_expr.get(index)?, &aggregate.input),
        LogicalPlan::SubqueryAlias(alias) => {
            window_of_column(&alias.input, &Column::from(alias.input.schema().qualified_field(index)))
        }
        // an unnested column keeps its name: each window of those that overlap
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Extension(_) => match plan.inputs().as_slice() {
            [input] => window_of_column(input, column),
            _ => None,
        },
        _ => None,
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
            "SELECT window.start AS s, k, count(*) AS c FROM t GROUP BY window(at, '5 minutes', '1 minute'), k",
            "SELECT window.end AS s, k, count(*) AS c FROM t GROUP BY window(at, '5 minutes'), k",
            "SELECT window.start AS started, window AS s, k, count(*) AS c FROM t GROUP BY window(at, '5 minutes'), k",
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
            "SELECT window.end AS s, k, count(*) AS c FROM t GROUP BY window(at, '5 minutes', '1 minute'), k",
        ];
        for select in of_struct {
            assert_eq!(keys(select), None, "{select}");
        }
    }
}
