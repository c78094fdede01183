//! Newline-delimited JSON, read as Spark reads it, and stricter where Spark guesses.
//!
//! A scanner of our own goes from bytes to Arrow: it predicts the order of keys from the record before, and
//! keeps only where the wanted values are. Whatever is projected, each line is validated to its end and every
//! declared column is type-checked, so that a bad record is bad in every query.
//!
//! Decided here:
//! - Strict RFC 8259, as `serde_json`: no control characters in strings, no halves of surrogate pairs, no
//!   comments, no `NaN`. Numbers beyond a type's range are field errors, `STRING` takes them as written.
//! - The last of equal keys wins; a key spelled as declared wins over one that differs in case.
//! - `TIMESTAMP` numbers are seconds, cut down to the microsecond; `DECIMAL` rounds half away from zero.
//! - Depth counts from 1 for the outermost object or array. A line longer than the limit gives only as much of its
//!   raw text as the limit allows; no line may exceed 512 MiB, whatever the limit.
//! - A field error or malformed element makes an array's whole line one bad record; `[]` is no record.
//! - Results, bad records and the limits of batches are a function of the bytes, not of the thread count.

mod columns;
mod escape;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod keys;
#[cfg(test)]
mod properties;
mod record;
#[cfg(any(test, feature = "fuzz"))]
mod reference;
mod scan;
#[cfg(test)]
mod tests;
mod value;
mod worker;

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::{
    array::ArrayRef,
    datatypes::{DataType, Schema, SchemaRef, TimeUnit},
};

use self::{
    columns::Column,
    keys::KeyTable,
    scan::{Shape, Token},
    value::{Kind, Parsed},
    worker::Worker,
};
use super::{
    BAD_RECORDS_KEPT_MAX, Decoded,
    pieces::{InMemory, PieceRead, Pieces, Stop},
};
use crate::{
    job::JsonOptions,
    model::{Error, Place, Result},
};

/// The one kind of time stamp: microseconds, UTC.
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
/// The longest line whatever the options say: its text must fit a string array.
const LINE_BYTES_CAP: usize = 512 << 20;

/// Reads newline-delimited JSON into Arrow. Built once per source; reads any number of files, from any thread.
#[derive(Debug)]
pub struct JsonReader {
    schema: SchemaRef,
    /// Indexes of the columns produced, ascending.
    projection: Vec<usize>,
    output_schema: SchemaRef,
    options: JsonOptions,
    keys: KeyTable,
    sizes: Sizes,
}

/// A piece's number, and what it became.
type Numbered = (usize, Result<PieceRead, Stop>);

/// How input is cut; no result but the ends of batches depends on it.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Threads take pieces of a file of about this size, one after the other: few enough bytes to stay in the processor's
    /// cache between being read and being parsed. Batches end where pieces do.
    piece_bytes: usize,
    /// UTF-8 is checked in blocks that stay in the processor's cache until they are parsed.
    block_bytes: usize,
    /// Rows of a full batch.
    batch_rows: usize,
}

const SIZES: Sizes = Sizes { piece_bytes: 512 << 10, block_bytes: 128 << 10, batch_rows: 8192 };

impl JsonReader {
    /// `schema`: all declared columns, nullable. `projection`: indexes of the columns to produce, ascending;
    /// may be empty, then batches have row counts only. Indexes beyond the schema are ignored.
    pub fn new(schema: SchemaRef, mut projection: Vec<usize>, options: JsonOptions) -> JsonReader {
        projection.retain(|&column| column < schema.fields().len());
        let output: Vec<_> = projection.iter().map(|&column| Arc::clone(&schema.fields()[column])).collect();
        let keys = KeyTable::new(schema.fields().iter().map(|field| field.name().as_str()));
        JsonReader { output_schema: Arc::new(Schema::new(output)), schema, projection, options, keys, sizes: SIZES }
    }

