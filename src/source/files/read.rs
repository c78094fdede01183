//! Reading one planned file: exactly the bytes that were planned, or an error that says what moved.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, BufReader, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use twox_hash::xxhash3_128;

use super::{Parts, listing, whole};
use crate::{
    format::{BadRecord, Bytes, Compression, Cutter, Decoded, Decompressing, Piece, Pieces, RATIO_GUESSED},
    job::Mode,
    model::{Error, ErrorKind, FileRead, Place, PlannedFile, Result},
    source::received::{self, Unframing},
};

const PLACE_ATOMICALLY: &str =
    "write files under a name that begins with '.' or '_' and rename them when they are whole, then run again";
const PUT_BACK: &str = "put it back as it was, with its modification time, then run again; if it was still being written, write new \
    files under a name that begins with '.' or '_' and rename them when they are whole";

/// Bytes of a compressed file are read so many at a time.
const RAW_BYTES: usize = 64 << 10;

/// A buffer keeps room for so many pieces from one file to the next.
const KEPT_PIECES: usize = 4;

/// A file that was read: what the log keeps of it, and its rows.
#[derive(Debug)]
pub struct ReadFile {
    pub read: FileRead,
    pub decoded: Decoded,
}

impl ReadFile {
    /// What its rows take in memory, and its bad records.
    pub fn memory_bytes(&self) -> u64 {
        let rows = self.decoded.batches.iter().map(|batch| batch.get_array_memory_size());
        let bad = self.decoded.bad.iter().map(|bad| size_of::<BadRecord>() + bad.reason.len() + bad.text.len());
        rows.chain(bad).map(|bytes| bytes as u64).sum()
    }
}

pub(super) fn read(source: &Parts, planned: &PlannedFile, threads: usize, buffer: &mut Vec<u8>) -> Result<ReadFile> {
    let path = source.place.root().join(planned.path.as_path());
    let from_path = source.partitions.columns(planned.path.as_path());
    let except: Vec<usize> = from_path.iter().map(|column| column.column).collect();
    let (decoded, end) = match source.reader.takes_wholes() {
        true => whole::read(&source.reader, &path, planned, threads, &except, buffer)?,
        false => lines(source, &path, planned, threads, &except, buffer)?,
    };
    let path_problems = from_path.iter().filter_map(|column| column.problem.clone());
    let damage: Vec<String> = end.problem.iter().cloned().chain(path_problems).collect();
    if let Some(why) = damage.first().filter(|_| source.mode == Mode::FailFast) {
        return Err(Error::data("an input file is damaged, and mode is 'failfast'")
            .at(Place::Path(path))
            .because(why)
            .help("replace or remove the file, then run again; or set mode = 'permissive' to use what can be read"));
    }
    let mut decoded = decoded?;
    if !from_path.is_empty() {
        for batch in &mut decoded.batches {
            *batch = source.partitions.fill(batch, &from_path)?;
        }
    }
    // Damage of the stream stands where it ends; of the path before the first line.
    let stream_line = decoded.lines + u64::from(end.line_ended);
    for (index, why) in damage.into_iter().enumerate() {
        let stream = end.problem.is_some() && index == 0;
        let (line, byte) = if stream { (stream_line, end.bytes) } else { (1, 0) };
        decoded.add_bad(BadRecord::new(line, byte, why, b""));
    }
    let content_hash = end.content_hash;
    let read = FileRead { file: planned.clone(), content_hash, rows: decoded.rows, bad_rows: decoded.bad_rows };
    Ok(ReadFile { read, decoded })
}

/// Reads a file of lines: what it decodes to, and how its bytes ended.
fn lines(
    source: &Parts,
    path: &Path,
    planned: &PlannedFile,
    threads: usize,
    except: &[usize],
    buffer: &mut Vec<u8>,
) -> Result<(Result<Decoded>, End)> {
    let planned = &source.as_it_matters(path, planned);
    let opened = Opened::new(path, planned, source.reader.piece_bytes(), source.received.as_deref())?;
    let threads = threads.min(opened.pieces_about());
    let decoded = source.reader.decode_pieces(&path.to_string_lossy(), &opened, threads, except, buffer);
    // a long line must not be paid for again and again
    buffer.clear();
    buffer.shrink_to(KEPT_PIECES * source.reader.piece_bytes());
    Ok((decoded, opened.finish(path, planned)?))
}

/// The planned file's bytes as they are on disk, hashed as they come.
struct Raw {
    file: io::Take<File>,
    hasher: xxhash3_128::Hasher,
    read_bytes: u64,
    /// What the operating system said; a decoder above would take it for damage.
    failure: Option<io::Error>,
}

