//! The files of a receive log: which there are, and what a start makes of those that a crash left.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    frame::{self, Damage, Frame, Header, Kind, Known, TRAILER_BYTES},
    scan::{Scan, scan},
};
use crate::{
    model::{Error, Place, PlannedFile, Result},
    source::files::{Listing, planned_file},
};

/// The ending of a closed segment's name, and of the one that is being written.
const CLOSED: &str = "frames";
const OPEN: &str = "open";
/// Nothing after a seal is longer than its trailer; one byte more tells that there is something.
const KEYS_BYTES_MAX: u64 = 1 << 30;

/// `000000000012.frames`
pub(super) fn closed_name(number: u64) -> String {
    format!("{number:012}.{CLOSED}")
}

pub(super) fn open_name(number: u64) -> String {
    format!("{number:012}.{OPEN}")
}

/// The number of the closed segment of this name.
pub(in crate::source) fn closed_number(name: &Path) -> Option<u64> {
    number_of(&name.to_string_lossy(), CLOSED)
}

fn number_of(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?.strip_suffix('.')?;
    (digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// What is in the folder, by number.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub closed: Vec<u64>,
    pub open: Vec<u64>,
}

impl Folder {
    pub fn read(path: &Path) -> Result<Folder> {
        let cannot = |error: &io::Error| Error::io("cannot list a receive log", path, error);
        let mut folder = Folder::default();
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(folder),
            Err(error) => return Err(cannot(&error)),
        };
        for entry in entries {
            let name = entry.map_err(|error| cannot(&error))?.file_name();
            let name = name.to_string_lossy();
            folder.closed.extend(number_of(&name, CLOSED));
            folder.open.extend(number_of(&name, OPEN));
        }
        folder.closed.sort_unstable();
        folder.open.sort_unstable();
        Ok(folder)
    }
}

/// The closed segments in a folder, in the order in which they were received.
///
/// # Errors
/// Of kind `Failed`, where the folder cannot be listed.
pub(in crate::source) fn list(path: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    for number in Folder::read(path)?.closed {
        listing.files.extend(planned_if_there(path, number)?);
    }
    Ok(listing)
}

/// A closed segment as a batch plans it; `None`: it is gone.
pub(super) fn planned_if_there(folder: &Path, number: u64) -> Result<Option<PlannedFile>> {
    let name = closed_name(number);
    match fs::symlink_metadata(folder.join(&name)) {
        Ok(metadata) => Ok(Some(planned_file(Path::new(&name), &metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("cannot look at a segment of a receive log", folder.join(&name), &error)),
    }
}

pub(super) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("cannot make the folder of a receive log durable", path, &error))
}

/// Makes the log's folder and those above it that are not there, durably.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().unwrap_or(Path::new("."));
    make_folder(above)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("cannot make the folder of a receive log", path, &error))
        }
        _ => sync_folder(above),
    }
}

/// Something of a receive log that was durable is not what it was.
pub(in crate::source) fn damaged(path: PathBuf, why: impl Into<String>) -> Error {
    Error::refused("what was received is damaged").at(Place::Path(path)).because(why).help(
        "put the file back from a copy; or move it away and run with --accept-change, which goes on without the rows in it",
    )
}

/// Looks through the whole segment.
pub(super) fn read_scan(path: &Path, number: u64, source: &str) -> Result<(Scan, u64)> {
    let bytes = fs::read(path).map_err(|error| Error::io("cannot read a segment of a receive log", path, &error))?;
    let scan = scan(&bytes, number, source).map_err(|damage| damaged(path.to_owned(), damage.to_string()))?;
    Ok((scan, bytes.len() as u64))
}

/// The end of a closed segment.
pub(super) struct End {
    /// The number of the line after it.
    pub line: u64,
    pub began_us: i64,
    pub known: Vec<Known>,
}