    /// The projected columns in declared order.
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }

    /// Decodes one file's bytes with up to `threads` threads; the result does not depend on how many.
    /// `file` is for errors.
    ///
    /// # Errors
    /// In `failfast` mode the first bad record, of kind `Data`.
    pub fn decode(&self, file: &str, bytes: &[u8], threads: usize) -> Result<Decoded> {
        let pieces = InMemory::new(bytes, self.sizes.piece_bytes);
        let threads = threads.min(bytes.len().div_ceil(self.sizes.piece_bytes));
        self.decode_pieces(file, &pieces, threads, &[], &mut Vec::new())
    }

    /// As [`JsonReader::decode`], with a file that comes in pieces (of about [`JsonReader::piece_bytes`]). The declared
    /// columns `except` are neither read nor checked, but null: their values come from elsewhere (the file's path).
    /// `buffer` is the calling thread's, whatever is in it.
    ///
    /// # Errors
    /// In `failfast` mode the first bad record, of kind `Data`.
    pub fn decode_pieces(
        &self,
        file: &str,
        pieces: &dyn Pieces,
        threads: usize,
        except: &[usize],
        buffer: &mut Vec<u8>,
    ) -> Result<Decoded> {
        let read = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                let work = || self.work(pieces, except, &mut Vec::new(), &read);
                if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                    tracing::warn!(%error, "no more threads for reading; going on with fewer");
                    break;
                }
            }
            self.work(pieces, except, buffer, &read);
        });
        let mut read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        read.sort_unstable_by_key(|(number, _)| *number);
        self.join(file, read.into_iter().map(|(_, result)| result))
    }

    /// How large the pieces of a file are.
    pub fn piece_bytes(&self) -> usize {
        self.sizes.piece_bytes
    }

    /// Where a declared column is among those produced.
    fn output_of(&self, column: usize) -> Option<usize> {
        self.projection.iter().position(|&output| output == column)
    }

    /// One thread's part: piece after piece.
    fn work(&self, pieces: &dyn Pieces, except: &[usize], buffer: &mut Vec<u8>, read: &Mutex<Vec<Numbered>>) {
        let mut worker = Worker::new(self, except);
        while let Some((number, piece)) = pieces.next(buffer) {
            let result = worker.read(piece);
            let failed = result.is_err();
            if failed {
                // Pieces before this one are taken already; those after it are not needed.
                pieces.give_up();
            }
            read.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
            if failed {
                return;
            }
        }
    }

    /// What the pieces became, in order; after a failure the rest may be missing.
    fn join(&self, file: &str, pieces: impl Iterator<Item = Result<PieceRead, Stop>>) -> Result<Decoded> {
        let mut decoded = Decoded::default();
        for piece in pieces {
            let piece = piece.map_err(|stop| refusal(file, decoded.lines, stop))?;
            decoded.batches.extend(piece.batches);
            decoded.rows += piece.rows;
            decoded.bad_rows += piece.bad_rows;
            let room = BAD_RECORDS_KEPT_MAX - decoded.bad.len();
            decoded.bad.extend(piece.bad.into_iter().take(room).map(|mut bad| {
                bad.line += decoded.lines;
                bad
            }));
            decoded.lines += piece.lines;
        }
        Ok(decoded)
    }
}

fn refusal(file: &str, lines_before: u64, stop: Stop) -> Error {
    match stop {
        Stop::Bad(bad) => Error::data("a bad record, and mode is 'failfast'")
            .at(Place::Input { file: file.to_owned(), line: lines_before + bad.line, byte: bad.byte })
            .because(bad.reason)
            .help(
                "mend or remove the record, then run again; or set mode = 'permissive' to have it counted and reported",
            ),
        Stop::Arrow(error) => {
            Error::failed(format!("cannot build a record batch from '{file}'")).because(error.to_string())
        }
    }
}

/// One value of a column's type for all rows of a file: what its path says.
#[derive(Debug, Clone)]
pub struct Constant {
    data_type: DataType,
    value: Parsed,
    text: String,
}

impl Constant {
    /// The null of a type.
    pub fn null(data_type: &DataType) -> Constant {
        Constant { data_type: data_type.clone(), value: Parsed::Null, text: String::new() }
    }

    /// From plain text: numbers (`07` too), `true`, `2026-01-31`, ...
    ///
    /// # Errors
    /// Says that the text is not of the type.
    pub fn parse(data_type: &DataType, text: &str) -> Result<Constant, String> {
        let kind = Kind::of(data_type);
        let value = kind.parse_plain(text).ok_or_else(|| format!("'{text}' is not a {}", kind.sql_name()))?;
        Ok(Constant { data_type: data_type.clone(), value, text: text.to_owned() })
    }

    /// The value `rows` times.
    ///
    /// # Errors
    /// Where Arrow refuses the column.
    pub fn array(&self, rows: usize) -> Result<ArrayRef> {
        let token = Token::new(Shape::Text, 0, self.text.len());
        let mut column = Column::new(&self.data_type, rows);
        for _ in 0..rows {
            column.push(&self.value, &token, self.text.as_bytes());
        }
        column
            .finish(0)
            .map_err(|error| Error::failed("cannot build a column from a folder's name").because(error.to_string()))
    }
}
