//! Parquet: files of typed columns, read from their ends.
//!
//! - Beside the rules that all such formats have (`columnar`): what nobody reads is not looked at; what has no checksum may
//!   be damaged unseen. Row groups are the parts that threads share.
//! - The footer is looked at before the library does (`footer`), which asks for no bytes that are not there (`bytes`).

mod bytes;
mod footer;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::arrow::{
    datatypes::{DataType, Field, Schema, TimeUnit},
    error::ArrowError,
};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    basic,
    errors::ParquetError,
};

use self::bytes::Chunks;
use super::{
    columnar::{self, AnyBytes, Column, Names, Parts, Rows, WholeRead, Wrong},
    pieces::PieceRead,
    reader::Reader,
};

/// A batch of values of fixed length takes at most about this much (64 MiB).
const FIXED_BATCH_BYTES: usize = 64 << 20;

impl From<ParquetError> for Wrong {
    fn from(error: ParquetError) -> Wrong {
        let text = error.to_string();
        let text = text.trim_start_matches("Parquet error: ").trim_start_matches("External: ");
        Wrong::Damage(format!("it cannot be read as Parquet: {text}"))
    }
}

/// What the library says while it reads.
fn unreadable(error: &ArrowError) -> Wrong {
    let text = error.to_string();
    let text = text.trim_start_matches("Parquet argument error: ").trim_start_matches("Parquet error: ");
    Wrong::Damage(format!("it cannot be read as Parquet: {text}"))
}

/// What a reader of these files knows beyond its columns.
#[derive(Debug)]
pub(super) struct Parquet {
    names: Names,
}

/// One file, its footer read.
struct File {
    bytes: Chunks,
    metadata: ArrowReaderMetadata,
    columns: Vec<Column>,
    /// Those columns for the library.
    mask: ProjectionMask,
    /// The longest value of fixed length, in bytes.
    fixed_bytes: usize,
}

impl Parquet {
    /// `schema`: all declared columns.
    pub fn new(schema: &Schema) -> Parquet {
        Parquet { names: Names::new(schema) }
    }

    /// Reads a file with up to `threads` threads. `except`: declared columns that are not read.
    ///
    /// # Errors
    /// In `failfast` mode the first bad record, of kind `Data`.
    pub fn read(
        &self,
        reader: &Reader,
        name: &str,
        bytes: Arc<dyn AnyBytes>,
        threads: usize,
        except: &[usize],
    ) -> crate::model::Result<WholeRead> {
        columnar::read(reader, name, bytes, threads, |bytes| self.open(reader, Chunks(bytes), except))
    }

    /// Reads the footer, and finds the columns.
    fn open(&self, reader: &Reader, bytes: Chunks, except: &[usize]) -> Result<File, Wrong> {
        let size_bytes = bytes.0.size_bytes();
        let tail_at = size_bytes.checked_sub(footer::TAIL_BYTES);
        let tail_at =
            tail_at.ok_or_else(|| Wrong::Damage(format!("it has {size_bytes} bytes, too few for Parquet")))?;
        let mut tail = [0; footer::TAIL_BYTES as usize];
        bytes.0.fill(&mut tail, tail_at).map_err(ParquetError::from)?;
        let start = footer::start(size_bytes, tail).map_err(Wrong::Damage)?;
        let length = usize::try_from(tail_at - start).unwrap_or(usize::MAX);
        let fixed_bytes = footer::check(&bytes.read(start, length)?).map_err(Wrong::Damage)?;

        // the schema that Arrow may have left in the file is another thing to be wrong, and says nothing that is needed
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = with_long_times(ArrowReaderMetadata::load(&bytes, options)?)?;
        let schema = metadata.schema();
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let mut columns = self.names.find(reader, names, except);
        columns.retain(|column| column.is_needed(reader, schema.field(column.root).data_type()));
        let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().map(|column| column.root));
        Ok(File { bytes, metadata, columns, mask, fixed_bytes })
    }
}

impl Parts for File {
    const FORMAT: &'static str = "Parquet";

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Of row groups.
    fn count(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    fn read(&self, number: usize, rows: &Rows<'_>) -> Result<PieceRead, Wrong> {
        let claimed = self.metadata.metadata().row_group(number).num_rows();
        let claimed = u64::try_from(claimed).map_err(|_| Wrong::Damage(format!("it claims {claimed} rows")))?;
        let batch_rows = (FIXED_BATCH_BYTES / self.fixed_bytes.max(1)).clamp(1, rows.batch_rows());
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone())
            .with_projection(self.mask.clone())
            .with_row_groups(vec![number])
            .with_batch_size(batch_rows)
            .build()?;
        let mut read = PieceRead::default();
        for batch in batches {
            rows.take(&batch.map_err(|error| unreadable(&error))?, &mut read)?;
        }
        // rows are the lines of this format
        read.lines = read.rows;
        if read.rows != claimed {
            return Err(Wrong::Damage(format!("a row group has {} rows, and claims {claimed}", read.rows)));
        }
        Ok(read)
    }
}

/// The times of old writers (INT96) go beyond what nanoseconds reach.
fn with_long_times(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let roots = metadata.parquet_schema().root_schema().get_fields();
    let is_old = |at: usize| {
        roots.get(at).is_some_and(|root| root.is_primitive() && root.get_physical_type() == basic::Type::INT96)
    };
    if roots.len() != metadata.schema().fields().len() || !(0..roots.len()).any(is_old) {
        return Ok(metadata);
    }
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let field = |(at, field): (usize, &Arc<Field>)| match is_old(at) {
        true => Arc::new(field.as_ref().clone().with_data_type(micros.clone())),
        false => Arc::clone(field),
    };
    let fields: Vec<_> = metadata.schema().fields().iter().enumerate().map(field).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata.schema().metadata().clone()));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), ArrowReaderOptions::new().with_schema(schema))
}
