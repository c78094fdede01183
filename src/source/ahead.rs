//! Reading ahead: while a batch is worked on and committed, threads read and decode the files of the next ones.
//!
//! It changes speed only. A planned file names its size and modification time, and what it decodes to is a function of
//! its bytes: what was read ahead serves whichever batch plans that very file, and no other. Errors are not kept: the
//! batch reads the file again, and meets them in its turn.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{FilesSource, ReadFile};
use crate::model::PlannedFile;

/// Smaller files are read more quickly than handed over.
const FILE_BYTES_MIN: u64 = 64 << 10;

/// A file that a later batch will want.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Index of its source.
    pub source: usize,
    pub reader: FilesSource,
    pub file: PlannedFile,
}

impl Wanted {
    fn is(&self, source: usize, file: &PlannedFile) -> bool {
        self.source == source && self.file == *file
    }
}

/// How far a file is.
#[derive(Debug)]
enum Stage {
    Waiting,
    /// A thread has it.
    Reading,
    /// Read, or (`None`) not to be read ahead.
    Done(Option<Box<ReadFile>>),
}

#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    stage: Stage,
    /// What it takes in memory: guessed until it is read, see [`State::weight_bytes`].
    weight_bytes: u64,
}

impl Entry {
    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which batches will want them.
    entries: VecDeque<Entry>,
    /// Of each source: the rows of its newest file took so many thousandths of what that file holds.
    grown: BTreeMap<usize, u64>,
    stop: bool,
}

impl State {
    /// What a file will take in memory: what it holds, or more where rows of its source were more than their file.
    fn weight_bytes(&self, wanted: &Wanted) -> u64 {
        let content_bytes = wanted.reader.content_bytes_about(&wanted.file);
        let grown = self.grown.get(&wanted.source).map_or(1000, |grown| *grown.max(&1000));
        u64::try_from(u128::from(content_bytes) * u128::from(grown) / 1000).unwrap_or(u64::MAX)
    }

    fn entry(&self, wanted: &Wanted) -> Entry {
        Entry { wanted: wanted.clone(), stage: Stage::Waiting, weight_bytes: self.weight_bytes(wanted) }
    }

    /// Takes over what the rows of a file take in memory, if it is one of those that are read ahead: of a small one it is
    /// mostly the room for more.
    fn learn(&mut self, wanted: &Wanted, memory_bytes: u64) {
        if wanted.file.size_bytes < FILE_BYTES_MIN {
            return;
        }
        let content_bytes = wanted.reader.content_bytes_about(&wanted.file).max(1);
        let grown = u128::from(memory_bytes) * 1000 / u128::from(content_bytes);
        self.grown.insert(wanted.source, u64::try_from(grown).unwrap_or(u64::MAX));
        for at in 0..self.entries.len() {
            if self.entries[at].is_waiting() {
                self.entries[at].weight_bytes = self.weight_bytes(&self.entries[at].wanted);
            }
        }
    }

    /// A file was read, or could not be. Rows that do not fit beside the others in hand are for their batch alone.
    fn done(&mut self, wanted: &Wanted, read: Option<Box<ReadFile>>, bytes_max: u64) {
        let memory_bytes = read.as_ref().map_or(0, |read| read.memory_bytes());
        if read.is_some() {
            self.learn(wanted, memory_bytes);
        }
        let Some(at) = self.entries.iter().position(|entry| entry.wanted.is(wanted.source, &wanted.file)) else {
            return;
        };
        let others = self.entries.iter().enumerate().filter(|(other, entry)| *other != at && !entry.is_waiting());
        let others_bytes: u64 = others.map(|(_, entry)| entry.weight_bytes).sum();
        let read = read.filter(|_| others_bytes.saturating_add(memory_bytes) <= bytes_max);
        let entry = &mut self.entries[at];
        entry.weight_bytes = if read.is_some() { memory_bytes } else { 0 };
        entry.stage = Stage::Done(read);
    }

