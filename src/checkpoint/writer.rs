//! A checkpoint that is open for writing: creation, opening, the one way to append, closing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    CommitPermit,
    activity::Said,
    archive::{self, Archive},
    bad_records, disk,
    history::History,
    layout::Layout,
    lock::Lock,
    log_thread::LogThread,
    open::{self, OpenLog, Repair},
    payloads,
    record::{Commit, Genesis, PayloadPlace, PayloadRef, Record, SeenSegment},
    recovery::{Facts, Recovery, resolve},
    seal::{self, Ready},
    server::Server,
    store,
    timeline::RestoreSteps,
    witness::{self, Mark, WitnessWriter},
};
use crate::{
    job::Settings,
    model::{BatchAddress, BatchId, CrashPoint, Error, Faults, FileRead, Generation, Place, Result},
};

/// How a checkpoint is to be used.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    pub faults: Faults,
    pub settings: Settings,
}

/// The commit log of one job, open and locked. To be closed; one that is dropped is left as a crash would.
pub struct Checkpoint {
    pub(super) layout: Layout,
    pub(super) history: History,
    pub(super) thread: LogThread,
    pub(super) faults: Faults,
    pub(super) settings: Settings,
    /// Number of the live part, and the sequence number that it begins with.
    pub(super) part: u32,
    pub(super) first_seq: u64,
    /// The live folder.
    pub(super) path: PathBuf,
    /// What the live folder replaces, removed once something was committed in it.
    stale: Vec<PathBuf>,
    repair: Option<Repair>,
    /// Whether anything was written since opening.
    writing: bool,
    recovery: Recovery,
    /// As of the last look at what is retained.
    pub(super) retained_from: Option<BatchId>,
    witness: WitnessWriter,
    /// For readers.
    pub(super) said: Said,
    /// Answers readers; dropped before the lock is let go.
    _server: Option<Server>,
    _lock: Lock,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint")
            .field("dir", &self.layout.dir())
            .field("newest", &self.history.newest_batch())
            .finish()
    }
}

impl Checkpoint {
    /// Makes a new checkpoint in `dir`, which must be empty or not there.
    ///
    /// # Errors
    /// Of kind `Refused` where the folder holds something or is being made by another process; I/O errors.
    pub fn create(dir: &Path, genesis: Genesis, options: OpenOptions) -> Result<Checkpoint> {
        Checkpoint::create_with(dir, options, move |_, history| {
            Ok(vec![Ready::next(history, Record::Genesis(genesis), &[])?])
        })
    }

    /// Makes a new checkpoint whose first records are what `records` makes of an empty history.
    pub(super) fn create_with(
        dir: &Path,
        options: OpenOptions,
        records: impl FnOnce(&Layout, &History) -> Result<Vec<Ready>>,
    ) -> Result<Checkpoint> {
        let dir = absolute(dir)?;
        if Checkpoint::exists(&dir)? {
            return Err(Error::refused("the folder for the checkpoint is not empty")
                .at(Place::Path(dir))
                .help("name a folder that is empty or not there yet, or remove what is in this one"));
        }
        let (building, lock) = begin_folder(&dir)?;
        let ready = records(&building, &History::empty())?;
        let envelopes: Vec<_> = ready.iter().map(|ready| ready.envelope.clone()).collect();
        let entries = ready.into_iter().map(|ready| ready.entry).collect();
        let history = History::fold(&envelopes, &mut |segment: &SeenSegment| open::load_seen(&building, segment))?
            .ok_or_else(|| Error::failed("a checkpoint cannot begin with nothing"))?;
        let faults = &options.faults;
        // The live log is put in place as the seal does it; then the whole folder is.
        let thread = seal::start_part(1, building.live(1, 1), entries, Faults::none(), CrashPoint::LiveReplaced)?;
        witness::write_both(&building, Checkpoint::mark_of(&history))?;
        disk::sync_tree(building.dir())?;
        faults.reach(CrashPoint::CheckpointBuilt)?;
        disk::rename(building.dir(), &dir)?;
        faults.reach(CrashPoint::CheckpointCreated)?;
        let layout = Layout::new(&dir);
        let path = layout.live(1, 1);
        let live = path.clone();
        thread.handle().write("moving the new log", move |store| {
            store.moved(&live);
            Ok(())
        })?;
        let log = OpenLog::new(thread, 1, path, history);
        Checkpoint::start(layout, log, lock, options)
    }

