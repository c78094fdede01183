//! A second opinion on where the log ends, outside the database: sled rolls back silently when its file is damaged.
//!
//! Two files are written in turn, off the critical path, so that a torn write leaves the other one. They say
//! which record was acknowledged; a log that ends before it was rolled back.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use super::{codec::ChainHash, disk, layout::Layout};
use crate::model::{BatchId, Error, Generation, Result};

const MAGIC: [u8; 8] = *b"HWWIT\0\0\x02";
/// Those that the checksum is of.
const CHECKED: usize = 8 + 8 + 8 + 4 + 32;
const BYTES: usize = CHECKED + 32;
const NO_BATCH: u64 = u64::MAX;

/// A record that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub seq: u64,
    /// The newest committed batch at that record.
    pub batch: Option<BatchId>,
    /// That of the next commit: each rewind begins one.
    pub generation: Generation,
    pub hash: ChainHash,
}

impl Mark {
    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.seq.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.batch.map_or(NO_BATCH, |batch| batch.0).to_be_bytes());
        bytes[24..28].copy_from_slice(&self.generation.0.to_be_bytes());
        bytes[28..CHECKED].copy_from_slice(&self.hash.0);
        let checksum = *blake3::hash(&bytes[..CHECKED]).as_bytes();
        bytes[CHECKED..].copy_from_slice(&checksum);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Mark> {
        let sound = bytes.len() == BYTES
            && bytes[..8] == MAGIC
            && bytes[CHECKED..] == *blake3::hash(&bytes[..CHECKED]).as_bytes();
        if !sound {
            return None;
        }
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let batch = Some(number(16)?).filter(|batch| *batch != NO_BATCH).map(BatchId);
        let generation = Generation(u32::from_be_bytes(bytes[24..28].try_into().ok()?));
        Some(Mark { seq: number(8)?, batch, generation, hash: ChainHash(bytes[28..CHECKED].try_into().ok()?) })
    }
}

/// What the two files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Witness {
    pub marks: [Option<Mark>; 2],
    /// Whether a file is there that says nothing.
    pub damaged: bool,
}

impl Witness {
    /// Reads both files; a missing or damaged one says nothing.
    pub fn read(layout: &Layout) -> Result<Witness> {
        let files = [disk::read_if_there(&layout.witness(0))?, disk::read_if_there(&layout.witness(1))?];
        let marks = files.each_ref().map(|file| file.as_deref().and_then(Mark::from_bytes));
        let damaged = files.iter().zip(&marks).any(|(file, mark)| file.is_some() && mark.is_none());
        Ok(Witness { marks, damaged })
    }

    /// The newest record that is known to have been acknowledged.
    pub fn newest(&self) -> Option<Mark> {
        self.marks.iter().flatten().max_by_key(|mark| mark.seq).copied()
    }
}

/// Writes both files, durably, at once: for a new checkpoint, and after a repair.
pub(super) fn write_both(layout: &Layout, mark: Mark) -> Result<()> {
    disk::write_file(&layout.witness(0), &mark.to_bytes())?;
    disk::write_file(&layout.witness(1), &mark.to_bytes())
}

/// Writes marks in the background; only the newest waiting one matters.
pub(super) struct WitnessWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Option<Mark>,
    failed: Option<Error>,
    stop: bool,
}

impl WitnessWriter {
    /// Opens both files and starts the thread.
    pub fn start(layout: &Layout) -> Result<WitnessWriter> {
        let newest_first = Witness::read(layout)?.marks.map(|mark| mark.map(|mark| mark.seq));
        let older = usize::from(newest_first[1] < newest_first[0]);
        let files = [open(layout.witness(0))?, open(layout.witness(1))?];
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("checkpoint-witness".to_owned())
            .spawn(move || write_marks(&theirs, &files, older))
            .map_err(|error| Error::failed("cannot start the witness's thread").because(error.to_string()))?;
        Ok(WitnessWriter { shared, thread: Some(thread) })
    }

    /// Says that a record was made durable.
    ///
    /// # Errors
    /// Where an earlier mark could not be written: the job stops rather than going on without its second opinion.
    pub fn mark(&self, mark: Mark) -> Result<()> {
        let mut state = self.shared.lock();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        state.waiting = Some(mark);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Waits until the newest mark is written.
    pub fn close(mut self) -> Result<()> {
        self.stop();
        match self.shared.lock().failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn stop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.shared.lock().failed = Some(Error::failed("the witness's thread panicked"));
        }
    }
}

impl Drop for WitnessWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_marks(shared: &Shared, files: &[(PathBuf, File); 2], mut slot: usize) {
    let mut last = None;
    loop {
        let mut state = shared.lock();
        let (mark, again) = loop {
            match state.waiting.take() {
                Some(mark) => break (mark, false),
                // at the end both files say the same, so that damage of one of them loses nothing
                None if state.stop => match last {
                    Some(mark) => break (mark, true),
                    None => return,
                },
                None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let (path, file) = &files[slot];
        slot = 1 - slot;
        if let Err(error) = file.write_all_at(&mark.to_bytes(), 0).and_then(|()| file.sync_data()) {
            shared.lock().failed = Some(Error::io("cannot write the checkpoint's witness", path, &error));
            return;
        }
        last = (!again).then_some(mark);
    }
}

fn open(path: PathBuf) -> Result<(PathBuf, File)> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.and_then(|file| file.set_len(BYTES as u64).map(|()| file));
    match file {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(Error::io("cannot open the checkpoint's witness", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u64) -> Mark {
        let batch = (seq > 0).then_some(BatchId(seq));
        Mark { seq, batch, generation: Generation(1 + seq as u32 / 3), hash: ChainHash([seq as u8; 32]) }
    }

    #[test]
    fn marks_read_back_and_damage_says_nothing() {
        for seq in [0, 1, 77] {
            let bytes = mark(seq).to_bytes();
            assert_eq!(Mark::from_bytes(&bytes), Some(mark(seq)));
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Mark::from_bytes(&damaged), None);
            }
            assert_eq!(Mark::from_bytes(&bytes[..BYTES - 1]), None);
        }
    }

    #[test]
    fn the_newest_mark_is_in_both_files_after_closing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        write_both(&layout, mark(0)).unwrap();
        for round in 1..5 {
            let writer = WitnessWriter::start(&layout).unwrap();
            writer.mark(mark(round)).unwrap();
            writer.close().unwrap();
            assert_eq!(Witness::read(&layout).unwrap().marks, [Some(mark(round)); 2]);
        }
    }
}