    /// The next file to read, if there is room for it, and how many threads may share it.
    fn next(&mut self, threads_max: usize, bytes_max: u64) -> Option<(&mut Entry, usize)> {
        let in_hand = self.entries.iter().filter(|entry| !entry.is_waiting());
        let taken_bytes: u64 = in_hand.map(|entry| entry.weight_bytes).sum();
        let files = self.entries.iter().filter(|entry| !matches!(entry.stage, Stage::Done(_))).count();
        let entry = self.entries.iter_mut().find(|entry| entry.is_waiting())?;
        let fits = taken_bytes.saturating_add(entry.weight_bytes) <= bytes_max;
        fits.then_some((entry, (threads_max / files.max(1)).max(1)))
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Threads that read ahead. They are started when there first is something to read.
#[derive(Debug)]
pub struct ReadAhead {
    shared: Arc<Shared>,
    threads_max: usize,
    bytes_max: u64,
    /// How many were started; nobody waits for their end.
    threads: usize,
}

impl ReadAhead {
    /// At most `threads_max` threads. No file is begun that would take the files in hand over `bytes_max` (0: none is): those
    /// that are being read count with what they hold, or more where the rows of their source's newest file were more than that
    /// file; rows that wait with what they take in memory, and never with more than `bytes_max` together.
    pub fn new(threads_max: usize, bytes_max: u64) -> ReadAhead {
        ReadAhead { shared: Arc::default(), threads_max, bytes_max, threads: 0 }
    }

    /// How many files it has in hand at most: one for each thread, and as many that are ready.
    pub fn files_max(&self) -> usize {
        2 * self.threads_max
    }

    /// Tells what will be read, in order: one file now, the others later. What was wanted before and is no more is given
    /// up.
    pub fn want(&mut self, now: Option<&Wanted>, later: &[Wanted]) {
        let mut state = self.shared.lock();
        let mut before = std::mem::take(&mut state.entries);
        let mut known = |wanted: &Wanted| {
            let at = before.iter().position(|entry| entry.wanted.is(wanted.source, &wanted.file))?;
            before.remove(at)
        };
        // whoever asks reads it now, if it is not here yet
        state.entries.extend(now.and_then(&mut known));
        let mut weight_bytes = 0_u64;
        for wanted in later.iter().take(self.files_max()) {
            let entry = known(wanted).unwrap_or_else(|| state.entry(wanted));
            weight_bytes = weight_bytes.saturating_add(entry.weight_bytes);
            if weight_bytes > self.bytes_max {
                break;
            }
            if wanted.file.size_bytes >= FILE_BYTES_MIN {
                state.entries.push_back(entry);
            }
        }
        let unread = state.entries.iter().filter(|entry| !matches!(entry.stage, Stage::Done(_))).count();
        drop(state);
        if unread > 0 {
            self.start(unread.min(self.threads_max));
            self.shared.changed.notify_all();
        }
    }

    /// A file as it was read ahead; waits for one that is being read. `None`: it must be read now.
    pub fn take(&self, source: usize, file: &PlannedFile) -> Option<ReadFile> {
        let mut state = self.shared.lock();
        loop {
            let at = state.entries.iter().position(|entry| entry.wanted.is(source, file))?;
            if !matches!(state.entries[at].stage, Stage::Reading) {
                let entry = state.entries.remove(at)?;
                // there is room for another one
                self.shared.changed.notify_all();
                return match entry.stage {
                    Stage::Done(read) => read.map(|read| *read),
                    Stage::Waiting | Stage::Reading => None,
                };
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes over what the rows of a file that was read elsewhere take in memory: whether others like it are read ahead
    /// depends on it.
    pub fn learn(&self, wanted: &Wanted, memory_bytes: u64) {
        self.shared.lock().learn(wanted, memory_bytes);
    }

    fn start(&mut self, count: usize) {
        while self.threads < count {
            let (shared, threads_max, bytes_max) = (Arc::clone(&self.shared), self.threads_max, self.bytes_max);
            let name = format!("read-ahead-{}", self.threads);
            match std::thread::Builder::new()
                .name(name)
                .spawn(move || read_until_stopped(&shared, threads_max, bytes_max))
            {
                Ok(_) => self.threads += 1,
                Err(error) => {
                    tracing::warn!(%error, "no more threads for reading ahead; going on with fewer");
                    self.threads_max = self.threads;
                    if self.threads_max == 0 {
                        self.shared.lock().entries.clear();
                    }
                    return;
                }
            }
        }
    }
}

impl Drop for ReadAhead {
    /// Nobody waits for a thread that is in the middle of a file: it ends behind it, or with the process.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        state.entries.clear();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives way to other threads a little. A commit is short work between waits for the disk: whoever does it should have a
/// core at once, not when a reader's turn is over.
#[cfg(target_os = "linux")]
fn give_way() {
    const NICE: libc::c_int = 5;
    // SAFETY: setpriority(2) takes no pointers; 0 is the calling thread, which on Linux has a priority of its own. Where it
    // is refused, all threads are equals.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

fn read_until_stopped(shared: &Shared, threads_max: usize, bytes_max: u64) {
    give_way();
    let mut buffer = Vec::new();
    let mut state = shared.lock();
    while !state.stop {
        let Some((entry, threads)) = state.next(threads_max, bytes_max) else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        entry.stage = Stage::Reading;
        let wanted = entry.wanted.clone();
        drop(state);
        // An error, or a panic, is met again where the batch reads the file: there it can be told.
        let read = catch_unwind(AssertUnwindSafe(|| wanted.reader.read_into(&wanted.file, threads, &mut buffer)));
        let read = match read {
            Ok(Ok(read)) => Some(Box::new(read)),
            Ok(Err(error)) => {
                tracing::debug!("{} could not be read ahead: {error}", wanted.file.path);
                None
            }
            Err(_) => None,
        };
        state = shared.lock();
        state.done(&wanted, read, bytes_max);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        job::{self, Variables},
        source::Limits,
    };

    /// A folder of files that are large enough to be read ahead, and a source over it.
    fn source(folder: &Path, files: usize) -> (FilesSource, Vec<PlannedFile>) {
        for number in 0..files {
            let line = format!("{{\"a\": {number}}}\n");
            let path = folder.join(format!("{number}.json"));
            std::fs::write(path, line.repeat(FILE_BYTES_MIN as usize / line.len() + 1)).unwrap();
        }
        let text = format!(
            "CREATE TABLE t (a BIGINT) WITH (connector = 'files', path = '{}', format = 'json'); SELECT a FROM t;",
            folder.display()
        );
        let job = job::parse("job.sql", "job", &text, &Variables::new(Default::default())).unwrap();
        let source = FilesSource::open(&job.sources[0], vec![0]).unwrap();
        let next = super::super::next_files(&source.list().unwrap(), &Default::default(), &Limits::default());
        (source, next.files)
    }

    fn wanted(source: &FilesSource, files: &[PlannedFile]) -> Vec<Wanted> {
        files.iter().map(|file| Wanted { source: 0, reader: source.clone(), file: file.clone() }).collect()
    }

    /// Takes a file once a thread has it.
    fn taken(ahead: &ReadAhead, file: &PlannedFile) -> Option<ReadFile> {
        let is_waiting = || {
            let state = ahead.shared.lock();
            state.entries.iter().any(|entry| entry.wanted.is(0, file) && entry.is_waiting())
        };
        while is_waiting() {
            std::thread::yield_now();
        }
        ahead.take(0, file)
    }

    #[test]
    fn what_is_read_ahead_is_what_would_be_read_now() {
        let folder = tempfile::tempdir().unwrap();
        let (source, files) = source(folder.path(), 7);
        let mut ahead = ReadAhead::new(2, 1 << 30);
        let all = wanted(&source, &files);
        ahead.want(Some(&all[0]), &all[1..]);
        assert!(taken(&ahead, &files[0]).is_none(), "it is for now");
        for file in &files[1..5] {
            let read = taken(&ahead, file).expect("four files are in hand");
            let now = source.read(file, 1).unwrap();
            assert_eq!((read.read, read.decoded.batches), (now.read, now.decoded.batches));
        }
        assert!(taken(&ahead, &files[5]).is_none(), "two for each thread");
        assert!(taken(&ahead, &files[1]).is_none(), "it is given once");
    }

    #[test]
    fn another_version_of_a_file_and_one_that_cannot_be_read_are_left_to_the_batch() {
        let folder = tempfile::tempdir().unwrap();
        let (source, files) = source(folder.path(), 3);
        std::fs::remove_file(folder.path().join("1.json")).unwrap();
        let mut ahead = ReadAhead::new(2, 1 << 30);
        ahead.want(None, &wanted(&source, &files));
        assert!(taken(&ahead, &files[1]).is_none(), "it is gone");
        let other = PlannedFile { modified_ns: files[2].modified_ns + 1, ..files[2].clone() };
        assert!(taken(&ahead, &other).is_none());
        assert!(taken(&ahead, &files[2]).is_some());
    }

    #[test]
    fn memory_is_bounded_and_what_is_no_longer_wanted_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (source, files) = source(folder.path(), 4);
        let size = files[0].size_bytes;
        for (bytes_max, fit) in [(0, 0), (size - 1, 0), (size, 1), (3 * size - 1, 2), (3 * size, 3)] {
            let mut ahead = ReadAhead::new(4, bytes_max);
            ahead.want(None, &wanted(&source, &files));
            assert_eq!(ahead.shared.lock().entries.len(), fit, "{bytes_max}");
            ahead.want(None, &wanted(&source, &files[1..]));
            assert!(taken(&ahead, &files[0]).is_none(), "{bytes_max}");
        }
        let packed = PlannedFile { path: crate::model::InputPath(b"a.gz".to_vec()), ..files[0].clone() };
        assert_eq!(State::default().weight_bytes(&wanted(&source, &[packed])[0]), 10 * size);
        // What is read counts with its rows, and what waits is begun only where there is room.
        let mut state = waiting(&source, &files);
        assert_eq!(state.next(8, size).map(|(_, threads)| threads), Some(2), "four files share eight threads");
        assert!(state.next(8, size - 1).is_none());
        state.entries[0].stage = Stage::Done(None);
        state.entries[0].weight_bytes = 3 * size;
        assert!(state.next(8, 4 * size - 1).is_none());
        assert!(state.next(8, 4 * size).is_some());
    }

    fn waiting(source: &FilesSource, files: &[PlannedFile]) -> State {
        let mut state = State::default();
        state.entries = wanted(source, files).iter().map(|wanted| state.entry(wanted)).collect();
        state
    }

    #[test]
    fn rows_that_are_more_than_their_file_are_expected_of_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let (source, files) = source(folder.path(), 4);
        let (all, size) = (wanted(&source, &files), files[0].size_bytes);
        let mut state = waiting(&source, &files);
        state.learn(&all[0], 3 * size);
        assert_eq!(state.entries[3].weight_bytes, 3 * size);
        assert!(state.next(1, 3 * size - 1).is_none());
        // fewer rows make no file smaller: it is read into memory
        state.learn(&all[0], size / 2);
        assert_eq!(state.entries[3].weight_bytes, size);
        // rows that wait never take more than they may, whatever was expected of them
        let read = |at: usize| Some(Box::new(source.read(&files[at], 1).unwrap()));
        let memory_bytes = read(0).unwrap().memory_bytes();
        state.done(&all[0], read(0), 2 * memory_bytes - 1);
        state.done(&all[1], read(1), 2 * memory_bytes - 1);
        let kept = |state: &State, at: usize| matches!(&state.entries[at].stage, Stage::Done(Some(_)));
        assert!(kept(&state, 0) && !kept(&state, 1), "the second does not fit");
        state.done(&all[2], read(2), 2 * memory_bytes);
        assert!(kept(&state, 2));
    }
}
