//! DataFusion's errors, told to the operator: in the words of job files, with a place in the job file.
//!
//! - [`words`]: the engine's words turned into ours; what speaks of its inside is never shown
//! - [`syntax`]: the query's text as a tree; [`culprit`]: the smallest expression of it that fails
//! - [`planning`]: mistakes of names and clauses; [`running`]: expressions that fail on the data

mod culprit;
mod planning;
mod running;
mod syntax;
mod words;

use std::collections::BTreeSet;

use datafusion::{
    arrow::datatypes::DataType,
    common::SchemaError,
    error::DataFusionError,
    logical_expr::LogicalPlan,
    physical_plan::collect,
    prelude::SessionContext,
    sql::sqlparser::{
        ast::{CastKind, Expr},
        tokenizer::Location,
    },
};
use tokio::runtime::Runtime;

pub(super) use self::running::running;
use self::{
    culprit::{Explained, Trial},
    planning::{Known, Mistake},
    syntax::Syntax,
};
use super::classify::Refusal;
use crate::{
    job::{At, JobSpec, nearest, place_in},
    model::{Error, ErrorKind, Place},
};

/// The names of functions, for suggestions.
#[derive(Debug)]
pub(super) struct Functions {
    /// All of them, in order.
    pub all: Vec<String>,
    pub aggregates: BTreeSet<String>,
}

impl Functions {
    pub fn of(context: &SessionContext) -> Functions {
        let state = context.state();
        let aggregates: BTreeSet<String> = state.aggregate_functions().keys().cloned().collect();
        let all: BTreeSet<String> = state.scalar_functions().keys().chain(&aggregates).cloned().collect();
        Functions { all: all.into_iter().collect(), aggregates }
    }
}

/// What a query that failed on the data can be followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing is kept: it is run again from the start.
    Nothing,
    /// It goes on behind the newest commit, and may be changed before.
    Stateless,
    /// It goes on from the state of the newest commit, and what makes up the state may not be changed.
    Stateful,
}

impl After {
    /// `in_state`: the expression goes into state.
    fn help(self, way_out: &str, in_state: bool) -> String {
        match (self, in_state) {
            (After::Nothing, _) => format!("{way_out}; or mend the input"),
            (_, false) => format!(
                "{way_out}: change the query and run with --accept-change, or mend the input and run again; nothing committed is lost"
            ),
            (_, true) => format!(
                "mend the input and run again, nothing committed is lost; or, in a new checkpoint, since this goes into state: {way_out}"
            ),
        }
    }
}

/// The SQL that was being planned or run, and the engine to ask about it.
pub(super) struct Planning<'a> {
    /// The text that errors show lines of, under its name; `sql` stands in it at `at`.
    pub file: &'a str,
    pub text: &'a str,
    pub sql: &'a str,
    pub at: At,
    /// Names of all tables and views.
    pub tables: Vec<&'a str>,
    pub functions: &'a Functions,
    pub runtime: &'a Runtime,
    pub context: &'a SessionContext,
}

