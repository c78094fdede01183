//! What formats of typed columns share: Parquet and Avro.
//!
//! - Columns are found by their names, as JSON keys are; one that the file lacks is null.
//! - A value that is not of the declared type is cast where it fits; where it does not, it is null and its row a bad record,
//!   named by the number of the row. What fits is what would fit if the value stood in JSON: see `values`.
//! - Only columns that a query needs are converted; of the others those whose values may not fit, so that a bad record is
//!   bad in every query.
//! - A file is used as a whole or not at all: where any part of it that is read is damaged, none of its rows is one.
//! - Its parts are read one after the other, by several threads each its own; rows, bad records and the limits of batches
//!   are a function of the bytes, not of the thread count.
//! - Whatever a file holds, it does not end the process: a panic of a library is damage like any other.

mod bytes;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod hostile;
mod rows;
#[cfg(test)]
pub(in crate::format) mod testing;
mod values;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use datafusion::arrow::datatypes::{DataType, Schema};

pub use self::bytes::AnyBytes;
pub(super) use self::{bytes::read_at, rows::Rows};
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

/// Why a part of a file, or all, was not read to its end.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The file is damaged: why.
    Damage(String),
    /// It holds more than a file may.
    TooMuch,
    Stop(Stop),
}

/// A declared column that is read or checked.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Index among the declared columns.
    pub declared: usize,
    /// Index among the columns of the file.
    pub root: usize,
    /// Index among the columns produced, where it is one.
    pub output: Option<usize>,
}

impl Column {
    /// Whether it must be read: it is wanted, or of a type in the file that not every value of fits.
    pub fn is_needed(&self, reader: &Reader, from: &DataType) -> bool {
        self.output.is_some() || !values::always_fits(from, reader.schema.field(self.declared).data_type())
    }
}

/// Finds declared columns in files.
#[derive(Debug)]
pub(super) struct Names(KeyTable);

impl Names {
    /// `schema`: all declared columns.
    pub fn new(schema: &Schema) -> Names {
        Names(KeyTable::new(schema.fields().iter().map(|field| field.name().as_str())))
    }

    /// Those that a file has, in its order, by the rule of JSON's keys: the last of equal names, an exact spelling over
    /// others. `except`: declared columns that are not read.
    pub fn find<'n>(&self, reader: &Reader, roots: impl Iterator<Item = &'n str>, except: &[usize]) -> Vec<Column> {
        let mut found: Vec<Option<(usize, bool)>> = vec![None; reader.schema.fields().len()];
        for (root, name) in roots.enumerate() {
            let target = self.0.find(name);
            if let Some((declared, exact)) =
                target.filter(|(at, exact)| *exact || !found[*at].is_some_and(|(_, is)| is))
            {
                found[declared] = Some((root, exact));
            }
        }
        let found = found.into_iter().enumerate().filter_map(|(declared, root)| Some((declared, root?.0)));
        let column = |(declared, root): (usize, usize)| Column { declared, root, output: reader.output_of(declared) };
        let mut columns: Vec<Column> =
            found.map(column).filter(|column| reader.is_read(column.declared, except)).collect();
        columns.sort_by_key(|column| column.root);
        columns
    }
}

/// A file that was opened: what it is made of.
pub(super) trait Parts: Sync {
    /// What the format is called.
    const FORMAT: &'static str;

    /// The columns that are read, in the order of the file.
    fn columns(&self) -> &[Column];

    fn count(&self) -> usize;

    /// Reads the `number`th part, each of its rows through `rows`.
    ///
    /// # Errors
    /// Where it is damaged or too large; the first bad row in `failfast` mode.
    fn read(&self, number: usize, rows: &Rows<'_>) -> std::result::Result<PieceRead, Wrong>;
}

/// A part's number, and what it became.
type Numbered = (usize, std::result::Result<PieceRead, Wrong>);

/// Reads a file with up to `threads` threads.
///
/// # Errors
/// In `failfast` mode the first bad record, of kind `Data`.
pub(super) fn read<P: Parts>(
    reader: &Reader,
    name: &str,
    bytes: Arc<dyn AnyBytes>,
    threads: usize,
    open: impl FnOnce(Arc<dyn AnyBytes>) -> std::result::Result<P, Wrong>,
) -> Result<WholeRead> {
    if bytes.size_bytes() == 0 {
        return Ok(WholeRead::default());
    }
    let memory_bytes_max = limit_bytes(bytes.size_bytes());
    let damaged = |wrong| damaged(P::FORMAT, wrong, memory_bytes_max);
    let file = match caught(P::FORMAT, || open(bytes)) {
        Ok(file) => file,
        Err(wrong) => return Ok(damaged(wrong)),
    };
    let read = |threads| read_parts(&file, &Rows::new(reader, file.columns(), memory_bytes_max), threads);
    let mut parts = read(threads);
    if threads > 1 && parts.iter().any(|(_, part)| matches!(part, Err(Wrong::TooMuch))) {
        // how much was too much depends on who was where
        parts = read(1);
    }
    let mut pieces = Vec::with_capacity(parts.len());
    for (_, part) in parts {
        pieces.push(match part {
            Ok(piece) => Ok(piece),
            Err(Wrong::Stop(stop)) => Err(stop),
            Err(wrong) => return Ok(damaged(wrong)),
        });
    }
    Ok(WholeRead { decoded: join(name, None, pieces.into_iter())?, damage: None })
}

/// What the parts became, in order; after a failure the rest may be missing.
fn read_parts<P: Parts>(file: &P, rows: &Rows<'_>, threads: usize) -> Vec<Numbered> {
    let count = file.count();
    let (next, read) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let take = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        let part = caught(P::FORMAT, || file.read(number, rows));
        if part.is_err() {
            // Parts before this one are taken already; those after it are not needed.
            next.store(count, Ordering::Relaxed);
        }
        read.lock().unwrap_or_else(PoisonError::into_inner).push((number, part));
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
fn caught<T>(format: &str, read: impl FnOnce() -> std::result::Result<T, Wrong>) -> std::result::Result<T, Wrong> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let why = panic_text(panic.as_ref());
        Err(Wrong::Damage(format!("it cannot be read as {format}: the reader gave up: {why}")))
    })
}

fn damaged(format: &str, wrong: Wrong, memory_bytes_max: u64) -> WholeRead {
    let damage = match wrong {
        Wrong::Damage(why) => why,
        Wrong::TooMuch => format!("its rows take more than {memory_bytes_max} bytes of memory, the limit for its size"),
        Wrong::Stop(stop) => format!("it cannot be read as {format}: {stop:?}"),
    };
    WholeRead { decoded: Decoded::default(), damage: Some(damage) }
}
