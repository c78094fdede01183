//! Where values are collected until a record batch is full.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int8Builder,
        Int16Builder, Int32Builder, Int64Builder, NullBufferBuilder, StringArray, TimestampMicrosecondBuilder,
        new_null_array,
    },
    buffer::{Buffer, OffsetBuffer},
    datatypes::DataType,
    error::ArrowError,
};

use super::{
    escape::unescape,
    nested::{Nested, is_nested},
    scan::{Shape, Token},
    value::Parsed,
};

/// Text, collected as bytes; [`Text::finish`] checks that they are UTF-8.
#[derive(Debug)]
pub(in crate::format) struct Text {
    bytes: Vec<u8>,
    /// Of each value, behind a first 0.
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

/// Up to so many bytes are copied as if there were exactly so many, which needs no call.
const SHORT_BYTES: usize = 16;

impl Text {
    fn with_capacity(rows: usize, bytes: usize) -> Text {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Text { bytes: Vec::with_capacity(bytes), ends, nulls: NullBufferBuilder::new(rows) }
    }

    /// Appends the bytes of `line` from `start` to `end`.
    #[inline(always)]
    fn append_part(&mut self, line: &[u8], start: usize, end: usize) {
        match line.get(start..).and_then(|rest| rest.first_chunk::<SHORT_BYTES>()) {
            Some(short) if end - start <= SHORT_BYTES => {
                let whole = self.bytes.len() + end - start;
                self.bytes.extend_from_slice(short);
                self.bytes.truncate(whole);
                self.end(true);
            }
            _ => self.append(&line[start..end]),
        }
    }

    fn append(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.end(true);
    }

    fn append_null(&mut self) {
        self.end(false);
    }

    #[inline(always)]
    fn end(&mut self, valid: bool) {
        // batches are closed long before this could overflow
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append(valid);
    }

    /// The values so far; it is empty afterwards, with room for as much again and for `rows`.
    fn finish(&mut self, rows: usize) -> Result<StringArray, ArrowError> {
        let fresh = Text::with_capacity(rows, self.bytes.len() * 9 / 8);
        let Text { bytes, ends, mut nulls } = std::mem::replace(self, fresh);
        StringArray::try_new(OffsetBuffer::new(ends.into()), Buffer::from_vec(bytes), nulls.finish())
    }
}

/// One column of the batch being built.
#[derive(Debug)]
pub(in crate::format) enum Column {
    Text(Text),
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Nested(Box<Nested>),
    /// A type that no value fits: nulls only.
    Nulls(DataType, usize),
}

impl Column {
    /// An empty column with room for `rows`.
    pub(in crate::format) fn new(data_type: &DataType, rows: usize) -> Column {
        match data_type {
            DataType::Utf8 => Column::Text(Text::with_capacity(rows, rows * 8)),
            DataType::Boolean => Column::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int8 => Column::Int8(Int8Builder::with_capacity(rows)),
            DataType::Int16 => Column::Int16(Int16Builder::with_capacity(rows)),
            DataType::Int32 => Column::Int32(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Column::Int64(Int64Builder::with_capacity(rows)),
            DataType::Float32 => Column::Float32(Float32Builder::with_capacity(rows)),
            DataType::Float64 => Column::Float64(Float64Builder::with_capacity(rows)),
            DataType::Decimal128(..) => {
                Column::Decimal(Decimal128Builder::with_capacity(rows).with_data_type(data_type.clone()))
            }
            DataType::Date32 => Column::Date(Date32Builder::with_capacity(rows)),
            DataType::Timestamp(..) if *data_type == super::TIMESTAMP => {
                Column::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows))
            }
            nested if is_nested(nested) => Column::Nested(Box::new(Nested::new(nested))),
            _ => Column::Nulls(data_type.clone(), 0),
        }
    }