impl Raw {
    /// Counts and hashes what came; a failure is kept, and looks like the end.
    fn came(&mut self, bytes: &[u8], failure: Option<io::Error>) {
        self.hasher.write(bytes);
        self.read_bytes += bytes.len() as u64;
        self.failure = self.failure.take().or(failure);
    }
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Ok(0);
        }
        match self.file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.came(b"", Some(error));
                Ok(0)
            }
            Ok(count) => {
                self.came(&buffer[..count], None);
                Ok(count)
            }
        }
    }
}

impl Bytes for Raw {
    fn append(&mut self, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
        let before = to.len();
        let failure = (&mut self.file).take(count as u64).read_to_end(to).err();
        self.came(&to[before..], failure);
        Ok(())
    }
}

/// The file's content, decompressed where its name says so; of a segment the lines in it.
enum Content {
    Plain(Box<Raw>),
    Packed(Box<Decompressing<BufReader<Raw>>>),
    Framed(Box<Unframing<Raw>>),
}

impl Content {
    fn raw(&mut self) -> &mut Raw {
        match self {
            Content::Plain(raw) => raw,
            Content::Packed(content) => content.input().get_mut(),
            Content::Framed(content) => content.input(),
        }
    }
}

impl Bytes for Content {
    fn append(&mut self, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
        match self {
            Content::Plain(raw) => raw.append(to, count),
            Content::Packed(content) => content.append(to, count),
            Content::Framed(content) => content.append(to, count),
        }
    }
}

/// How much a planned file holds, roughly.
pub(super) fn content_bytes_about(planned: &PlannedFile) -> u64 {
    let ratio = Compression::of(planned.path.as_path()).map_or(1, |_| RATIO_GUESSED);
    planned.size_bytes.saturating_mul(ratio)
}

/// How the reading of a file ended: all of it was read, and it is what was planned.
pub(super) struct End {
    pub content_hash: u128,
    /// Bytes of content, decompressed, up to the problem.
    pub bytes: u64,
    pub line_ended: bool,
    /// Why there is no more content than that.
    pub problem: Option<String>,
}

/// A planned file that is being read by several threads, piece by piece.
struct Opened {
    state: Mutex<Reading>,
    pieces_about: u64,
}

struct Reading {
    cutter: Cutter<Content>,
    failure: Option<io::Error>,
    given_up: bool,
}

impl Opened {
    /// `segment_of`: the source whose receive log the file is a segment of.
    fn new(path: &Path, planned: &PlannedFile, piece_bytes: usize, segment_of: Option<&str>) -> Result<Opened> {
        let file = open_planned(path, planned)?;
        // One more byte than planned is enough to see that it grew.
        let file = file.take(planned.size_bytes.saturating_add(1));
        let raw = Raw { file, hasher: xxhash3_128::Hasher::new(), read_bytes: 0, failure: None };
        let compression = Compression::of(planned.path.as_path()).filter(|_| planned.size_bytes > 0);
        let number = received::closed_number(planned.path.as_path());
        let content = match (segment_of.zip(number), compression) {
            (Some((source, number)), _) => Content::Framed(Box::new(Unframing::new(raw, number, source))),
            (None, None) => Content::Plain(Box::new(raw)),
            (None, Some(compression)) => Content::Packed(Box::new(
                Decompressing::new(compression, BufReader::with_capacity(RAW_BYTES, raw), planned.size_bytes)
                    .map_err(|error| Error::io("cannot read an input file", path, &error))?,
            )),
        };
        let pieces_about = content_bytes_about(planned).div_ceil(piece_bytes as u64);
        let reading = Reading { cutter: Cutter::new(content, piece_bytes), failure: None, given_up: false };
        Ok(Opened { state: Mutex::new(reading), pieces_about })
    }

    /// How many pieces it has, roughly.
    fn pieces_about(&self) -> usize {
        usize::try_from(self.pieces_about).unwrap_or(usize::MAX)
    }

    /// Looks whether all that was planned was read, and nothing else.
    fn finish(self, path: &Path, planned: &PlannedFile) -> Result<End> {
        let Reading { mut cutter, failure, given_up } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (bytes, line_ended) = cutter.position();
        let content = cutter.input();
        let problem = match content {
            // whether its end was met by somebody who has given up is chance
            Content::Packed(content) if !given_up => content.problem().map(str::to_owned),
            _ => None,
        };
        let damage = match content {
            Content::Framed(content) if !given_up => content.damage(),
            _ => None,
        };
        let raw = content.raw();
        if !given_up {
            // what a decoder left, behind its end or its problem, is part of the file as well
            let mut rest = vec![0; RAW_BYTES];
            while raw.failure.is_none() && raw.read(&mut rest).is_ok_and(|count| count > 0) {}
        }
        if let Some(error) = raw.failure.take().or(failure) {
            return Err(Error::io("cannot read an input file", path, &error));
        }
        let read_bytes = Some(raw.read_bytes).filter(|_| !given_up);
        check_unchanged(raw.file.get_ref(), path, planned, read_bytes)?;
        if let Some(why) = damage {
            return Err(received::damaged(path.to_owned(), why));
        }
        Ok(End { content_hash: raw.hasher.finish_128(), bytes, line_ended, problem })
    }
}

