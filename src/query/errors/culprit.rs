//! The part of a query that an error is about, found by trying.
//!
//! The engine's errors seldom say where in the text they arise. So the query's expressions are tried one by one, from
//! the outside in: the smallest one that fails in the same way is what the error is about.

use datafusion::{
    arrow::datatypes::DataType,
    sql::sqlparser::{
        ast::{
            BinaryOperator, CastKind, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value,
            ValueWithSpan, helpers::attached_token::AttachedToken,
        },
        tokenizer::Location,
    },
};

use super::{
    syntax::{Clause, Scope, Syntax, children, inside, place},
    words::{Misfit, between, plain, type_name},
};

/// What is asked of the engine.
pub(super) struct Trial<'a> {
    /// Whether a query fails as the one that is looked into did.
    pub fails: &'a dyn Fn(&str) -> bool,
    /// The type of the first column of a query; `None` where it cannot be planned.
    pub type_of: &'a dyn Fn(&str) -> Option<DataType>,
    /// Whether a function is an aggregate.
    pub is_aggregate: &'a dyn Fn(&str) -> bool,
}

/// The smallest expression that fails.
pub(super) struct Culprit<'a> {
    pub expr: Expr,
    /// Whether it goes into an aggregate or a group key, and so into state.
    pub in_state: bool,
    scope: &'a Scope,
    with: &'a str,
}

/// What is wrong, and the way out; `at`: where, if that is told more closely than by the expression itself.
#[derive(Debug, Default)]
pub(super) struct Explained {
    pub what: String,
    pub why: Option<String>,
    pub help: Option<String>,
    pub at: Option<Location>,
}

pub(super) fn find<'a>(syntax: &'a Syntax, trial: &Trial<'_>) -> Option<Culprit<'a>> {
    for scope in &syntax.scopes {
        // a CTE cannot be tried with itself in front; what reads one cannot without
        for with in ["", syntax.with.as_str()] {
            if !(trial.fails)(&format!("{with}SELECT 1 AS one{}", scope.from))
                && let Some(culprit) = in_scope(scope, with, trial)
            {
                return Some(culprit);
            }
        }
    }
    None
}

fn in_scope<'a>(scope: &'a Scope, with: &'a str, trial: &Trial<'_>) -> Option<Culprit<'a>> {
    let aggregate = |expr: &Expr| function_name(expr).is_some_and(|name| (trial.is_aggregate)(&name));
    let fails = |expr: &Expr, clause: Clause| {
        let filter = if clause == Clause::Where { "" } else { &scope.filter };
        let groups = if inside(expr, &aggregate).is_empty() { "" } else { &scope.groups };
        (trial.fails)(&format!("{with}SELECT {expr}{}{filter}{groups}", scope.from))
    };
    let (clause, root) = scope.roots.iter().find(|(clause, root)| fails(root, *clause))?;
    let (clause, mut expr) = (*clause, root.clone());
    let mut in_state = clause == Clause::GroupBy;
    while let Some(child) = children(&expr).into_iter().find(|child| fails(child, clause)) {
        in_state |= aggregate(&expr);
        expr = child;
    }
    Some(Culprit { expr, in_state, scope, with })
}

/// The name of a call's function, in lower case.
pub(super) fn function_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Function(function) => Some(function.name.to_string().to_ascii_lowercase()),
        _ => None,
    }
}

