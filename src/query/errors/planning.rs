//! Mistakes that belong to a clause or a name, read from the engine's messages.

use datafusion::sql::sqlparser::{
    ast::{Expr, Value, ValueWithSpan},
    tokenizer::Location,
};

use super::{
    culprit::{Explained, function_name},
    syntax::{Clause, Scope, Syntax, inside, place},
    words::between,
};
use crate::job::nearest_function;

/// What is asked of the engine about names.
pub(super) struct Known<'a> {
    pub functions: &'a [String],
    pub tables: &'a [&'a str],
    pub is_aggregate: &'a dyn Fn(&str) -> bool,
}

/// A mistake, and where: at a place of the query, else at a word of it.
#[derive(Debug, Default)]
pub(super) struct Mistake {
    pub explained: Explained,
    pub word: Option<String>,
    /// Where the engine points at is no closer than the word.
    pub word_is_closer: bool,
}

fn mistake(what: impl Into<String>, why: Option<&str>, help: Option<&str>) -> Mistake {
    let explained =
        Explained { what: what.into(), why: why.map(str::to_owned), help: help.map(str::to_owned), at: None };
    Mistake { explained, word: None, word_is_closer: false }
}

impl Mistake {
    fn at(mut self, at: Option<Location>) -> Mistake {
        self.explained.at = at;
        self
    }

    fn on(mut self, word: &str) -> Mistake {
        self.word = Some(word.to_owned());
        self
    }

    fn help(mut self, help: impl Into<String>) -> Mistake {
        self.explained.help = Some(help.into());
        self
    }
}

/// A name that nobody knows.
pub(super) fn of_names(message: &str, known: &Known<'_>) -> Option<Mistake> {
    if let Some(name) = between(message, "Invalid function '", "'") {
        let unknown = mistake(format!("unknown function '{name}'"), None, None).on(name);
        if ["tumble", "hop"].contains(&name) {
            return Some(
                unknown.help("group by window(time, '10 minutes'), or window(time, '10 minutes', '5 minutes')"),
            );
        }
        return Some(match nearest_function(name, known.functions.iter().map(String::as_str)) {
            Some(near) => unknown.help(format!("did you mean '{near}'?")),
            None => unknown,
        });
    }
    if let Some(name) = between(message, "table function '", "'") {
        let what = format!("there is no table function '{name}'");
        let unknown = mistake(what, None, None).on(name);
        return Some(unknown.help("declare what is read with CREATE TABLE, and select FROM its name"));
    }
    let table = between(message, "table 'datafusion.", "'")
        .map(|name| name.strip_prefix("public.").unwrap_or(name))
        .or_else(|| message.strip_suffix(" not found").and_then(|rest| between(rest, "table '", "'")))
        .or_else(|| between(message, "Unsupported compound identifier '", "'"))
        .or_else(|| message.split("Invalid qualifier ").nth(1));
    if let Some(name) = table {
        let bare = name.rsplit('.').next().unwrap_or(name);
        let tables = known.tables.join(", ");
        let unknown = mistake(format!("unknown table '{name}'"), None, None).on(bare);
        return Some(match crate::job::nearest(bare, known.tables.iter().copied()) {
            Some(near) => unknown.help(format!("did you mean '{near}'?")),
            None if known.tables.is_empty() => unknown,
            None => unknown.help(format!("the tables are: {tables}")),
        });
    }
    let name = message.split("Unsupported SQL type ").nth(1)?;
    let unknown = mistake(format!("unknown type '{name}'"), None, None).on(name);
    Some(match crate::job::nearest_type(name) {
        Some(near) => unknown.help(format!("did you mean {near}?")),
        None => unknown,
    })
}

/// A mistake in how clauses go together.
pub(super) fn of_clauses(message: &str, syntax: &Syntax, known: &Known<'_>) -> Option<Mistake> {
    aggregates(message, syntax, known).or_else(|| groups(message, syntax)).or_else(|| lists(message, syntax))
}

fn aggregates(message: &str, syntax: &Syntax, known: &Known<'_>) -> Option<Mistake> {
    let aggregate = |expr: &Expr| function_name(expr).is_some_and(|name| (known.is_aggregate)(&name));
    let in_clause = |clause: Clause| {
        let roots = syntax.scopes.iter().flat_map(|scope| &scope.roots).filter(move |(found, _)| *found == clause);
        roots.flat_map(|(_, root)| inside(root, &aggregate)).next()
    };
    if message.contains("not allowed in the WHERE clause") {
        let call = in_clause(Clause::Where)?;
        let why = "WHERE filters rows before they are grouped";
        let help = format!("filter the groups: HAVING ... {call} ... behind GROUP BY");
        return Some(mistake(format!("{call} cannot stand in WHERE"), Some(why), Some(&help)).at(place(&call)));
    }
    if message.contains("calls cannot be nested") {
        let calls = syntax.scopes.iter().flat_map(|scope| &scope.roots).flat_map(|(_, root)| inside(root, &aggregate));
        let (outer, inner) = calls
            .filter_map(|outer| inside(&outer, &aggregate).into_iter().nth(1).map(|inner| (outer, inner)))
            .next()?;
        let why = format!("{}() cannot take the result of an aggregate", function_name(&outer)?);
        let help = "write the inner result to a sink of its own, and aggregate that";
        return Some(
            mistake(format!("{inner} stands inside another aggregate"), Some(&why), Some(help)).at(place(&inner)),
        );
    }
    if message.contains("to grouping function is not in grouping columns") {
        let grouping = |expr: &Expr| function_name(expr).is_some_and(|name| name == "grouping");
        let call =
            syntax.scopes.iter().flat_map(|scope| &scope.roots).flat_map(|(_, root)| inside(root, &grouping)).next()?;
        return Some(mistake("grouping() takes group keys", None, Some("name a key of GROUP BY")).at(place(&call)));
    }
    // whatever the engine says of it
    let call = in_clause(Clause::GroupBy)?;
    let why = "a group key is computed from one row, an aggregate from all rows of a group";
    let help = "leave it out of GROUP BY";
    Some(mistake(format!("{call} cannot be a group key"), Some(why), Some(help)).at(place(&call)))
}

