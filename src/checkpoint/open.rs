//! Opening the log: choose what to trust, work on a copy of it, and say what had to be given up.
//!
//! sled's own recovery may destroy a database when the power fails inside it, and a damaged file makes it roll
//! back without a word. So it only ever opens copies; what it yields is verified record by record and held
//! against the witness; and the originals stay until something was committed in the copy.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    archive::Archive,
    chain::{Chain, no_log},
    codec::{ChainHash, Damage},
    disk,
    history::History,
    layout::{Layout, Live, LogFolder, Sealed},
    log_thread::LogThread,
    part, payloads,
    record::{SeenFile, SeenSegment},
    seal,
    sled_store::{self, Extent},
    witness::{Mark, Witness},
};
use crate::model::{BatchId, CrashPoint, Error, ErrorKind, Faults, Place, Result};

/// What was given up at open because the log was damaged. Nothing is final before the next record is written:
/// until then the damaged files are still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The newest batch that is left.
    pub newest: Option<BatchId>,
    /// The newest batch that was acknowledged, as far as is known; those in between must be read again.
    pub acknowledged: Option<BatchId>,
    /// Whether a rewind was lost, too: then the sinks took back what the log says was published.
    pub rewind_lost: bool,
    pub why: String,
}

impl Repair {
    fn new(history: &History, why: String) -> Repair {
        Repair { newest: history.newest_batch(), acknowledged: None, rewind_lost: false, why }
    }

    /// For a job whose lost batches cannot be replayed: the error that says so.
    pub fn refuse(&self, dir: &Path) -> Error {
        let newest = self.newest.map_or("start".to_owned(), |batch| batch.to_string());
        Error::refused("the checkpoint is damaged: batches that were committed are gone")
            .at(Place::Path(dir.to_owned()))
            .because(format!("{}; the newest sound batch is {newest}", self.why))
            .help(format!(
                "restore the folder from a backup, or accept the loss with `highwater rewind {} --to {newest}`",
                dir.display()
            ))
    }

    /// For a job with output outside the checkpoint, some of which a lost rewind took back: the error that says so.
    pub fn refuse_lost_rewind(&self, dir: &Path) -> Error {
        Error::refused("the checkpoint is damaged: a rewind is gone, and how much output it took back is not known")
            .at(Place::Path(dir.to_owned()))
            .because(self.why.clone())
            .help(format!(
                "restore the folder from a backup, or rewind again, to the same batch or an earlier one: `highwater rewind {} --to BATCH`; what was taken back since is then published again",
                dir.display()
            ))
    }
}

/// The live log, open.
pub(super) struct OpenLog {
    pub thread: LogThread,
    pub part: u32,
    /// The folder that is written.
    pub path: PathBuf,
    /// Folders that it replaces, once something was committed in it.
    pub stale: Vec<PathBuf>,
    pub history: History,
    /// Chain hashes of the newest records, by sequence number.
    hashes: BTreeMap<u64, ChainHash>,
    pub repair: Option<Repair>,
}

impl OpenLog {
    /// A log that was just made.
    pub fn new(thread: LogThread, part: u32, path: PathBuf, history: History) -> OpenLog {
        OpenLog { thread, part, path, stale: Vec::new(), history, hashes: BTreeMap::new(), repair: None }
    }
}

/// Where the newest records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newest {
    /// In the live databases of this part.
    Live(u32),
    /// At the end of this sealed part: the live one after it was not made, or is lost.
    Sealed(u32),
    Nothing,
}

/// A live part goes on after the sealed ones; one that was sealed meanwhile is only waiting to be removed.
fn newest(live: Option<u32>, sealed: Option<u32>) -> Newest {
    match (live, sealed) {
        (Some(live), sealed) if Some(live) > sealed => Newest::Live(live),
        (_, Some(sealed)) => Newest::Sealed(sealed),
        (_, None) => Newest::Nothing,
    }
}

