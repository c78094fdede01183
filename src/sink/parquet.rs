//! Rows as a file of Parquet, and back.
//!
//! The same rows always give the same bytes, however they come in batches, and as long as this program is built with the same
//! version of the library: rows are written in runs of a fixed size, with fixed properties, and nothing in the file says
//! when or where it was made.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::{
    compute::BatchCoalescer,
    datatypes::{Field, Schema, SchemaRef},
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    file::properties::{WriterProperties, WriterVersion},
};

use super::rows::cannot_write;
use crate::model::Result;

/// Pages and row groups end where they do by what was written before: rows are given to the writer so many at a time.
const RUN_ROWS: usize = 8192;

/// The rows as one file. Any column may hold nulls there.
///
/// # Errors
/// Of kind `Failed` where a column's type cannot be written.
pub(super) fn to_bytes(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<Vec<u8>> {
    let write = || {
        let written = nullable(schema);
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&written), Some(properties()))?;
        let mut runs = BatchCoalescer::new(Arc::clone(&written), RUN_ROWS);
        for batch in rows {
            runs.push_batch(with_schema(batch, &written)?)?;
            while let Some(run) = runs.next_completed_batch() {
                writer.write(&run)?;
            }
        }
        runs.finish_buffered_batch()?;
        while let Some(run) = runs.next_completed_batch() {
            writer.write(&run)?;
        }
        Ok(writer.into_inner()?)
    };
    write().map_err(|error| cannot_write("Parquet", &error))
}

/// The rows of a file, of these columns.
///
/// # Errors
/// Where it is no such file, or its columns are others.
pub(super) fn from_bytes(schema: &SchemaRef, bytes: Vec<u8>) -> Result<Vec<RecordBatch>, ArrowError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.with_batch_size(RUN_ROWS).build()?;
    reader.map(|batch| with_schema(&batch?, schema)).collect()
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by("highwater version 1".to_owned())
        // what every reader has, and fast
        .set_compression(Compression::SNAPPY)
        .build()
}

/// The columns by themselves: what else is known of them is no part of the rows.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array},
        datatypes::{DataType, Fields, IntervalUnit, TimeUnit},
    };

    use super::*;
    use crate::{job::RowFormat, model::ErrorKind, sink::rows};

    fn batch(count: i64) -> RecordBatch {
        let names = (0..count).map(|n| (n % 7 != 0).then(|| format!("name {}", n % 50)));
        RecordBatch::try_from_iter_with_nullable([
            ("name", Arc::new(names.collect::<StringArray>()) as ArrayRef, true),
            ("n", Arc::new(Int64Array::from_iter_values(0..count)), false),
            ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(0..count)), false),
        ])
        .unwrap()
    }

    #[test]
    fn the_same_rows_are_the_same_bytes_however_they_are_cut() {
        let all = batch(50_000);
        let bytes = to_bytes(&all.schema(), std::slice::from_ref(&all)).unwrap();
        for size in [1, 1000, 8192, 10_000, 49_999] {
            let cut: Vec<_> = (0..50_000).step_by(size).map(|at| all.slice(at, size.min(50_000 - at))).collect();
            assert!(to_bytes(&all.schema(), &cut).unwrap() == bytes, "{size}");
        }
        let back = from_bytes(&all.schema(), bytes).unwrap();
        assert_eq!(datafusion::arrow::compute::concat_batches(&all.schema(), &back).unwrap(), all);
    }

    #[test]
    fn a_file_without_rows_has_its_columns() {
        let schema = batch(0).schema();
        let bytes = to_bytes(&schema, &[]).unwrap();
        assert_eq!(bytes, to_bytes(&schema, &[batch(0)]).unwrap());
        assert_eq!(from_bytes(&schema, bytes.clone()).unwrap(), []);
        let built = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        assert_eq!(*built.schema(), nullable(&schema));
        assert_eq!(built.metadata().file_metadata().created_by(), Some("highwater version 1"));
    }

    #[test]
    fn what_parquet_cannot_hold_is_refused_before_there_are_rows() {
        let schema =
            |data_type: DataType| -> SchemaRef { Arc::new(Schema::new(vec![Field::new("c", data_type, true)])) };
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        let fields = Fields::from(vec![Field::new("x", DataType::Int64, true)]);
        let entries =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Float64, true)]);
        let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
        for held in [
            DataType::UInt64,
            DataType::Utf8View,
            DataType::Decimal128(38, 10),
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Duration(TimeUnit::Microsecond),
            DataType::Interval(IntervalUnit::DayTime),
            DataType::Null,
            list(list(DataType::Utf8)),
            DataType::Struct(fields),
            map,
        ] {
            rows::check(RowFormat::Parquet, &schema(held.clone())).unwrap();
            let one = RecordBatch::try_new(schema(held.clone()), vec![new_null_array(&held, 1)]).unwrap();
            let bytes = to_bytes(&one.schema(), std::slice::from_ref(&one)).unwrap();
            assert_eq!(from_bytes(&one.schema(), bytes).unwrap(), [one], "{held}");
        }
        for not_held in [DataType::Struct(Fields::empty()), DataType::Interval(IntervalUnit::MonthDayNano)] {
            let refused = rows::check(RowFormat::Parquet, &schema(not_held.clone())).unwrap_err();
            assert_eq!(refused.what(), "column 'c' cannot be written as Parquet", "{not_held}");
            assert_eq!(refused.kind(), ErrorKind::Usage);
        }
    }

    #[test]
    fn what_is_no_such_file_is_an_error() {
        let schema = batch(0).schema();
        let whole = to_bytes(&schema, &[batch(10)]).unwrap();
        for wrong in [&b""[..], b"PAR1PAR1", &whole[..whole.len() - 1]] {
            assert!(from_bytes(&schema, wrong.to_vec()).is_err());
        }
        let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        assert!(from_bytes(&other, whole).is_err());
    }
}
