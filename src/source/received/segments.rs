//! The files of a receive log: which there are, and how each gets its name.
//!
//! An open segment is there with a header, or it is not there. The segment behind it is begun, durably, before it gets its
//! closed name. So there is always an open one, and where there is none something was lost.

use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    durable,
    frame::{self, Damage, Frame, Header, Kind, Known, Story, TRAILER_BYTES},
    log::Open,
    scan::{Scan, scan},
};
use crate::{
    job::FORKED,
    model::{CrashPoint, Error, Faults, Place, PlannedFile, Result},
    source::files::{Listing, planned_file},
};

/// The ending of a closed segment's name, and of the one that is being written.
const CLOSED: &str = "frames";
const OPEN: &str = "open";
/// Under this name a file is written that is not in place yet.
const UNNAMED: &str = "new";
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
    pub exists: bool,
    /// Whether a fork has made it, and nothing was received yet.
    pub forked: bool,
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
        folder.exists = true;
        for entry in entries {
            let name = entry.map_err(|error| cannot(&error))?.file_name();
            let name = name.to_string_lossy();
            folder.closed.extend(number_of(&name, CLOSED));
            folder.open.extend(number_of(&name, OPEN));
            folder.forked |= name == FORKED;
        }
        folder.closed.sort_unstable();
        folder.open.sort_unstable();
        Ok(folder)
    }
}

/// Segments that are missing, and missed.
pub(super) struct Hole {
    /// The first of them, and the one behind them.
    pub first: u64,
    pub next: u64,
    pub why: &'static str,
}

/// What is missing of those that no committed batch has taken, and, where the keys of requests are remembered, between any.
/// `committed`: the newest segment that a batch has taken; what is before `whole_from` was accepted.
pub(super) fn holes(
    closed: &[u64],
    open: Option<u64>,
    committed: Option<u64>,
    remembers: bool,
    whole_from: u64,
) -> Vec<Hole> {
    let unread = committed.map_or(0, |committed| committed + 1);
    // retention leaves the newest closed one
    let oldest = closed.first().copied().or(open.map(|open| open.saturating_sub(1))).unwrap_or(unread);
    let first = if remembers { unread.min(oldest) } else { unread }.max(whole_from);
    let (mut expected, mut holes) = (first, Vec::new());
    for next in closed.iter().copied().chain(open).filter(|number| *number >= first) {
        if next > expected {
            let why = match expected < unread {
                true => "it is gone, and with it the keys of requests that may come again",
                false => "it is gone, and no batch has read it",
            };
            holes.push(Hole { first: expected, next, why });
        }
        expected = next + 1;
    }
    holes
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

/// Makes the folder of a log that there is none of, with its first segment in it: a folder without one has lost it.
pub(super) fn make(path: &Path, story: Story, source: &str) -> Result<()> {
    let above = path.parent().unwrap_or(Path::new("."));
    make_folder(above)?;
    let unnamed = above.join(format!(".{UNNAMED}"));
    let cannot = |error: io::Error| Error::io("cannot make the folder of a receive log", path, &error);
    match fs::create_dir(&unnamed) {
        // a crash left it
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(cannot)?,
    }
    begin(&unnamed, 0, 0, story, source)?;
    sync_folder(&unnamed)?;
    fs::rename(&unnamed, path).map_err(cannot)?;
    sync_folder(above)
}

/// Makes a folder and those above it that are not there, durably.
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

/// Notes that a fork has received something of its own.
pub(super) fn no_longer_forked(path: &Path) -> Result<()> {
    let marker = path.join(FORKED);
    fs::remove_file(&marker).map_err(|error| Error::io("cannot remove a mark from a receive log", marker, &error))?;
    sync_folder(path)
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
    pub story: Story,
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
    Ok(match frame::decode(header.secret, &seal) {
        Some((Frame { kind: Kind::Seal, line, payload, .. }, length)) if length == seal.len() => {
            Ok(End { line, story: header.story, known: frame::decode_known(payload).collect() })
        }
        _ => Err(Damage::new(seal_at, "its end is not the one that it was closed with")),
    })
}

/// What closes a segment; `at`: where it is written, behind the last whole frame.
pub(super) fn seal(secret: u64, at: u64, line: u64, known: &[Known]) -> Vec<u8> {
    let payload = frame::encode_known(known);
    let mut bytes = Vec::new();
    Frame { kind: Kind::Seal, line, durable: 0, key: b"", payload: &payload }.push(secret, &mut bytes);
    bytes.extend_from_slice(&at.to_be_bytes());
    bytes
}

/// Puts a file in place, whole and fsynced; its name is durable once the folder is.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<File> {
    let path = folder.join(UNNAMED);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&path, folder.join(name))?;
    Ok(file)
}

