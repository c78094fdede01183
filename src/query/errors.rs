//! DataFusion's errors, told to the operator with a place in the job file.

use datafusion::{common::SchemaError, error::DataFusionError};

use super::classify::Refusal;
use crate::{
    job::{At, JobSpec, nearest},
    model::{Error, Result},
};

/// The SQL that was being planned.
#[derive(Clone, Copy)]
pub(super) struct Planning<'a> {
    pub job: &'a JobSpec,
    pub sql: &'a str,
    pub at: At,
    /// Names of all functions, for suggestions.
    pub functions: &'a [String],
}

impl Planning<'_> {
    /// A planning error: of kind `Usage`, pointing at the word that is wrong where there is one.
    pub fn error(&self, error: &DataFusionError) -> Error {
        let root = root(error);
        if let DataFusionError::SchemaError(schema_error, _) = root
            && let Some(error) = self.schema_error(schema_error)
        {
            return error;
        }
        let text = root.strip_backtrace();
        if let Some(name) = between(&text, "Invalid function '", "'") {
            let error = Error::usage(format!("unknown function '{name}'")).at(self.place(Some(&name)));
            return with_nearest(error, nearest(&name, self.functions.iter().map(String::as_str)));
        }
        if let Some(name) = between(&text, "table 'datafusion.public.", "'") {
            let tables = self.job.sources.iter().map(|source| source.name.as_str());
            let views = self.job.views.iter().map(|view| view.name.as_str());
            let error = Error::usage(format!("unknown table '{name}'")).at(self.place(Some(&name)));
            return with_nearest(error, nearest(&name, tables.chain(views)));
        }
        Error::usage("this query cannot be planned").at(self.place(None)).because(first_line(&text))
    }

    fn schema_error(&self, error: &SchemaError) -> Option<Error> {
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let candidates = valid_fields.iter().map(|field| field.name());
                let error = Error::usage(format!("unknown column '{}'", field.name)).at(self.place(Some(&field.name)));
                Some(with_nearest(error, nearest(&field.name, candidates)))
            }
            SchemaError::AmbiguousReference { field } => Some(
                Error::usage(format!("column '{}' is ambiguous", field.name))
                    .at(self.place(Some(&field.name)))
                    .help("write it with its table: table.column"),
            ),
            _ => None,
        }
    }

    /// A query that cannot be run incrementally.
    pub fn refusal(&self, query: &str, refusal: &Refusal) -> Error {
        Error::usage(format!("query '{query}' cannot run as a stream"))
            .at(self.place(refusal.word.as_deref()))
            .because(&refusal.reason)
            .help(&refusal.way_out)
    }

    fn place(&self, word: Option<&str>) -> crate::model::Place {
        let found = word.and_then(|word| JobSpec::find_token(self.sql, self.at, word));
        self.job.place(found.unwrap_or(self.at))
    }
}

fn with_nearest(error: Error, nearest: Option<String>) -> Error {
    match nearest {
        Some(name) => error.help(format!("did you mean '{name}'?")),
        None => error,
    }
}

/// A run-time error of DataFusion; one of ours that passed through it comes out as it was.
pub(super) fn running(query: &str, error: DataFusionError) -> Error {
    match into_ours(error) {
        Ok(ours) => ours,
        Err(other) => {
            Error::failed(format!("query '{query}' failed")).because(first_line(&root(&other).strip_backtrace()))
        }
    }
}

fn into_ours(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => Ok(*ours),
            Err(inner) => Err(DataFusionError::External(inner)),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => into_ours(*inner),
        other => Err(other),
    }
}

fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        other => other,
    }
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let rest = &text[text.find(start)? + start.len()..];
    Some(rest[..rest.find(end)?].to_owned())
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let known = ["Error during planning: ", "Execution error: ", "Arrow error: ", "This feature is not implemented: "];
    known.iter().fold(line, |line, prefix| line.strip_prefix(prefix).unwrap_or(line)).to_owned()
}