/// Reads the header and the seal of a closed segment, not what is between.
pub(super) fn read_end(folder: &Path, number: u64, source: &str) -> Result<End> {
    let path = folder.join(closed_name(number));
    let cannot = |error: &io::Error| Error::io("cannot read a segment of a receive log", &path, error);
    let mut file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged(path.clone(), "it is gone"),
        _ => cannot(&error),
    })?;
    let found = end_of(&mut file, number, source).map_err(|error| cannot(&error))?;
    found.map_err(|damage| damaged(path.clone(), damage.to_string()))
}

fn end_of(file: &mut File, number: u64, source: &str) -> io::Result<Result<End, Damage>> {
    let mut head = Vec::new();
    Read::by_ref(file).take(Header::length(source) as u64).read_to_end(&mut head)?;
    let header = match Header::decode(&head, number, source) {
        Ok(header) => header,
        Err(damage) => return Ok(Err(damage)),
    };
    let length = file.metadata()?.len();
    let cut = || Damage::new(length, "it breaks off before its end");
    let Some(trailer_at) = length.checked_sub(TRAILER_BYTES as u64).filter(|at| *at > head.len() as u64) else {
        return Ok(Err(cut()));
    };
    file.seek(SeekFrom::Start(trailer_at))?;
    let mut trailer = Vec::new();
    file.read_to_end(&mut trailer)?;
    let seal_at = frame::u64_at(&trailer, 0);
    if seal_at >= trailer_at || trailer_at - seal_at > KEYS_BYTES_MAX {
        return Ok(Err(cut()));
    }
    file.seek(SeekFrom::Start(seal_at))?;
    let mut seal = Vec::new();
    Read::by_ref(file).take(trailer_at - seal_at).read_to_end(&mut seal)?;
    Ok(match frame::decode(number, &seal) {
        Some((Frame { kind: Kind::Seal, line, payload, .. }, length)) if length == seal.len() => {
            Ok(End { line, began_us: header.began_us, known: frame::decode_known(payload).collect() })
        }
        _ => Err(Damage::new(seal_at, "its end is not the one that it was closed with")),
    })
}

/// Writes what closes a segment, durably; `at`: behind its last whole frame.
pub(super) fn write_seal(mut file: &File, number: u64, at: u64, line: u64, known: &[Known]) -> io::Result<()> {
    let payload = frame::encode_known(known);
    let mut bytes = Vec::new();
    Frame { kind: Kind::Seal, line, durable: 0, key: b"", payload: &payload }.push(number, &mut bytes);
    bytes.extend_from_slice(&at.to_be_bytes());
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&bytes)?;
    file.sync_all()
}

/// Gives a segment that is whole, and durable, its name.
pub(super) fn rename_closed(folder: &Path, number: u64) -> Result<()> {
    let to = folder.join(closed_name(number));
    fs::rename(folder.join(open_name(number)), &to)
        .map_err(|error| Error::io("cannot close a segment of a receive log", to, &error))
}

/// Closes the segment that a crash left open, if there are rows in it: behind its last whole frame nobody was promised anything.
///
/// # Errors
/// Of kind `Refused`, where something is damaged that was promised.
pub(super) fn recover(folder: &Path, number: u64, source: &str, is_last: bool) -> Result<()> {
    let path = folder.join(open_name(number));
    let cannot = |error: &io::Error| Error::io("cannot close a segment that a crash left open", &path, error);
    let (scan, length) = read_scan(&path, number, source)?;
    if scan.sealed && scan.end as u64 == length {
        return rename_closed(folder, number).and_then(|()| sync_folder(folder));
    }
    if !is_last {
        // the next one is begun only when this one is whole
        return Err(damaged(path, "it breaks off, and another segment follows it"));
    }
    if scan.rows_bytes == 0 && scan.known.is_empty() {
        // it is begun anew; until then it tells which segments there were
        return Ok(());
    }
    let file = OpenOptions::new().write(true).open(&path).map_err(|error| cannot(&error))?;
    file.set_len(scan.end as u64).map_err(|error| cannot(&error))?;
    write_seal(&file, number, scan.end as u64, scan.line, &scan.known).map_err(|error| cannot(&error))?;
    rename_closed(folder, number).and_then(|()| sync_folder(folder))
}