/// Opens the log for writing; the caller holds the lock.
pub(super) fn open(layout: &Layout, faults: &Faults) -> Result<OpenLog> {
    let folder = layout.log_folder()?;
    for path in &folder.temporary {
        disk::remove(path)?;
    }
    let witness = Witness::read(layout)?.newest();
    let last_sealed = folder.sealed.last();
    let log = match newest(folder.live.last().map(|live| live.part), last_sealed.map(|sealed| sealed.part)) {
        Newest::Nothing => return Err(no_log(layout)),
        Newest::Live(part) => open_live(layout, &folder, part, witness, faults)?,
        Newest::Sealed(part) => match open_sealed(layout, &folder, faults)? {
            Ok(log) => log,
            // It was being sealed: the live part that the seal was made from is still there.
            Err(damage) if folder.live.iter().any(|live| live.part == part) => {
                let mut log = open_live(layout, &folder, part, witness, faults)?;
                tracing::warn!(
                    "{} is damaged, and will be made again from what it was made from: {damage}",
                    layout.sealed(part).display()
                );
                log.stale.push(layout.sealed(part));
                log
            }
            Err(damage) => return Err(damaged_part(&layout.sealed(part), &damage)),
        },
    };
    check_witness(layout, log, witness)
}

/// Works on the best of a part's databases; falls back to the sealed part before it.
fn open_live(
    layout: &Layout,
    folder: &LogFolder,
    part: u32,
    witness: Option<Mark>,
    faults: &Faults,
) -> Result<OpenLog> {
    let lives: Vec<&Live> = folder.live.iter().filter(|live| live.part == part).collect();
    let generation = lives.last().map_or(1, |live| live.generation + 1);
    let stale: Vec<PathBuf> = folder.live.iter().map(|live| live.path.clone()).collect();
    if let [only] = lives[..] {
        let path = layout.live(part, generation);
        let (thread, chain) = adopt(layout, part, &only.path, &path, faults)?;
        if let Some(thread) = thread {
            if is_sound(&chain, witness) && is_of_part(&chain, part_begins(folder, part)?) {
                let history = fold(layout, part, &chain)?;
                return Ok(OpenLog { thread, part, path, stale, history, hashes: chain.hashes(), repair: None });
            }
            thread.close()?;
        }
        // The copy is given up, the original is as it was.
        disk::remove(&path)?;
        tracing::warn!(
            "{} could not be read whole as it is; it is read again, its index left out",
            only.path.display()
        );
    }
    let best = best_chain(layout, &lives, part_begins(folder, part)?)?;
    if best.envelopes.is_empty() {
        return match open_sealed(layout, folder, faults)? {
            Ok(mut log) => {
                log.repair = Some(Repair::new(&log.history, why(&best)));
                Ok(log)
            }
            Err(_) => Err(damaged_part(&layout.log(), &Damage::Body(why(&best)))),
        };
    }
    let (history, hashes) = (fold(layout, part, &best)?, best.hashes());
    let repair = best.damage.is_some().then(|| Repair::new(&history, why(&best)));
    let path = layout.live(part, generation);
    let thread = seal::start_part(part, path.clone(), best.entries, faults.clone(), CrashPoint::OpenCopied)?;
    faults.reach(CrashPoint::OpenRenamed)?;
    Ok(OpenLog { thread, part, path, stale, history, hashes, repair })
}

/// Begins a new live part after the newest sealed one.
fn open_sealed(layout: &Layout, folder: &LogFolder, faults: &Faults) -> Result<Result<OpenLog, Damage>> {
    let Some(Sealed { part, path }) = folder.sealed.last() else { return Ok(Err(Damage::Missing)) };
    let entries = match part::load(path)? {
        Ok((_, entries)) => entries,
        Err(damage) => return Ok(Err(damage)),
    };
    let chain = Chain::verify(entries)?;
    if let Some((_, damage)) = chain.damage {
        return Ok(Err(damage));
    }
    let mut history = fold(layout, *part, &chain)?;
    let generation =
        folder.live.iter().filter(|live| live.part == part + 1).map(|live| live.generation).max().unwrap_or(0) + 1;
    let path = layout.live(part + 1, generation);
    let base = seal::next_base(layout, &history)?;
    let thread = seal::start_part(part + 1, path.clone(), vec![base.entry], faults.clone(), CrashPoint::OpenCopied)?;
    faults.reach(CrashPoint::OpenRenamed)?;
    seal::go_on_from(&mut history, &base.envelope)?;
    let stale = folder.live.iter().map(|live| live.path.clone()).collect();
    Ok(Ok(OpenLog { thread, part: part + 1, path, stale, history, hashes: chain.hashes(), repair: None }))
}

