//! Reading one planned file: exactly the bytes that were planned, or an error that says what moved.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use twox_hash::xxhash3_128;

use super::{FilesSource, listing};
use crate::{
    format::{BadRecord, Decoded, Decompressed, decompress},
    job::Mode,
    model::{Error, ErrorKind, FileRead, Place, PlannedFile, Result},
};

const PLACE_ATOMICALLY: &str =
    "write files under a name that begins with '.' or '_' and rename them when they are whole, then run again";
const PUT_BACK: &str = "put it back as it was, with its modification time, then run again; if it was still being written, write new \
    files under a name that begins with '.' or '_' and rename them when they are whole";

/// A file that was read: what the log keeps of it, and its rows.
#[derive(Debug)]
pub struct ReadFile {
    pub read: FileRead,
    pub decoded: Decoded,
}

pub(super) fn read(source: &FilesSource, planned: &PlannedFile, threads: usize) -> Result<ReadFile> {
    let path = source.root().join(planned.path.as_path());
    let bytes = read_planned(&path, planned, |file, bytes| file.read_to_end(bytes))?;
    let content_hash = xxhash3_128::Hasher::oneshot(&bytes);
    let decoded = decode(source, planned, &path, bytes, threads)?;
    let read = FileRead { file: planned.clone(), content_hash, rows: decoded.rows, bad_rows: decoded.bad_rows };
    Ok(ReadFile { read, decoded })
}

/// The file's bytes, if it is what was planned, before and after. `read` is a seam for tests.
fn read_planned(
    path: &Path,
    planned: &PlannedFile,
    read: impl FnOnce(&mut io::Take<&File>, &mut Vec<u8>) -> io::Result<usize>,
) -> Result<Vec<u8>> {
    let file = open(path)?;
    let stat = || file.metadata().map_err(|error| Error::io("cannot look at an input file", path, &error));
    let before = stat()?;
    if !before.is_file() {
        let why = format!("it is {} now", listing::kind(before.file_type()));
        return Err(moved("an input file was replaced since it was planned", path, why, PUT_BACK));
    }
    if let Some(why) = difference(planned, &before) {
        return Err(moved("an input file was replaced or changed since it was planned", path, why, PUT_BACK));
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(planned.size_bytes).ok().filter(|&room| bytes.try_reserve_exact(room).is_ok());
    if room.is_none() {
        return Err(Error::failed("an input file is too large for this machine's memory")
            .at(Place::Path(path.to_owned()))
            .because(format!("it has {} bytes", planned.size_bytes)));
    }
    // One more byte than planned is enough to see that it grew.
    let mut limited = (&file).take(planned.size_bytes.saturating_add(1));
    read(&mut limited, &mut bytes).map_err(|error| Error::io("cannot read an input file", path, &error))?;
    let why = match difference(planned, &stat()?) {
        None if bytes.len() as u64 == planned.size_bytes => return Ok(bytes),
        None => format!("planned with {} bytes, read {}", planned.size_bytes, bytes.len()),
        Some(why) => why,
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

fn decode(source: &FilesSource, planned: &PlannedFile, path: &Path, bytes: Vec<u8>, threads: usize) -> Result<Decoded> {
    let failfast = source.mode == Mode::FailFast;
    let Decompressed { bytes, problem } = decompress(planned.path.as_path(), bytes);
    let from_path = source.partitions.columns(planned.path.as_path());
    let path_problems = from_path.iter().filter_map(|column| column.problem.clone());
    let damage: Vec<String> = problem.iter().cloned().chain(path_problems).collect();
    if let Some(why) = damage.first().filter(|_| failfast) {
        return Err(Error::data("an input file is damaged, and mode is 'failfast'")
            .at(Place::Path(path.to_owned()))
            .because(why)
            .help("replace or remove the file, then run again; or set mode = 'permissive' to use what can be read"));
    }
    let except: Vec<usize> = from_path.iter().map(|column| column.column).collect();
    let name = path.to_string_lossy();
    let mut decoded = source.reader.decode_except(&name, &bytes, threads, &except)?;
    if !from_path.is_empty() {
        for batch in &mut decoded.batches {
            *batch = source.partitions.fill(batch, &from_path)?;
        }
    }
    if !damage.is_empty() {
        // Damage of the stream stands where it ends; of the path before the first line.
        let lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
        for (index, why) in damage.into_iter().enumerate() {
            let stream = problem.is_some() && index == 0;
            let (line, byte) = if stream { (lines + 1, bytes.len() as u64) } else { (1, 0) };
            decoded.add_bad(BadRecord::new(line, byte, why, b""));
        }
    }
    Ok(decoded)
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

    /// What happens to a reader when `change` is done to the file after `first` bytes were read.
    fn changed_during(first: u64, change: impl FnOnce(&Path)) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "0123456789").unwrap();
        read_planned(&path, &plan(&path), |file, bytes| {
            file.take(first).read_to_end(bytes)?;
            // A new modification time even where the file system's clock is coarse.
            std::thread::sleep(std::time::Duration::from_millis(20));
            change(&path);
            file.read_to_end(bytes)
        })
    }

    #[test]
    fn a_change_while_it_is_read_is_an_error() {
        let append = |path: &Path| {
            File::options().append(true).open(path).unwrap().write_all(b"x").unwrap();
        };
        let overwrite = |path: &Path| std::fs::write(path, "9876543210").unwrap();
        let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(3).unwrap();
        let changes: [fn(&Path); 3] = [append, overwrite, cut];
        for change in changes {
            let error = changed_during(5, change).unwrap_err();
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
        assert_eq!(changed_during(5, replace).unwrap(), b"0123456789");
        let quiet = |_: &Path| {};
        assert_eq!(changed_during(0, quiet).unwrap(), b"0123456789");
    }
}
