//! Values as they go over the wire. Each type has one that holds all of its values; what is nested, and what PostgreSQL has no type for, is TEXT as JSON lines
//! have it. JSONB would change it (order of keys, numbers), and JSON cannot be compared, which a group key must be.

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::{CastOptions, cast_with_options},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int64Type,
        Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt64Type,
    },
};

use super::super::table::texts;
use crate::model::{Error, Result};

/// The length of a value that is null.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// From 1970 to 2000, where PostgreSQL's time begins.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 as i64 * 86_400_000_000;
/// Days and microseconds from 2000 that PostgreSQL has: 4714 BC to the year 5874897, or 294276.
const DAYS: std::ops::Range<i32> = -2_451_545..2_145_031_949;
const MICROS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// The type that a column of a new table gets.
pub(super) fn column_type(data_type: &DataType) -> String {
    match data_type {
        DataType::UInt64 => "NUMERIC(20, 0)".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if *scale >= 0 =>
        {
            format!("NUMERIC({precision}, {scale})")
        }
        DataType::Dictionary(_, values) => column_type(values),
        other => match type_name(other) {
            "timestamp without time zone" => "TIMESTAMP".to_owned(),
            "timestamp with time zone" => "TIMESTAMPTZ".to_owned(),
            "time without time zone" => "TIME".to_owned(),
            name => name.to_ascii_uppercase(),
        },
    }
}

/// The same as PostgreSQL's catalog names it, without precision.
pub(super) fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => "numeric",
        integer if integer.is_integer() => "bigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Dictionary(_, values) => type_name(values),
        _ => "text",
    }
}

/// Writes the value of one row behind its length.
type Writer<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// The values of a column.
pub(super) struct Cells<'a> {
    nulls: ArrayRef,
    write: Writer<'a>,
}

impl Cells<'_> {
    pub fn write(&self, row: usize, to: &mut Vec<u8>) {
        match self.nulls.is_null(row) {
            true => to.extend_from_slice(&NULL),
            false => (self.write)(row, to),
        }
    }

    /// `before`: how many rows of the batch came before.
    ///
    /// # Errors
    /// As [`super::rows::Rows::of`].
    pub fn of<'a>(column: &ArrayRef, field: &Field, before: usize) -> Result<Cells<'a>> {
        let column = plain(column, field)?;
        let nulls = column.clone();
        let write: Writer<'a> = match column.data_type() {
            DataType::Boolean => {
                let values = column.as_boolean().clone();
                Box::new(move |row, to| sized(&[u8::from(values.value(row))], to))
            }
            DataType::Int64 => {
                let values = column.as_primitive::<Int64Type>().clone();
                Box::new(move |row, to| sized(&values.value(row).to_be_bytes(), to))
            }
            DataType::Float32 => {
                let values = column.as_primitive::<Float32Type>().clone();
                Box::new(move |row, to| sized(&canonical(f64::from(values.value(row))).1, to))
            }
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>().clone();
                Box::new(move |row, to| sized(&canonical(values.value(row)).0, to))
            }
            DataType::UInt64 => {
                let values = column.as_primitive::<UInt64Type>().clone();
                Box::new(move |row, to| sized(&numeric(&values.value(row).to_string()), to))
            }
            DataType::Decimal128(..) => {
                let values = column.as_primitive::<Decimal128Type>().clone();
                Box::new(move |row, to| sized(&numeric(&values.value_as_string(row)), to))
            }
            DataType::Decimal256(..) => {
                let values = column.as_primitive::<Decimal256Type>().clone();
                Box::new(move |row, to| sized(&numeric(&values.value_as_string(row)), to))
            }
            DataType::Time64(_) => {
                let values = column.as_primitive::<Time64MicrosecondType>().clone();
                Box::new(move |row, to| sized(&values.value(row).to_be_bytes(), to))
            }
            DataType::Date32 => {
                let days = column.as_primitive::<Date32Type>().iter();
                let days =
                    days.map(|days| days.map(|days| days.checked_sub(DAYS_TO_2000).filter(|days| DAYS.contains(days))));
                let days = in_time(days, field, before)?;
                Box::new(move |row, to| sized(&days[row].to_be_bytes(), to))
            }
            DataType::Timestamp(..) => {
                let micros = column.as_primitive::<TimestampMicrosecondType>().iter();
                let micros = micros
                    .map(|micros| micros.map(|at| at.checked_sub(MICROS_TO_2000).filter(|at| MICROS.contains(at))));
                let micros = in_time(micros, field, before)?;
                Box::new(move |row, to| sized(&micros[row].to_be_bytes(), to))
            }
            DataType::LargeBinary => {
                let values = column.as_binary::<i64>().clone();
                Box::new(move |row, to| sized(values.value(row), to))
            }
            DataType::LargeUtf8 => {
                let values = column.as_string::<i64>().clone();
                if let Some(row) = values.iter().position(|text| text.is_some_and(|text| text.contains('\0'))) {
                    return Err(has_nul(field, before + row));
                }
                Box::new(move |row, to| sized(values.value(row).as_bytes(), to))
            }
            _ => {
                let values = texts(&column, field)?;
                Box::new(move |row, to| sized(values[row].as_deref().unwrap_or_default().as_bytes(), to))
            }
        };
        Ok(Cells { nulls, write })
    }
}