/// Copies a database, opens the copy, and reads it; the thread is none where sled could not.
fn adopt(layout: &Layout, part: u32, from: &Path, to: &Path, faults: &Faults) -> Result<(Option<LogThread>, Chain)> {
    let temporary = to.with_added_extension("tmp");
    disk::remove(&temporary)?;
    sled_store::copy(from, &temporary, Extent::Whole)?;
    faults.reach(CrashPoint::OpenCopied)?;
    disk::rename(&temporary, to)?;
    faults.reach(CrashPoint::OpenRenamed)?;
    let (thread, mut chain) = open_copy(part, to)?;
    chain.check_files(layout)?;
    // What sled's recovery wrote, renamed and removed must be durable before anything depends on it.
    disk::sync_tree(to)?;
    Ok((thread, chain))
}

fn open_copy(part: u32, path: &Path) -> Result<(Option<LogThread>, Chain)> {
    let dir = path.to_owned();
    let opened = LogThread::start(part, move || sled_store::open(&dir))
        .and_then(|thread| thread.handle().read(|store, _| store.entries()).map(|entries| (thread, entries)));
    match opened.map_err(|error| error.at_if_none(Place::Path(path.to_owned()))) {
        Ok((thread, entries)) => Ok((Some(thread), Chain::verify(entries)?)),
        Err(error) if error.kind() == ErrorKind::Refused => {
            Ok((None, Chain::broken(error.why().unwrap_or(error.what()).to_owned())))
        }
        Err(error) => Err(error),
    }
}

/// The sequence number that a live part must begin with, as far as the sealed one before it tells.
pub(super) fn part_begins(folder: &LogFolder, part: u32) -> Result<Option<u64>> {
    let Some(before) = folder.sealed.iter().find(|sealed| sealed.part + 1 == part) else { return Ok(None) };
    let header = part::load_header(&before.path)?;
    let sound = header.ok().filter(|header| header.start.part == before.part);
    Ok(sound.map(|header| header.first_seq + u64::from(header.count)))
}

/// Whether a chain is of the part that begins there, not the content of an older one.
fn is_of_part(chain: &Chain, begins: Option<u64>) -> bool {
    begins.is_none_or(|begins| chain.envelopes.first().is_none_or(|first| first.seq == begins))
}

/// The longest verified chain that any of the databases of a part yields, with and without sled's own index; `begins`
/// is the part's first sequence number, if it is known.
pub(super) fn best_chain(layout: &Layout, lives: &[&Live], begins: Option<u64>) -> Result<Chain> {
    let scratch =
        tempfile::tempdir().map_err(|error| Error::io("cannot make a scratch folder", std::env::temp_dir(), &error))?;
    let mut best = Chain::broken("there is no live log".to_owned());
    for (number, live) in lives.iter().rev().enumerate() {
        for extent in [Extent::Whole, Extent::LogOnly] {
            let copy = scratch.path().join(format!("{number}-{extent:?}"));
            sled_store::copy(&live.path, &copy, extent)?;
            let (thread, mut chain) = open_copy(live.part, &copy)?;
            if let Some(thread) = thread {
                thread.close()?;
            }
            chain.check_files(layout)?;
            if !is_of_part(&chain, begins) {
                chain = Chain::broken("its records are those of another part".to_owned());
            }
            let sound = chain.damage.is_none();
            if chain.envelopes.len() > best.envelopes.len() || best.envelopes.is_empty() {
                best = chain;
            }
            if sound {
                break;
            }
        }
    }
    Ok(best)
}

/// Whether a chain is whole: undamaged, and not older than what was acknowledged.
fn is_sound(chain: &Chain, witness: Option<Mark>) -> bool {
    let head = chain.envelopes.last().filter(|_| chain.damage.is_none());
    head.is_some_and(|head| witness.is_none_or(|mark| mark.seq <= head.seq))
}