    /// Opens a checkpoint for writing.
    ///
    /// # Errors
    /// Of kind `Refused` where there is none, another process has it, its format is another, or it is damaged beyond
    /// repair; I/O errors. What was given up in a repair is in [`Checkpoint::repaired`].
    pub fn open(dir: &Path, options: OpenOptions) -> Result<Checkpoint> {
        let layout = Layout::new(&absolute(dir)?);
        super::chain::need_log(&layout)?;
        let lock = Lock::exclusive(&layout)?;
        disk::make_folder(&layout.state())?;
        disk::make_folder(&layout.bad_records())?;
        let log = open::open(&layout, &options.faults)?;
        Checkpoint::start(layout, log, lock, options)
    }

    fn start(layout: Layout, log: OpenLog, lock: Lock, options: OpenOptions) -> Result<Checkpoint> {
        let recovery = resolve(&Facts::of(&log.history));
        let first_seq = log.thread.handle().read(|store, _| store.first_seq())?.unwrap_or(log.history.next_seq);
        let witness = WitnessWriter::start(&layout)?;
        let said = Said::default();
        let server = Server::start(&layout, log.thread.handle().clone(), said.clone());
        Ok(Checkpoint {
            layout,
            history: log.history,
            thread: log.thread,
            faults: options.faults,
            settings: options.settings,
            part: log.part,
            first_seq,
            path: log.path,
            stale: log.stale,
            repair: log.repair,
            writing: false,
            recovery,
            retained_from: None,
            witness,
            said,
            _server: server,
            _lock: lock,
        })
    }

    /// Whether `dir` holds anything; what it is, only [`Checkpoint::open`] finds out.
    ///
    /// # Errors
    /// Where that cannot be found out.
    pub fn exists(dir: &Path) -> Result<bool> {
        Ok(dir.is_file() || !disk::list(dir)?.is_empty())
    }

    /// Its folder, absolute.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// Keeps the bad records of the batch to come, durably: the bytes of one file, named after the batch; empty: there
    /// are none. Files of batches that were never committed, were rewound, or are older than what is retained are removed.
    ///
    /// # Errors
    /// Of kind `Failed`, naming the file.
    pub fn keep_bad_records(&self, lines: &[u8]) -> Result<()> {
        bad_records::keep(&self.layout, (self.history.next_batch(), self.history.generation()), lines)
    }

    /// All that the log says from the newest part's base on; [`Reader`](super::Reader) knows more.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What must be done first; fixed when it was opened.
    pub fn recovery(&self) -> Recovery {
        self.recovery.clone()
    }

    /// What was given up at open, if anything. A job that cannot replay its input refuses now
    /// ([`Repair::refuse`]): nothing is final before the next write.
    pub fn repaired(&self) -> Option<&Repair> {
        self.repair.as_ref()
    }

    /// A permit for what the log already says: to publish the newest commit again, or to retract what came after it.
    pub fn permit(&self) -> Option<CommitPermit> {
        let rewound = self.history.generation() > Generation::FIRST;
        (rewound || self.repair.is_some() || self.history.newest().is_some()).then_some(CommitPermit(()))
    }

