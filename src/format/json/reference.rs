//! The same reader written for plainness, with `serde_json` for every value: what the fast one is compared with.

use chrono::{DateTime, Datelike, NaiveDate};
use datafusion::arrow::{
    array::{Array, AsArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        SchemaRef, TimestampMicrosecondType,
    },
    record_batch::RecordBatch,
};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::value::timestamp;
use crate::{
    format::Reader,
    job::{FormatKind, FormatSpec, JSON_DEPTH_MAX, Mode, RecordOptions},
};

/// What a reader of JSON can be told.
#[derive(Debug, Clone)]
pub struct JsonOptions {
    pub records: RecordOptions,
    pub depth_max: usize,
}

impl Default for JsonOptions {
    fn default() -> Self {
        JsonOptions { records: RecordOptions::default(), depth_max: JSON_DEPTH_MAX }
    }
}

impl JsonOptions {
    /// The reader under test.
    pub fn reader(&self, schema: SchemaRef, projection: Vec<usize>) -> Reader {
        let kind = FormatKind::Json { depth_max: self.depth_max };
        let spec = FormatSpec { records: self.records.clone(), kind };
        Reader::new(schema, projection, &spec).expect("JSON has no pattern that could be wrong")
    }
}

/// One value, comparable whatever its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Null,
    Boolean(bool),
    Number(i128),
    /// Bits, so that -0.0 is not 0.0.
    Float(u64),
    Text(String),
}

/// What a file holds: rows, records, lines of bad records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub rows: Vec<Vec<Cell>>,
    pub records: u64,
    pub bad_lines: Vec<u64>,
}

pub fn read(schema: &SchemaRef, projection: &[usize], options: &JsonOptions, bytes: &[u8]) -> Expected {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut expected = Expected::default();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|byte| b" \t\r".contains(byte)) {
            continue;
        }
        let (rows, bad) = read_line(schema, options, line);
        expected.records += rows.len() as u64;
        if bad {
            expected.bad_lines.push(number as u64 + 1);
        }
        if !bad || options.records.mode == Mode::Permissive {
            let project = |row: Vec<Cell>| projection.iter().map(|&column| row[column].clone()).collect();
            expected.rows.extend(rows.into_iter().map(project));
        }
    }
    expected
}

/// A line's rows with all columns, and whether they are one bad record.
fn read_line(schema: &SchemaRef, options: &JsonOptions, line: &[u8]) -> (Vec<Vec<Cell>>, bool) {
    let mut bad_row = vec![Cell::Null; schema.fields().len()];
    if let Some(column) = options.records.corrupt_column {
        let raw = &line[..line.len().min(options.records.line_bytes_max)];
        bad_row[column] = Cell::Text(String::from_utf8_lossy(raw).into_owned());
    }
    let value = match std::str::from_utf8(line) {
        Ok(text) if line.len() <= options.records.line_bytes_max => parse_line(text, options.depth_max),
        _ => None,
    };
    match value {
        Some(Raw::Object(fields)) => {
            let (mut row, bad) = convert(schema, options, &fields);
            if let (true, Some(column)) = (bad, options.records.corrupt_column) {
                row[column] = bad_row[column].clone();
            }
            (vec![row], bad)
        }
        Some(Raw::Array(values)) => {
            let mut rows = Vec::new();
            for value in values {
                match value {
                    Raw::Object(fields) => match convert(schema, options, &fields) {
                        (row, false) => rows.push(row),
                        _ => return (vec![bad_row], true),
                    },
                    _ => return (vec![bad_row], true),
                }
            }
            (rows, false)
        }
        _ => (vec![bad_row], true),
    }
}

/// A value: strings decoded, numbers and nested values with their text.
#[derive(Debug, Clone)]
enum Raw {
    Null,
    Boolean(bool),
    Number(String),
    Text(String),
    Object(Vec<(String, (Raw, String))>),
    Array(Vec<Raw>),
}