impl Culprit<'_> {
    /// Whether it takes anything from the input: else it fails on whatever is read.
    pub fn reads_data(&self, trial: &Trial<'_>) -> bool {
        let reads = |expr: &Expr| match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Subquery(_) => true,
            call => function_name(call).is_some_and(|name| (trial.is_aggregate)(&name)),
        };
        !inside(&self.expr, &reads).is_empty()
    }

    /// What is wrong with it, in the words of job files; `message` is the engine's.
    pub fn explain(&self, message: &str, trial: &Trial<'_>) -> Explained {
        if let Some(why) = said_by_ours(message) {
            let what = format!("{} cannot be computed", self.expr);
            return Explained { what, why: Some(why.to_owned()), ..Explained::default() };
        }
        Misfit::read(message)
            .map(|misfit| self.misfit(&misfit, trial))
            .or_else(|| self.by_kind(message, trial))
            .unwrap_or_else(|| Explained {
                what: format!("{} cannot be computed", self.expr),
                why: plain(message),
                ..Explained::default()
            })
    }

    fn type_of(&self, expr: &Expr, trial: &Trial<'_>) -> Option<DataType> {
        (trial.type_of)(&format!("{}SELECT {expr}{}", self.with, self.scope.from))
    }

    fn type_name(&self, expr: &Expr, trial: &Trial<'_>) -> String {
        self.type_of(expr, trial).map_or_else(|| "value of an unknown type".to_owned(), |found| type_name(&found))
    }

    /// A literal that is no value of the type that is wanted.
    fn misfit(&self, misfit: &Misfit, trial: &Trial<'_>) -> Explained {
        let is_literal = |expr: &Expr| match expr {
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => *text == misfit.value,
            _ => false,
        };
        let literal = inside(&self.expr, &is_literal).into_iter().next();
        let other = children(&self.expr).into_iter().find(|child| matches!(child, Expr::Identifier(_)));
        let why = other.as_ref().map(|other| format!("{other} is a {}", self.type_name(other, trial)));
        let help = match (misfit.target.as_str(), &other) {
            ("TIMESTAMP", _) => "for instance '2024-01-31 12:00:00'".to_owned(),
            ("DATE", _) => "for instance '2024-01-31'".to_owned(),
            ("INTERVAL", _) => "for instance INTERVAL '1 hour'".to_owned(),
            ("BOOLEAN", _) => "write true or false".to_owned(),
            (_, Some(other)) => {
                format!("compare it with a number, without quotes; or compare text: CAST({other} AS STRING)")
            }
            (_, None) => "write a number, without quotes".to_owned(),
        };
        Explained { what: misfit.what(), why, help: Some(help), at: literal.as_ref().and_then(place) }
    }

    fn by_kind(&self, message: &str, trial: &Trial<'_>) -> Option<Explained> {
        let name = |expr: &Expr| self.type_name(expr, trial);
        let told = |what: String, help: Option<&str>| {
            Some(Explained { what, help: help.map(str::to_owned), ..Explained::default() })
        };
        match &self.expr {
            Expr::BinaryOp { left, op, right } => Some(self.binary(left, op, right, trial)),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                told(format!("NOT takes a BOOLEAN, and {expr} is a {}", name(expr)), Some("compare it with a value"))
            }
            Expr::UnaryOp { op, expr } => told(format!("{op} takes a number, and {expr} is a {}", name(expr)), None),
            Expr::Like { expr, pattern, .. } | Expr::ILike { expr, pattern, .. } => told(
                format!("LIKE takes STRINGs, and this is a {} and a {}", name(expr), name(pattern)),
                Some("write the pattern in single quotes, and CAST(... AS STRING) what is no text"),
            ),
            Expr::InList { expr, .. } | Expr::Between { expr, .. } => told(
                format!("{expr} is a {}, and is compared with values of other types", name(expr)),
                Some("write values of one type, or convert with CAST"),
            ),
            Expr::CompoundIdentifier(parts) => {
                let column = parts.first()?;
                let column_type = name(&Expr::Identifier(column.clone()));
                told(format!("column '{}' is a {column_type} and has no fields", column.value), None)
            }
            Expr::CompoundFieldAccess { root, .. } => told(
                format!("[...] cannot be used on {root}, which is a {}", name(root)),
                Some("columns have no fields or elements: select it whole"),
            ),
            Expr::Function(function) => self.call(&function.name.to_string(), &arguments(&self.expr), message, trial),
            Expr::Substring { .. } => {
                told("substr() takes 2 or 3 arguments, not 1".to_owned(), Some("substr(text, from, length)"))
            }
            _ => None,
        }
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr, trial: &Trial<'_>) -> Explained {
        let types = [left, right].map(|expr| self.type_of(expr, trial));
        let [left_name, right_name] = [left, right].map(|expr| self.type_name(expr, trial));
        let is = |wanted: fn(&DataType) -> bool| types.each_ref().map(|found| found.as_ref().is_some_and(wanted));
        let (time, number) = (is(DataType::is_temporal), is(DataType::is_numeric));
        let text = is(|found| matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View));
        let help = match op {
            BinaryOperator::Plus | BinaryOperator::Minus if time[0] && number[1] => {
                format!("write how much of what: {left} {op} INTERVAL '{right} seconds'")
            }
            BinaryOperator::Plus if text == [true, true] => format!("|| joins text: {left} || {right}"),
            _ if text[0] || text[1] => "TRY_CAST(... AS DOUBLE) makes a number of text".to_owned(),
            _ => "convert one side with CAST".to_owned(),
        };
        Explained {
            what: format!("{op} does not go with {left_name} and {right_name}"),
            help: Some(help),
            ..Explained::default()
        }
    }

    /// A function that takes other arguments.
    fn call(&self, name: &str, arguments: &[Expr], message: &str, trial: &Trial<'_>) -> Option<Explained> {
        let given = arguments.len();
        let mut counts: Vec<usize> = message
            .match_indices(" expects ")
            .filter_map(|(at, _)| between(&message[at..], " expects ", " argument"))
            .chain(between(message, "signature Uniform(", ","))
            .filter_map(|count| count.parse().ok())
            .filter(|count| *count != given)
            .collect();
        counts.sort_unstable();
        counts.dedup();
        if let Some(last) = counts.pop() {
            let noun = if last == 1 { "argument" } else { "arguments" };
            let counts: Vec<String> = counts.iter().map(|count| format!("{count} or ")).collect();
            let what = format!("{name}() takes {}{last} {noun}, not {given}", counts.concat());
            return Some(Explained { what, ..Explained::default() });
        }
        if given == 0 {
            return Some(Explained {
                what: format!("{name}() takes an argument, and here is none"),
                ..Explained::default()
            });
        }
        let types: Vec<String> = arguments.iter().map(|argument| self.type_name(argument, trial)).collect();
        let text = arguments.iter().zip(&types).find(|(_, found)| *found == "STRING");
        let wanted = wanted(message);
        let number = wanted.contains(&"a number");
        let help = match text {
            Some((argument, _)) if number => {
                let tried = Expr::to_string(&self.expr).replacen(
                    &argument.to_string(),
                    &format!("TRY_CAST({argument} AS DOUBLE)"),
                    1,
                );
                Some(format!("make a number of it: {tried}"))
            }
            _ => None,
        };
        let why = (!wanted.is_empty()).then(|| format!("it takes {}", wanted.join(" or ")));
        let articles: Vec<String> = types.iter().map(|found| format!("a {found}")).collect();
        let what = if arguments.iter().any(|argument| matches!(argument, Expr::Wildcard(_))) {
            format!("{name}() does not take *")
        } else {
            format!("{name}() does not take {}", articles.join(" and "))
        };
        Some(Explained { what, why, help, at: None })
    }

    /// What gives null, or another value, in place of stopping the job.
    pub fn way_out(&self) -> Option<String> {
        match &self.expr {
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, .. } => {
                Some(format!("TRY_CAST({expr} AS {data_type}) gives null where there is no such value"))
            }
            Expr::BinaryOp { left, op: op @ (BinaryOperator::Divide | BinaryOperator::Modulo), right } => {
                let right = match right.as_ref() {
                    Expr::Value(_) => return Some("divide by something else".to_owned()),
                    Expr::Nested(inner) => inner,
                    other => other,
                };
                Some(format!("{left} {op} NULLIF({right}, 0) gives null where the divisor is zero"))
            }
            _ => None,
        }
    }
}

