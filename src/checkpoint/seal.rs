//! From one part of the log to the next: the live one becomes a flat file, a fresh one begins with a base.
//!
//! Every step leaves a state that `open` completes: a temporary file is removed; a sealed part beside its live
//! original is the truth; a live part beside an older one is.

use std::path::{Path, PathBuf};

use super::{
    codec::{self, Envelope},
    disk,
    history::History,
    layout::Layout,
    log_thread::LogThread,
    part::{self, Entries},
    payloads::Placed,
    record::{Base, Payload, PayloadKind, Record, SeenFile, SeenSegment},
    sled_store,
    store::{self, LogStore},
};
use crate::model::{CrashPoint, Error, Faults, Place, Result};

/// Lists of files are merged into one beyond this number.
const SEEN_SEGMENTS_MAX: usize = 64;

/// A record ready to be stored, and its entry.
pub(super) struct Ready {
    pub envelope: Envelope,
    pub entry: (u64, Vec<u8>),
}

impl Ready {
    /// The next record of a history.
    pub fn next(history: &History, record: Record, inline: &[u8]) -> Result<Ready> {
        let (seq, prev) = (history.next_seq, history.head);
        let (bytes, hash) = codec::encode(seq, prev, &record, inline)?;
        Ok(Ready { envelope: Envelope { seq, prev, hash, record }, entry: (seq, bytes) })
    }
}

/// The base that begins the next part. Files that were read since the last one get a list of their own, durable.
pub(super) fn next_base(layout: &Layout, history: &History) -> Result<Ready> {
    let mut seen = history.segments.clone();
    let mut covered = usize::try_from(seen.iter().map(|segment| segment.keep).sum::<u64>()).unwrap_or(usize::MAX);
    if seen.len() >= SEEN_SEGMENTS_MAX {
        seen.clear();
        covered = 0;
    }
    let fresh = history.seen.get(covered..).unwrap_or_default();
    if !fresh.is_empty() {
        let mut placed = Placed::default();
        placed.add(layout, history.next_seq, &seen_payload(fresh)?)?;
        placed.finish(layout)?;
        seen.extend(placed.refs.into_iter().map(|payload| SeenSegment { payload, keep: fresh.len() as u64 }));
    }
    let base = Base { genesis: (*history.genesis).clone(), standing: history.standing(), seen };
    Ready::next(history, Record::Base(Box::new(base)), &[])
}

/// A list of files that were read, as it is stored.
pub(super) fn seen_payload(files: &[SeenFile]) -> Result<Payload> {
    let bytes = codec::to_bytes(&files)?;
    Ok(Payload { query: String::new(), kind: PayloadKind::Seen, bytes })
}

/// Makes `history` one that begins at the base, which it must be at the end of.
pub(super) fn go_on_from(history: &mut History, envelope: &Envelope) -> Result<()> {
    let no_lists = &mut |_: &SeenSegment| Err(Error::failed("a base in the middle of a log loads nothing"));
    history.apply(envelope, no_lists)?;
    if let Record::Base(base) = &envelope.record {
        history.forget_before(base);
    }
    Ok(())
}

/// Writes the sealed part, durably.
pub(super) fn write_part(layout: &Layout, number: u32, entries: &Entries, faults: &Faults) -> Result<()> {
    let path = layout.sealed(number);
    let temporary = path.with_added_extension("tmp");
    disk::write_file(&temporary, &part::encode(number, entries)?)?;
    faults.reach(CrashPoint::SealWritten)?;
    disk::rename(&temporary, &path)?;
    faults.reach(CrashPoint::Sealed)
}

/// Makes a database with these entries under a temporary name, durable, then puts it in place.
fn build(path: PathBuf, entries: &Entries, faults: &Faults, built: Option<CrashPoint>) -> Result<Box<dyn LogStore>> {
    let temporary = path.with_added_extension("tmp");
    disk::remove(&temporary)?;
    disk::make_folder(&temporary)?;
    let mut store = sled_store::open(&temporary)?;
    let filled = fill(store.as_mut(), &temporary, entries).and_then(|()| {
        if let Some(point) = built {
            faults.reach(point)?;
        }
        // The database stays open: sled keeps no path that it writes to, only the file.
        disk::rename(&temporary, &path)
    });
    match filled {
        Ok(()) => {
            store.moved(&path);
            Ok(store)
        }
        Err(error) => {
            // closing it would write once more, panic, and hide the error
            store.abandon();
            Err(error)
        }
    }
}

fn fill(store: &mut dyn LogStore, folder: &Path, entries: &Entries) -> Result<()> {
    store::append_all(store, entries)?;
    disk::sync_tree(folder)
}

/// Builds a live part and starts the log's thread on it.
pub(super) fn start_part(
    number: u32,
    path: PathBuf,
    entries: Entries,
    faults: Faults,
    built: CrashPoint,
) -> Result<LogThread> {
    let place = Place::Path(path.clone());
    LogThread::start(number, move || build(path, &entries, &faults, Some(built)))
        .map_err(|error| error.at_if_none(place))
}

/// Builds a live part and lets the log's thread go on with it, in place of the `old` one.
pub(super) fn replace_part(
    thread: &LogThread,
    number: u32,
    old: &Path,
    path: PathBuf,
    entry: (u64, Vec<u8>),
) -> Result<()> {
    let new = path.clone();
    thread.replace(number, (old, &new), move || build(path, &vec![entry], &Faults::none(), None))
}