fn parse_line(text: &str, depth_max: usize) -> Option<Raw> {
    let walked = walk(text, 0, depth_max).filter(|(_, end)| text[*end..].trim_matches([' ', '\t', '\r']).is_empty());
    // The walk itself is held against serde_json's parsers, which are laxer and stricter than it is.
    if walked.is_some() {
        assert!(serde_json::from_str::<IgnoredAny>(text).is_ok(), "not JSON after all: {text}");
    }
    if walked.is_none() && depth_max >= 128 {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "JSON after all: {text}");
    }
    walked.map(|(value, _)| value)
}

fn space(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches([' ', '\t', '\r']).len()
}

fn take<T: DeserializeOwned>(text: &str, at: usize) -> Option<(T, usize)> {
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, at + values.byte_offset()))
}

/// The value at `at` and its end.
fn walk(text: &str, at: usize, depth_left: usize) -> Option<(Raw, usize)> {
    let mut at = space(text, at);
    let start = at;
    match text.as_bytes().get(at)? {
        b'{' => {
            let mut fields = Vec::new();
            at = space(text, at + 1);
            let inside = depth_left.checked_sub(1)?;
            if text.as_bytes().get(at) == Some(&b'}') {
                return Some((Raw::Object(fields), at + 1));
            }
            loop {
                let (key, end) = take::<String>(text, space(text, at))?;
                at = space(text, end);
                if text.as_bytes().get(at) != Some(&b':') {
                    return None;
                }
                let from = space(text, at + 1);
                let (value, end) = walk(text, from, inside)?;
                fields.push((key, (value, text[from..end].to_owned())));
                at = space(text, end);
                match text.as_bytes().get(at)? {
                    b',' => at += 1,
                    b'}' => return Some((Raw::Object(fields), at + 1)),
                    _ => return None,
                }
            }
        }
        b'[' => {
            let mut values = Vec::new();
            at = space(text, at + 1);
            let inside = depth_left.checked_sub(1)?;
            if text.as_bytes().get(at) == Some(&b']') {
                return Some((Raw::Array(values), at + 1));
            }
            loop {
                let (value, end) = walk(text, at, inside)?;
                values.push(value);
                at = space(text, end);
                match text.as_bytes().get(at)? {
                    b',' => at += 1,
                    b']' => return Some((Raw::Array(values), at + 1)),
                    _ => return None,
                }
            }
        }
        b'"' => take::<String>(text, at).map(|(value, end)| (Raw::Text(value), end)),
        b't' | b'f' => take::<bool>(text, at).map(|(value, end)| (Raw::Boolean(value), end)),
        b'n' => take::<()>(text, at).map(|(_, end)| (Raw::Null, end)),
        _ => take::<IgnoredAny>(text, at).map(|(_, end)| (Raw::Number(text[start..end].to_owned()), end)),
    }
}

/// All columns of a record, and whether a field was of the wrong type.
fn convert(schema: &SchemaRef, options: &JsonOptions, fields: &[(String, (Raw, String))]) -> (Vec<Cell>, bool) {
    let mut bad = false;
    let mut row = Vec::new();
    for (column, field) in schema.fields().iter().enumerate() {
        if options.records.corrupt_column == Some(column) {
            row.push(Cell::Null);
            continue;
        }
        let name = field.name();
        let alike = |other: &String| other.to_lowercase() == name.to_lowercase();
        let unambiguous = schema.fields().iter().filter(|field| alike(field.name())).count() == 1;
        let exact = fields.iter().rev().find(|(key, _)| key == name);
        let found = exact.or_else(|| fields.iter().rev().find(|(key, _)| unambiguous && alike(key)));
        let cell = match found {
            None => Some(Cell::Null),
            Some((_, (value, raw))) => cell(field.data_type(), value, raw),
        };
        bad |= cell.is_none();
        row.push(cell.unwrap_or(Cell::Null));
    }
    (row, bad)
}

