//! What a job says of a sink.

use std::path::{Path, PathBuf};

use super::spec::At;
use crate::model::{BatchWindow, OutputMode};

/// A sink table.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    pub name: String,
    pub at: At,
    pub connector: SinkConnector,
    /// As written; `None`: append, or complete if the query aggregates.
    pub output_mode: Option<OutputMode>,
    /// Keys of `DISTINCT ON` are forgotten once the watermark passed their first row's time and the delay.
    pub dedup_within_watermark: bool,
    /// The folder that late rows are published to, as JSON lines.
    pub late_rows: Option<PathBuf>,
    /// The query aggregates over the last batches, not over all.
    pub batch_window: Option<BatchWindow>,
}

/// A folder outside of the checkpoint that a sink publishes files to.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkFolder<'a> {
    /// What its files are named after.
    pub name: String,
    pub path: &'a Path,
    pub format: RowFormat,
}

impl SinkSpec {
    /// What files of late rows are named after. No table has such a name.
    pub fn late_name(&self) -> String {
        format!("{}.late", self.name)
    }

    /// All folders outside of the checkpoint that it publishes to.
    pub fn folders(&self) -> Vec<SinkFolder<'_>> {
        let mut folders = Vec::new();
        if let SinkConnector::Files { path, format } = &self.connector {
            folders.push(SinkFolder { name: self.name.clone(), path, format: *format });
        }
        if let Some(path) = &self.late_rows {
            folders.push(SinkFolder { name: self.late_name(), path, format: RowFormat::Json });
        }
        folders
    }

    /// The folder of this name, to be changed.
    pub(crate) fn folder_mut(&mut self, name: &str) -> Option<&mut PathBuf> {
        if name == self.late_name() {
            return self.late_rows.as_mut();
        }
        match &mut self.connector {
            SinkConnector::Files { path, .. } if name == self.name => Some(path),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum SinkConnector {
    Console,
    Memory,
    Files { path: PathBuf, format: RowFormat },
}

impl SinkConnector {
    pub fn name(&self) -> &'static str {
        match self {
            SinkConnector::Console => "console",
            SinkConnector::Memory => "memory",
            SinkConnector::Files { .. } => "files",
        }
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// One object a line.
    Json,
    /// RFC 4180 with a header line.
    Csv,
    /// Typed columns.
    Parquet,
}

impl RowFormat {
    /// All that there are.
    pub const ALL: [RowFormat; 3] = [RowFormat::Json, RowFormat::Csv, RowFormat::Parquet];

    /// As a job file names it, and the ending of files.
    pub fn name(self) -> &'static str {
        match self {
            RowFormat::Json => "json",
            RowFormat::Csv => "csv",
            RowFormat::Parquet => "parquet",
        }
    }
}
