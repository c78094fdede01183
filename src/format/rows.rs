//! Rows being collected into record batches, and the bad records among them: what the readers of all formats share.

use std::sync::Arc;

use datafusion::arrow::{
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};

use super::{
    BAD_RECORDS_KEPT_MAX, BadRecord,
    json::{Column, Parsed},
    pieces::{Piece, PieceRead, Stop, line_end},
    reader::Reader,
};
use crate::job::Mode;

/// A batch is closed early before its input exceeds this, so that 32-bit string offsets cannot overflow: bad
/// UTF-8 that is replaced grows threefold at most.
const BATCH_BYTES_MAX: usize = i32::MAX as usize / 4;

/// The longest line whatever the options say: its text must fit a string array.
const LINE_BYTES_CAP: usize = 512 << 20;

/// A line without its end, and where it stands, for reports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub bytes: &'a [u8],
    /// From 1, within the piece.
    pub number: u64,
    /// In the file.
    pub offset: u64,
}

/// Calls `take` with each line of a piece, and whether all that is around it is UTF-8 (it may be so itself where not);
/// says how many lines there are.
///
/// # Errors
/// The first one of `take`.
#[inline(always)]
pub(super) fn each_line(
    piece: Piece<'_>,
    block_bytes: usize,
    mut take: impl FnMut(Line<'_>, bool) -> Result<(), Stop>,
) -> Result<u64, Stop> {
    let (mut block_start, mut number) = (0, 0);
    while block_start < piece.bytes.len() {
        let block_end = line_end(piece.bytes, (block_start + block_bytes).min(piece.bytes.len()));
        let block = &piece.bytes[block_start..block_end];
        let utf8 = simdutf8::basic::from_utf8(block).is_ok();
        let mut start = 0;
        while start < block.len() {
            let rest = &block[start..];
            let (length, next) = match memchr::memchr(b'\n', rest) {
                Some(end) => (end, end + 1),
                None => (rest.len(), rest.len()),
            };
            number += 1;
            let bytes = rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]);
            take(Line { bytes, number, offset: piece.offset + (block_start + start) as u64 }, utf8)?;
            start += next;
        }
        block_start = block_end;
    }
    Ok(number)
}

/// The rows of a piece, one thread's.
pub(super) struct Rows<'r> {
    reader: &'r Reader,
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

impl<'r> Rows<'r> {
    /// `except`: declared columns that are not read from the records.
    pub fn new(reader: &'r Reader, except: &[usize]) -> Rows<'r> {
        let corrupt = reader.records.corrupt_column;
        let rows = reader.sizes.batch_rows;
        let output_fields = reader.output_schema.fields().iter();
        let outputs = reader.projection.iter().enumerate();
        Rows {
            reader,
            columns: output_fields.map(|field| Column::new(field.data_type(), rows)).collect(),
            unread: outputs
                .filter_map(|(output, &column)| (!reader.is_read(column, except)).then_some(output))
                .collect(),
            corrupt: corrupt.and_then(|column| reader.output_of(column)),
            batch_rows: 0,
            batch_bytes: 0,
            read: PieceRead::default(),
        }
    }

    /// Where the next row's value of a produced column goes.
    #[inline(always)]
    pub fn column(&mut self, output: usize) -> &mut Column {
        &mut self.columns[output]
    }

    /// Prepares for a line; says what is wrong with it whatever it holds: it is too long, or no text.
    ///
    /// # Errors
    /// Where a full batch cannot be made.
    #[inline(always)]
    pub fn check(&mut self, line: Line<'_>, utf8: bool) -> Result<Option<String>, Stop> {
        let (length, longest) = (line.bytes.len(), self.line_bytes_max());
        if self.batch_bytes + length.min(longest) > BATCH_BYTES_MAX {
            self.flush()?;
        }
        if length > longest {
            return Ok(Some(format!("the line has {length} bytes, more than {longest}")));
        }
        if !utf8 && let Err(error) = simdutf8::compat::from_utf8(line.bytes) {
            return Ok(Some(format!("not UTF-8, from byte {} of the line on", error.valid_up_to())));
        }
        Ok(None)
    }

    /// Counts a record, and reports it where it is `wrong`; says whether it gives a row.
    ///
    /// # Errors
    /// The record in `failfast` mode, where it is wrong.
    #[inline(always)]
    pub fn begin(&mut self, line: Line<'_>, wrong: Option<String>) -> Result<bool, Stop> {
        self.read.rows += 1;
        match wrong {
            None => Ok(true),
            Some(reason) => self.report(line, reason),
        }
    }

    /// Ends a row, all of whose values that were read are in their columns.
    ///
    /// # Errors
    /// Where a full batch cannot be made.
    #[inline(always)]
    pub fn end(&mut self, line: Line<'_>, bad: bool) -> Result<(), Stop> {
        for index in 0..self.unread.len() {
            let output = self.unread[index];
            if bad && self.corrupt == Some(output) {
                let text = &line.bytes[..line.bytes.len().min(self.line_bytes_max())];
                self.columns[output].push_text(String::from_utf8_lossy(text).as_bytes());
            } else {
                self.columns[output].push_other(Parsed::Null);
            }
        }
        self.batch_rows += 1;
        self.batch_bytes += line.bytes.len();
        if self.batch_rows == self.reader.sizes.batch_rows {
            self.flush()?;
        }
        Ok(())
    }

    /// A line without a usable record: one bad record, a row of nulls in permissive mode.
    ///
    /// # Errors
    /// As [`Rows::begin`] and [`Rows::end`].
    #[cold]
    pub fn unparsable(&mut self, line: Line<'_>, reason: String) -> Result<(), Stop> {
        if !self.begin(line, Some(reason))? {
            return Ok(());
        }
        for output in (0..self.columns.len()).filter(|output| !self.unread.contains(output)) {
            self.columns[output].push_other(Parsed::Null);
        }
        self.end(line, true)
    }

    /// All that was collected since the last time.
    ///
    /// # Errors
    /// Where a batch cannot be made.
    pub fn finish(&mut self, lines: u64) -> Result<PieceRead, Stop> {
        self.flush()?;
        self.read.lines = lines;
        Ok(std::mem::take(&mut self.read))
    }

    fn line_bytes_max(&self) -> usize {
        self.reader.records.line_bytes_max.min(LINE_BYTES_CAP)
    }

    /// Whether a bad record gives a row.
    #[cold]
    fn report(&mut self, line: Line<'_>, reason: String) -> Result<bool, Stop> {
        let failfast = self.reader.records.mode == Mode::FailFast;
        self.read.bad_rows += 1;
        if failfast || self.read.bad.len() < BAD_RECORDS_KEPT_MAX {
            let bad = BadRecord::new(line.number, line.offset, reason, line.bytes);
            if failfast {
                return Err(Stop::Bad(bad));
            }
            self.read.bad.push(bad);
        }
        Ok(self.reader.records.mode != Mode::DropMalformed)
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
