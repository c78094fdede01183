//! Bytes become Arrow record batches; what cannot be read becomes a counted, named bad record.

mod avro;
pub(crate) mod columnar;
pub mod compress;
pub(crate) mod fields;
pub mod json;
mod parquet;
pub mod pieces;
mod reader;
mod rows;

use datafusion::arrow::record_batch::RecordBatch;

pub use columnar::{AnyBytes, WholeRead};
pub use compress::{Compression, Decompressing, RATIO_GUESSED};
pub use json::Constant;
pub use pieces::{Bytes, Cutter, Piece, Pieces};
pub use reader::Reader;

/// What one file's bytes decoded to.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The projected columns in declared order, rows in file order.
    pub batches: Vec<RecordBatch>,
    /// Lines in the file, blank ones included; rows, where the format has no lines.
    pub lines: u64,
    /// Records in the file, bad ones included; blank lines are none.
    pub rows: u64,
    /// All bad records are counted here ...
    pub bad_rows: u64,
    /// ... and the first of them (at most [`BAD_RECORDS_KEPT_MAX`] per file) described.
    pub bad: Vec<BadRecord>,
}

impl Decoded {
    /// Adds a bad record that gives no row: damage of the file itself. It counts as a record too, so that
    /// `bad_rows` never exceeds `rows`.
    pub fn add_bad(&mut self, bad: BadRecord) {
        self.rows += 1;
        self.bad_rows += 1;
        if self.bad.len() < BAD_RECORDS_KEPT_MAX {
            self.bad.push(bad);
        }
    }
}

/// How many bad records of one file are described; the rest are only counted.
pub const BAD_RECORDS_KEPT_MAX: usize = 10_000;

/// A record that was not used, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// From 1; the number of the row, where the format has no lines.
    pub line: u64,
    /// Offset of the record's first byte in the (decompressed) file; 0, where the format has no lines.
    pub byte: u64,
    /// Why, for the operator: `field 'x': "abc" is not a BIGINT`.
    pub reason: String,
    /// The record's bytes, lossily as text, at most 1 KiB; empty, where the format has no lines.
    pub text: String,
}

impl BadRecord {
    /// `record` is cut at 1 KiB, and so is what a reason quotes.
    pub fn new(line: u64, byte: u64, reason: impl Into<String>, record: &[u8]) -> BadRecord {
        BadRecord { line, byte, reason: reason.into(), text: shortened(record, 1024) }
    }
}

/// Bytes as text, bad UTF-8 replaced, of at most `bytes_max` bytes; no character is cut in two.
fn shortened(bytes: &[u8], bytes_max: usize) -> String {
    let mut cut = bytes.len().min(bytes_max);
    while cut > bytes_max.saturating_sub(4) && bytes.get(cut).is_some_and(|byte| byte & 0xC0 == 0x80) {
        cut -= 1;
    }
    let mut text = String::from_utf8_lossy(&bytes[..cut]).into_owned();
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_text_is_a_prefix_of_whole_characters() {
        for (bytes, max, expected) in [
            ("abc".as_bytes(), 3, "abc"),
            ("abcd".as_bytes(), 3, "abc"),
            ("aé".as_bytes(), 2, "a"),
            ("a\u{1D11E}b".as_bytes(), 4, "a"),
            ("a\u{1D11E}b".as_bytes(), 5, "a\u{1D11E}"),
            (b"\xFF\xFF", 5, "\u{FFFD}"),
            (b"a\x80\x80\x80\x80\x80\x80\x80", 6, "a\u{FFFD}"),
            (b"", 0, ""),
        ] {
            assert_eq!(shortened(bytes, max), expected, "{bytes:?} {max}");
        }
    }
}
