//! Avro: files of rows in blocks, behind the schema that they were written with.
//!
//! - Beside the rules that all such formats have (`columnar`): the container, its blocks and their codecs are read here
//!   (`container`, `unpack`), the values by the library, which is given the blocks of a run as one, unpacked.
//! - Before that each row is gone over (`walk`), and the schema is resolved and written anew (`schema`), so that the library
//!   sees nothing that it could not end with, and only columns that are read.
//! - Runs of blocks are the parts that threads share. Every block is looked for before one is read, so that a file that is
//!   cut off is damaged whichever columns are read.

mod container;
mod schema;
#[cfg(test)]
mod tests;
mod unpack;
mod walk;

use std::{io::Read, sync::Arc};

use arrow_avro::reader::ReaderBuilder;
use datafusion::arrow::{
    array::{ArrayRef, NullArray},
    datatypes::{DataType, Field, Schema},
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};

use self::{
    container::{MAGIC, MARKER_BYTES, Run, next_block},
    unpack::Codec,
    walk::{Kept, Lost, walk},
};
use super::{
    columnar::{self, AnyBytes, Column, Names, Parts, Rows, WholeRead, Wrong, read_at},
    pieces::PieceRead,
    reader::Reader,
};

/// A batch takes about this much memory at most (64 MiB).
const BATCH_BYTES: u64 = 64 << 20;

/// What a reader of these files knows beyond its columns.
#[derive(Debug)]
pub(super) struct Avro {
    names: Names,
}

/// One file, its header read and its blocks found.
struct File {
    bytes: Arc<dyn AnyBytes>,
    codec: Codec,
    /// All columns of the file ...
    fields: Vec<schema::Field>,
    /// ... and those that are read.
    columns: Vec<Column>,
    /// The header of a file of those columns, for the library.
    header: Vec<u8>,
    runs: Vec<Run>,
}

impl Avro {
    /// `schema`: all declared columns.
    pub fn new(schema: &Schema) -> Avro {
        Avro { names: Names::new(schema) }
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
        columnar::read(reader, name, bytes, threads, |bytes| self.open(reader, bytes, except))
    }

    /// Reads the header, and finds columns and blocks.
    fn open(&self, reader: &Reader, bytes: Arc<dyn AnyBytes>, except: &[usize]) -> Result<File, Wrong> {
        let (header, runs) = container::open(&bytes, reader.sizes.piece_bytes as u64)?;
        let codec = Codec::of(&header.codec)?;
        let fields = schema::columns(&header.schema).map_err(Wrong::Damage)?;
        let mut columns = self.names.find(reader, fields.iter().map(|field| field.name.as_str()), except);
        let header = library_header(&columns, &fields);
        let library = ReaderBuilder::new().build(&header[..]).map_err(|error| unreadable(&error))?;
        let types = library.schema();
        let mut types = types.fields().iter();
        columns.retain(|column| types.next().is_some_and(|field| column.is_needed(reader, field.data_type())));
        let header = library_header(&columns, &fields);
        Ok(File { bytes, codec, fields, columns, header, runs })
    }
}

impl Parts for File {
    const FORMAT: &'static str = "Avro";

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Of runs of blocks.
    fn count(&self) -> usize {
        self.runs.len()
    }

