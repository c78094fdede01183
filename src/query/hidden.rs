//! The column that sources have without declaring it: a query that names it reads the source with it, and `*` leaves it out.
//!
//! DataFusion's planner knows no hidden columns. So each source stands in the catalog twice, and where a `SELECT` names
//! the column the table is exchanged before it is planned.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use datafusion::{
    catalog::MemorySchemaProvider,
    common::TableReference,
    datasource::TableProvider,
    error::DataFusionError,
    prelude::SessionContext,
    sql::sqlparser::ast::{
        ExcludeSelectItem, Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem,
        SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor,
        TableWithJoins, Visit, VisitMut, VisitorMut, WildcardAdditionalOptions, visit_expressions,
    },
};

use crate::job::FILE_COLUMN;

/// The catalog's schema in which sources have their hidden column.
const SCHEMA: &str = "with_file";

/// Adds tables that stand for those of the same names where a query names the hidden column.
pub(super) fn register(
    context: &SessionContext,
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
) -> Result<(), DataFusionError> {
    for catalog in context.catalog_names().into_iter().filter_map(|name| context.catalog(&name)) {
        catalog.register_schema(SCHEMA, Arc::new(MemorySchemaProvider::new()))?;
    }
    for (name, table) in tables {
        context.register_table(TableReference::partial(SCHEMA, name), table)?;
    }
    Ok(())
}

/// Exchanges the tables whose hidden column a statement names; `tables`: names of those that have one.
pub(super) fn reveal(statement: &mut Statement, tables: &BTreeSet<String>) {
    // the visitor goes through to the end
    if statement.visit(&mut Revealer { tables, shadowed: Vec::new() }).is_break() {
        tracing::debug!("a statement was not walked to its end");
    }
}

struct Revealer<'a> {
    tables: &'a BTreeSet<String>,
    /// Names that CTEs have taken, query by query from the outermost.
    shadowed: Vec<Vec<String>>,
}

impl VisitorMut for Revealer<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let names = self.in_ctes(query)?;
        self.shadowed.push(names);
        let mut named = Named::default();
        if let Some(order) = &query.order_by {
            named.add(order);
        }
        if let SetExpr::Select(select) = query.body.as_mut() {
            self.in_select(select, named);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.shadowed.pop();
        ControlFlow::Continue(())
    }

    /// Those of a `UNION` are no queries of their own; what was exchanged already is not met again.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.in_select(select, Named::default());
        ControlFlow::Continue(())
    }
}

impl Revealer<'_> {
    /// Goes through a query's CTEs, each of which knows those before it, and gives their names.
    fn in_ctes(&mut self, query: &mut Query) -> ControlFlow<(), Vec<String>> {
        let mut names = Vec::new();
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            self.shadowed.push(names.clone());
            let visited = VisitMut::visit(&mut cte.query, self);
            self.shadowed.pop();
            visited?;
            names.push(normalized(&cte.alias.name));
        }
        ControlFlow::Continue(names)
    }

    fn in_select(&self, select: &mut Select, mut named: Named) {
        named.add_select(select);
        let mut revealed = Vec::new();
        for from in &mut select.from {
            self.in_from(from, &named, &mut revealed);
        }
        if revealed.is_empty() {
            return;
        }
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) => exclude(options),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
                    if name
                        .0
                        .last()
                        .and_then(|part| part.as_ident())
                        .is_some_and(|name| revealed.contains(&normalized(name))) =>
                {
                    exclude(options);
                }
                _ => {}
            }
        }
    }

    fn in_from(&self, from: &mut TableWithJoins, named: &Named, revealed: &mut Vec<String>) {
        let joined = from.joins.iter_mut().map(|join| &mut join.relation);
        for table in std::iter::once(&mut from.relation).chain(joined) {
            match table {
                TableFactor::NestedJoin { table_with_joins, .. } => self.in_from(table_with_joins, named, revealed),
                TableFactor::Table { name, alias, args: None, .. } => {
                    revealed.extend(self.in_table(name, alias, named));
                }
                _ => {}
            }
        }
    }

    /// Exchanges a table, if it has the column and is named with it; gives what it is called.
    fn in_table(&self, name: &mut ObjectName, alias: &mut Option<TableAlias>, named: &Named) -> Option<String> {
        let [ObjectNamePart::Identifier(table)] = name.0.as_slice() else { return None };
        let table = table.clone();
        let key = normalized(&table);
        if !self.tables.contains(&key) || self.shadowed.iter().flatten().any(|shadowed| *shadowed == key) {
            return None;
        }
        let called = alias.as_ref().map_or(&table, |alias| &alias.name);
        let called = normalized(called);
        if !named.alone && !named.of.contains(&called) {
            return None;
        }
        match alias {
            // a list of columns names all of them
            Some(alias) if !alias.columns.is_empty() => {
                alias.columns.push(TableAliasColumnDef::from_name(FILE_COLUMN));
            }
            Some(_) => {}
            None => *alias = Some(TableAlias { explicit: true, name: table.clone(), columns: Vec::new(), at: None }),
        }
        *name = ObjectName::from(vec![Ident::new(SCHEMA), table]);
        Some(called)
    }
}

/// How the hidden column is named.
#[derive(Default)]
struct Named {
    /// Without a table.
    alone: bool,
    /// With these.
    of: BTreeSet<String>,
}

impl Named {
    /// What a `SELECT` itself names, and subqueries in its expressions, but not those of its `FROM`.
    fn add_select(&mut self, select: &Select) {
        self.add(&select.distinct);
        self.add(&select.projection);
        self.add(&select.selection);
        self.add(&select.group_by);
        self.add(&select.having);
        self.add(&select.qualify);
        self.add(&select.sort_by);
        select.from.iter().for_each(|from| self.add_conditions(from));
    }

    fn add_conditions(&mut self, from: &TableWithJoins) {
        for join in &from.joins {
            self.add(&join.join_operator);
        }
        for table in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
            if let TableFactor::NestedJoin { table_with_joins, .. } = table {
                self.add_conditions(table_with_joins);
            }
        }
    }

    fn add(&mut self, part: &impl Visit) {
        let visited: ControlFlow<()> = visit_expressions(part, |expr| {
            match expr {
                Expr::Identifier(column) if is_hidden(column) => self.alone = true,
                Expr::CompoundIdentifier(parts) => {
                    if let [table, column] = parts.as_slice()
                        && is_hidden(column)
                    {
                        self.of.insert(normalized(table));
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

fn is_hidden(column: &Ident) -> bool {
    normalized(column) == FILE_COLUMN
}

/// A name as the planner compares it.
fn normalized(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// Leaves the hidden column out of `*`.
fn exclude(options: &mut WildcardAdditionalOptions) {
    let mut names = match options.opt_exclude.take() {
        None => Vec::new(),
        Some(ExcludeSelectItem::Single(name)) => vec![name],
        Some(ExcludeSelectItem::Multiple(names)) => names,
    };
    names.push(ObjectName::from(vec![Ident::new(FILE_COLUMN)]));
    options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
}
