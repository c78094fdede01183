//! What becomes of rows that were read: their columns to declared types, bad rows told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use datafusion::arrow::{
    array::{ArrayRef, BooleanArray, new_null_array},
    compute::filter_record_batch,
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};

use super::{
    Column, Wrong,
    values::{Converted, convert, shown},
};
use crate::{
    format::{
        BAD_RECORDS_KEPT_MAX, BadRecord,
        json::type_name,
        pieces::{PieceRead, Stop},
        reader::Reader,
        shortened,
    },
    job::Mode,
};

/// Takes the rows of one file, from any thread.
pub(in crate::format) struct Rows<'f> {
    reader: &'f Reader,
    /// In the order of the file.
    columns: &'f [Column],
    /// More than this they may not take in memory, nor may what is unpacked for them.
    memory_bytes_max: u64,
    /// What all rows so far take in memory.
    taken_bytes: AtomicU64,
    /// How much was unpacked so far.
    unpacked_bytes: AtomicU64,
}

/// A value that is none of its column's type.
struct Misfit {
    /// Index among the file's columns that are read.
    column: usize,
    /// How many values of the row are misfits.
    count: usize,
}

impl<'f> Rows<'f> {
    pub(super) fn new(reader: &'f Reader, columns: &'f [Column], memory_bytes_max: u64) -> Rows<'f> {
        let none = || AtomicU64::new(0);
        Rows { reader, columns, memory_bytes_max, taken_bytes: none(), unpacked_bytes: none() }
    }

    /// Rows of a full batch.
    pub fn batch_rows(&self) -> usize {
        self.reader.sizes.batch_rows
    }

    /// What is read of one file may not take more memory than this, in bytes.
    pub fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max
    }

    /// Counts what was unpacked.
    ///
    /// # Errors
    /// Where all of it is more than a file of its size may hold.
    pub(in crate::format) fn count_unpacked(&self, bytes: u64) -> Result<(), Wrong> {
        self.count(&self.unpacked_bytes, bytes)
    }

    fn count(&self, so_far: &AtomicU64, bytes: u64) -> Result<(), Wrong> {
        let before = so_far.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.memory_bytes_max { Err(Wrong::TooMuch) } else { Ok(()) }
    }

    /// Takes rows, with the columns of the file that are read.
    ///
    /// # Errors
    /// Where they are too many; the first bad row in `failfast` mode.
    pub(in crate::format) fn take(&self, batch: &RecordBatch, read: &mut PieceRead) -> Result<(), Wrong> {
        let columns = batch.columns().iter().zip(self.columns);
        let types = self.reader.schema.fields();
        let converted = columns.map(|(array, column)| convert(array, types[column.declared].data_type()));
        let converted = converted.collect::<Result<Vec<Converted>, _>>().map_err(|error| Wrong::Stop(error.into()))?;
        let bad = self.misfits(&converted);
        self.report(batch, &bad, read)?;
        read.rows += batch.num_rows() as u64;

        let output = self.reader.output_schema.fields().iter().enumerate();
        let source = |output: usize| self.columns.iter().position(|column| column.output == Some(output));
        let arrays = output.map(|(at, field)| match source(at) {
            Some(at) => Arc::clone(&converted[at].array),
            None => new_null_array(field.data_type(), batch.num_rows()),
        });
        let made = self.made(arrays.collect(), batch.num_rows(), &bad).map_err(|error| Wrong::Stop(error.into()))?;
        // rows without columns count, too: there can be any number in a few bytes
        let taken = made.get_array_memory_size().max(made.num_rows()) as u64;
        self.count(&self.taken_bytes, taken)?;
        if made.num_rows() > 0 {
            read.batches.push(made);
        }
        Ok(())
    }

    fn made(
        &self,
        arrays: Vec<ArrayRef>,
        rows: usize,
        bad: &BTreeMap<usize, Misfit>,
    ) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let made = RecordBatch::try_new_with_options(Arc::clone(&self.reader.output_schema), arrays, &options)?;
        if bad.is_empty() || self.reader.records.mode != Mode::DropMalformed {
            return Ok(made);
        }
        let good: BooleanArray = (0..rows).map(|row| Some(!bad.contains_key(&row))).collect();
        filter_record_batch(&made, &good)
    }

    /// Of each bad row its first misfit, in declared order.
    fn misfits(&self, converted: &[Converted]) -> BTreeMap<usize, Misfit> {
        let declared = |at: usize| self.columns[at].declared;
        let mut bad: BTreeMap<usize, Misfit> = BTreeMap::new();
        for (column, one) in converted.iter().enumerate() {
            for row in &one.misfits {
                let misfit = bad.entry(*row).or_insert(Misfit { column, count: 0 });
                misfit.count += 1;
                if declared(column) < declared(misfit.column) {
                    misfit.column = column;
                }
            }
        }
        bad
    }

    fn report(&self, batch: &RecordBatch, bad: &BTreeMap<usize, Misfit>, read: &mut PieceRead) -> Result<(), Wrong> {
        for (row, misfit) in bad {
            read.bad_rows += 1;
            let failfast = self.reader.records.mode == Mode::FailFast;
            if !failfast && read.bad.len() >= BAD_RECORDS_KEPT_MAX {
                continue;
            }
            let reason = self.reason(batch.column(misfit.column), *row, misfit);
            let bad = BadRecord::new(read.rows + *row as u64 + 1, 0, reason, b"");
            if failfast {
                return Err(Wrong::Stop(Stop::Bad(bad)));
            }
            read.bad.push(bad);
        }
        Ok(())
    }

    /// `field 'n': "x" is not a BIGINT (and 1 more)`
    fn reason(&self, array: &ArrayRef, row: usize, misfit: &Misfit) -> String {
        let Column { declared, .. } = self.columns[misfit.column];
        let field = self.reader.schema.field(declared);
        let value = shown(array, row);
        let more = match misfit.count {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let (value, type_name) = (shortened(value.as_bytes(), 100), type_name(field.data_type()));
        format!("field '{}': {value} is not a {type_name}{more}", field.name())
    }
}
