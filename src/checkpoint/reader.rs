//! Reading a checkpoint that another process may be writing.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    archive::Archive,
    chain::{Chain, need_log, no_log},
    history::History,
    layout::{Layout, Live},
    lock::{Lock, SharedLock},
    open,
    part::Entries,
    payloads,
    record::{Commit, Genesis, PayloadRef, Snapshot},
    timeline::RestoreSteps,
    wire,
    witness::Witness,
};
use crate::model::{BatchAddress, BatchId, Error, Place, Result};

/// How often, and how long apart, a reader tries.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(50);

/// All that a checkpoint holds, as of when it was opened: of a running job by asking it, else from disk. Changes nothing.
pub struct Reader {
    layout: Layout,
    archive: Archive,
    damage: Option<String>,
    running: bool,
}

impl Reader {
    /// Reads a checkpoint's log.
    ///
    /// # Errors
    /// Of kind `Refused` where there is none, it is damaged beyond use, or its owner does not answer; I/O errors.
    pub fn open(dir: &Path) -> Result<Reader> {
        let layout = Layout::new(dir);
        need_log(&layout)?;
        retrying(&layout, || {
            let Some((source, _lock)) = Source::find(&layout)? else { return Ok(Attempt::Busy) };
            match Archive::assemble(&layout, source.part, source.entries) {
                Ok(archive) => {
                    let damage = match source.damage {
                        None if !source.running => rolled_back(&layout, &archive.history)?,
                        damage => damage,
                    };
                    Ok(Attempt::Done(Reader { archive, layout: layout.clone(), damage, running: source.running }))
                }
                Err(error) if source.running => Ok(Attempt::Moved(error)),
                Err(error) => Err(error),
            }
        })
    }

    /// Reads what a running job wrote since, and nothing twice. `false`: all is to be read anew, because the job stopped, began
    /// another part of its log, or does not answer.
    ///
    /// # Errors
    /// Of kind `Failed`, where it cannot be asked.
    pub fn refresh(&mut self) -> Result<bool> {
        let Some(newest) = self.archive.newest_seq().filter(|_| self.running) else { return Ok(false) };
        let told = wire::ask_since(&self.layout, newest)?;
        Ok(told.is_some_and(|(part, entries)| self.archive.add(part, entries)))
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The folder that is read.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// Everything that the log still says.
    pub fn history(&self) -> &History {
        &self.archive.history
    }

    pub fn genesis(&self) -> &Genesis {
        self.archive.history.genesis()
    }

    /// Whether a running job gave the records: it may have gone on since.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Why newer records than these could not be read, if so.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// The commit of a batch.
    ///
    /// # Errors
    /// Of kind `Usage`, naming the batches that exist.
    pub fn find(&self, address: BatchAddress) -> Result<&Arc<Commit>> {
        self.archive.history.find(address)
    }

    /// The oldest batch that can be addressed; `None`: all.
    pub fn horizon(&self) -> Option<BatchId> {
        self.archive.history.horizon()
    }

    /// The commits that led to a batch, itself included, oldest first; as far back as they are retained.
    ///
    /// # Errors
    /// Of kind `Usage`, naming the batches that exist.
    pub fn timeline(&self, address: BatchAddress) -> Result<Vec<Arc<Commit>>> {
        let target = self.archive.history.find(address)?;
        let mut commits: Vec<_> = self.archive.history.lineage(target).cloned().collect();
        commits.reverse();
        Ok(commits)
    }

    /// What must be merged, in order, to get the state at a batch.
    ///
    /// # Errors
    /// Of kind `Usage` where there is no such batch, `Refused` where what is needed was dropped or is damaged.
    pub fn restore_steps(&self, address: BatchAddress) -> Result<RestoreSteps> {
        let mut usable = |snapshot: &Snapshot| payloads::snapshot_is_sound(&self.layout, snapshot);
        self.archive.history.restore_steps(address, &mut usable)
    }

    /// Reads a payload, verified.
    ///
    /// # Errors
    /// Of kind `Refused` where it is damaged, or was dropped by a running job meanwhile.
    pub fn read_payload(&self, payload: &PayloadRef) -> Result<Vec<u8>> {
        self.archive.read_payload(payload)
    }
}

/// What the witness of a stopped checkpoint knows of batches that its log does not have: sled rolls back silently where
/// its file is damaged.
fn rolled_back(layout: &Layout, history: &History) -> Result<Option<String>> {
    let witness = Witness::read(layout)?;
    let mark = witness.newest().filter(|mark| mark.seq >= history.next_seq);
    let rolled_back = mark.map(|mark| {
        let newest = mark.batch.map_or("the start".to_owned(), |batch| format!("batch {batch}"));
        format!("it ends before what was acknowledged, {newest}")
    });
    // A file that cannot be read may have been the one that knew of later batches.
    let unsure = || "a file that says how far it went cannot be read, so that it may end before that".to_owned();
    Ok(rolled_back.or_else(|| witness.damaged.then(unsure)))
}

/// Where the newest part was found, and what it holds.
pub(super) struct Source {
    pub part: u32,
    pub entries: Entries,
    /// Why there are no newer entries, where there should be.
    pub damage: Option<String>,
    /// Whether a job is writing it.
    pub running: bool,
}

impl Source {
    /// Asks the owner, or copies the live log of a stopped checkpoint, which stays locked as long as the second value
    /// lives. `None`: neither was possible just now.
    pub fn find(layout: &Layout) -> Result<Option<(Source, Option<SharedLock>)>> {
        if let Some(lock) = Lock::shared(layout)? {
            return Ok(Some((Source::stopped(layout)?, Some(lock))));
        }
        let running = |(part, entries)| (Source { part, entries, damage: None, running: true }, None);
        Ok(wire::ask(layout)?.map(running))
    }

