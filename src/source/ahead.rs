//! Reading ahead: while a batch is worked on and committed, threads read and decode the files of the next ones.
//!
//! It changes speed only. A planned file names its size and modification time, and what it decodes to is a function of
//! its bytes: what was read ahead serves whichever batch plans that very file, and no other. Errors are not kept: the
//! batch reads the file again, and meets them in its turn.

use std::{
    collections::VecDeque,
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
    /// What it takes in memory: guessed by its size on disk until it is read.
    weight_bytes: u64,
}

impl Entry {
    fn new(wanted: Wanted) -> Entry {
        let weight_bytes = wanted.reader.content_bytes_about(&wanted.file);
        Entry { wanted, stage: Stage::Waiting, weight_bytes }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which batches will want them.
    entries: VecDeque<Entry>,
    stop: bool,
}

impl State {
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
    /// that are being read count with their size on disk, rows that wait with what they take in memory.
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
            let entry = known(wanted).unwrap_or_else(|| Entry::new(wanted.clone()));
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
        let Wanted { source, reader, file } = entry.wanted.clone();
        drop(state);
        // An error, or a panic, is met again where the batch reads the file: there it can be told.
        let read = catch_unwind(AssertUnwindSafe(|| reader.read_into(&file, threads, &mut buffer)));
        let read = match read {
            Ok(Ok(read)) => Some(Box::new(read)),
            Ok(Err(_)) | Err(_) => None,
        };
        state = shared.lock();
        if let Some(entry) = state.entries.iter_mut().find(|entry| entry.wanted.is(source, &file)) {
            let weight_bytes = read.as_ref().map_or(0, |read| read.memory_bytes());
            // rows that are far more than their file are for their batch alone
            let read = read.filter(|_| weight_bytes <= bytes_max);
            entry.weight_bytes = if read.is_some() { weight_bytes } else { 0 };
            entry.stage = Stage::Done(read);
        }
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
        let entry = |file| Entry::new(wanted(&source, &[file]).remove(0));
        assert_eq!(entry(packed).weight_bytes, 10 * size);
        // What is read counts with its rows, and what waits is begun only where there is room.
        let mut state = State::default();
        state.entries.extend(files.iter().cloned().map(entry));
        assert_eq!(state.next(8, size).map(|(_, threads)| threads), Some(2), "four files share eight threads");
        assert!(state.next(8, size - 1).is_none());
        state.entries[0].stage = Stage::Done(None);
        state.entries[0].weight_bytes = 3 * size;
        assert!(state.next(8, 4 * size - 1).is_none());
        assert!(state.next(8, 4 * size).is_some());
    }
}