    /// Reads a payload, verified.
    ///
    /// # Errors
    /// Of kind `Refused` where it is missing or damaged, naming the file or record.
    pub fn read_payload(&self, payload: &PayloadRef) -> Result<Vec<u8>> {
        if payload.place == PayloadPlace::File {
            return payloads::read_file(&self.layout, payload);
        }
        if payload.seq < self.first_seq {
            return archive::read_from_parts(&self.layout, payload, &mut None);
        }
        let seq = payload.seq;
        match self.thread.handle().read(move |store, _| store.get(seq))? {
            Some(entry) => payloads::read_inline(payload, &entry),
            None => {
                Err(Error::refused(format!("record {seq} of the log is missing")).at(Place::Path(self.path.clone())))
            }
        }
    }

    /// What must be merged, in order, to get the state at a batch.
    ///
    /// # Errors
    /// Of kind `Usage` where there is no such batch, `Refused` where what is needed was dropped or is damaged.
    pub fn restore_steps(&self, address: BatchAddress) -> Result<RestoreSteps> {
        let mut usable = |snapshot: &super::Snapshot| payloads::snapshot_is_sound(&self.layout, snapshot);
        match self.history.restore_steps(address, &mut usable) {
            Err(_) if !self.history.complete => self.archive()?.history.restore_steps(address, &mut usable),
            result => result,
        }
    }

    /// All records that still exist, sealed ones too.
    pub(super) fn archive(&self) -> Result<Archive> {
        let (part, entries) = self.thread.handle().read(|store, part| Ok((part, store.entries()?)))?;
        Archive::assemble(&self.layout, part, entries)
    }

    /// Makes one record durable; the only way into the log.
    pub(super) fn append(&mut self, record: Record, inline: &[u8]) -> Result<()> {
        self.begin_writing()?;
        let ready = Ready::next(&self.history, record, inline)?;
        self.history.check(&ready.envelope)?;
        let (seq, entry) = ready.entry;
        let faults = self.faults.clone();
        let write = move |store: &mut dyn store::LogStore| store::append(store, seq, &entry, &faults);
        let written = self.thread.handle().write("writing to the log", write);
        written.map_err(|error| error.at_if_none(Place::Path(self.path.clone())))?;
        let no_lists = &mut |_: &SeenSegment| Err(Error::failed("a new record loads nothing"));
        self.history.apply(&ready.envelope, no_lists)?;
        self.witness.mark(Checkpoint::mark_of(&self.history))?;
        self.drop_stale()
    }

    /// Before the first write since opening: what a repair gave up leads nowhere any more, and what no record names is
    /// removed. Until that write is durable, the witness still tells up to which batch there was a log.
    pub(super) fn begin_writing(&mut self) -> Result<()> {
        if self.writing {
            return Ok(());
        }
        if self.repair.is_some() {
            let head = Checkpoint::mark_of(&self.history);
            let batch = self.repair.as_ref().and_then(|repair| repair.acknowledged).max(head.batch);
            let rewind_lost = self.repair.as_ref().is_some_and(|repair| repair.rewind_lost);
            let generation = if rewind_lost { head.generation.next() } else { head.generation };
            witness::write_both(&self.layout, Mark { batch, generation, ..head })?;
        }
        payloads::remove_orphans(&self.layout, self.history.next_seq)?;
        self.writing = true;
        Ok(())
    }

    /// After a write in the new copy of the live log: the originals are no longer needed.
    fn drop_stale(&mut self) -> Result<()> {
        if self.stale.is_empty() {
            return Ok(());
        }
        disk::sync_folder(&self.path)?;
        self.stale.drain(..).try_for_each(|path| disk::remove(&path))?;
        disk::sync_folder(&self.layout.log())
    }

    /// The live log is now this part, in this folder, beginning with this record; older live folders go.
    pub(super) fn moved_to(&mut self, part: u32, path: PathBuf, first_seq: u64) -> Result<()> {
        self.stale.push(std::mem::replace(&mut self.path, path));
        self.part = part;
        self.first_seq = first_seq;
        self.witness.mark(Checkpoint::mark_of(&self.history))?;
        self.drop_stale()
    }

