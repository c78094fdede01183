//! Spark's names for the window of an aggregate: `window`, `window.start` and their kind stand for the call in `GROUP BY`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
    Value, VisitMut, VisitorMut, visit_expressions_mut,
};

/// Writes the call where a query uses its name.
pub(super) fn spell_out(statement: &mut Statement) {
    // the visitor goes through to the end
    if statement.visit(&mut Speller).is_break() {
        tracing::debug!("a statement was not walked to its end");
    }
}

struct Speller;

impl VisitorMut for Speller {
    type Break = ();

    /// `window(time, '10 minutes').start`: a field of what a call gives.
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        // of a name the planner finds out whether it is a table's or a column's
        if let Expr::CompoundFieldAccess { root, access_chain } = expr
            && !matches!(**root, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        {
            for access in access_chain {
                if let AccessExpr::Dot(Expr::Identifier(name)) = access {
                    *access = AccessExpr::Dot(text(name.value.clone()));
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        for name in ["window", "session_window"] {
            let Some(call) = grouped_call(select, name) else { continue };
            if names_a_table(select, name) {
                continue;
            }
            let window = Window { name, call };
            window.in_select(select);
            if let Some(order) = &mut query.order_by
                && let OrderByKind::Expressions(list) = &mut order.kind
            {
                list.iter_mut().for_each(|item| window.replace(&mut item.expr));
            }
        }
        ControlFlow::Continue(())
    }
}

/// A string, which is how the planner wants the name of a field.
fn text(value: String) -> Expr {
    Expr::Value(Value::SingleQuotedString(value).with_empty_span())
}

/// The call by which a query groups.
fn grouped_call(select: &Select, name: &str) -> Option<Expr> {
    let GroupByExpr::Expressions(list, _) = &select.group_by else { return None };
    let is_call =
        |expr: &&Expr| matches!(expr, Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case(name));
    list.iter().find(is_call).cloned()
}

/// Whether a table is called so: then its columns are meant.
fn names_a_table(select: &Select, name: &str) -> bool {
    let is_it = |ident: &Ident| ident.value.eq_ignore_ascii_case(name);
    let table = |factor: &TableFactor| match factor {
        TableFactor::Table { name, alias, .. } => {
            let last = name.0.last().and_then(|part| part.as_ident());
            alias.as_ref().map_or_else(|| last.is_some_and(is_it), |alias| is_it(&alias.name))
        }
        TableFactor::Derived { alias: Some(alias), .. } => is_it(&alias.name),
        _ => false,
    };
    select.from.iter().any(|from| table(&from.relation) || from.joins.iter().any(|join| table(&join.relation)))
}

struct Window<'a> {
    name: &'a str,
    call: Expr,
}

impl Window<'_> {
    fn in_select(&self, select: &mut Select) {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item {
                let alias = match &*expr {
                    Expr::Identifier(ident) if self.is_it(ident) => Some(ident.clone()),
                    Expr::CompoundIdentifier(parts) if self.part(parts).is_some() => self.part(parts).cloned(),
                    _ => None,
                };
                self.replace(expr);
                if let Some(alias) = alias {
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            } else if let SelectItem::ExprWithAlias { expr, .. } = item {
                self.replace(expr);
            }
        }
        if let Some(having) = &mut select.having {
            self.replace(having);
        }
    }

    fn is_it(&self, ident: &Ident) -> bool {
        ident.value.eq_ignore_ascii_case(self.name)
    }

    /// `start` or `end` of `window.start`.
    fn part<'a>(&self, parts: &'a [Ident]) -> Option<&'a Ident> {
        let [window, part] = parts else { return None };
        let is_part = part.value.eq_ignore_ascii_case("start") || part.value.eq_ignore_ascii_case("end");
        (self.is_it(window) && is_part).then_some(part)
    }

    fn replace(&self, expr: &mut Expr) {
        let visited: ControlFlow<()> = visit_expressions_mut(expr, |expr| {
            match &*expr {
                Expr::Identifier(ident) if self.is_it(ident) => *expr = self.call.clone(),
                Expr::CompoundIdentifier(parts) => {
                    if let Some(part) = self.part(parts) {
                        let access_chain = vec![AccessExpr::Dot(text(part.value.to_lowercase()))];
                        *expr = Expr::CompoundFieldAccess { root: Box::new(self.call.clone()), access_chain };
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        if visited.is_break() {
            tracing::debug!("an expression was not walked to its end");
        }
    }
}
