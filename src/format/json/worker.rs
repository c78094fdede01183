//! One thread's part of reading a file: lines to records, records to columns.

use std::sync::Arc;

use datafusion::arrow::{
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};

use super::{
    JsonReader, LINE_BYTES_CAP,
    columns::Column,
    record::Record,
    scan::{Fault, skip_space},
    value::Parsed,
};
use crate::{
    format::{
        BAD_RECORDS_KEPT_MAX, BadRecord,
        pieces::{Piece, PieceRead, Stop, line_end},
    },
    job::Mode,
};

/// A batch is closed early before its input exceeds this, so that 32-bit string offsets cannot overflow: bad
/// UTF-8 that is replaced grows threefold at most.
const BATCH_BYTES_MAX: usize = i32::MAX as usize / 4;

/// Where a record stands, for reports.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    bytes: &'a [u8],
    /// From 1, within the piece.
    number: u64,
    /// In the file.
    offset: u64,
}

/// Reads pieces of one file, one after the other. What it keeps between them changes speed only.
pub struct Worker<'r> {
    reader: &'r JsonReader,
    record: Record<'r>,
    /// The columns produced, in order.
    columns: Vec<Column>,
    /// Index in `columns` of those that are null unless the record says otherwise: the corrupt column, and
    /// columns that the file's path fills.
    unread: Vec<usize>,
    corrupt: Option<usize>,
    batch_rows: usize,
    batch_bytes: usize,
    read: PieceRead,
}

impl<'r> Worker<'r> {
    /// `except`: declared columns that are not read from the records.
    pub(super) fn new(reader: &'r JsonReader, except: &[usize]) -> Worker<'r> {
        let corrupt = reader.options.corrupt_column;
        let unread = |column| corrupt == Some(column) || except.contains(&column);
        let output_fields = reader.output_schema.fields().iter();
        let rows = reader.sizes.batch_rows;
        Worker {
            reader,
            record: Record::new(reader, unread),
            columns: output_fields.map(|field| Column::new(field.data_type(), rows)).collect(),
            unread: reader
                .projection
                .iter()
                .enumerate()
                .filter_map(|(output, &column)| unread(column).then_some(output))
                .collect(),
            corrupt: corrupt.and_then(|column| reader.output_of(column)),
            batch_rows: 0,
            batch_bytes: 0,
            read: PieceRead::default(),
        }
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// The first bad record in `failfast` mode.
    pub fn read(&mut self, piece: Piece<'_>) -> Result<PieceRead, Stop> {
        let mut start = 0;
        while start < piece.bytes.len() {
            let end = line_end(piece.bytes, (start + self.reader.sizes.block_bytes).min(piece.bytes.len()));
            let block = &piece.bytes[start..end];
            let utf8 = simdutf8::basic::from_utf8(block).is_ok();
            self.block(Piece { bytes: block, offset: piece.offset + start as u64 }, utf8)?;
            start = end;
        }
        self.flush()?;
        Ok(std::mem::take(&mut self.read))
    }

    fn block(&mut self, block: Piece<'_>, utf8: bool) -> Result<(), Stop> {
        let mut start = 0;
        while start < block.bytes.len() {
            let rest = &block.bytes[start..];
            let (length, next) = match memchr::memchr(b'\n', rest) {
                Some(end) => (end, end + 1),
                None => (rest.len(), rest.len()),
            };
            self.read.lines += 1;
            let line = Line {
                bytes: rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]),
                number: self.read.lines,
                offset: block.offset + start as u64,
            };
            self.line(line, utf8)?;
            start += next;
        }
        Ok(())
    }

    fn line(&mut self, line: Line<'_>, utf8: bool) -> Result<(), Stop> {
        let text = line.bytes;
        let start = skip_space(text, 0);
        let Some(&first) = text.get(start) else { return Ok(()) };
        if self.batch_bytes + text.len().min(self.line_bytes_max()) > BATCH_BYTES_MAX {
            self.flush()?;
        }
        if text.len() > self.line_bytes_max() {
            let reason = format!("the line has {} bytes, more than {}", text.len(), self.line_bytes_max());
            return self.unparsable(line, reason);
        }
        if !utf8 && let Err(error) = simdutf8::compat::from_utf8(text) {
            let reason = format!("not UTF-8, from byte {} of the line on", error.valid_up_to());
            return self.unparsable(line, reason);
        }
        match first {
            b'{' => match self.record.scan(text, start, 1).and_then(|end| line_done(text, end)) {
                Ok(()) => self.add(line),
                Err(fault) => self.unparsable(line, not_json(fault)),
            },
            b'[' => match self.check_array(text, start) {
                Ok(()) => self.array(line, start),
                Err(reason) => self.unparsable(line, reason),
            },
            _ => {
                let fault = Fault::new(start, "a record is an object, or an array of objects");
                self.unparsable(line, not_json(fault))
            }
        }
    }

