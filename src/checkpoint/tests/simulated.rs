//! A database whose images can be told apart on disk, so that a whole checkpoint can lose what was not made durable.
//!
//! What the operating system has is in `db`, what the disk has in `conf`: copying, renaming and removing then do to it
//! what they do to sled's files. A power loss puts `conf` in the place of `db`.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::super::{
    codec, disk,
    part::Entries,
    store::{LogStore, MemoryStore},
};
use crate::model::Result;

const MAGIC: &[u8] = b"HWSIM";

/// Folders below which new databases are simulated, and how they lie.
static FOLDERS: Mutex<Vec<(PathBuf, Lie)>> = Mutex::new(Vec::new());

/// What a database does wrong, to see whether the tests notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    Honest,
    /// `flush` hands nothing to the operating system.
    FlushesNothing,
    /// `sync` returns before anything is durable.
    SyncsNothing,
    /// The first piece of an entry may be there without the others.
    AppliesByPieces,
}

/// Databases below this folder are simulated from now on, until the value is dropped.
pub(super) struct Simulated(PathBuf);

impl Simulated {
    pub(super) fn below(folder: &Path, lie: Lie) -> Simulated {
        folders().push((folder.to_owned(), lie));
        Simulated(folder.to_owned())
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        folders().retain(|(folder, _)| *folder != self.0);
    }
}

fn folders() -> std::sync::MutexGuard<'static, Vec<(PathBuf, Lie)>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct SimulatedStore {
    memory: MemoryStore,
    dir: PathBuf,
    lie: Lie,
}

/// A simulated database, if it is to be one; its file says so where it was copied out of its folder.
pub(in crate::checkpoint) fn open(dir: &Path) -> Result<Option<Box<dyn LogStore>>> {
    let lie = folders().iter().find(|(folder, _)| dir.starts_with(folder)).map(|(_, lie)| *lie);
    let image = disk::read_if_there(&dir.join("db"))?;
    if lie.is_none() && image.as_ref().is_none_or(|image| !image.starts_with(MAGIC)) {
        return Ok(None);
    }
    let entries = image.map(|image| decode(&image)).unwrap_or_default();
    // what recovery copied is durable
    write(&dir.join("conf"), &entries);
    write(&dir.join("db"), &entries);
    let memory = MemoryStore::of(entries);
    Ok(Some(Box::new(SimulatedStore { memory, dir: dir.to_owned(), lie: lie.unwrap_or(Lie::Honest) })))
}

/// What is left of the database in `dir` after a power loss.
pub(super) fn lose_power(dir: &Path) {
    std::fs::copy(dir.join("conf"), dir.join("db")).expect("a simulated database has both images");
}

/// Takes away what the database in `dir` has from `seq` on: as sled does, where its file is damaged.
pub(super) fn roll_back(dir: &Path, seq: u64) {
    let mut entries = stored(dir);
    entries.retain(|(number, _)| *number < seq);
    write(&dir.join("db"), &entries);
    write(&dir.join("conf"), &entries);
}

/// What the operating system has of the database in `dir`.
pub(super) fn stored(dir: &Path) -> Entries {
    decode(&std::fs::read(dir.join("db")).expect("an image"))
}

fn write(path: &Path, entries: &Entries) {
    let bytes = [MAGIC, &codec::to_bytes(entries).expect("entries can be written")].concat();
    std::fs::write(path, bytes).expect("an image can be written");
}

fn decode(image: &[u8]) -> Entries {
    codec::from_bytes(image.strip_prefix(MAGIC).expect("it is simulated")).expect("it was written whole")
}

impl LogStore for SimulatedStore {
    fn apply(&mut self, seq: u64, pieces: &[&[u8]]) -> Result<()> {
        if self.lie == Lie::AppliesByPieces {
            self.memory.apply(seq, &pieces[..1])?;
            self.memory.flush()?;
            write(&self.dir.join("db"), &self.memory.flushed());
        }
        self.memory.apply(seq, pieces)
    }

    fn flush(&mut self) -> Result<()> {
        if self.lie != Lie::FlushesNothing {
            self.memory.flush()?;
            write(&self.dir.join("db"), &self.memory.flushed());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if self.lie != Lie::SyncsNothing {
            self.memory.sync()?;
            write(&self.dir.join("conf"), &self.memory.durable());
        }
        Ok(())
    }

    fn get(&self, seq: u64) -> Result<Option<Vec<u8>>> {
        self.memory.get(seq)
    }

    fn first_seq(&self) -> Result<Option<u64>> {
        self.memory.first_seq()
    }

    fn entries(&self) -> Result<Entries> {
        self.memory.entries()
    }

    fn moved(&mut self, to: &Path) {
        self.dir = to.to_owned();
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    fn abandon(self: Box<Self>) {}
}