impl Pieces for Opened {
    fn next<'b>(&'b self, buffer: &'b mut Vec<u8>) -> Option<(usize, Piece<'b>)> {
        let mut reading = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match reading.cutter.next(buffer) {
            Ok(at) => at?,
            Err(error) => {
                reading.failure = Some(error);
                reading.cutter.give_up();
                return None;
            }
        };
        Some((at.number, Piece { bytes: buffer, offset: at.offset }))
    }

    fn give_up(&self) {
        let mut reading = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        reading.given_up = true;
        reading.cutter.give_up();
    }
}

/// Opens a file, if it is still the planned one.
pub(super) fn open_planned(path: &Path, planned: &PlannedFile) -> Result<File> {
    let file = open(path)?;
    let before = file.metadata().map_err(|error| Error::io("cannot look at an input file", path, &error))?;
    if !before.is_file() {
        let why = format!("it is {} now", listing::kind(before.file_type()));
        return Err(moved("an input file was replaced since it was planned", path, why, PUT_BACK));
    }
    match difference(planned, &before) {
        Some(why) => Err(moved("an input file was replaced or changed since it was planned", path, why, PUT_BACK)),
        None => Ok(file),
    }
}

/// Looks whether a file that was read is still the planned one; `read_bytes`: how many it gave, if all were asked for.
pub(super) fn check_unchanged(file: &File, path: &Path, planned: &PlannedFile, read_bytes: Option<u64>) -> Result<()> {
    let after = file.metadata().map_err(|error| Error::io("cannot look at an input file", path, &error))?;
    let why = match (difference(planned, &after), read_bytes) {
        (None, Some(read)) if read != planned.size_bytes => {
            format!("planned with {} bytes, read {read}", planned.size_bytes)
        }
        (None, _) => return Ok(()),
        (Some(why), _) => why,
    };
    Err(moved("an input file changed while it was read", path, why, PLACE_ATOMICALLY))
}

/// Opens without following a link and without waiting for a pipe's other end.
fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    options.open(path).map_err(|error| match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => {
            moved("an input file is gone", path, "it was there when the batch was planned".to_owned(), PUT_BACK)
        }
        // What open(2) says of a link, and of a socket or a device without a driver.
        (_, Some(libc::ELOOP)) => moved(
            "an input file was replaced since it was planned",
            path,
            "it is a symbolic link now".to_owned(),
            PUT_BACK,
        ),
        (_, Some(libc::ENXIO)) => moved(
            "an input file was replaced since it was planned",
            path,
            "it is a socket or a device now".to_owned(),
            PUT_BACK,
        ),
        _ => Error::io("cannot open an input file", path, &error),
    })
}

fn moved(what: &str, path: &Path, why: String, help: &str) -> Error {
    Error::new(ErrorKind::Moved, what).at(Place::Path(path.to_owned())).because(why).help(help)
}

impl Parts {
    /// What was planned of a file, as far as it matters: the time of a segment may be that of a copy that was put back, since
    /// its bytes are verified one by one.
    pub(super) fn as_it_matters(&self, path: &Path, planned: &PlannedFile) -> PlannedFile {
        let mut planned = planned.clone();
        if self.received.is_some()
            && let Ok(now) = std::fs::symlink_metadata(path)
        {
            planned.modified_ns = listing::modified_ns(&now);
        }
        planned
    }
}

pub(super) fn is_as_planned(path: &Path, planned: &PlannedFile) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|now| now.is_file() && difference(planned, &now).is_none())
}

/// In what a file differs from the plan.
fn difference(planned: &PlannedFile, now: &Metadata) -> Option<String> {
    let modified_ns = listing::modified_ns(now);
    if now.len() != planned.size_bytes {
        return Some(format!("planned with {} bytes, it has {} now", planned.size_bytes, now.len()));
    }
    (modified_ns != planned.modified_ns)
        .then(|| format!("planned as modified {}, it was modified {}", time(planned.modified_ns), time(modified_ns)))
}

