//! What changed between two batches, as rows.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, StructArray, UInt64Array, new_empty_array},
    buffer::NullBuffer,
    compute::{concat, interleave, take},
    datatypes::{DataType, Field, Fields, Schema},
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};

use super::view::{Diff, Table};
use crate::model::{BatchAddress, Error, Result};

impl Diff {
    /// A row for each change: `{"key":{...},"from":{...}|null,"to":{...}|null}`.
    ///
    /// # Errors
    /// Of kind `Failed`; none is expected.
    pub fn nested(&self) -> Result<RecordBatch> {
        Changes::new(self).and_then(Changes::nested).map_err(|cause| no_rows(&cause))
    }

    /// A row for each change: the key's columns, then each other column twice: `dstdevice, count at 17, count at 20`.
    ///
    /// # Errors
    /// As [`Diff::nested`].
    pub fn flat(&self, from: BatchAddress, to: BatchAddress) -> Result<RecordBatch> {
        Changes::new(self).and_then(|changes| changes.flat(from, to)).map_err(|cause| no_rows(&cause))
    }
}

fn no_rows(cause: &ArrowError) -> Error {
    Error::failed("the changes cannot be printed").because(cause.to_string())
}

/// The changed rows of both results, column by column.
struct Changes {
    keys: Vec<(Field, ArrayRef)>,
    /// The other columns before and after; null where the group was not there.
    values: Vec<(Field, ArrayRef, ArrayRef)>,
    /// Which groups were there before, and after.
    was: NullBuffer,
    is: NullBuffer,
}

impl Changes {
    fn new(diff: &Diff) -> Result<Changes, ArrowError> {
        let (from, to) = (Flat::new(&diff.table_from), Flat::new(&diff.table_to));
        let before: UInt64Array = diff.changes.iter().map(|change| from.row(change.from)).collect();
        let after: UInt64Array = diff.changes.iter().map(|change| to.row(change.to)).collect();
        let mut changes = Changes {
            keys: Vec::new(),
            values: Vec::new(),
            was: diff.changes.iter().map(|change| change.from.is_some()).collect(),
            is: diff.changes.iter().map(|change| change.to.is_some()).collect(),
        };
        // a key is the same on both sides: take it from where the group is
        let sides = diff.changes.iter().map(|change| match change.to {
            Some(_) => (1, to.row(change.to)),
            None => (0, from.row(change.from)),
        });
        let sides: Vec<(usize, usize)> = sides.map(|(side, row)| (side, row.map_or(0, |row| row as usize))).collect();
        let table = &diff.table_to;
        for key in &table.keys {
            let (old, new) = (from.column(&diff.table_from, *key)?, to.column(table, *key)?);
            changes.keys.push((nullable(table, *key), interleave(&[old.as_ref(), new.as_ref()], &sides)?));
        }
        for column in (0..table.schema.fields().len()).filter(|column| !table.keys.contains(column)) {
            let (old, new) = (from.column(&diff.table_from, column)?, to.column(table, column)?);
            changes.values.push((nullable(table, column), take(&old, &before, None)?, take(&new, &after, None)?));
        }
        Ok(changes)
    }

    /// `{"key":{...},"from":{...}|null,"to":{...}|null}`
    fn nested(self) -> Result<RecordBatch, ArrowError> {
        let count = self.was.len();
        let object = |columns: Vec<(Field, ArrayRef)>, there: Option<NullBuffer>| -> Result<ArrayRef, ArrowError> {
            if columns.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(count, there)));
            }
            let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
            Ok(Arc::new(StructArray::try_new(Fields::from(fields), columns, there)?))
        };
        let mut before = Vec::new();
        let mut after = Vec::new();
        for (field, old, new) in self.values {
            before.push((field.clone(), old));
            after.push((field, new));
        }
        let (key, from, to) =
            (object(self.keys, None)?, object(before, Some(self.was))?, object(after, Some(self.is))?);
        RecordBatch::try_from_iter_with_nullable([("key", key, false), ("from", from, true), ("to", to, true)])
    }

    /// `dstdevice, count at 17, count at 20`
    fn flat(self, from: BatchAddress, to: BatchAddress) -> Result<RecordBatch, ArrowError> {
        let count = self.was.len();
        let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = self.keys.into_iter().unzip();
        for (field, old, new) in self.values {
            let name = field.name().clone();
            fields.push(field.clone().with_name(format!("{name} at {from}")));
            fields.push(field.with_name(format!("{name} at {to}")));
            columns.extend([old, new]);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }
}

fn nullable(table: &Table, column: usize) -> Field {
    table.schema.field(column).clone().with_nullable(true)
}

/// The batches of a result, seen as one.
struct Flat {
    /// Rows before each batch.
    offsets: Vec<u64>,
}

impl Flat {
    fn new(table: &Table) -> Flat {
        let counts = table.rows.iter().map(|batch| batch.num_rows() as u64);
        let offsets = counts.scan(0, |before, count| Some(std::mem::replace(before, *before + count))).collect();
        Flat { offsets }
    }

    fn row(&self, place: Option<(usize, usize)>) -> Option<u64> {
        place.map(|(batch, row)| self.offsets[batch] + row as u64)
    }

    fn column(&self, table: &Table, column: usize) -> Result<ArrayRef, ArrowError> {
        let data_type: &DataType = table.schema.field(column).data_type();
        let parts: Vec<&dyn Array> = table.rows.iter().map(|batch| batch.column(column).as_ref()).collect();
        if parts.is_empty() { Ok(new_empty_array(data_type)) } else { concat(&parts) }
    }
}
