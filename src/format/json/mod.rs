//! Newline-delimited JSON, read as Spark reads it, and stricter where Spark guesses.
//!
//! A scanner of our own goes from bytes to Arrow: it predicts the order of keys from the record before, and
//! keeps only where the wanted values are. Whatever is projected, each line is validated to its end and every
//! declared column is type-checked, so that a bad record is bad in every query.
//!
//! Decided here:
//! - Strict RFC 8259, as `serde_json`: no control characters in strings, no halves of surrogate pairs, no
//!   comments, no `NaN`. Numbers beyond a type's range are field errors, `STRING` takes them as written.
//! - The last of equal keys wins; a key spelled as declared wins over one that differs in case.
//! - `TIMESTAMP` numbers are seconds, cut down to the microsecond; `DECIMAL` rounds half away from zero.
//! - Depth counts from 1 for the outermost object or array. A line longer than the limit gives only as much of its
//!   raw text as the limit allows; no line may exceed 512 MiB, whatever the limit.
//! - `STRUCT`, `ARRAY`, `MAP`: see `nested`.
//! - A field error or malformed element makes an array's whole line one bad record; `[]` is no record.
//! - Results, bad records and the limits of batches are a function of the bytes, not of the thread count.

mod columns;
mod escape;
mod filler;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod keys;
mod nested;
mod path;
#[cfg(test)]
mod properties;
mod record;
#[cfg(any(test, feature = "fuzz"))]
mod reference;
mod scan;
#[cfg(test)]
mod tests;
mod value;
mod worker;

use datafusion::arrow::{
    array::ArrayRef,
    datatypes::{DataType, Schema, TimeUnit},
};

use self::scan::{Shape, Token};
pub(super) use self::{
    columns::Column,
    filler::Filler,
    keys::KeyTable,
    nested::type_name,
    value::{Kind, Parsed, TIMES},
    worker::Worker,
};
pub use path::Path;

use crate::model::{Error, Result};

/// The one kind of time stamp: microseconds, UTC.
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// What a reader of JSON knows beyond its columns.
#[derive(Debug)]
pub(super) struct Json {
    keys: KeyTable,
    depth_max: usize,
}

impl Json {
    /// `schema`: all declared columns.
    pub fn new(schema: &Schema, depth_max: usize) -> Json {
        Json { keys: KeyTable::new(schema.fields().iter().map(|field| field.name().as_str())), depth_max }
    }
}

/// One value of a column's type for all rows of a file: what its path says.
#[derive(Debug, Clone)]
pub struct Constant {
    data_type: DataType,
    value: Parsed,
    text: String,
}

impl Constant {
    /// The null of a type.
    pub fn null(data_type: &DataType) -> Constant {
        Constant { data_type: data_type.clone(), value: Parsed::Null, text: String::new() }
    }

    /// Text as it is.
    pub fn text(text: &str) -> Constant {
        Constant { data_type: DataType::Utf8, value: Parsed::Text, text: text.to_owned() }
    }

    /// From plain text: numbers (`07` too), `true`, `2026-01-31`, ...
    ///
    /// # Errors
    /// Says that the text is not of the type.
    pub fn parse(data_type: &DataType, text: &str) -> Result<Constant, String> {
        let kind = Kind::of(data_type);
        let value = kind.parse_plain(text).ok_or_else(|| format!("'{text}' is not a {}", kind.sql_name()))?;
        Ok(Constant { data_type: data_type.clone(), value, text: text.to_owned() })
    }

    /// The value `rows` times.
    ///
    /// # Errors
    /// Where Arrow refuses the column.
    pub fn array(&self, rows: usize) -> Result<ArrayRef> {
        let token = Token::new(Shape::Text, 0, self.text.len());
        let mut column = Column::new(&self.data_type, rows);
        for _ in 0..rows {
            column.push(&self.value, &token, self.text.as_bytes());
        }
        column
            .finish(0)
            .map_err(|error| Error::failed("cannot build a column from a folder's name").because(error.to_string()))
    }
}