/// Begins a segment; its name is durable once the folder is.
pub(super) fn begin(folder: &Path, number: u64, line: u64, story: Story, source: &str) -> Result<Open> {
    // nobody who sends can know it
    let secret = RandomState::new().hash_one(number);
    let bytes = Header { number, line, secret, story, source: source.to_owned() }.encode();
    let name = open_name(number);
    let file = put(folder, &name, &bytes)
        .map_err(|error| Error::io("cannot begin a segment of a receive log", folder.join(name), &error))?;
    let length = bytes.len() as u64;
    Ok(Open { file: Arc::new(file), number, secret, length, durable: length, rows_bytes: 0, known: Vec::new() })
}

/// Removes an open segment without rows that another one takes the place of.
pub(super) fn remove_open(folder: &Path, number: u64) -> Result<()> {
    let path = folder.join(open_name(number));
    fs::remove_file(&path).map_err(|error| Error::io("cannot remove an empty segment of a receive log", path, &error))
}

/// Gives a segment that is whole, and durable, its closed name, durably. The one behind it must be in place.
pub(super) fn close(folder: &Path, number: u64, faults: &Faults) -> Result<()> {
    // where the segment has its closed name, the one behind it has its own
    sync_folder(folder)?;
    faults.reach(CrashPoint::SegmentBegun)?;
    let to = folder.join(closed_name(number));
    fs::rename(folder.join(open_name(number)), &to)
        .map_err(|error| Error::io("cannot close a segment of a receive log", to, &error))?;
    sync_folder(folder)
}

/// What a crash left open.
pub(super) struct Left {
    /// The number of the line after it.
    pub line: u64,
    pub story: Story,
    pub known: Vec<Known>,
    /// Whether there is anything in it to be closed.
    pub has_rows: bool,
}

/// Makes a segment that a crash left open whole and durable, if there are rows in it: behind its last whole frame nobody was
/// promised anything. It is written anew, since what is read back may never have reached the disk, and a fsync that has
/// failed once says nothing the next time.
///
/// # Errors
/// Of kind `Refused`, where something is damaged that was promised.
pub(super) fn recover(folder: &Path, number: u64, source: &str, is_last: bool, faults: &Faults) -> Result<Left> {
    let path = folder.join(open_name(number));
    let mut bytes =
        fs::read(&path).map_err(|error| Error::io("cannot read a segment of a receive log", &path, &error))?;
    let scanned = scan(&bytes, number, source).and_then(|scan| durable::refuse_shorter(folder, &scan).map(|()| scan));
    let Scan { header, end, line, rows_bytes, known, sealed } =
        scanned.map_err(|damage| damaged(path.clone(), damage.to_string()))?;
    if !sealed && !is_last {
        // the next one is begun only when this one is whole
        return Err(damaged(path, "it breaks off, and another segment follows it"));
    }
    let has_rows = rows_bytes > 0 || !known.is_empty();
    if has_rows {
        bytes.truncate(end);
        if !sealed {
            bytes.extend(seal(header.secret, end as u64, line, &known));
        }
        put(folder, &open_name(number), &bytes)
            .map_err(|error| Error::io("cannot mend a segment that a crash left open", &path, &error))?;
        faults.reach(CrashPoint::SegmentMended)?;
    }
    Ok(Left { line, story: header.story, known, has_rows })
}
