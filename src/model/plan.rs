//! What a batch decided before it read, and what it found when it read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::BatchId;

/// The batch's decision, fixed before reading. A batch that is run again runs the same plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPlan {
    pub batch: BatchId,
    /// What `now()` is in this batch: microseconds since the Unix epoch.
    pub batch_time_us: i64,
    /// The watermark that the batch uses, microseconds since the Unix epoch; `None`: no event yet.
    pub watermark_us: Option<i64>,
    /// One entry per source of the job, in the order of the job file, sources without new input included.
    pub inputs: Vec<SourceInput>,
}

/// What one batch takes from one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInput {
    pub source: String,
    /// `logOffset` before the batch; `None`: nothing was ever read.
    pub start: Option<u64>,
    /// `logOffset` after it; equal to `start` where no file was taken.
    pub end: Option<u64>,
    /// In reading order.
    pub files: Vec<PlannedFile>,
}

/// A file that a batch is going to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Its identity: the path relative to the source's root (or the file name, with `file_name_only`).
    pub identity: InputPath,
    /// Path relative to the source's root; differs from `identity` with `file_name_only` alone.
    pub path: InputPath,
    pub size_bytes: u64,
    /// Modification time, nanoseconds since the Unix epoch.
    pub modified_ns: i64,
}

/// A file that a batch has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRead {
    pub file: PlannedFile,
    /// XXH3-128 of the bytes on disk (compressed, where the file is).
    pub content_hash: u128,
    /// Records in the file, bad ones included.
    pub rows: u64,
    pub bad_rows: u64,
}

/// A path as the file system has it: bytes, not necessarily UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InputPath(pub Vec<u8>);

impl InputPath {
    /// From a path relative to a source's root.
    pub fn new(path: &std::path::Path) -> InputPath {
        use std::os::unix::ffi::OsStrExt;
        InputPath(path.as_os_str().as_bytes().to_vec())
    }

    pub fn as_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl fmt::Display for InputPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::error::printable_name(&String::from_utf8_lossy(&self.0)))
    }
}

/// How a query's result reaches its sink, as in Spark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputMode {
    /// A row once, when it can no longer change.
    Append,
    /// The rows that changed in this batch.
    Update,
    /// The whole result, every batch.
    Complete,
}

impl fmt::Display for OutputMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutputMode::Append => "append",
            OutputMode::Update => "update",
            OutputMode::Complete => "complete",
        })
    }
}

/// What a sink wrote durably and invisibly for one batch; the commit names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedOutput {
    /// The sink's name, which is also the query's.
    pub sink: String,
    /// What publishing makes visible (a file name in the sink's folder); empty where nothing is staged
    /// outside the checkpoint.
    pub name: String,
    pub rows: u64,
    pub size_bytes: u64,
    /// BLAKE3 of the staged bytes; zeros where nothing is staged outside the checkpoint.
    pub hash: [u8; 32],
}