    fn stopped(layout: &Layout) -> Result<Source> {
        let folder = layout.log_folder()?;
        let sealed = folder.sealed.last().map_or(0, |sealed| sealed.part);
        let newest = folder.live.last().map_or(0, |live| live.part);
        let lives: Vec<&Live> = folder.live.iter().filter(|live| live.part == newest).collect();
        // It was being sealed: what it was sealed from is there.
        let original_counts = newest == sealed
            && match folder.sealed.last() {
                Some(sealed) => super::part::load(&sealed.path)?.is_err(),
                None => false,
            };
        let lives = if newest > sealed || original_counts { lives } else { Vec::new() };
        if lives.is_empty() && sealed == 0 {
            return Err(no_log(layout));
        }
        // A live part that is not there (or was just sealed) has nothing to add to the sealed ones.
        let chain = match lives[..] {
            [] => Chain::default(),
            _ => open::best_chain(layout, &lives, open::part_begins(&folder, newest)?)?,
        };
        let damage = chain.damage.as_ref().map(|(seq, damage)| format!("record {seq}: {damage}"));
        let part = if original_counts { newest } else { newest.max(sealed + 1) };
        Ok(Source { part, entries: chain.entries, damage, running: false })
    }
}

/// How an attempt to read a checkpoint ended.
pub(super) enum Attempt<T> {
    Done(T),
    /// Its owner does not answer: it is starting or stopping.
    Busy,
    /// A running job sealed or dropped what was being read; or so it seems.
    Moved(Error),
}

/// Tries until there is an answer, or for a few seconds.
pub(super) fn retrying<T>(layout: &Layout, mut attempt: impl FnMut() -> Result<Attempt<T>>) -> Result<T> {
    let mut last = None;
    for _ in 0..TRIES {
        match attempt()? {
            Attempt::Done(value) => return Ok(value),
            Attempt::Busy => {}
            Attempt::Moved(error) => last = Some(error),
        }
        std::thread::sleep(PAUSE);
    }
    Err(last.unwrap_or_else(|| {
        Error::refused("the job that uses the checkpoint does not answer")
            .at(Place::Path(layout.dir().to_owned()))
            .because("it holds the lock, but nothing listens on the checkpoint's socket")
            .help("try again; if it persists, stop the job first")
    }))
}
