//! Reads files, of whatever format, into Arrow.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::{
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
};

use super::{
    BAD_RECORDS_KEPT_MAX, BadRecord, Decoded,
    avro::Avro,
    columnar::{AnyBytes, WholeRead},
    fields::{self, Fields},
    json::{self, Json},
    parquet::Parquet,
    pieces::{InMemory, Piece, PieceRead, Pieces, Stop},
    rows::each_line,
};
use crate::{
    job::{FormatKind, FormatSpec, Mode, RecordOptions},
    model::{Error, Place, Result},
};

/// Reads one source's files into Arrow. Built once per source; reads any number of files, from any thread.
#[derive(Debug)]
pub struct Reader {
    pub(super) schema: SchemaRef,
    /// Indexes of the columns produced, ascending.
    pub(super) projection: Vec<usize>,
    pub(super) output_schema: SchemaRef,
    pub(super) records: RecordOptions,
    pub(super) sizes: Sizes,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Json(Json),
    Fields(Fields),
    Parquet(Parquet),
    Avro(Avro),
}

/// One thread's part of reading a file.
enum Worker<'r> {
    Json(Box<json::Worker<'r>>),
    Fields(Box<fields::Worker<'r>>),
}

/// A piece that outlives the buffer it was read into.
struct KeptPiece {
    number: usize,
    offset: u64,
    bytes: Vec<u8>,
}

/// A piece's number, and what it became.
type Numbered = (usize, Result<PieceRead, Stop>);

/// How input is cut; no result but the ends of batches depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Threads take pieces of a file of about this size, one after the other: few enough bytes to stay in the processor's
    /// cache between being read and being parsed. Batches end where pieces do.
    pub piece_bytes: usize,
    /// UTF-8 is checked in blocks that stay in the processor's cache until they are parsed.
    pub block_bytes: usize,
    /// Rows of a full batch.
    pub batch_rows: usize,
}

const SIZES: Sizes = Sizes { piece_bytes: 512 << 10, block_bytes: 128 << 10, batch_rows: 8192 };

impl Reader {
    /// `schema`: all declared columns, nullable. `projection`: indexes of the columns to produce, ascending;
    /// may be empty, then batches have row counts only. Indexes beyond the schema are ignored.
    ///
    /// # Errors
    /// Of kind `Usage` where the format's pattern is none.
    pub fn new(schema: SchemaRef, mut projection: Vec<usize>, format: &FormatSpec) -> Result<Reader> {
        projection.retain(|&column| column < schema.fields().len());
        let output: Vec<_> = projection.iter().map(|&column| Arc::clone(&schema.fields()[column])).collect();
        let records = format.records.clone();
        let format = match &format.kind {
            FormatKind::Json { depth_max } => Format::Json(Json::new(&schema, *depth_max)),
            FormatKind::Parquet => Format::Parquet(Parquet::new(&schema)),
            FormatKind::Avro => Format::Avro(Avro::new(&schema)),
            kind => Format::Fields(Fields::new(&schema, kind)?),
        };
        Ok(Reader { output_schema: Arc::new(Schema::new(output)), schema, projection, records, sizes: SIZES, format })
    }

