//! What the log asks of the database below it, and a stand-in that can lose what was not made durable.
//!
//! The order apply, flush, sync is fixed in one place ([`append`]), for every store alike.

#[cfg(test)]
use std::collections::BTreeMap;
use std::path::Path;

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

    /// Entries from this one on, as many as follow each other.
    fn entries_from(&self, first: u64) -> Result<Vec<(u64, Vec<u8>)>> {
        let entry = |seq| self.get(seq).transpose().map(|entry| entry.map(|entry| (seq, entry)));
        // whoever asks may name any number
        (first..u64::MAX).map_while(entry).collect()
    }

    /// The store's folder was renamed.
    fn moved(&mut self, to: &Path);

    /// Closes in good order.
    fn close(self: Box<Self>) -> Result<()>;

    /// Gives the store up as it is: nothing more is written, not even by a destructor.
    fn abandon(self: Box<Self>);
}

/// Makes one entry durable.
///
/// # Errors
/// After any error it is unknown whether the entry is durable: the caller stops, and recovery finds out.
pub(super) fn append(store: &mut dyn LogStore, seq: u64, entry: &[u8], faults: &Faults) -> Result<()> {
    apply(store, seq, entry)?;
    faults.reach(CrashPoint::Applied)?;
    store.flush()?;
    faults.reach(CrashPoint::Flushed)?;
    store.sync()
}

/// Fills a store that nothing depends on yet, and makes it durable once.
///
/// # Errors
/// As [`append`].
pub(super) fn append_all(store: &mut dyn LogStore, entries: &[(u64, Vec<u8>)]) -> Result<()> {
    entries.iter().try_for_each(|(seq, entry)| apply(store, *seq, entry))?;
    store.flush()?;
    store.sync()
}

fn apply(store: &mut dyn LogStore, seq: u64, entry: &[u8]) -> Result<()> {
    let pieces: Vec<&[u8]> = entry.chunks(VALUE_BYTES_MAX).collect();
    if pieces.len() > PIECES_MAX {
        return Err(Error::failed(format!("record {seq} is too large for the log: {} bytes", entry.len())));
    }
    store.apply(seq, &pieces)
}

#[cfg(test)]
/// In memory, with the three images that a real store has: its own, the operating system's, the disk's.
#[derive(Debug, Default, Clone)]
pub(super) struct MemoryStore {
    applied: BTreeMap<u64, Vec<u8>>,
    flushed: BTreeMap<u64, Vec<u8>>,
    durable: BTreeMap<u64, Vec<u8>>,
}

#[cfg(test)]
impl MemoryStore {
    /// Everything in it is durable.
    pub fn of(entries: Vec<(u64, Vec<u8>)>) -> MemoryStore {
        let image: BTreeMap<u64, Vec<u8>> = entries.into_iter().collect();
        MemoryStore { applied: image.clone(), flushed: image.clone(), durable: image }
    }

    /// What the operating system has.
    pub fn flushed(&self) -> Vec<(u64, Vec<u8>)> {
        self.flushed.clone().into_iter().collect()
    }

    /// What the disk has.
    pub fn durable(&self) -> Vec<(u64, Vec<u8>)> {
        self.durable.clone().into_iter().collect()
    }

    /// What is there after a power loss.
    pub fn crash(&self) -> MemoryStore {
        let image = self.durable.clone();
        MemoryStore { applied: image.clone(), flushed: image.clone(), durable: image }
    }

    /// What is there after the process was killed, and recovery made its copy of that durable.
    pub fn kill(&self) -> MemoryStore {
        let image = self.flushed.clone();
        MemoryStore { applied: image.clone(), flushed: image.clone(), durable: image }
    }
}

