//! A query's own text as a tree, to find what an error is about.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{
        BinaryOperator, Expr, GroupByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Spanned, Statement,
        TableFactor, Visit, Visitor,
    },
    dialect::GenericDialect,
    parser::Parser,
    tokenizer::Location,
};

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clause {
    Where,
    GroupBy,
    Select,
    Having,
    OrderBy,
}

/// One `SELECT`: what it reads, and its expressions.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// ` FROM ...`, ` WHERE ...`, ` GROUP BY ...`, as SQL; empty where there is none.
    pub from: String,
    pub filter: String,
    pub groups: String,
    /// In the order in which they are computed: filters first.
    pub roots: Vec<(Clause, Expr)>,
    /// Names that the select list gives.
    pub aliases: Vec<String>,
    /// Where each item of the select list stands; `None`: the parser does not tell.
    pub items: Vec<Option<Location>>,
    pub wildcard: Option<Location>,
}

/// All `SELECT`s of one statement, outer ones first.
#[derive(Debug, Default)]
pub(super) struct Syntax {
    pub scopes: Vec<Scope>,
    /// `WITH ... `, as SQL; empty where there is none.
    pub with: String,
    /// A table that is to be sampled.
    pub sampled: Option<Location>,
    /// `a IS DISTINCT FROM b AND c`: the parser takes `b AND c` together, against the standard.
    pub swallowed: Option<Expr>,
}

impl Syntax {
    /// Empty where the text cannot be parsed: then the parser's own error, with its place, is what is told.
    pub fn parse(sql: &str) -> Syntax {
        let mut syntax = Syntax::default();
        let Ok(statements) = Parser::parse_sql(&GenericDialect {}, sql) else { return syntax };
        let query = match statements.first() {
            Some(Statement::Query(query)) => Some(query),
            Some(Statement::CreateView(view)) => Some(&view.query),
            _ => None,
        };
        if let Some(with) = query.and_then(|query| query.with.as_ref()) {
            syntax.with = format!("{with} ");
        }
        let ControlFlow::Continue(()) = statements.visit(&mut syntax);
        syntax
    }
}

impl Syntax {
    /// Where a column is first used, not where a name is given to one.
    pub fn name(&self, name: &str) -> Option<Location> {
        let is_it = |expr: &Expr| match expr {
            Expr::Identifier(found) => match found.quote_style {
                Some(_) => found.value == name,
                None => found.value.eq_ignore_ascii_case(name) && !name.contains(char::is_uppercase),
            },
            _ => false,
        };
        let roots = self.scopes.iter().flat_map(|scope| &scope.roots);
        roots.flat_map(|(_, root)| inside(root, &is_it)).find_map(|found| place(&found))
    }
}

impl Visitor for Syntax {
    type Break = std::convert::Infallible;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        self.scopes.push(scope(select));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let (Some(order), SetExpr::Select(select)) = (&query.order_by, query.body.as_ref()) else {
            return ControlFlow::Continue(());
        };
        if let OrderByKind::Expressions(expressions) = &order.kind {
            let roots = expressions.iter().map(|order| (Clause::OrderBy, order.expr.clone())).collect();
            self.scopes.push(Scope { roots, ..scope(select) });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) = expr
            && let Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. } = **right
        {
            self.swallowed.get_or_insert_with(|| expr.clone());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { sample: Some(_), .. } = table {
            self.sampled = self.sampled.or(place(table));
        }
        ControlFlow::Continue(())
    }
}

fn scope(select: &Select) -> Scope {
    let mut scope = Scope::default();
    if !select.from.is_empty() {
        let tables: Vec<String> = select.from.iter().map(ToString::to_string).collect();
        scope.from = format!(" FROM {}", tables.join(", "));
    }
    if let Some(filter) = &select.selection {
        scope.filter = format!(" WHERE {filter}");
        scope.roots.push((Clause::Where, filter.clone()));
    }
    if let GroupByExpr::Expressions(keys, _) = &select.group_by
        && !keys.is_empty()
    {
        scope.groups = format!(" {}", select.group_by);
        scope.roots.extend(keys.iter().map(|key| (Clause::GroupBy, key.clone())));
    }
    for item in &select.projection {
        scope.items.push(place(item));
        match item {
            SelectItem::UnnamedExpr(expr) => scope.roots.push((Clause::Select, expr.clone())),
            SelectItem::ExprWithAlias { expr, alias } => {
                scope.roots.push((Clause::Select, expr.clone()));
                scope.aliases.push(alias.value.clone());
            }
            SelectItem::Wildcard(_) => scope.wildcard = scope.wildcard.or(place(item)),
            SelectItem::ExprWithAliases { .. } | SelectItem::QualifiedWildcard(..) => {}
        }
    }
    scope.roots.extend(select.having.iter().map(|having| (Clause::Having, having.clone())));
    scope
}

/// Where something stands; `None` where the parser does not tell.
pub(super) fn place(of: &impl Spanned) -> Option<Location> {
    let start = of.span().start;
    (start.line > 0).then_some(start)
}

/// The expressions directly inside of one.
pub(super) fn children(expr: &Expr) -> Vec<Expr> {
    let mut children = Nested { depth: 0, found: Vec::new(), wanted: &|_, depth| depth == 1 };
    let ControlFlow::Continue(()) = expr.visit(&mut children);
    children.found
}

/// Every expression inside of one that is wanted, itself included, from the outside in.
pub(super) fn inside(expr: &Expr, wanted: &dyn Fn(&Expr) -> bool) -> Vec<Expr> {
    let mut nested = Nested { depth: 0, found: Vec::new(), wanted: &|expr, _| wanted(expr) };
    let ControlFlow::Continue(()) = expr.visit(&mut nested);
    nested.found
}

struct Nested<'a> {
    depth: usize,
    found: Vec<Expr>,
    wanted: &'a dyn Fn(&Expr, usize) -> bool,
}

impl Visitor for Nested<'_> {
    type Break = std::convert::Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if (self.wanted)(expr, self.depth) {
            self.found.push(expr.clone());
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_falls_into_its_selects_and_their_expressions() {
        let syntax = Syntax::parse(
            "WITH w AS (SELECT a FROM t WHERE b > 1) SELECT *, sum(a + 1) AS s FROM w GROUP BY c HAVING s > 2 ORDER BY s",
        );
        assert_eq!(syntax.with, "WITH w AS (SELECT a FROM t WHERE b > 1) ");
        let texts = |scope: &Scope| scope.roots.iter().map(|(_, expr)| expr.to_string()).collect::<Vec<_>>();
        let scopes: Vec<_> = syntax.scopes.iter().map(|scope| (scope.from.as_str(), texts(scope))).collect();
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            scopes,
            [
                (" FROM t", strings(&["b > 1", "a"])),
                (" FROM w", strings(&["c", "sum(a + 1)", "s > 2"])),
                (" FROM w", strings(&["s"])),
            ]
        );
        let outer = &syntax.scopes[1];
        assert_eq!((outer.aliases.as_slice(), outer.groups.as_str()), (&["s".to_owned()][..], " GROUP BY c"));
        assert_eq!(outer.wildcard.map(|place| (place.line, place.column)), Some((1, 48)));
        let sum = &outer.roots[1].1;
        assert_eq!(children(sum).iter().map(ToString::to_string).collect::<Vec<_>>(), ["a + 1"]);
        let [place, nowhere] = ["s", "t"].map(|name| syntax.name(name).map(|place| place.column));
        assert_eq!((place, nowhere), (Some(92), None), "a name where it is used");
        assert!(Syntax::parse("SELECT (").scopes.is_empty());
    }
}