/// A column in one of the types that are written as they are.
fn plain(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let wanted = match column.data_type() {
        DataType::UInt64 => return Ok(column.clone()),
        integer if integer.is_integer() => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Binary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::LargeBinary,
        DataType::Utf8 | DataType::Utf8View => DataType::LargeUtf8,
        DataType::Dictionary(_, values) => {
            let values = cast_to(column, values, field)?;
            return plain(&values, field);
        }
        _ => return Ok(column.clone()),
    };
    cast_to(column, &wanted, field)
}

/// A value that does not fit is an error, and no null.
fn cast_to(column: &ArrayRef, to: &DataType, field: &Field) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, to, &options).map_err(|error| cannot(field, error.to_string()))
}

fn cannot(field: &Field, why: String) -> Error {
    Error::data(format!("column '{}' holds a value that cannot be written to PostgreSQL", field.name()))
        .because(why)
        .help("cast it to another type in the query: STRING takes any")
}

fn has_nul(field: &Field, row: usize) -> Error {
    Error::data(format!("column '{}' of row {row} holds the character NUL", field.name()))
        .because("PostgreSQL's text has no place for it; rows are counted from 0, as the query gives them")
        .help(format!(
            "take it out in the query: regexp_replace({0}, '\\x00', '', 'g'); or keep the bytes: arrow_cast({0}, 'Binary')",
            field.name()
        ))
}

/// Times of PostgreSQL's; the inner `None` is one that it does not have.
fn in_time<T: Default>(times: impl Iterator<Item = Option<Option<T>>>, field: &Field, before: usize) -> Result<Vec<T>> {
    let time = |(row, time): (usize, Option<Option<T>>)| match time {
        None => Ok(T::default()),
        Some(Some(time)) => Ok(time),
        Some(None) => Err(cannot(field, format!("the time in row {} is not one of its years", before + row))),
    };
    times.enumerate().map(time).collect()
}

pub(super) fn sized(value: &[u8], to: &mut Vec<u8>) {
    // the server refuses longer ones long before
    to.extend_from_slice(&i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
    to.extend_from_slice(value);
}

/// A number in eight bytes, and in four. There are many NaNs, and one is enough.
fn canonical(value: f64) -> ([u8; 8], [u8; 4]) {
    let value = if value.is_nan() { f64::NAN } else { value };
    (value.to_be_bytes(), (value as f32).to_be_bytes())
}

/// A decimal number as NUMERIC: digits of base 10,000, where the first of them stands, the sign, and how many decimals are shown.
fn numeric(text: &str) -> Vec<u8> {
    const NEGATIVE: u16 = 0x4000;
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let padded = format!("{}{whole}{decimals}{}", zeros(whole.len()), zeros(decimals.len()));
    let mut weight = whole.len().div_ceil(4) as i16 - 1;
    let group = |group: &[u8]| group.iter().fold(0_u16, |value, digit| value * 10 + u16::from(digit - b'0'));
    let mut groups: Vec<u16> = padded.as_bytes().chunks(4).map(group).collect();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i16;
    let sign = if negative && !groups.is_empty() { NEGATIVE } else { 0 };
    let mut bytes = Vec::with_capacity(8 + groups.len() * 2);
    bytes.extend((groups.len() as u16).to_be_bytes());
    bytes.extend(if groups.is_empty() { 0 } else { weight }.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend((decimals.len() as u16).to_be_bytes());
    groups.iter().for_each(|group| bytes.extend(group.to_be_bytes()));
    bytes
}

/// What makes a number of digits one of whole groups.
fn zeros(digits: usize) -> &'static str {
    &"000"[..(4 - digits % 4) % 4]
}

#[cfg(test)]
mod tests;