impl Planning<'_> {
    /// A planning error: of kind `Usage`, pointing at the part of the query that is wrong.
    pub fn error(&self, error: &DataFusionError) -> Error {
        let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let span = span.map(|span| Location { line: span.start.line, column: span.start.column });
        let root = root(error);
        let syntax = Syntax::parse(self.sql);
        if let DataFusionError::SchemaError(schema_error, _) = root
            && let Some(error) = self.schema_error(schema_error, span, &syntax)
        {
            return error;
        }
        let message = root.strip_backtrace();
        tracing::debug!("the engine refuses the query: {message}");
        let is_aggregate = |name: &str| self.functions.aggregates.contains(name);
        let known = Known { functions: &self.functions.all, tables: &self.tables, is_aggregate: &is_aggregate };
        let known_mistake =
            planning::of_names(&message, &known).or_else(|| planning::of_clauses(&message, &syntax, &known));
        if let Some(Mistake { explained, word, word_is_closer }) = known_mistake {
            let place = self.place(explained.at.or(span.filter(|_| !word_is_closer)), word.as_deref());
            return told(explained, place);
        }
        let plan_fails = |sql: &str| self.plan(sql).err().map(|error| self::root(&error).strip_backtrace());
        let trial = Trial {
            fails: &|sql| plan_fails(sql).as_deref() == Some(&message),
            type_of: &|sql| self.type_of(sql),
            is_aggregate: &is_aggregate,
        };
        if let Some((text, at, clause)) = planning::condition(&message, &syntax) {
            let scope = syntax.scopes.first().map_or("", |scope| scope.from.as_str());
            let found = self.type_of(&format!("{}SELECT {text}{scope}", syntax.with));
            let found = found.map_or("no condition".to_owned(), |found| format!("a {}", words::type_name(&found)));
            let error = Error::usage(format!("{clause} takes a condition, and {text} is {found}"));
            return error.at(self.place(at, Some(clause))).help("compare it with a value");
        }
        if let Some(culprit) = culprit::find(&syntax, &trial) {
            let explained = culprit.explain(&message, &trial);
            let place = match explained.at {
                Some(at) => self.place(Some(at), None),
                None => self.place_of(&culprit.expr),
            };
            return told(explained, place);
        }
        let error = Error::usage("this query cannot be planned").at(self.place(span, None));
        match words::plain(&message) {
            Some(why) => error.because(why),
            None => error.help("take parts of it away until it can be planned: the part taken last is what is wrong"),
        }
    }

    /// An expression that failed on the data, as [`running()`] told it: with the expression, its place and the way out.
    pub fn failed_on_data(&self, name: &str, after: After, error: Error) -> Error {
        if error.kind() != ErrorKind::Data || error.place().is_some() {
            return error;
        }
        let why = error.why().map(str::to_owned);
        let fails = |sql: &str| match self.run(sql) {
            Err(other) => running(name, other).why() == why.as_deref(),
            Ok(()) => false,
        };
        let trial = Trial {
            fails: &fails,
            type_of: &|sql| self.type_of(sql),
            is_aggregate: &|function| self.functions.aggregates.contains(function),
        };
        let syntax = Syntax::parse(self.sql);
        let Some(culprit) = culprit::find(&syntax, &trial) else {
            return error
                .help(after.help("guard the expression with TRY_CAST, NULLIF or CASE", after == After::Stateful));
        };
        let what = format!("query '{name}' cannot compute {}", culprit.expr);
        let way_out = culprit.way_out();
        let way_out = way_out.as_deref().unwrap_or("guard it with CASE, or filter such rows with WHERE");
        let (told, help) = if culprit.reads_data(&trial) {
            (Error::data(what), after.help(way_out, after == After::Stateful && culprit.in_state))
        } else {
            (Error::usage(what), way_out.to_owned())
        };
        told.at(self.place_of(&culprit.expr)).because(why.unwrap_or_default()).help(help)
    }

    fn schema_error(&self, error: &SchemaError, span: Option<Location>, syntax: &Syntax) -> Option<Error> {
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let span = span.or_else(|| syntax.name(&field.name));
                let place = self.place(span, Some(&field.name));
                let tables: BTreeSet<&str> =
                    valid_fields.iter().filter_map(|field| Some(field.relation.as_ref()?.table())).collect();
                if let Some(table) = field.relation.as_ref().map(|relation| relation.table())
                    && !tables.contains(table)
                {
                    let tables: Vec<&str> = tables.into_iter().collect();
                    let error = Error::usage(format!("unknown table '{table}'")).at(place);
                    return Some(match nearest(table, tables.iter().copied()) {
                        Some(near) => error.help(format!("did you mean '{near}'?")),
                        None => error.help(format!("this query reads {}", tables.join(", "))),
                    });
                }
                let error = Error::usage(format!("unknown column '{}'", field.name)).at(place);
                let known: Vec<&str> = valid_fields.iter().map(|field| field.name()).collect();
                Some(error.help(column_help(&field.name, &known, syntax, self.is_quoted(span))))
            }
            SchemaError::AmbiguousReference { field } => Some(
                Error::usage(format!("column '{}' is ambiguous", field.name))
                    .at(self.place(span, Some(&field.name)))
                    .help("write it with its table: table.column"),
            ),
            _ => None,
        }
    }

    /// A query that cannot be run incrementally.
    pub fn refusal(&self, query: &str, refusal: &Refusal) -> Error {
        Error::usage(format!("query '{query}' cannot run as a stream"))
            .at(self.place(None, refusal.word.as_deref()))
            .because(&refusal.reason)
            .help(&refusal.way_out)
    }

    /// Refuses what the engine would take and leave out, or take for something else.
    pub fn check_nothing_ignored(&self) -> Result<(), Error> {
        let syntax = Syntax::parse(self.sql);
        if let Some(expr) = &syntax.swallowed {
            return Err(Error::usage("IS DISTINCT FROM stands before AND or OR without parentheses")
                .at(self.place_of(expr))
                .because("it would be compared with all that follows, not as in standard SQL")
                .help("write (a IS DISTINCT FROM b) AND ..."));
        }
        match syntax.sampled {
            None => Ok(()),
            Some(at) => Err(Error::usage("TABLESAMPLE is not built in")
                .at(self.place(Some(at), Some("tablesample")))
                .because("a sample that is drawn again would give another result")
                .help("filter with WHERE")),
        }
    }

    /// Where a location of the SQL, else the first such word of it, stands in the text.
    fn place(&self, location: Option<Location>, word: Option<&str>) -> Place {
        let located =
            location.map(|location| JobSpec::find_location(self.sql, self.at, location.line, location.column));
        let found = located.or_else(|| JobSpec::find_token(self.sql, self.at, word?));
        place_in(self.file, self.text, found.unwrap_or(self.at))
    }

    /// Where an expression begins. Of `CAST(x ...)` and its kind the parser tells where `x` does.
    fn place_of(&self, expr: &Expr) -> Place {
        let place = syntax::place(expr);
        let is_call = matches!(
            expr,
            Expr::Cast { kind: CastKind::Cast | CastKind::TryCast | CastKind::SafeCast, .. }
                | Expr::Substring { .. }
                | Expr::Extract { .. }
                | Expr::Ceil { .. }
                | Expr::Floor { .. }
                | Expr::Position { .. }
        );
        let Some(location) = place.filter(|_| is_call) else { return self.place(place, None) };
        let at = JobSpec::find_location(self.sql, At(0), location.line, location.column);
        let before = self.sql.get(..at.0).unwrap_or_default().trim_end();
        let name = before.strip_suffix('(').unwrap_or(before).trim_end();
        let start = name.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
        place_in(self.file, self.text, At(self.at.0 + start))
    }

    /// Whether a name stands in double quotes, as some write strings.
    fn is_quoted(&self, location: Option<Location>) -> bool {
        let at = location.map(|location| JobSpec::find_location(self.sql, At(0), location.line, location.column));
        at.is_some_and(|at| self.sql.get(at.0..).is_some_and(|rest| rest.starts_with('"')))
    }

    fn plan(&self, sql: &str) -> Result<LogicalPlan, DataFusionError> {
        let state = self.context.state();
        let plan = self.runtime.block_on(state.create_logical_plan(sql))?;
        state.optimize(&plan)
    }

    /// Plans without the optimizer, which would compute what is to be looked at.
    fn type_of(&self, sql: &str) -> Option<DataType> {
        let plan = self.runtime.block_on(self.context.state().create_logical_plan(sql));
        match plan {
            Ok(plan) => plan.schema().fields().first().map(|field| field.data_type().clone()),
            // a part that cannot stand alone has no type to tell
            Err(_) => None,
        }
    }

    fn run(&self, sql: &str) -> Result<(), DataFusionError> {
        let plan = self.plan(sql)?;
        let state = self.context.state();
        self.runtime.block_on(async {
            let physical = state.query_planner().create_physical_plan(&plan, &state).await?;
            collect(physical, state.task_ctx()).await.map(drop)
        })
    }
}

