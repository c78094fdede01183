//! The only file that sees sled, and all that was learnt about it.
//!
//! `flush()` of sled 0.34 does not fsync, whatever its documentation says: [`LogStore::sync`] does, on a
//! handle of our own. Values beyond a few KiB may end in `blobs/`, which nothing fsyncs: ours are short, and the
//! folder is watched. A half-written `snap.*.generating` makes every later open fail: it is removed first.
//! Dropping a database whose writer failed can hang: such a store is leaked ([`LogStore::abandon`]).

use std::{
    fs::File,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
};

use super::{disk, store::LogStore};
use crate::model::{Error, ErrorKind, Place, Result};

/// Never changed: sled refuses a database of another segment size. A leaf of sled's tree holds at most 26 values
/// before it is written anew, which must stay below a quarter of a segment to keep out of `blobs/`.
const SEGMENT_BYTES: usize = 512 << 10;

/// The log is appended to, and read once: a cache has nothing to win.
const CACHE_BYTES: u64 = 16 << 20;

const KEY_BYTES: usize = 10;

/// An open sled database in a folder of its own.
pub(super) struct SledStore {
    db: ManuallyDrop<sled::Db>,
    /// Our own handle of sled's file, opened before the first write, so that no failed write-back is missed.
    file: File,
    dir: PathBuf,
}

/// How much of a database is taken over into a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its log, settings and index.
    Whole,
    /// Its log alone: sled then builds the rest anew. Helps where the rest is damaged.
    LogOnly,
}

impl SledStore {
    /// Opens the database in `dir`, or makes one.
    ///
    /// # Errors
    /// Where sled cannot open it. sled may also panic or hang: only to be called in the log's thread.
    pub fn open(dir: &Path) -> Result<Box<SledStore>> {
        for path in disk::list(dir)? {
            if disk::name_of(&path).ends_with(".generating") {
                disk::remove(&path)?;
            }
        }
        let db = sled::Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(|error| sled_error("cannot open the live log", dir, &error, ErrorKind::Refused))?;
        let db = ManuallyDrop::new(db);
        let data = dir.join("db");
        let file = File::open(&data).map_err(|error| Error::io("cannot open the live log", &data, &error))?;
        let store = Box::new(SledStore { db, file, dir: dir.to_owned() });
        match store.check_blobs() {
            Ok(()) => Ok(store),
            Err(error) => {
                store.abandon();
                Err(error)
            }
        }
    }

    fn check_blobs(&self) -> Result<()> {
        let blobs = self.dir.join("blobs");
        match disk::list(&blobs)?.first() {
            None => Ok(()),
            Some(blob) => Err(Error::failed("the live log has data outside its file")
                .at(Place::Path(blob.clone()))
                .because("sled does not make such data durable, so nothing may depend on it")),
        }
    }

    fn seq_of(&self, key: &[u8]) -> Result<u64> {
        match key.first_chunk::<8>() {
            Some(seq) if key.len() == KEY_BYTES => Ok(u64::from_be_bytes(*seq)),
            _ => Err(Error::refused("the live log has a key that is not ours").at(Place::Path(self.dir.clone()))),
        }
    }

    fn not_written(&self, error: &sled::Error) -> Error {
        sled_error("cannot write the live log", &self.dir, error, ErrorKind::Failed)
    }

    fn not_read(&self, error: &sled::Error) -> Error {
        sled_error("cannot read the live log", &self.dir, error, ErrorKind::Refused)
    }
}

impl LogStore for SledStore {
    fn apply(&mut self, seq: u64, pieces: &[&[u8]]) -> Result<()> {
        let mut batch = sled::Batch::default();
        for (number, piece) in pieces.iter().enumerate() {
            let number = u16::try_from(number).expect("the caller keeps to 65,536 pieces");
            batch.insert(&key(seq, number)[..], *piece);
        }
        self.db.apply_batch(batch).map_err(|error| self.not_written(&error))
    }

    fn flush(&mut self) -> Result<()> {
        self.db.flush().map_err(|error| self.not_written(&error))?;
        self.check_blobs()
    }

