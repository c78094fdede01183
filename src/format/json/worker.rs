//! One thread's part of reading a file: lines to records, records to columns.

use super::{
    Json,
    record::Record,
    scan::{Fault, skip_space},
};
use crate::format::{
    pieces::{Piece, PieceRead, Stop},
    reader::Reader,
    rows::{Line, Rows, each_line},
};

/// Reads pieces of one file, one after the other. What it keeps between them changes speed only.
pub struct Worker<'r> {
    block_bytes: usize,
    record: Record<'r>,
    rows: Rows<'r>,
}

impl<'r> Worker<'r> {
    /// `except`: declared columns that are not read from the records.
    pub(in crate::format) fn new(reader: &'r Reader, json: &'r Json, except: &[usize]) -> Worker<'r> {
        Worker {
            block_bytes: reader.sizes.block_bytes,
            record: Record::new(reader, json, |column| reader.is_read(column, except)),
            rows: Rows::new(reader, except),
        }
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// The first bad record in `failfast` mode.
    pub(in crate::format) fn read(&mut self, piece: Piece<'_>) -> Result<PieceRead, Stop> {
        let lines = each_line(piece, self.block_bytes, |line, utf8| self.line(line, utf8))?;
        self.rows.finish(lines)
    }

    fn line(&mut self, line: Line<'_>, utf8: bool) -> Result<(), Stop> {
        let text = line.bytes;
        let start = skip_space(text, 0);
        let Some(&first) = text.get(start) else { return Ok(()) };
        if let Some(reason) = self.rows.check(line, utf8)? {
            return self.rows.unparsable(line, reason);
        }
        match first {
            b'{' => match self.record.scan(text, start, 1).and_then(|end| line_done(text, end)) {
                Ok(()) => self.add(line),
                Err(fault) => self.rows.unparsable(line, not_json(fault)),
            },
            b'[' => match self.check_array(text, start) {
                Ok(()) => self.array(line, start),
                Err(reason) => self.rows.unparsable(line, reason),
            },
            _ => {
                let fault = Fault::new(start, "a record is an object, or an array of objects");
                self.rows.unparsable(line, not_json(fault))
            }
        }
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
        if !self.rows.begin(line, wrong)? {
            return Ok(());
        }
        for (output, value, token) in self.record.outputs() {
            self.rows.column(output).push(value, token, line.bytes);
        }
        self.rows.end(line, bad)
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