/// What a function takes, as its errors list it.
fn wanted(message: &str) -> Vec<&'static str> {
    let mut wanted = Vec::new();
    for start in [" requires ", " expects "] {
        for (at, _) in message.match_indices(start) {
            let word = message[at + start.len()..].split([',', ' ']).next().unwrap_or_default();
            wanted.push(match word {
                "Numeric" | "Decimal" | "UInt64" | "Int64" | "Float64" | "Integer" | "Float" => "a number",
                "Interval" | "Duration" => "an INTERVAL",
                "Timestamp" => "a TIMESTAMP",
                "Date" => "a DATE",
                "String" => "a STRING",
                "Boolean" => "a BOOLEAN",
                _ => continue,
            });
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    wanted.retain(|word| seen.insert(*word));
    wanted
}

/// A call's arguments; one that has a name or is no expression counts as `*`.
fn arguments(call: &Expr) -> Vec<Expr> {
    let Expr::Function(function) = call else { return Vec::new() };
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let star = || Expr::Wildcard(AttachedToken::empty());
    let argument = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => expr.clone(),
        _ => star(),
    };
    list.args.iter().map(argument).collect()
}

/// What a function of ours says of a constant argument: it needs no other words.
fn said_by_ours(message: &str) -> Option<&str> {
    let at = ["parse_url() ", "get_json_object(): "].iter().find_map(|name| message.find(name))?;
    message[at..].lines().next()
}