    fn mark_of(history: &History) -> Mark {
        let (batch, generation) = (history.newest_batch(), history.generation());
        Mark { seq: history.next_seq - 1, batch, generation, hash: history.head }
    }

    /// A clean stop. Say [`Checkpoint::mark_published`] first if all is published.
    ///
    /// # Errors
    /// Where the last bytes cannot be written; everything committed is durable all the same.
    pub fn close(self) -> Result<()> {
        let Checkpoint { layout, thread, path, stale, writing, witness, _server, _lock, .. } = self;
        drop(_server);
        witness.close()?;
        thread.close().map_err(|error| error.at_if_none(Place::Path(path.clone())))?;
        if !writing && !stale.is_empty() {
            // Nothing was committed in the copy: the original stays, as it was.
            disk::remove(&path)?;
            disk::sync_folder(&layout.log())?;
        }
        drop(_lock);
        Ok(())
    }

    /// The commit of a batch on the live timeline or, with a generation, of a retracted one, as far as this history goes.
    ///
    /// # Errors
    /// Of kind `Usage`, naming what exists.
    pub fn find(&self, address: BatchAddress) -> Result<std::sync::Arc<Commit>> {
        match self.history.find(address) {
            Err(_) if !self.history.complete => self.archive()?.history.find(address).cloned(),
            found => found.cloned(),
        }
    }

    /// What each batch that a rewind retracted, and that is still to be replayed, had read: per input of its plan, file by
    /// file. One whose commit is no longer retained is left out.
    ///
    /// # Errors
    /// Where the sealed parts cannot be read.
    pub fn reads_to_repeat(&self) -> Result<BTreeMap<BatchId, Vec<Vec<FileRead>>>> {
        let known = self.history.reads_to_repeat();
        if self.history.complete || known.len() == self.history.pending().len() {
            return Ok(known);
        }
        Ok(self.archive()?.history.reads_to_repeat())
    }

    /// The oldest batch that retention keeps, as far as it is known here without reading old parts: what only batches up to it
    /// have read, no rewind reads again. `None`: all are kept.
    pub fn retained_from(&self) -> Option<BatchId> {
        self.retained_from
    }

    /// The oldest batch that can be addressed or rewound to; `None`: all, the start included.
    ///
    /// # Errors
    /// Where the sealed parts cannot be read.
    pub fn horizon(&self) -> Result<Option<BatchId>> {
        if self.history.complete { Ok(None) } else { Ok(self.archive()?.history.horizon()) }
    }
}

/// Makes the temporary folder that a checkpoint is built in, and locks it: the lock moves along with it.
fn begin_folder(dir: &Path) -> Result<(Layout, Lock)> {
    let parent = dir.parent().ok_or_else(|| Error::usage("the root folder cannot be a checkpoint"))?;
    disk::make_folder(parent)?;
    let building = Layout::new(&parent.join(format!(".{}.new", disk::name_of(dir))));
    disk::make_folder(building.dir())?;
    let lock = match Lock::exclusive(&building) {
        Ok(lock) => lock,
        // The other process has put its checkpoint in place meanwhile, lock and all.
        Err(_) if !building.dir().exists() => {
            return Err(Error::refused("another process is making this checkpoint")
                .at(Place::Path(dir.to_owned()))
                .help("wait until its job has ended, or give this job a checkpoint of its own with --checkpoint DIR"));
        }
        Err(error) => return Err(error),
    };
    for path in disk::list(building.dir())? {
        if path != building.lock() {
            disk::remove(&path)?;
        }
    }
    [building.log(), building.state(), building.bad_records()]
        .iter()
        .try_for_each(|folder| disk::make_folder(folder))?;
    Ok((building, lock))
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    let absolute = match std::fs::canonicalize(dir) {
        Ok(path) => Ok(path),
        Err(_) => std::path::absolute(dir),
    };
    absolute.map_err(|error| Error::io("cannot find the checkpoint's folder", dir, &error))
}
