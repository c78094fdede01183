//! Bad records of a batch, as JSON lines in the checkpoint: which file, line and byte, why, and the text.

use serde::Serialize;

use crate::{
    format::BadRecord,
    model::{BatchId, Error, Result},
};

#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    file: &'a str,
    line: u64,
    byte: u64,
    reason: &'a str,
    text: &'a str,
}

/// One file's bad records.
pub(super) struct FileRecords<'a> {
    pub source: &'a str,
    pub file: String,
    pub records: &'a [BadRecord],
    /// Bad records that were counted, but not kept one by one.
    pub omitted: u64,
}

/// A batch's bad records, one JSON object per line; empty where there are none.
///
/// # Errors
/// Of kind `Failed`.
pub(super) fn lines(batch: BatchId, files: &[FileRecords<'_>]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut line = |line: &Line<'_>| {
        serde_json::to_writer(&mut out, line).map(|()| out.push(b'\n')).map_err(|error| {
            Error::failed(format!("the bad records of batch {batch} cannot be written")).because(error.to_string())
        })
    };
    for file in files {
        let (source, name) = (file.source, file.file.as_str());
        for BadRecord { line: number, byte, reason, text } in file.records {
            line(&Line { source, file: name, line: *number, byte: *byte, reason, text })?;
        }
        if file.omitted > 0 {
            let reason = format!("{} more bad records of this file are counted, not listed", file.omitted);
            line(&Line { source, file: name, line: 0, byte: 0, reason: &reason, text: "" })?;
        }
    }
    Ok(out)
}