fn time(ns: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::model::InputPath;

    fn plan(path: &Path) -> PlannedFile {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        let name = InputPath::new(Path::new(path.file_name().unwrap()));
        PlannedFile {
            identity: name.clone(),
            path: name,
            size_bytes: metadata.len(),
            modified_ns: listing::modified_ns(&metadata),
        }
    }

    /// What happens to a reader when `change` is done to the file after its first lines were read.
    fn changed_during(change: impl FnOnce(&Path)) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "012\n456\n8").unwrap();
        let plan = plan(&path);
        let opened = Opened::new(&path, &plan, 4, None)?;
        let (mut all, mut buffer) = (Vec::new(), Vec::new());
        let (_, first) = opened.next(&mut buffer).expect("there is a first piece");
        all.extend_from_slice(first.bytes);
        // A new modification time even where the file system's clock is coarse.
        std::thread::sleep(std::time::Duration::from_millis(20));
        change(&path);
        while let Some((_, piece)) = opened.next(&mut buffer) {
            all.extend_from_slice(piece.bytes);
        }
        let end = opened.finish(&path, &plan)?;
        assert_eq!(end.content_hash, xxhash3_128::Hasher::oneshot(&all));
        assert_eq!((end.bytes, end.line_ended, end.problem), (9, false, None));
        Ok(all)
    }

    #[test]
    fn a_change_while_it_is_read_is_an_error() {
        let append = |path: &Path| {
            File::options().append(true).open(path).unwrap().write_all(b"x").unwrap();
        };
        let overwrite = |path: &Path| std::fs::write(path, "987654321").unwrap();
        let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(3).unwrap();
        let changes: [fn(&Path); 3] = [append, overwrite, cut];
        for change in changes {
            let error = changed_during(change).unwrap_err();
            assert_eq!(error.what(), "an input file changed while it was read");
            assert_eq!(error.kind(), ErrorKind::Moved);
        }
    }

    #[test]
    fn a_file_renamed_or_replaced_while_open_is_still_the_planned_one() {
        let replace = |path: &Path| {
            std::fs::write(path.with_extension("new"), "another").unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        };
        assert_eq!(changed_during(replace).unwrap(), b"012\n456\n8");
        let quiet = |_: &Path| {};
        assert_eq!(changed_during(quiet).unwrap(), b"012\n456\n8");
    }

    /// Reads a file of these bytes in small pieces: its content, and how it ended.
    fn in_pieces(name: &str, bytes: &[u8], piece_bytes: usize) -> (Vec<u8>, End) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let plan = plan(&path);
        let opened = Opened::new(&path, &plan, piece_bytes, None).unwrap();
        let (mut all, mut buffer, mut number) = (Vec::new(), Vec::new(), 0);
        while let Some((at, piece)) = opened.next(&mut buffer) {
            assert_eq!((at, piece.offset), (number, all.len() as u64));
            all.extend_from_slice(piece.bytes);
            number += 1;
        }
        let end = opened.finish(&path, &plan).unwrap();
        assert_eq!(end.content_hash, xxhash3_128::Hasher::oneshot(bytes), "of all bytes on disk");
        assert_eq!(end.bytes, all.len() as u64);
        (all, end)
    }

    #[test]
    fn compressed_files_come_in_pieces_up_to_their_damage() {
        let gz = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let text: Vec<u8> =
            (0..40_000_u32).flat_map(|n| format!("{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        let whole = gz(&text);
        for piece_bytes in [1000, 70_000, 1 << 20] {
            let (read, end) = in_pieces("a.gz", &whole, piece_bytes);
            assert!(read == text && end.problem.is_none() && end.line_ended, "{piece_bytes}");
            let (read, end) = in_pieces("a.gz", &[&whole[..], &gz(b"more")].concat(), piece_bytes);
            assert!(read == [&text[..], b"more"].concat() && end.problem.is_none() && !end.line_ended, "{piece_bytes}");
            let (read, end) = in_pieces("a.gz", &[&whole[..], b"garbage"].concat(), piece_bytes);
            assert!(read == text && end.problem.is_some(), "{piece_bytes}");
            let (read, end) = in_pieces("a.gz", &whole[..whole.len() / 2], piece_bytes);
            assert!(text.starts_with(&read) && read.len() > text.len() / 4 && end.problem.is_some(), "{piece_bytes}");
        }
        let (read, end) = in_pieces("empty.zst", b"", 1000);
        assert!(read.is_empty() && end.problem.is_none(), "nothing is compressed in an empty file");
    }

    #[test]
    fn who_gives_up_needs_not_all_but_still_the_planned_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "012\n456\n8").unwrap();
        let plan = plan(&path);
        let give_up = || {
            let opened = Opened::new(&path, &plan, 4, None).unwrap();
            assert!(opened.next(&mut Vec::new()).is_some());
            opened.give_up();
            assert!(opened.next(&mut Vec::new()).is_none());
            opened
        };
        assert!(give_up().finish(&path, &plan).is_ok());
        let opened = give_up();
        File::options().append(true).open(&path).unwrap().write_all(b"x").unwrap();
        assert_eq!(opened.finish(&path, &plan).map(drop).unwrap_err().kind(), ErrorKind::Moved);
    }
}