    fn read(&self, number: usize, rows: &Rows<'_>) -> Result<PieceRead, Wrong> {
        let kept = self.walk(&self.runs[number], rows)?;
        let mut read = PieceRead::default();
        let row_bytes = kept.memory_bytes / kept.rows.max(1);
        let batch_rows = usize::try_from(BATCH_BYTES / row_bytes.max(1)).unwrap_or(usize::MAX);
        let batch_rows = batch_rows.clamp(1, rows.batch_rows());
        if kept.bytes.is_empty() {
            self.take_empty(kept.rows, batch_rows, rows, &mut read)?;
        } else {
            let (mut block, marker) = (self.header.clone(), [0; MARKER_BYTES]);
            put_number(kept.rows, &mut block);
            put_number(kept.bytes.len() as u64, &mut block);
            let container = block.chain(&kept.bytes[..]).chain(&marker[..]);
            let batches = ReaderBuilder::new().with_batch_size(batch_rows).build(container);
            for batch in batches.map_err(|error| unreadable(&error))? {
                rows.take(&batch.map_err(|error| unreadable(&error))?, &mut read)?;
            }
        }
        // rows are the lines of this format
        read.lines = read.rows;
        if read.rows != kept.rows {
            return Err(Wrong::Damage(format!("blocks have {} rows, and claim {}", read.rows, kept.rows)));
        }
        Ok(read)
    }
}

impl File {
    /// Unpacks a run, and keeps of its rows what is read.
    fn walk(&self, run: &Run, rows: &Rows<'_>) -> Result<Kept, Wrong> {
        let unreadable = |error| Wrong::Damage(format!("it cannot be read: {error}"));
        let length = usize::try_from(run.bytes).unwrap_or(usize::MAX);
        let run = read_at(self.bytes.as_ref(), run.offset, length).map_err(unreadable)?;
        let is_read = |at: usize| self.columns.iter().any(|column| column.root == at);
        let columns: Vec<_> = self.fields.iter().enumerate().map(|(at, field)| (field, is_read(at))).collect();
        let (mut rest, mut kept) = (&run[..], Kept::default());
        while !rest.is_empty() {
            let block = next_block(&mut rest).map_err(Wrong::Damage)?;
            let unpacked = self.codec.unpack(block.packed, rows.memory_bytes_max())?;
            rows.count_unpacked(unpacked.len() as u64)?;
            walk(&columns, &unpacked, block.rows, &mut kept, rows.memory_bytes_max()).map_err(|lost| match lost {
                Lost::TooMuch => Wrong::TooMuch,
                Lost::Damage => Wrong::Damage(format!("a block does not hold the {} rows that it claims", block.rows)),
            })?;
        }
        Ok(kept)
    }

    /// Rows of nothing, which the library passes over.
    fn take_empty(&self, count: u64, batch_rows: usize, rows: &Rows<'_>, read: &mut PieceRead) -> Result<(), Wrong> {
        let fields = self.columns.iter().map(|_| Field::new("", DataType::Null, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        while read.rows < count {
            let some = usize::try_from(count - read.rows).unwrap_or(usize::MAX).min(batch_rows);
            let nulls = self.columns.iter().map(|_| Arc::new(NullArray::new(some)) as ArrayRef).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(some));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), nulls, &options);
            rows.take(&batch.map_err(|error| Wrong::Stop(error.into()))?, read)?;
        }
        Ok(())
    }
}

/// The header of a file that is not packed.
fn library_header(columns: &[Column], fields: &[schema::Field]) -> Vec<u8> {
    let schema = schema::of_columns(columns.iter().map(|column| fields[column.root].of.as_ref())).to_string();
    let mut header = MAGIC.to_vec();
    put_number(1, &mut header);
    for text in ["avro.schema", &schema] {
        put_number(text.len() as u64, &mut header);
        header.extend(text.as_bytes());
    }
    put_number(0, &mut header);
    header.extend([0; MARKER_BYTES]);
    header
}

/// What the library says.
fn unreadable(error: &ArrowError) -> Wrong {
    let text = error.to_string();
    let text = text.trim_start_matches("Avro error: ").trim_start_matches("Parser error: ");
    Wrong::Damage(format!("it cannot be read as Avro: {text}"))
}

/// The next number, and what is behind it; as the library reads it.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (at, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            let fits = at < 9 || *byte < 2;
            return fits.then_some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// A number that is not negative.
fn put_number(number: u64, to: &mut Vec<u8>) {
    let mut left = number << 1;
    while left >= 0x80 {
        to.push(left as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
}