#[cfg(test)]
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

    fn abandon(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        checkpoint::sled_store::SledStore,
        model::{ErrorKind, crash::Crash},
    };

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Append(usize),
        /// An append that crashes: at which point, and whether the power fails with it.
        Crash(CrashPoint, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let point = prop_oneof![Just(CrashPoint::Applied), Just(CrashPoint::Flushed)];
        let step = prop_oneof![3 => (1..9000usize).prop_map(Step::Append), 1 => (point, any::<bool>()).prop_map(|(p, b)| Step::Crash(p, b))];
        prop::collection::vec(step, 1..40)
    }

    proptest! {
        #![proptest_config(crate::checkpoint::tests::cases(64))]

        /// Acknowledged <= recovered <= issued, whatever is lost: fails if the sync or the flush is left out.
        #[test]
        fn what_was_acknowledged_survives_any_crash(steps in steps()) {
            let mut store = MemoryStore::default();
            let (mut acknowledged, mut next) = (0, 0);
            for step in steps {
                match step {
                    Step::Append(length) => {
                        append(&mut store, next, &vec![7; length], &Faults::none()).unwrap();
                        next += 1;
                        acknowledged = next;
                    }
                    Step::Crash(point, power) => {
                        let error = append(&mut store, next, b"x", &Faults::armed(point, 1, Crash::Error)).unwrap_err();
                        prop_assert_eq!(error.kind(), ErrorKind::Crashed);
                        store = if power { store.crash() } else { store.kill() };
                        let recovered = store.entries().unwrap().len() as u64;
                        prop_assert!(acknowledged <= recovered && recovered <= next + 1);
                        (next, acknowledged) = (recovered, recovered);
                    }
                }
            }
        }
    }

    #[test]
    fn sled_keeps_entries_of_any_length_in_order_and_makes_no_blobs() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |seq: u64| vec![seq as u8 | 1; [1, 2048, 2049, 300_000, 4 << 20][seq as usize % 5]];
        let check = |store: &SledStore, count: u64| {
            assert_eq!(store.first_seq().unwrap(), Some(300));
            for (index, (seq, bytes)) in store.entries().unwrap().into_iter().enumerate() {
                assert_eq!((seq, bytes), (300 + index as u64, entry(300 + index as u64)));
            }
            assert_eq!(store.entries().unwrap().len() as u64, count);
            assert_eq!(store.get(303).unwrap(), Some(entry(303)));
            assert_eq!(store.get(299).unwrap(), None);
        };
        let mut store = SledStore::open(dir.path()).unwrap();
        for seq in 300..320 {
            append(store.as_mut(), seq, &entry(seq), &Faults::none()).unwrap();
        }
        check(&store, 20);
        store.close().unwrap();
        check(&SledStore::open(dir.path()).unwrap(), 20);
        assert_eq!(std::fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
    }

    /// The order of calls is the guarantee; this notices a change of it.
    #[test]
    fn an_append_applies_flushes_and_syncs_in_this_order() {
        #[derive(Default)]
        struct Spy(Arc<std::sync::Mutex<Vec<&'static str>>>);
        impl LogStore for Spy {
            fn apply(&mut self, _: u64, pieces: &[&[u8]]) -> Result<()> {
                assert!(pieces.iter().all(|piece| piece.len() <= VALUE_BYTES_MAX));
                self.0.lock().unwrap().push("apply");
                Ok(())
            }
            fn flush(&mut self) -> Result<()> {
                self.0.lock().unwrap().push("flush");
                Ok(())
            }
            fn sync(&mut self) -> Result<()> {
                self.0.lock().unwrap().push("sync");
                Ok(())
            }
            fn get(&self, _: u64) -> Result<Option<Vec<u8>>> {
                Ok(None)
            }
            fn first_seq(&self) -> Result<Option<u64>> {
                Ok(None)
            }
            fn entries(&self) -> Result<Vec<(u64, Vec<u8>)>> {
                Ok(Vec::new())
            }
            fn moved(&mut self, _: &Path) {}
            fn close(self: Box<Self>) -> Result<()> {
                Ok(())
            }
            fn abandon(self: Box<Self>) {}
        }
        let mut spy = Spy::default();
        append(&mut spy, 0, &[0; 10_000], &Faults::none()).unwrap();
        assert_eq!(*spy.0.lock().unwrap(), ["apply", "flush", "sync"]);
        assert!(append(&mut spy, 0, &vec![0; (VALUE_BYTES_MAX << 16) + 1], &Faults::none()).is_err());
    }
}