    fn sync(&mut self) -> Result<()> {
        let fail = |error: std::io::Error| {
            Error::io("cannot make the live log durable", self.dir.join("db"), &error)
                .help("the disk failed: nothing of this batch counts; check the disk, then run the job again")
        };
        self.file.sync_all().map_err(fail)
    }

    fn get(&self, seq: u64) -> Result<Option<Vec<u8>>> {
        let mut entry = None::<Vec<u8>>;
        for pair in self.db.scan_prefix(seq.to_be_bytes()) {
            let (_, piece) = pair.map_err(|error| self.not_read(&error))?;
            entry.get_or_insert_default().extend_from_slice(&piece);
        }
        Ok(entry)
    }

    fn first_seq(&self) -> Result<Option<u64>> {
        match self.db.first().map_err(|error| self.not_read(&error))? {
            Some((key, _)) => self.seq_of(&key).map(Some),
            None => Ok(None),
        }
    }

    fn entries(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut entries = Vec::<(u64, Vec<u8>)>::new();
        for pair in self.db.iter() {
            let (key, piece) = pair.map_err(|error| self.not_read(&error))?;
            let seq = self.seq_of(&key)?;
            match entries.last_mut() {
                Some((last, entry)) if *last == seq => entry.extend_from_slice(&piece),
                _ => entries.push((seq, piece.to_vec())),
            }
        }
        Ok(entries)
    }

    fn moved(&mut self, to: &Path) {
        self.dir = to.to_owned();
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        if let Err(error) = self.flush().and_then(|()| self.sync()) {
            self.abandon();
            return Err(error);
        }
        Ok(())
    }

    fn abandon(self: Box<Self>) {
        std::mem::forget(self);
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `db` is never used again: this is the only place that drops it, and `self` is going away.
            unsafe { ManuallyDrop::drop(&mut self.db) };
        }
    }
}

/// Opens the database in `dir`, or makes one, as [`SledStore::open`] does. Tests of the protocol simulate theirs.
pub(super) fn open(dir: &Path) -> Result<Box<dyn LogStore>> {
    #[cfg(test)]
    if let Some(store) = super::tests::simulated::open(dir)? {
        return Ok(store);
    }
    Ok(SledStore::open(dir)?)
}

/// Copies a database's files into the new folder `to`, fsynced. `blobs/` is empty, and anything half made stays behind.
pub(super) fn copy(from: &Path, to: &Path, extent: Extent) -> Result<()> {
    disk::make_folder(to)?;
    for path in disk::list(from)? {
        let name = disk::name_of(&path);
        let index = (name.starts_with("snap.") && !name.ends_with(".generating")) || name == "conf";
        if name == "db" || (index && extent == Extent::Whole) {
            disk::copy_file(&path, &to.join(name))?;
        }
    }
    disk::sync_folder(to)
}

fn key(seq: u64, piece: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// `otherwise`: the kind of what is no refusal of the operating system.
fn sled_error(what: &str, dir: &Path, error: &sled::Error, otherwise: ErrorKind) -> Error {
    let path = dir.join("db");
    match error {
        sled::Error::Io(error) => match os_error(error) {
            Some(error) => Error::io(what, path, &error),
            None => Error::new(otherwise, what).at(Place::Path(path)).because("its file makes no sense"),
        },
        other => Error::new(otherwise, what).at(Place::Path(path)).because(other.to_string()),
    }
}

/// The operating system's error in one of sled's, which keeps only its debug text: `Os { code: 28, ... }`.
fn os_error(error: &std::io::Error) -> Option<std::io::Error> {
    let text = error.to_string();
    let code = || text.split_once("Os { code: ")?.1.split_once(',')?.0.parse().ok();
    error.raw_os_error().or_else(code).map(std::io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operating_system_says_is_told_from_damage() {
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let cloned = std::io::Error::new(full.kind(), format!("{full:?}"));
        for error in [full, cloned] {
            let error = sled_error("cannot write", Path::new("/c"), &sled::Error::Io(error), ErrorKind::Refused);
            assert_eq!(error.kind(), ErrorKind::Failed);
            let text = error.to_string();
            assert!(text.contains("No space left") && text.contains("free some space"), "{text}");
        }
        let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let error = sled_error("cannot open", Path::new("/c"), &sled::Error::Io(cut), ErrorKind::Refused);
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
}