    fn line_bytes_max(&self) -> usize {
        self.reader.options.line_bytes_max.min(LINE_BYTES_CAP)
    }

    /// Whether an array's line is well-formed and all its elements are records without a fault.
    fn check_array(&mut self, text: &[u8], start: usize) -> Result<(), String> {
        let mut at = skip_space(text, start + 1);
        if text.get(at) == Some(&b']') {
            return line_done(text, at + 1).map_err(not_json);
        }
        loop {
            if text.get(at) != Some(&b'{') {
                let fault = Fault::new(at, "an array of records holds objects only");
                return Err(not_json(fault));
            }
            let end = self.record.scan(text, at, 2).map_err(not_json)?;
            if let Some(reason) = self.record.check(text) {
                return Err(reason);
            }
            at = skip_space(text, end);
            match text.get(at) {
                Some(b',') => at = skip_space(text, at + 1),
                Some(b']') => return line_done(text, at + 1).map_err(not_json),
                _ => return Err(not_json(Fault::new(at, "',' or ']' must follow a value"))),
            }
        }
    }

    /// Appends the records of an array that [`Worker::check_array`] found good.
    fn array(&mut self, line: Line<'_>, start: usize) -> Result<(), Stop> {
        let mut at = skip_space(line.bytes, start + 1);
        while line.bytes.get(at) == Some(&b'{') {
            let end = self.record.scan(line.bytes, at, 2);
            at = end.unwrap_or(line.bytes.len());
            self.add(line)?;
            // Over the comma to the next record, or over the closing bracket to the line's end.
            at = skip_space(line.bytes, skip_space(line.bytes, at) + 1);
        }
        Ok(())
    }

    /// Appends the record that was scanned last.
    #[inline(always)]
    fn add(&mut self, line: Line<'_>) -> Result<(), Stop> {
        let wrong = self.record.check(line.bytes);
        let bad = wrong.is_some();
        self.read.rows += 1;
        if let Some(reason) = wrong {
            self.report(line, reason)?;
            if self.reader.options.mode == Mode::DropMalformed {
                return Ok(());
            }
        }
        for (output, value, token) in self.record.outputs() {
            self.columns[output].push(value, token, line.bytes);
        }
        self.push_unread(bad.then_some(line.bytes));
        self.row_done(line.bytes.len())
    }

    fn push_unread(&mut self, corrupt: Option<&[u8]>) {
        for &output in &self.unread {
            match corrupt {
                Some(text) if self.corrupt == Some(output) => {
                    let text = &text[..text.len().min(self.line_bytes_max())];
                    self.columns[output].push_text(String::from_utf8_lossy(text).as_bytes());
                }
                _ => self.columns[output].push_other(Parsed::Null),
            }
        }
    }

    /// A line without a usable record: one bad record, a row of nulls in permissive mode.
    #[cold]
    fn unparsable(&mut self, line: Line<'_>, reason: String) -> Result<(), Stop> {
        self.read.rows += 1;
        self.report(line, reason)?;
        if self.reader.options.mode == Mode::DropMalformed {
            return Ok(());
        }
        for (output, ..) in self.record.outputs() {
            self.columns[output].push_other(Parsed::Null);
        }
        self.push_unread(Some(line.bytes));
        self.row_done(line.bytes.len())
    }

    #[cold]
    fn report(&mut self, line: Line<'_>, reason: String) -> Result<(), Stop> {
        let failfast = self.reader.options.mode == Mode::FailFast;
        self.read.bad_rows += 1;
        if failfast || self.read.bad.len() < BAD_RECORDS_KEPT_MAX {
            let bad = BadRecord::new(line.number, line.offset, reason, line.bytes);
            if failfast {
                return Err(Stop::Bad(bad));
            }
            self.read.bad.push(bad);
        }
        Ok(())
    }

    #[inline(always)]
    fn row_done(&mut self, bytes: usize) -> Result<(), Stop> {
        self.batch_rows += 1;
        self.batch_bytes += bytes;
        if self.batch_rows == self.reader.sizes.batch_rows {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let rows = std::mem::take(&mut self.batch_rows);
        self.batch_bytes = 0;
        if rows == 0 {
            return Ok(());
        }
        let room = self.reader.sizes.batch_rows;
        let columns: Result<Vec<_>, ArrowError> = self.columns.iter_mut().map(|column| column.finish(room)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.reader.output_schema);
        self.read.batches.push(RecordBatch::try_new_with_options(schema, columns?, &options)?);
        Ok(())
    }
}

fn line_done(text: &[u8], at: usize) -> Result<(), Fault> {
    match skip_space(text, at) {
        end if end == text.len() => Ok(()),
        end => Err(Fault::new(end, "text follows behind the record")),
    }
}

#[cold]
fn not_json(fault: Fault) -> String {
    format!("not JSON at byte {} of the line: {}", fault.at, fault.what)
}