    /// The projected columns in declared order.
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }

    /// How large the pieces of a file are.
    pub fn piece_bytes(&self) -> usize {
        self.sizes.piece_bytes
    }

    /// Decodes the bytes of one file of lines with up to `threads` threads; the result does not depend on how many.
    /// `file` is for errors.
    ///
    /// # Errors
    /// In `failfast` mode the first bad record, of kind `Data`.
    pub fn decode(&self, file: &str, bytes: &[u8], threads: usize) -> Result<Decoded> {
        let pieces = InMemory::new(bytes, self.sizes.piece_bytes);
        let threads = threads.min(bytes.len().div_ceil(self.sizes.piece_bytes));
        self.decode_pieces(file, &pieces, threads, &[], &mut Vec::new())
    }

    /// Whether files are no lines, and so cannot be read in pieces: then [`Reader::decode_whole`] reads them, and
    /// [`Reader::decode_pieces`] must not be called.
    pub fn takes_wholes(&self) -> bool {
        matches!(self.format, Format::Parquet(_) | Format::Avro(_))
    }

    /// As [`Reader::decode_pieces`], with a file of which any part can be had; what is wrong with all of it is told
    /// beside the rows, whatever the mode.
    ///
    /// # Errors
    /// As [`Reader::decode`].
    pub fn decode_whole(
        &self,
        file: &str,
        bytes: Arc<dyn AnyBytes>,
        threads: usize,
        except: &[usize],
    ) -> Result<WholeRead> {
        match &self.format {
            Format::Parquet(parquet) => parquet.read(self, file, bytes, threads, except),
            Format::Avro(avro) => avro.read(self, file, bytes, threads, except),
            Format::Json(_) | Format::Fields(_) => unreachable!("files of lines are read in pieces"),
        }
    }

    /// As [`Reader::decode`], with a file that comes in pieces (of about [`Reader::piece_bytes`]). The declared
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
        // what the first line says of all others must be known before anyone reads them
        let mut first_buffer = Vec::new();
        let mut blank = Vec::new();
        let kept;
        let (layout, first) = match &self.format {
            Format::Json(_) | Format::Parquet(_) | Format::Avro(_) => (None, None),
            Format::Fields(fields) => {
                let Some((number, first)) = pieces.next(&mut first_buffer) else { return Ok(Decoded::default()) };
                let mut first = (number, first);
                if fields.is_all_blank(first.1) {
                    blank.push(self.blank_piece(first)?);
                    kept = self.first_with_text(fields, pieces, &mut blank)?;
                    match &kept {
                        Some(text) => first = (text.number, Piece { bytes: &text.bytes, offset: text.offset }),
                        None => return join(file, None, blank.into_iter().map(|(_, read)| read)),
                    }
                }
                (Some(fields.layout(self, except, first.1)), Some(first))
            }
        };
        let header_piece = first.map_or(0, |(number, _)| number);
        let worker = || match (&self.format, &layout) {
            (Format::Fields(fields), Some(layout)) => {
                Worker::Fields(Box::new(fields::Worker::new(self, fields, (layout, header_piece), except)))
            }
            (Format::Json(json), _) => Worker::Json(Box::new(json::Worker::new(self, json, except))),
            (Format::Fields(_), None) => unreachable!("fields have a layout"),
            (Format::Parquet(_) | Format::Avro(_), _) => unreachable!("its files are read as wholes"),
        };
        let lines_before: u64 = blank.iter().filter_map(|(_, read)| read.as_ref().ok()).map(|read| read.lines).sum();
        let problem = layout.as_ref().and_then(|layout| layout.problem.clone());
        let problem = problem.map(|bad| BadRecord { line: bad.line + lines_before, ..bad });
        if let Some(bad) = problem.clone().filter(|_| self.records.mode == Mode::FailFast) {
            return Err(refusal(file, 0, Stop::Bad(bad)));
        }
        let read = Mutex::new(blank);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                let work = || take_pieces(worker(), pieces, &mut Vec::new(), &read);
                if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                    tracing::warn!(%error, "no more threads for reading; going on with fewer");
                    break;
                }
            }
            let mut own = worker();
            if first.is_none_or(|first| read_piece(&mut own, first, pieces, &read)) {
                take_pieces(own, pieces, buffer, &read);
            }
        });
        let mut read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        read.sort_unstable_by_key(|(number, _)| *number);
        join(file, problem, read.into_iter().map(|(_, result)| result))
    }

    /// The first piece that is not all blank, behind those that are.
    fn first_with_text(
        &self,
        fields: &Fields,
        pieces: &dyn Pieces,
        blank: &mut Vec<Numbered>,
    ) -> Result<Option<KeptPiece>> {
        let mut buffer = Vec::new();
        while let Some((number, piece)) = pieces.next(&mut buffer) {
            if !fields.is_all_blank(piece) {
                return Ok(Some(KeptPiece { number, offset: piece.offset, bytes: piece.bytes.to_vec() }));
            }
            blank.push(self.blank_piece((number, piece))?);
        }
        Ok(None)
    }

    /// What becomes of a piece of blank lines: it counts.
    fn blank_piece(&self, (number, piece): (usize, Piece<'_>)) -> Result<Numbered> {
        let lines = each_line(piece, self.sizes.block_bytes, |_, _| Ok(()));
        let lines = lines.map_err(|stop| refusal("", 0, stop))?;
        Ok((number, Ok(PieceRead { lines, ..PieceRead::default() })))
    }

    /// Whether a declared column's values stand in records.
    pub(super) fn is_read(&self, column: usize, except: &[usize]) -> bool {
        self.records.corrupt_column != Some(column) && !except.contains(&column)
    }

    /// Where a declared column is among those produced.
    pub(super) fn output_of(&self, column: usize) -> Option<usize> {
        self.projection.iter().position(|&output| output == column)
    }
}

/// One thread's part: piece after piece.
fn take_pieces(mut worker: Worker<'_>, pieces: &dyn Pieces, buffer: &mut Vec<u8>, read: &Mutex<Vec<Numbered>>) {
    while let Some(next) = pieces.next(buffer) {
        if !read_piece(&mut worker, next, pieces, read) {
            return;
        }
    }
}

/// Whether there is a reason to go on: no bad record that ends it all.
fn read_piece(
    worker: &mut Worker<'_>,
    (number, piece): (usize, Piece<'_>),
    pieces: &dyn Pieces,
    read: &Mutex<Vec<Numbered>>,
) -> bool {
    let result = match worker {
        Worker::Json(worker) => worker.read(piece),
        Worker::Fields(worker) => worker.read(number, piece),
    };
    let good = result.is_ok();
    if !good {
        // Pieces before this one are taken already; those after it are not needed.
        pieces.give_up();
    }
    read.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
    good
}

/// What the pieces became, in order; after a failure the rest may be missing. `problem`: what is wrong with the whole file.
pub(super) fn join(
    file: &str,
    problem: Option<BadRecord>,
    pieces: impl Iterator<Item = Result<PieceRead, Stop>>,
) -> Result<Decoded> {
    let mut decoded = Decoded::default();
    problem.into_iter().for_each(|problem| decoded.add_bad(problem));
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

fn refusal(file: &str, lines_before: u64, stop: Stop) -> Error {
    match stop {
        Stop::Bad(bad) => Error::data("a bad record, and mode is 'failfast'")
            .at(Place::Input { file: file.to_owned(), line: lines_before + bad.line, byte: bad.byte })
            .because(bad.reason)
            .help(
                "mend or remove the record, then run again; or set mode = 'permissive' to have it counted and reported",
            ),
        Stop::Arrow(error) => {
            let failed = Error::failed(format!("cannot build a record batch from '{file}'")).because(error.to_string());
            match error {
                ArrowError::MemoryError(_) => {
                    failed.help("give the job more memory, or fewer --threads, then run again")
                }
                _ => failed,
            }
        }
    }
}
