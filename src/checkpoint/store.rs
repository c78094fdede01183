//! What the log asks of the database below it, and a stand-in that can lose what was not made durable.
//!
//! The order apply, flush, sync is fixed in one place ([`append`]), for every store alike.

use std::{collections::BTreeMap, path::Path};

use crate::model::{CrashPoint, Error, Faults, Result};

/// Longest value in bytes. sled moves a tree node beyond 128 KiB out of its log, where nothing fsyncs it; a node holds
/// up to 26 values of this length, which leaves room to spare.
pub(super) const VALUE_BYTES_MAX: usize = 2048;

/// Pieces of one entry: their number is a `u16` on disk.
const PIECES_MAX: usize = 1 << 16;

/// Holds the entries of the live part. Used by one thread; after an error it may not be written again.
pub(super) trait LogStore: Send {
    /// Puts all pieces of one entry into the store, atomically; nothing need be on disk yet.
    fn apply(&mut self, seq: u64, pieces: &[&[u8]]) -> Result<()>;

    /// Hands what was applied to the operating system.
    fn flush(&mut self) -> Result<()>;

    /// Returns once what was flushed survives a power loss.
    fn sync(&mut self) -> Result<()>;

    /// One entry, its pieces joined.
    fn get(&self, seq: u64) -> Result<Option<Vec<u8>>>;

    /// The oldest sequence number.
    fn first_seq(&self) -> Result<Option<u64>>;

    /// All entries, oldest first. A missing piece shows when the entry is decoded.
    fn entries(&self) -> Result<Vec<(u64, Vec<u8>)>>;

    /// The store's folder was renamed.
    fn moved(&mut self, to: &Path);

    /// Closes in good order. A store that is dropped instead writes nothing more.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Makes one entry durable.
///
/// # Errors
/// After any error it is unknown whether the entry is durable: the caller stops, and recovery finds out.
pub(super) fn append(store: &mut dyn LogStore, seq: u64, entry: &[u8], faults: &Faults) -> Result<()> {
    let pieces: Vec<&[u8]> = entry.chunks(VALUE_BYTES_MAX).collect();
    if pieces.len() > PIECES_MAX {
        return Err(Error::failed(format!("record {seq} is too large for the log: {} bytes", entry.len())));
    }
    store.apply(seq, &pieces)?;
    faults.reach(CrashPoint::Applied)?;
    store.flush()?;
    faults.reach(CrashPoint::Flushed)?;
    store.sync()
}

/// In memory, with the three images that a real store has: its own, the operating system's, the disk's.
#[derive(Debug, Default, Clone)]
pub(super) struct MemoryStore {
    applied: BTreeMap<u64, Vec<u8>>,
    flushed: BTreeMap<u64, Vec<u8>>,
    durable: BTreeMap<u64, Vec<u8>>,
}

impl MemoryStore {
    /// What is there after a power loss.
    pub fn crash(&self) -> MemoryStore {
        let image = self.durable.clone();
        MemoryStore { applied: image.clone(), flushed: image.clone(), durable: image }
    }

    /// What is there after the process was killed.
    pub fn kill(&self) -> MemoryStore {
        let image = self.flushed.clone();
        MemoryStore { applied: image.clone(), flushed: image, durable: self.durable.clone() }
    }
}

impl LogStore for MemoryStore {
    fn apply(&mut self, seq: u64, pieces: &[&[u8]]) -> Result<()> {
        self.applied.insert(seq, pieces.concat());
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.flushed = self.applied.clone();
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.durable = self.flushed.clone();
        Ok(())
    }

    fn get(&self, seq: u64) -> Result<Option<Vec<u8>>> {
        Ok(self.applied.get(&seq).cloned())
    }

    fn first_seq(&self) -> Result<Option<u64>> {
        Ok(self.applied.keys().next().copied())
    }

    fn entries(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        Ok(self.applied.iter().map(|(seq, entry)| (*seq, entry.clone())).collect())
    }

    fn moved(&mut self, _to: &Path) {}

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