/// Holds what was opened against the witness.
fn check_witness(layout: &Layout, mut log: OpenLog, witness: Option<Mark>) -> Result<OpenLog> {
    let Some(mark) = witness else {
        tracing::warn!(
            "neither witness file of {0} says what was acknowledged: whether the log lost its end cannot be told; \
             `highwater verify {0} --batch` compares the results with the input, and the next batch writes the files anew",
            layout.dir().display()
        );
        if let Some(repair) = &log.repair {
            warn_of(repair, "what was acknowledged is not known");
        }
        return Ok(log);
    };
    // A repair was begun, and not one record written since.
    let beyond = mark.batch > log.history.newest_batch() || mark.generation > log.history.generation();
    let given_up = mark.seq + 1 == log.history.next_seq && beyond;
    if mark.seq >= log.history.next_seq || given_up {
        let why = "the log ends before what was acknowledged: its file was damaged or is an old copy".to_owned();
        let repair = log.repair.get_or_insert_with(|| Repair::new(&log.history, why));
        repair.acknowledged = mark.batch;
        repair.rewind_lost = mark.generation > log.history.generation();
    } else if log.hashes.get(&mark.seq).is_some_and(|hash| *hash != mark.hash) {
        return Err(Error::refused("the checkpoint's log is not the one that its witness files saw")
            .at(Place::Path(layout.dir().to_owned()))
            .because(format!("record {} is another one: the log was exchanged", mark.seq))
            .help("restore the folder as a whole; to trust the log as it is, remove witness.0 and witness.1"));
    }
    if let Some(repair) = &log.repair {
        warn_of(repair, &format!("{} was acknowledged", named(repair.acknowledged)));
    }
    Ok(log)
}

fn warn_of(repair: &Repair, acknowledged: &str) {
    tracing::warn!(
        "the checkpoint was damaged and goes on from {}, its newest sound one ({acknowledged}): {}",
        named(repair.newest),
        repair.why
    );
}

fn named(batch: Option<BatchId>) -> String {
    batch.map_or("the start".to_owned(), |batch| format!("batch {batch}"))
}

/// Folds the chain of a part, and reads the lists of files that its base names. A damaged list follows from the older
/// parts as well, where these are still there; the next base writes it anew.
fn fold(layout: &Layout, part: u32, chain: &Chain) -> Result<History> {
    let mut load = |segment: &SeenSegment| load_seen(layout, segment);
    let damage = match History::fold(&chain.envelopes, &mut load) {
        Ok(history) => return history.ok_or_else(|| no_log(layout)),
        Err(error) => error,
    };
    let Ok(older) = Archive::assemble(layout, part, Vec::new()) else { return Err(damage) };
    if chain.envelopes.first().is_none_or(|first| first.seq != older.history.next_seq) {
        return Err(damage);
    }
    let mut seen = older.history.seen;
    let mut history =
        History::fold(&chain.envelopes, &mut |_| Ok(std::mem::take(&mut seen)))?.ok_or_else(|| no_log(layout))?;
    tracing::warn!("a list of files that were read was rebuilt from older parts of the log: {damage}");
    history.segments.clear();
    Ok(history)
}

/// The files that one list names, as far as they still count.
pub(super) fn load_seen(layout: &Layout, segment: &SeenSegment) -> Result<Vec<SeenFile>> {
    let bytes = payloads::read_file(layout, &segment.payload)?;
    let mut files: Vec<SeenFile> = super::codec::from_bytes(&bytes).map_err(|damage| {
        Error::refused("a list of files that were read cannot be decoded").because(damage.to_string())
    })?;
    files.truncate(usize::try_from(segment.keep).unwrap_or(usize::MAX));
    Ok(files)
}

fn why(chain: &Chain) -> String {
    match &chain.damage {
        Some((seq, damage)) => format!("record {seq}: {damage}"),
        None => "the log ends too early".to_owned(),
    }
}

fn damaged_part(path: &Path, damage: &Damage) -> Error {
    if let Damage::Version(version) = damage {
        return super::chain::other_format(*version);
    }
    Error::refused("the checkpoint's log is damaged, and nothing before the damage is left to go on from")
        .at(Place::Path(path.to_owned()))
        .because(damage.to_string())
        .help("restore the folder from a backup, or remove the checkpoint to read all input again; `highwater verify DIR` shows what is sound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_records_are_found_at_every_step_of_sealing() {
        let table = [
            (None, None, Newest::Nothing),
            (Some(1), None, Newest::Live(1)),
            (Some(1), Some(1), Newest::Sealed(1)),
            (Some(2), Some(1), Newest::Live(2)),
            (None, Some(3), Newest::Sealed(3)),
            (Some(2), Some(3), Newest::Sealed(3)),
        ];
        for (live, sealed, expected) in table {
            assert_eq!(newest(live, sealed), expected, "{live:?} {sealed:?}");
        }
    }
}
