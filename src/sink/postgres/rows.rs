//! Rows as `COPY` has them in its binary form: what is written is what reading it back gives, byte for byte.

use std::collections::BTreeSet;

use datafusion::arrow::record_batch::RecordBatch;

use super::{
    super::table::{RowsByBatch, number, unsigned},
    values::{Cells, sized},
};
use crate::model::{BatchId, Error, Result};

/// What a binary `COPY` begins with: its mark, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Rows, each the lengths and bytes of its values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::sink) struct Rows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    width: usize,
}

impl Rows {
    /// # Errors
    /// Of kind `Data`, naming column and row, for a value that PostgreSQL has no place for; `Failed` where a type has no text.
    pub fn of(batches: &[RecordBatch]) -> Result<Rows> {
        let mut rows = Rows { width: batches.first().map_or(0, RecordBatch::num_columns), ..Rows::default() };
        for batch in batches {
            let before = rows.ends.len();
            let columns = batch.columns().iter().zip(batch.schema_ref().fields());
            let columns =
                columns.map(|(column, field)| Cells::of(column, field, before)).collect::<Result<Vec<_>>>()?;
            for row in 0..batch.num_rows() {
                columns.iter().for_each(|cells| cells.write(row, &mut rows.bytes));
                rows.ends.push(rows.bytes.len());
            }
        }
        Ok(rows)
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn row(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[at]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|at| self.row(at))
    }

    /// Which columns of the key are null together, each way that there is in a row.
    pub fn nulls_of(&self, key: &[usize]) -> BTreeSet<BTreeSet<usize>> {
        let nulls = |row| {
            let nulls: Vec<bool> = cells(row).map(|cell| cell.is_none()).collect();
            key.iter().copied().filter(|at| nulls.get(*at).copied().unwrap_or(false)).collect()
        };
        self.iter().map(nulls).collect()
    }

    /// All rows as a `COPY`; `batch`: one more value of each.
    pub(super) fn copied(&self, batch: Option<BatchId>) -> Copied<'_> {
        let mut last = Vec::new();
        if let Some(batch) = batch {
            sized(&number(batch).to_be_bytes(), &mut last);
        }
        let width = self.width + usize::from(batch.is_some());
        Copied { rows: self, next: 0, width: u16::try_from(width).unwrap_or(u16::MAX), last, state: State::Header }
    }
}

/// The values of a row; `None`: null.
pub(super) fn cells(mut row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        let (length, rest) = row.split_first_chunk()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row = rest;
            return Some(None);
        };
        let (cell, rest) = rest.split_at_checked(length)?;
        row = rest;
        Some(Some(cell))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    Done,
}

/// Rows on their way to the server.
pub(super) struct Copied<'a> {
    rows: &'a Rows,
    next: usize,
    width: u16,
    /// What each row ends with.
    last: Vec<u8>,
    state: State,
}

impl Copied<'_> {
    /// Fills a buffer up to about this size; leaves it empty at the end.
    pub fn fill(&mut self, chunk: &mut Vec<u8>, size: usize) {
        if self.state == State::Header {
            chunk.extend_from_slice(HEADER);
            self.state = State::Rows;
        }
        while self.state == State::Rows && chunk.len() < size {
            if self.next == self.rows.ends.len() {
                chunk.extend_from_slice(&TRAILER);
                self.state = State::Done;
                return;
            }
            chunk.extend_from_slice(&self.width.to_be_bytes());
            chunk.extend_from_slice(self.rows.row(self.next));
            chunk.extend_from_slice(&self.last);
            self.next += 1;
        }
    }
}

/// Rows of a binary `COPY`, by the number that is the first value of each.
///
/// # Errors
/// Of kind `Failed`, where it is none.
pub(super) fn by_batch(copied: &[u8]) -> Result<RowsByBatch> {
    let mut found = RowsByBatch::new();
    let mut rest = copied.strip_prefix(&HEADER[..11]).and_then(|rest| rest.get(8..)).ok_or_else(no_copy)?;
    loop {
        let (width, row) = rest.split_first_chunk().ok_or_else(no_copy)?;
        if *width == TRAILER {
            return Ok(found);
        }
        let mut length = 0;
        for cell in cells(row).take(usize::from(u16::from_be_bytes(*width))) {
            length += size_of::<i32>() + cell.map_or(0, <[u8]>::len);
        }
        let (row, behind) = row.split_at_checked(length).ok_or_else(no_copy)?;
        let number = cells(row).next().ok_or_else(no_copy)?;
        let batch = match number {
            Some(number) => Some(unsigned(i64::from_be_bytes(number.try_into().map_err(|_| no_copy())?))),
            None => None,
        };
        let first = size_of::<i32>() + number.map_or(0, <[u8]>::len);
        found.entry(batch).or_default().push(row[first..].to_vec());
        rest = behind;
    }
}

fn no_copy() -> Error {
    Error::failed("rows cannot be read back").because("what the server sent is no COPY in binary form")
}

#[cfg(test)]
mod tests;
