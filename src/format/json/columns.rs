//! Where values are collected until a record batch is full.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
        Int8Builder, Int16Builder, Int32Builder, Int64Builder, StringArray, TimestampMicrosecondBuilder,
        new_null_array,
    },
    datatypes::DataType,
    error::ArrowError,
};

use super::{
    escape::unescape,
    scan::{Shape, Token},
    value::Parsed,
};

/// One column of the batch being built.
#[derive(Debug)]
pub(super) enum Column {
    /// Collected as bytes; [`Column::finish`] checks that they are UTF-8.
    Text(BinaryBuilder),
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
    /// A type that no value fits: nulls only.
    Nulls(DataType, usize),
}

impl Column {
    /// An empty column with room for `rows`.
    pub(super) fn new(data_type: &DataType, rows: usize) -> Column {
        match data_type {
            DataType::Utf8 => Column::Text(BinaryBuilder::with_capacity(rows, rows * 8)),
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
                column.append_value(&decoded);
            }
            (Column::Text(column), Parsed::Text) => column.append_value(token.bytes(line)),
            (Column::Float64(column), Parsed::Float(value)) => column.append_value(*value),
            (column, value) => column.push_other(*value),
        }
    }

    /// Appends text, or null to a column of another type.
    pub(super) fn push_text(&mut self, text: &[u8]) {
        match self {
            Column::Text(column) => column.append_value(text),
            column => column.push_other(Parsed::Null),
        }
    }

    /// Appends what is not text. A value of another type than the column's cannot occur ([`super::value::Kind`]
    /// makes both from the same declaration); it would be null.
    pub(super) fn push_other(&mut self, value: Parsed) {
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
            (Column::Nulls(_, rows), _) => *rows += 1,
        }
    }

    /// The collected values; the column is empty afterwards and keeps the room that it needed.
    ///
    /// # Errors
    /// Where bytes are not UTF-8; lines are checked before their values are collected.
    pub(super) fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Column::Text(column) => {
                let room = column.values_slice().len() * 9 / 8;
                let fresh = BinaryBuilder::with_capacity(rows, room);
                let bytes = std::mem::replace(column, fresh).finish();
                Arc::new(StringArray::try_from_binary(bytes)?)
            }
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
            Column::Nulls(data_type, rows) => new_null_array(data_type, std::mem::take(rows)),
        })
    }
}
