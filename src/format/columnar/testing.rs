//! What tests of all formats of typed columns do: read bytes, and show what came of them.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, Int64Array, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatch,
    util::display::array_value_to_string,
};

use super::{Reader, WholeRead};
use crate::{
    job::{FormatKind, FormatSpec, Mode, RecordOptions},
    model::Result,
};

pub(in crate::format) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

pub(in crate::format) fn read_in(
    kind: FormatKind,
    mode: Mode,
    columns: &[(&str, DataType)],
    projection: Vec<usize>,
    bytes: &[u8],
) -> Result<WholeRead> {
    let records = RecordOptions { mode, ..RecordOptions::default() };
    let reader = Reader::new(schema(columns), projection, &FormatSpec { records, kind }).unwrap();
    reader.decode_whole("f", Arc::new(bytes.to_vec()), 2, &[])
}

/// Rows as text, nulls as `-`.
pub(in crate::format) fn shown(read: &WholeRead) -> Vec<String> {
    assert_eq!(read.damage, None);
    let cell = |column: &ArrayRef, row: usize| match column.is_null(row) {
        true => "-".to_owned(),
        false => array_value_to_string(column, row).unwrap(),
    };
    let row = |batch: &RecordBatch, row: usize| {
        batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("|")
    };
    let rows = |batch: &RecordBatch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>();
    read.decoded.batches.iter().flat_map(rows).collect()
}

/// Bad records by their lines.
pub(in crate::format) fn bad(read: &WholeRead) -> Vec<String> {
    read.decoded.bad.iter().map(|bad| format!("{}: {}", bad.line, bad.reason)).collect()
}

pub(in crate::format) fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

pub(in crate::format) fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}
