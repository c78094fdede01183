//! Parquet: files of typed columns, read from their ends.
//!
//! - Columns are found by their names, as JSON keys are; one that the file lacks is null.
//! - A value that is not of the declared type is cast where it fits; where it does not, it is null and its row a bad record,
//!   named by the number of the row. What fits is what would fit if the value stood in JSON: see `values`.
//! - Only columns that a query needs are read; of the others those whose values may not fit, so that a bad record is bad in
//!   every query.
//! - A file is used as a whole or not at all: where any part of it that is read is damaged, none of its rows is one. What
//!   nobody reads is not looked at; what has no checksum may be damaged unseen.
//! - Row groups are read one after the other, by several threads each its own; rows, bad records and the limits of batches
//!   are a function of the bytes, not of the thread count.
//! - Whatever a file holds, it does not end the process: the footer is looked at before the library does (`footer`), which
//!   asks for no bytes that are not there (`bytes`), and a panic of it is damage like any other.

mod bytes;
mod footer;
#[cfg(test)]
mod tests;
mod values;
mod worker;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    basic,
    errors::ParquetError,
};

pub use self::bytes::AnyBytes;
use self::{bytes::Chunks, worker::Worker};
use super::{
    Decoded,
    compress::limit_bytes,
    json::KeyTable,
    pieces::{PieceRead, Stop},
    reader::{Reader, join},
};
use crate::model::{Result, error::panic_text};

/// A file that was read as a whole.
#[derive(Debug, Default)]
pub struct WholeRead {
    /// Its rows; none where it is damaged.
    pub decoded: Decoded,
    /// Why none of it can be used.
    pub damage: Option<String>,
}

/// Why a row group, or all, was not read to its end.
#[derive(Debug)]
enum Wrong {
    /// The file is damaged: why.
    Damage(String),
    /// It holds more than a file may.
    TooMuch,
    Stop(Stop),
}

impl From<ParquetError> for Wrong {
    fn from(error: ParquetError) -> Wrong {
        let text = error.to_string();
        let text = text.trim_start_matches("Parquet error: ").trim_start_matches("External: ");
        Wrong::Damage(format!("it cannot be read as Parquet: {text}"))
    }
}

impl From<datafusion::arrow::error::ArrowError> for Wrong {
    /// What the library says while it reads.
    fn from(error: datafusion::arrow::error::ArrowError) -> Wrong {
        let text = error.to_string();
        let text = text.trim_start_matches("Parquet argument error: ").trim_start_matches("Parquet error: ");
        Wrong::Damage(format!("it cannot be read as Parquet: {text}"))
    }
}

/// What a reader of these files knows beyond its columns.
#[derive(Debug)]
pub(super) struct Parquet {
    names: KeyTable,
}

/// A declared column that is read or checked.
#[derive(Debug)]
struct Column {
    /// Index among the declared columns.
    declared: usize,
    /// Index among the columns of the file.
    root: usize,
    /// Index among the columns produced, where it is one.
    output: Option<usize>,
}

/// One file, its footer read.
struct File {
    bytes: Chunks,
    metadata: ArrowReaderMetadata,
    /// In the order of the file.
    columns: Vec<Column>,
    /// The longest value of fixed length, in bytes.
    fixed_bytes: usize,
    /// More than this its rows may not take in memory.
    memory_bytes_max: u64,
}

/// A row group's number, and what it became.
type Numbered = (usize, Result<PieceRead, Wrong>);

impl Parquet {
    /// `schema`: all declared columns.
    pub fn new(schema: &Schema) -> Parquet {
        Parquet { names: KeyTable::new(schema.fields().iter().map(|field| field.name().as_str())) }
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
    ) -> Result<WholeRead> {
        if bytes.size_bytes() == 0 {
            return Ok(WholeRead::default());
        }
        let file = match caught(|| self.open(reader, Chunks(bytes), except)) {
            Ok(file) => file,
            Err(wrong) => return Ok(damaged(wrong, 0)),
        };
        let mut groups = read_groups(reader, &file, threads);
        if threads > 1 && groups.iter().any(|(_, group)| matches!(group, Err(Wrong::TooMuch))) {
            // how much was too much depends on who was where
            groups = read_groups(reader, &file, 1);
        }
        let mut pieces = Vec::with_capacity(groups.len());
        for (_, group) in groups {
            pieces.push(match group {
                Ok(piece) => Ok(piece),
                Err(Wrong::Stop(stop)) => Err(stop),
                Err(wrong) => return Ok(damaged(wrong, file.memory_bytes_max)),
            });
        }
        Ok(WholeRead { decoded: join(name, None, pieces.into_iter())?, damage: None })
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
        let columns = self.find(reader, metadata.schema(), except);
        Ok(File { bytes, metadata, columns, fixed_bytes, memory_bytes_max: limit_bytes(size_bytes) })
    }

    /// By the rule of JSON's keys: the last of equal names, an exact spelling over others.
    fn find(&self, reader: &Reader, schema: &Schema, except: &[usize]) -> Vec<Column> {
        let mut found: Vec<Option<(usize, bool)>> = vec![None; reader.schema.fields().len()];
        for (root, field) in schema.fields().iter().enumerate() {
            let target = self.names.find(field.name());
            if let Some((declared, exact)) =
                target.filter(|(at, exact)| *exact || !found[*at].is_some_and(|(_, is)| is))
            {
                found[declared] = Some((root, exact));
            }
        }
        let found = found.into_iter().enumerate().filter_map(|(declared, root)| Some((declared, root?.0)));
        let column = |(declared, root): (usize, usize)| Column { declared, root, output: reader.output_of(declared) };
        let mut columns: Vec<Column> = found
            .map(column)
            .filter(|column| reader.is_read(column.declared, except))
            .filter(|column| {
                let types = (schema.field(column.root).data_type(), reader.schema.field(column.declared).data_type());
                column.output.is_some() || !values::always_fits(types.0, types.1)
            })
            .collect();
        columns.sort_by_key(|column| column.root);
        columns
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

/// What the row groups became, in order; after a failure the rest may be missing.
fn read_groups(reader: &Reader, file: &File, threads: usize) -> Vec<Numbered> {
    let count = file.metadata.metadata().num_row_groups();
    let (next, read) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = Worker::new(reader, file);
    let take = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        let group = caught(|| worker.read(number));
        if group.is_err() {
            // Groups before this one are taken already; those after it are not needed.
            next.store(count, Ordering::Relaxed);
        }
        read.lock().unwrap_or_else(PoisonError::into_inner).push((number, group));
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, take) {
                tracing::warn!(%error, "no more threads for reading; going on with fewer");
                break;
            }
        }
        take();
    });
    let mut read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
    read.sort_unstable_by_key(|(number, _)| *number);
    read
}

/// A panic of the library is damage: it has found what it did not think possible.
fn caught<T>(read: impl FnOnce() -> Result<T, Wrong>) -> Result<T, Wrong> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        Err(Wrong::Damage(format!("it cannot be read as Parquet: the reader gave up: {}", panic_text(panic.as_ref()))))
    })
}

fn damaged(wrong: Wrong, memory_bytes_max: u64) -> WholeRead {
    let damage = match wrong {
        Wrong::Damage(why) => why,
        Wrong::TooMuch => format!("its rows take more than {memory_bytes_max} bytes of memory, the limit for its size"),
        Wrong::Stop(stop) => format!("it cannot be read as Parquet: {stop:?}"),
    };
    WholeRead { decoded: Decoded::default(), damage: Some(damage) }
}
