//! `generate`: input for the jobs in `jobs/`, the same bytes for the same seed.
//!
//! Chance is drawn as integers only, so that the bytes are the same on every machine.

mod access_log;
mod flows;
mod text;

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime},
};

use self::{access_log::AccessLog, flows::Flows, text::Text};
use super::chance::Chance;
use crate::model::{Error, Place, Result};

/// What the files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Network flows, one JSON object a line.
    Flows {
        /// Nearly every `dstdevice` is different, so that state grows with the input.
        unique: bool,
    },
    /// What a web server logs, in Apache's combined format.
    AccessLog,
    /// Sentences.
    Text,
}

impl Content {
    /// What files are called, and how their names end.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Content::Flows { .. } => ("flows", "json"),
            Content::AccessLog => ("access", "log"),
            Content::Text => ("text", "txt"),
        }
    }

    fn lines(self, options: &FilesOptions, index: u32) -> Box<dyn Lines> {
        match self {
            Content::Flows { unique } => Box::new(Flows::new(options, unique, index)),
            Content::AccessLog => Box::new(AccessLog::new(options, index)),
            Content::Text => Box::new(Text::new(options, index)),
        }
    }
}

/// The lines of one file, one after the other.
trait Lines {
    /// Appends one line, its end included; at most [`ROW_BYTES_MAX`].
    fn push(&mut self, out: &mut Vec<u8>);
}

/// How much to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesOptions {
    /// How many files; at least one.
    pub files: u32,
    /// Rows in each file.
    pub rows: u32,
    /// The same seed gives the same bytes.
    pub seed: u64,
}

impl Default for FilesOptions {
    fn default() -> Self {
        FilesOptions { files: 50, rows: 10_000, seed: 1 }
    }
}

impl FilesOptions {
    /// Each file has a random stream of its own, so that its rows do not depend on how long the others are.
    fn chance(&self, index: u32) -> Chance {
        Chance::of_stream(self.seed, u64::from(index))
    }

    /// The number of a file's first row, counted over all files.
    fn first_row(&self, index: u32) -> u64 {
        u64::from(index) * u64::from(self.rows)
    }
}

/// What was generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub files: u32,
    /// Rows in all files together.
    pub rows: u64,
    /// Bytes in all files together.
    pub bytes: u64,
}

/// The first file's modification time, 2020-01-01T00:00:00Z; each file is a second later than the one before, so that
/// the order of modification times is that of the names whatever the clock says.
const MODIFIED_FIRST_S: u64 = 1_577_836_800;
/// The buffer is written out when it holds this many bytes; a row is far smaller.
const BUFFER_BYTES: usize = 1 << 20;
const ROW_BYTES_MAX: usize = 512;

/// Writes `flows_0001.json` (or what else the content is called) and so on into `dir`, which is created if it is not there.
///
/// Each file appears whole: it is written under a name that begins with a dot, then renamed.
///
/// # Errors
/// Of kind `Usage` where `options` ask for no file, or where `dir` is a file or holds anything; `Failed` where it
/// cannot be written. Files that are already finished then stay.
pub fn generate(content: Content, options: &FilesOptions, dir: &Path) -> Result<Summary> {
    if options.files == 0 {
        return Err(Error::usage("there is nothing to generate").because("--files is 0").help("ask for at least 1"));
    }
    claim_empty(dir)?;
    let width = options.files.to_string().len().max(4);
    let (name, ending) = content.name();
    let mut summary = Summary { files: 0, rows: 0, bytes: 0 };
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + ROW_BYTES_MAX);
    for index in 0..options.files {
        let path = dir.join(format!("{name}_{:0width$}.{ending}", index + 1));
        let mut lines = content.lines(options, index);
        summary.bytes += write_file(lines.as_mut(), options.rows, index, &path, &mut buffer)
            .map_err(|cause| Error::io("cannot write the generated file", &path, &cause))?;
        summary.rows += u64::from(options.rows);
        summary.files += 1;
    }
    Ok(summary)
}

/// Makes `dir`, or makes sure that nothing is in it: nobody's files are overwritten or mixed with ours.
fn claim_empty(dir: &Path) -> Result<()> {
    if fs::symlink_metadata(dir).is_ok_and(|_| !dir.is_dir()) {
        return Err(Error::usage("cannot generate files here")
            .at(Place::Path(dir.into()))
            .because("it is not a folder")
            .help("name a new or an empty folder"));
    }
    fs::create_dir_all(dir).map_err(|cause| Error::io("cannot make the folder", dir, &cause))?;
    let mut entries = fs::read_dir(dir).map_err(|cause| Error::io("cannot list the folder", dir, &cause))?;
    match entries.next() {
        None => Ok(()),
        Some(Err(cause)) => Err(Error::io("cannot list the folder", dir, &cause)),
        Some(Ok(entry)) => Err(Error::usage("cannot generate files here")
            .at(Place::Path(dir.into()))
            .because(format!("the folder is not empty: it holds '{}'", entry.file_name().to_string_lossy()))
            .help("name a new or an empty folder")),
    }
}

/// Writes one file and returns its size in bytes. It is not synced: it can be generated again.
fn write_file(lines: &mut dyn Lines, rows: u32, index: u32, path: &Path, buffer: &mut Vec<u8>) -> io::Result<u64> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".generated_").permissions(readable()).tempfile_in(dir)?;
    let mut bytes = 0;
    buffer.clear();
    for _ in 0..rows {
        lines.push(buffer);
        if buffer.len() >= BUFFER_BYTES {
            file.write_all(buffer)?;
            bytes += buffer.len() as u64;
            buffer.clear();
        }
    }
    file.write_all(buffer)?;
    bytes += buffer.len() as u64;
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_FIRST_S + u64::from(index));
    file.as_file().set_modified(modified)?;
    file.persist_noclobber(path).map_err(|failed| failed.error)?;
    Ok(bytes)
}

/// What other programs write by default; a temporary file would be for its owner only.
fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o666)
}

/// Appends `value` in decimal, with zeros in front up to `width` digits (at most 20).
fn push_padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value > 0 {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[start.min(digits.len() - width)..]);
}

#[cfg(test)]
mod tests;