    /// Appends a value; text is taken from `token` of `line`.
    #[inline(always)]
    pub(super) fn push(&mut self, value: &Parsed, token: &Token, line: &[u8]) {
        match (self, value) {
            (Column::Text(column), Parsed::Text) if token.shape == Shape::Escaped => {
                let mut decoded = Vec::with_capacity(token.bytes(line).len());
                unescape(token.bytes(line), &mut decoded);
                column.append(&decoded);
            }
            (Column::Text(column), Parsed::Text) => column.append_part(line, token.start as usize, token.end as usize),
            (Column::Float64(column), Parsed::Float(value)) => column.append_value(*value),
            (Column::Nested(column), Parsed::Text) => column.append(line, Some(token.start as usize)),
            (column, value) => column.push_other(*value),
        }
    }

    /// Appends a value; text is this part of `text`.
    #[inline(always)]
    pub(in crate::format) fn push_part(&mut self, value: &Parsed, text: &[u8], part: std::ops::Range<usize>) {
        match (self, value) {
            (Column::Text(column), Parsed::Text) => column.append_part(text, part.start, part.end),
            (Column::Float64(column), Parsed::Float(value)) => column.append_value(*value),
            (column, value) => column.push_other(*value),
        }
    }

    /// Appends text, or null to a column of another type.
    pub(in crate::format) fn push_text(&mut self, text: &[u8]) {
        match self {
            Column::Text(column) => column.append(text),
            column => column.push_other(Parsed::Null),
        }
    }

    /// Appends what is not text. A value of another type than the column's cannot occur ([`super::value::Kind`]
    /// makes both from the same declaration); it would be null.
    pub(in crate::format) fn push_other(&mut self, value: Parsed) {
        let integer = match value {
            Parsed::Integer(value) => Some(value),
            _ => None,
        };
        match (self, value) {
            (Column::Text(column), _) => column.append_null(),
            (Column::Boolean(column), Parsed::Boolean(value)) => column.append_value(value),
            (Column::Boolean(column), _) => column.append_null(),
            (Column::Int8(column), _) => column.append_option(integer.map(|value| value as i8)),
            (Column::Int16(column), _) => column.append_option(integer.map(|value| value as i16)),
            (Column::Int32(column), _) => column.append_option(integer.map(|value| value as i32)),
            (Column::Int64(column), _) => column.append_option(integer),
            (Column::Date(column), _) => column.append_option(integer.map(|value| value as i32)),
            (Column::Timestamp(column), _) => column.append_option(integer),
            (Column::Float32(column), Parsed::Float(value)) => column.append_value(value as f32),
            (Column::Float32(column), _) => column.append_null(),
            (Column::Float64(column), Parsed::Float(value)) => column.append_value(value),
            (Column::Float64(column), _) => column.append_null(),
            (Column::Decimal(column), Parsed::Decimal(value)) => column.append_value(value),
            (Column::Decimal(column), _) => column.append_null(),
            (Column::Nested(column), _) => column.append(&[], None),
            (Column::Nulls(_, rows), _) => *rows += 1,
        }
    }

    /// The collected values; the column is empty afterwards, and has room for as much again where it is one of scalars.
    ///
    /// # Errors
    /// Where bytes are not UTF-8; lines are checked before their values are collected.
    pub(in crate::format) fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Column::Text(column) => Arc::new(column.finish(rows)?),
            Column::Boolean(column) => Arc::new(column.finish()),
            Column::Int8(column) => Arc::new(column.finish()),
            Column::Int16(column) => Arc::new(column.finish()),
            Column::Int32(column) => Arc::new(column.finish()),
            Column::Int64(column) => Arc::new(column.finish()),
            Column::Float32(column) => Arc::new(column.finish()),
            Column::Float64(column) => Arc::new(column.finish()),
            Column::Decimal(column) => Arc::new(column.finish()),
            Column::Date(column) => Arc::new(column.finish()),
            Column::Timestamp(column) => Arc::new(column.finish()),
            Column::Nested(column) => column.finish()?,
            Column::Nulls(data_type, rows) => new_null_array(data_type, std::mem::take(rows)),
        })
    }
}
