//! Bad records of a batch, as JSON lines in the checkpoint: which file, line and byte, why, and the text.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

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

/// Writes a batch's bad records durably to `target`, a function of the batch's address, so that writing them again
/// changes nothing; nothing where there are none.
///
/// # Errors
/// Of kind `Failed`, naming the file.
pub(super) fn write(target: &Path, batch: BatchId, files: &[FileRecords<'_>]) -> Result<()> {
    if files.iter().all(|file| file.records.is_empty() && file.omitted == 0) {
        return Ok(());
    }
    let temporary = target.with_extension("tmp");
    let written = || -> std::io::Result<()> {
        let folder = target.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut out = BufWriter::new(File::create(&temporary)?);
        for file in files {
            for record in file.records {
                let BadRecord { line, byte, reason, text } = record;
                let (source, file) = (file.source, file.file.as_str());
                serde_json::to_writer(&mut out, &Line { source, file, line: *line, byte: *byte, reason, text })?;
                out.write_all(b"\n")?;
            }
            if file.omitted > 0 {
                let reason = format!("{} more bad records of this file are counted, not listed", file.omitted);
                let (source, name) = (file.source, file.file.as_str());
                serde_json::to_writer(
                    &mut out,
                    &Line { source, file: name, line: 0, byte: 0, reason: &reason, text: "" },
                )?;
                out.write_all(b"\n")?;
            }
        }
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, target)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|error| Error::io(format!("the bad records of batch {batch} cannot be written"), target, &error))
}