fn cell(data_type: &DataType, value: &Raw, raw: &str) -> Option<Cell> {
    let in_range = |low: i64, high: i64| {
        let Raw::Number(text) = value else { return None };
        text.parse::<i64>().ok().filter(|value| (low..=high).contains(value)).map(|value| Cell::Number(value.into()))
    };
    match (data_type, value) {
        (_, Raw::Null) => Some(Cell::Null),
        (DataType::Utf8, Raw::Text(text)) => Some(Cell::Text(text.clone())),
        (DataType::Utf8, _) => Some(Cell::Text(raw.to_owned())),
        (DataType::Boolean, Raw::Boolean(value)) => Some(Cell::Boolean(*value)),
        (DataType::Int8, _) => in_range(i8::MIN.into(), i8::MAX.into()),
        (DataType::Int16, _) => in_range(i16::MIN.into(), i16::MAX.into()),
        (DataType::Int32, _) => in_range(i32::MIN.into(), i32::MAX.into()),
        (DataType::Int64, _) => in_range(i64::MIN, i64::MAX),
        (DataType::Float64, Raw::Number(text)) => {
            text.parse().ok().filter(|value: &f64| value.is_finite()).map(|value| Cell::Float(value.to_bits()))
        }
        (DataType::Float32, Raw::Number(text)) => text
            .parse()
            .ok()
            .filter(|value: &f32| value.is_finite())
            .map(|value| Cell::Float(f64::from(value).to_bits())),
        (DataType::Decimal128(precision, scale), Raw::Number(text)) => {
            let (value, _) = fixed(text, (*scale).into())?;
            (value.unsigned_abs() < 10_u128.pow((*precision).into())).then_some(Cell::Number(value))
        }
        (DataType::Timestamp(..), Raw::Number(text)) => {
            let (_, value) = fixed(text, 6)?;
            let time = DateTime::from_timestamp_micros(i64::try_from(value).ok()?)?;
            (0..=9999).contains(&time.year()).then_some(Cell::Number(value))
        }
        (DataType::Timestamp(..), Raw::Text(text)) => {
            timestamp(text.as_bytes()).map(|value| Cell::Number(value.into()))
        }
        // chrono would take white space for digits
        (DataType::Date32, Raw::Text(text)) if is_date(text) => {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            Some(Cell::Number((date - NaiveDate::default()).num_days().into()))
        }
        _ => None,
    }
}

/// Four digits, two and two, with dashes between.
fn is_date(text: &str) -> bool {
    let right = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
    text.len() == 10 && text.bytes().enumerate().all(right)
}

/// A number at a fixed scale, rounded half up and cut down, by moving the point in its text.
fn fixed(text: &str, scale: i32) -> Option<(i128, i128)> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.bytes().all(|digit| digit == b'0') {
        return Some((0, 0));
    }
    // Beyond these it is nothing but zeros, or too large.
    let exponent: i32 = exponent.parse().unwrap_or(if exponent.starts_with('-') { -9999 } else { 9999 });
    let point = whole.len() as i32 + exponent.clamp(-9999, 9999) + scale;
    let padded = format!("{}{digits}{}", "0".repeat((-point).max(0) as usize + 1), "0".repeat(point.max(0) as usize));
    let at = (point.max(0) + 1) as usize;
    let kept: i128 = padded[..at].parse().ok()?;
    let rest = &padded[at..];
    let half_up = sign * (kept + i128::from(rest.as_bytes().first().is_some_and(|&digit| digit >= b'5')));
    let cut = sign * kept - i128::from(sign < 0 && rest.bytes().any(|digit| digit != b'0'));
    Some((half_up, cut))
}

/// A batch's rows.
pub fn cells(batch: &RecordBatch) -> Vec<Vec<Cell>> {
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| cell_of(column, row)).collect()).collect()
}

fn cell_of(array: &dyn Array, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    let number = |value: i64| Cell::Number(value.into());
    match array.data_type() {
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Boolean => Cell::Boolean(array.as_boolean().value(row)),
        DataType::Int8 => number(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => number(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => number(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => number(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Cell::Float(f64::from(array.as_primitive::<Float32Type>().value(row)).to_bits()),
        DataType::Float64 => Cell::Float(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => Cell::Number(array.as_primitive::<Decimal128Type>().value(row)),
        DataType::Date32 => number(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(..) => number(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        other => panic!("no column of type {other} is produced"),
    }
}
