//! `generate`: input for the jobs in `jobs/`, the same bytes for the same seed.
//!
//! Chance is drawn as integers only, so that the bytes are the same on every machine.

mod access_log;
mod clicks;
mod flows;
mod live;
mod messages;
mod orders;
mod sensors;
mod text;

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime},
};

pub use self::live::{LiveContent, LiveOptions, serve};
use self::{
    access_log::AccessLog,
    clicks::Clicks,
    flows::Flows,
    messages::Messages,
    orders::{Orders, Payments},
    sensors::Sensors,
    text::Text,
};
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
    /// Short messages with hashtags.
    Messages,
    /// Readings of pumps in `readings/`, and beside it `vendor.csv` and `maintenance.csv`, which tell about the pumps.
    Sensors,
    /// What users of a site look at.
    Clicks,
    /// Orders in `orders/`, and payments for them in `payments/`.
    Orders,
}

/// Makes the lines of one file, by its index.
type MakeLines = fn(&FilesOptions, u32) -> Box<dyn Lines>;

/// Numbered files of one kind.
struct Part {
    /// The folder that they are in; empty: the one that was asked for.
    folder: &'static str,
    /// What they are called, and how their names end.
    name: &'static str,
    ending: &'static str,
    lines: MakeLines,
}

impl Part {
    fn new(name: &'static str, ending: &'static str, lines: MakeLines) -> Part {
        Part { folder: "", name, ending, lines }
    }

    fn within(self, folder: &'static str) -> Part {
        Part { folder, ..self }
    }
}

impl Content {
    fn parts(self) -> Vec<Part> {
        match self {
            Content::Flows { unique: false } => {
                vec![Part::new("flows", "json", |options, index| Box::new(Flows::new(options, false, index)))]
            }
            Content::Flows { unique: true } => {
                vec![Part::new("flows", "json", |options, index| Box::new(Flows::new(options, true, index)))]
            }
            Content::AccessLog => {
                vec![Part::new("access", "log", |options, index| Box::new(AccessLog::new(options, index)))]
            }
            Content::Text => vec![Part::new("text", "txt", |options, index| Box::new(Text::new(options, index)))],
            Content::Messages => {
                vec![Part::new("messages", "json", |options, index| Box::new(Messages::new(options, index)))]
            }
            Content::Sensors => {
                let readings = Part::new("readings", "json", |options, index| Box::new(Sensors::new(options, index)));
                vec![readings.within("readings")]
            }
            Content::Clicks => {
                vec![Part::new("clicks", "json", |options, index| Box::new(Clicks::new(options, index)))]
            }
            Content::Orders => {
                let orders = Part::new("orders", "json", |options, index| Box::new(Orders::new(options, index)));
                let payments = Part::new("payments", "json", |options, index| Box::new(Payments::new(options, index)));
                vec![orders.within("orders"), payments.within("payments")]
            }
        }
    }

    /// Files beside the numbered ones: names and texts.
    fn tables(self, options: &FilesOptions) -> Vec<(&'static str, String)> {
        match self {
            Content::Sensors => {
                vec![("vendor.csv", sensors::vendors(options)), ("maintenance.csv", sensors::maintenance(options))]
            }
            _ => Vec::new(),
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
    /// How many files, of each kind; at least one.
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

/// What was generated, tables that do not change left aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub files: u32,
    /// Rows in all files together.
    pub rows: u64,
    /// Bytes in all files together.
    pub bytes: u64,
}

/// 2026-05-17T10:00:00Z: when what is written with a date begins.
const TIME_FIRST_S: u64 = 1_779_012_000;
/// The first file's modification time, 2020-01-01T00:00:00Z; each file is a second later than the one before, so that
/// the order of modification times is that of the names whatever the clock says.
const MODIFIED_FIRST_S: u64 = 1_577_836_800;
/// The buffer is written out when it holds this many bytes; a row is far smaller.
const BUFFER_BYTES: usize = 1 << 20;
const ROW_BYTES_MAX: usize = 512;

/// Writes `flows_0001.json` (or what else the content is called) and so on into `dir`, or into folders of it, which are
/// created if they are not there.
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
    for (name, text) in content.tables(options) {
        let path = dir.join(name);
        write_whole(&path, 0, |file| file.write_all(text.as_bytes()))
            .map_err(|cause| Error::io("cannot write the generated file", &path, &cause))?;
    }
    let mut summary = Summary { files: 0, rows: 0, bytes: 0 };
    for part in content.parts() {
        write_part(&part, options, &dir.join(part.folder), &mut summary)?;
    }
    Ok(summary)
}

/// Writes the files of one kind.
fn write_part(part: &Part, options: &FilesOptions, dir: &Path, summary: &mut Summary) -> Result<()> {
    fs::create_dir_all(dir).map_err(|cause| Error::io("cannot make the folder", dir, &cause))?;
    let width = options.files.to_string().len().max(4);
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + ROW_BYTES_MAX);
    for index in 0..options.files {
        let path = dir.join(format!("{}_{:0width$}.{}", part.name, index + 1, part.ending));
        let mut lines = (part.lines)(options, index);
        summary.bytes += write_file(lines.as_mut(), options.rows, index, &path, &mut buffer)
            .map_err(|cause| Error::io("cannot write the generated file", &path, &cause))?;
        summary.rows += u64::from(options.rows);
        summary.files += 1;
    }
    Ok(())
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
    let mut bytes = 0;
    buffer.clear();
    write_whole(path, index, |file| {
        for _ in 0..rows {
            lines.push(buffer);
            if buffer.len() >= BUFFER_BYTES {
                file.write_all(buffer)?;
                bytes += buffer.len() as u64;
                buffer.clear();
            }
        }
        bytes += buffer.len() as u64;
        file.write_all(buffer)
    })?;
    Ok(bytes)
}

/// Makes a file that appears whole, with the modification time of its index.
fn write_whole(path: &Path, index: u32, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".generated_").permissions(readable()).tempfile_in(dir)?;
    write(file.as_file_mut())?;
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_FIRST_S + u64::from(index));
    file.as_file().set_modified(modified)?;
    file.persist_noclobber(path).map_err(|failed| failed.error)?;
    Ok(())
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

/// Appends a time as JSON has it: `2026-05-17T10:00:35Z`.
fn push_time(out: &mut Vec<u8>, seconds: u64) {
    let time = chrono::DateTime::from_timestamp_secs(seconds as i64).unwrap_or_default();
    let written = write!(out, "{}", time.format("%Y-%m-%dT%H:%M:%SZ"));
    debug_assert!(written.is_ok(), "a vector takes what is written");
}

#[cfg(test)]
mod tests;