fn groups(message: &str, syntax: &Syntax) -> Option<Mistake> {
    if message.contains("HAVING clause references") {
        let scope =
            syntax.scopes.iter().find(|scope| scope.roots.iter().any(|(clause, _)| *clause == Clause::Having))?;
        if scope.groups.is_empty() {
            let help = "filter rows with WHERE, or group them with GROUP BY";
            return Some(
                mistake("HAVING without groups", Some("HAVING filters groups, and this query has none"), Some(help))
                    .on("having"),
            );
        }
        let help = "filter rows with WHERE; or add the column to GROUP BY, or take max(...) of it";
        let why = "HAVING filters groups, which have one value of each key and of each aggregate only";
        return Some(mistake("HAVING uses a column that is no group key", Some(why), Some(help)).on("having"));
    }
    if !message.contains("must appear in the GROUP BY clause") {
        return None;
    }
    let column = between(message, "column \"", "\"")?;
    let bare = column.rsplit('.').next().unwrap_or(column);
    let why = "a group has one value of each key, and of each aggregate";
    let star = syntax.scopes.iter().find_map(|scope| scope.wildcard);
    if star.is_some() {
        let what = format!("* stands for columns that are no group keys: '{bare}'");
        let help = "name the columns, each of them in GROUP BY or in an aggregate such as max(...)";
        return Some(mistake(what, Some(why), Some(help)).at(star));
    }
    let help = format!("add it to GROUP BY, or take max({bare}), first_value({bare}) and the like");
    Some(mistake(format!("column '{bare}' is no group key"), Some(why), Some(&help)).on(bare))
}

fn lists(message: &str, syntax: &Syntax) -> Option<Mistake> {
    if let Some(rest) = message.split("Cannot find column with position ").nth(1) {
        let (position, max) = (rest.split(' ').next()?, rest.rsplit(' ').next()?);
        return Some(position_beyond("GROUP BY", position, max, Clause::GroupBy, syntax));
    }
    if let Some(position) = between(message, "Order by column out of bounds, specified: ", ",") {
        let max = message.rsplit(' ').next()?;
        return Some(position_beyond("ORDER BY", position, max, Clause::OrderBy, syntax));
    }
    if message.contains("require unique expression names") {
        let position: usize = message.rsplit(" at position ").next()?.split(' ').next()?.parse().ok()?;
        let place = syntax.scopes.iter().find_map(|scope| *scope.items.get(position)?);
        let help = "give one of them a name of its own: ... AS name";
        return Some(mistake("two columns of the result have the same name", None, Some(help)).at(place));
    }
    for (mark, what, help, word) in [
        (
            "different number of columns",
            "the queries of a UNION have different numbers of columns",
            "select as many in each",
            "union",
        ),
        ("This feature is not implemented: TOP", "TOP is not known here", "write LIMIT behind the query", "top"),
        ("FETCH clause is not supported", "FETCH is not known here", "write LIMIT behind the query", "fetch"),
        ("has no type information", "a job has no parameters", "write ${NAME}, which --set NAME=VALUE fills", "select"),
    ] {
        if message.contains(mark) {
            return Some(Mistake { word_is_closer: true, ..mistake(what, None, Some(help)).on(word) });
        }
    }
    None
}

fn position_beyond(what: &str, position: &str, max: &str, clause: Clause, syntax: &Syntax) -> Mistake {
    let is_it = |(found, root): &&(Clause, Expr)| {
        let number = match root {
            Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => number.to_string(),
            _ => return false,
        };
        *found == clause && number == position
    };
    let root = syntax.scopes.iter().flat_map(|scope| &scope.roots).find(is_it);
    let columns = if max == "1" { "1 column".to_owned() } else { format!("{max} columns") };
    let help = format!("write a number from 1 to {max}, or the column's name");
    mistake(format!("{what} {position}: the query has {columns}"), None, Some(&help))
        .at(root.and_then(|(_, root)| place(root)))
}

/// A filter that is no condition: its text and where it stands.
pub(super) fn condition(message: &str, syntax: &Syntax) -> Option<(String, Option<Location>, &'static str)> {
    if !message.contains("non-boolean predicate") {
        return None;
    }
    let condition = |scope: &Scope| {
        let mut roots = scope.roots.iter();
        let (clause, root) = roots.find(|(clause, _)| matches!(clause, Clause::Where | Clause::Having))?;
        Some((root.to_string(), place(root), if *clause == Clause::Where { "WHERE" } else { "HAVING" }))
    };
    syntax.scopes.iter().find_map(condition)
}
