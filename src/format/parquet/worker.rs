//! One row group: its columns to declared types, its bad rows told.

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
    record_batch::{RecordBatch, RecordBatchOptions},
};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::{
    Column, File, Wrong,
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

/// A batch of values of fixed length takes at most about this much (64 MiB).
const FIXED_BATCH_BYTES: usize = 64 << 20;

/// Reads row groups of one file, from any thread.
pub(super) struct Worker<'f> {
    reader: &'f Reader,
    file: &'f File,
    mask: ProjectionMask,
    /// What all rows so far take in memory.
    taken_bytes: AtomicU64,
}

/// A value that is none of its column's type.
struct Misfit {
    /// Index among the file's columns that are read.
    column: usize,
    /// How many values of the row are misfits.
    count: usize,
}

impl<'f> Worker<'f> {
    pub fn new(reader: &'f Reader, file: &'f File) -> Worker<'f> {
        let roots = file.columns.iter().map(|column| column.root);
        let mask = ProjectionMask::roots(file.metadata.parquet_schema(), roots);
        Worker { reader, file, mask, taken_bytes: AtomicU64::new(0) }
    }

    /// Reads the `number`th row group.
    ///
    /// # Errors
    /// Where it is damaged or too large; the first bad row in `failfast` mode.
    pub fn read(&self, number: usize) -> Result<PieceRead, Wrong> {
        let File { bytes, metadata, fixed_bytes, .. } = self.file;
        let claimed = metadata.metadata().row_group(number).num_rows();
        let claimed = u64::try_from(claimed).map_err(|_| Wrong::Damage(format!("it claims {claimed} rows")))?;
        let batch_rows = (FIXED_BATCH_BYTES / fixed_bytes.max(&1)).clamp(1, self.reader.sizes.batch_rows);
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
            .with_projection(self.mask.clone())
            .with_row_groups(vec![number])
            .with_batch_size(batch_rows)
            .build()?;
        let mut read = PieceRead::default();
        for batch in batches {
            self.take(&batch?, &mut read)?;
        }
        // rows are the lines of this format
        read.lines = read.rows;
        if read.rows != claimed {
            return Err(Wrong::Damage(format!("a row group has {} rows, and claims {claimed}", read.rows)));
        }
        Ok(read)
    }

    fn take(&self, batch: &RecordBatch, read: &mut PieceRead) -> Result<(), Wrong> {
        let columns = batch.columns().iter().zip(&self.file.columns);
        let types = self.reader.schema.fields();
        let converted = columns.map(|(array, column)| convert(array, types[column.declared].data_type()));
        let converted = converted.collect::<Result<Vec<Converted>, _>>().map_err(|error| Wrong::Stop(error.into()))?;
        let bad = self.misfits(&converted);
        self.report(batch, &bad, read)?;
        read.rows += batch.num_rows() as u64;

        let output = self.reader.output_schema.fields().iter().enumerate();
        let source = |output: usize| self.file.columns.iter().position(|column| column.output == Some(output));
        let arrays = output.map(|(at, field)| match source(at) {
            Some(at) => Arc::clone(&converted[at].array),
            None => new_null_array(field.data_type(), batch.num_rows()),
        });
        let made = self.made(arrays.collect(), batch.num_rows(), &bad).map_err(|error| Wrong::Stop(error.into()))?;
        // rows without columns count, too: there can be any number in a few bytes
        let taken = made.get_array_memory_size().max(made.num_rows()) as u64;
        if self.taken_bytes.fetch_add(taken, Ordering::Relaxed).saturating_add(taken) > self.file.memory_bytes_max {
            return Err(Wrong::TooMuch);
        }
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
    ) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
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
        let declared = |at: usize| self.file.columns[at].declared;
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
        let Column { declared, .. } = self.file.columns[misfit.column];
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