fn told(explained: Explained, place: Place) -> Error {
    let mut error = Error::usage(explained.what).at(place);
    if let Some(why) = explained.why {
        error = error.because(why);
    }
    match explained.help {
        Some(help) => error.help(help),
        None => error,
    }
}

fn column_help(name: &str, known: &[&str], syntax: &Syntax, is_quoted: bool) -> String {
    const NAMED_MAX: usize = 12;
    if name == "_corrupt_record" {
        return "declare it among the source's columns: _corrupt_record STRING".to_owned();
    }
    if let Some(near) = nearest(name, known.iter().copied()).filter(|near| near != name) {
        return format!("did you mean '{near}'?");
    }
    if syntax.scopes.iter().any(|scope| scope.aliases.iter().any(|alias| alias == name)) {
        return format!("'{name}' is a name that SELECT gives, later than this: repeat the expression here");
    }
    if is_quoted {
        return format!("a string stands in single quotes: '{name}'");
    }
    if known.is_empty() {
        return "no column can stand here".to_owned();
    }
    let mut seen = BTreeSet::new();
    let distinct: Vec<&str> = known.iter().copied().filter(|name| seen.insert(*name)).collect();
    let more = if distinct.len() > NAMED_MAX { ", ..." } else { "" };
    format!("the columns here are: {}{more}", distinct[..distinct.len().min(NAMED_MAX)].join(", "))
}

fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        DataFusionError::Shared(inner) => root(inner),
        other => other,
    }
}
