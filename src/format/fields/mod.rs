//! Lines whose values are plain text: CSV, whole lines, and lines that match a pattern.
//!
//! Decided here:
//! - One record a line, as Spark reads CSV unless told otherwise: a quote that is not closed on its line makes a bad record.
//!   Blank lines are no records, but in `text` they are rows; white space that separates fields is not blank.
//! - Values are written as in a folder's name: numbers as in JSON, leading zeros allowed; `true` and `false`; ISO 8601, or
//!   what `timestamp_format` says. A field that is not of its column's type is null, and its record a bad one.
//! - In CSV an unquoted field that is `null_value` (empty unless told otherwise) is null; a quoted one is text. Columns are
//!   found by their names in the header (the first line that is not blank) as JSON keys are, or stand in declared order. A record with more or fewer fields than there
//!   should be is a bad one whose fields are used as far as they go, as in Spark.
//! - A pattern must match the whole line. Groups are found by columns' names, as JSON keys are. A group that took no part
//!   in the match is null.
//! - Every declared column is checked, whatever is projected, so that a bad record is bad in every query.

mod csv;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod layout;
#[cfg(test)]
mod tests;
mod worker;

use datafusion::arrow::datatypes::Schema;
use regex::Regex;

pub(super) use self::{layout::Layout, worker::Worker};
use super::{pieces::Piece, reader::Reader};
use crate::{
    job::{CsvOptions, FormatKind, RegexOptions, ValueOptions},
    model::{Error, Result},
};

/// How the lines of one source are split, and their values read.
#[derive(Debug)]
pub(super) struct Fields {
    lines: Lines,
    values: ValueOptions,
}

#[derive(Debug)]
enum Lines {
    Csv(CsvOptions),
    /// Index of the column that each line is the value of.
    Whole(usize),
    /// And for each of its groups the column that it is, if any.
    Matching(Regex, Vec<Option<usize>>),
}

impl Fields {
    /// # Errors
    /// Of kind `Usage`, where the pattern is none.
    pub fn new(schema: &Schema, kind: &FormatKind) -> Result<Fields> {
        Ok(match kind {
            FormatKind::Csv(options) => Fields { values: options.values.clone(), lines: Lines::Csv(options.clone()) },
            FormatKind::Regex(options) => {
                let regex = options
                    .compile()
                    .map_err(|why| Error::usage("the pattern is no regular expression").because(why))?;
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let columns = RegexOptions::columns(&regex, names);
                Fields { values: options.values.clone(), lines: Lines::Matching(regex, columns) }
            }
            FormatKind::Text { column } => Fields { values: ValueOptions::default(), lines: Lines::Whole(*column) },
            FormatKind::Json { .. } | FormatKind::Parquet | FormatKind::Avro => {
                unreachable!("these have readers of their own")
            }
        })
    }

    /// Whether a piece holds blank lines only, and the header is looked for behind it.
    pub fn is_all_blank(&self, piece: Piece<'_>) -> bool {
        let blank = |line: &[u8]| self.is_blank(line.strip_suffix(b"\r").unwrap_or(line));
        matches!(&self.lines, Lines::Csv(options) if options.header)
            && piece.bytes.split(|byte| *byte == b'\n').all(blank)
    }

    /// What a file's first line says about its others.
    pub fn layout(&self, reader: &Reader, except: &[usize], first: Piece<'_>) -> Layout {
        let all = 0..reader.schema.fields().len();
        let read: Vec<usize> = all.filter(|column| reader.is_read(*column, except)).collect();
        match &self.lines {
            Lines::Csv(options) if options.header => {
                Layout::by_header(reader, options, &read, first, &|line| self.is_blank(line))
            }
            Lines::Csv(_) => Layout::in_order(reader, &read),
            Lines::Whole(column) => Layout::of_columns(reader, &read, &[Some(*column)], "a line of text", first),
            Lines::Matching(_, columns) => Layout::of_columns(reader, &read, columns, "the pattern", first),
        }
    }
}
