//! Bytes become Arrow record batches; what cannot be read becomes a counted, named bad record.

use datafusion::arrow::record_batch::RecordBatch;

/// What one file's bytes decoded to.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The projected columns in declared order, rows in file order.
    pub batches: Vec<RecordBatch>,
    /// Records in the file, bad ones included; blank lines are none.
    pub rows: u64,
    /// All bad records are counted here ...
    pub bad_rows: u64,
    /// ... and the first of them (at most [`BAD_RECORDS_KEPT_MAX`] per file) described.
    pub bad: Vec<BadRecord>,
}

/// How many bad records of one file are described; the rest are only counted.
pub const BAD_RECORDS_KEPT_MAX: usize = 10_000;

/// A record that was not used, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// From 1.
    pub line: u64,
    /// Offset of the record's first byte in the (decompressed) file.
    pub byte: u64,
    /// Why, for the operator: `field 'x': "abc" is not a BIGINT`.
    pub reason: String,
    /// The record's bytes, lossily as text, at most 1 KiB.
    pub text: String,
}
