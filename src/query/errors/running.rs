//! Errors on the data, told to the operator: which value, which expression, and the way out.

use datafusion::{arrow::error::ArrowError, error::DataFusionError};

use super::{
    root,
    words::{Misfit, plain},
};
use crate::model::{Error, Result};

/// A run-time error of DataFusion; one of ours that passed through it comes out as it was.
///
/// Of kind `Data` where an expression cannot be computed with a value of the input: the same input fails again,
/// until it or the query is mended. All else is `Failed`.
pub(in crate::query) fn running(query: &str, error: DataFusionError) -> Error {
    match into_ours(error) {
        Ok(ours) => ours,
        Err(other) => {
            let root = root(&other);
            let why = reason(&root.strip_backtrace());
            if is_of_data(root) {
                Error::data(format!("query '{query}' cannot be computed over this input"))
                    .because(why.unwrap_or_else(|| "an expression fails on a value".to_owned()))
                    .help("guard the expression with TRY_CAST, NULLIF or CASE, or mend the input")
            } else {
                Error::failed(format!("query '{query}' failed"))
                    .because(why.unwrap_or_else(|| "the query engine failed inside".to_owned()))
            }
        }
    }
}

/// Why, in words of job files.
fn reason(text: &str) -> Option<String> {
    if let Some(misfit) = Misfit::read(text) {
        return Some(misfit.what());
    }
    if text.contains("Divide by zero") {
        return Some("it divides by zero".to_owned());
    }
    plain(text)
}

/// Whether it is a value of the input that an expression fails on.
fn is_of_data(root: &DataFusionError) -> bool {
    match root {
        DataFusionError::Execution(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(
            error.as_ref(),
            ArrowError::CastError(_)
                | ArrowError::ParseError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::InvalidArgumentError(_)
                | ArrowError::DivideByZero
                | ArrowError::ArithmeticOverflow(_)
        ),
        _ => false,
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
