//! A source's receive log: what comes is appended, made durable in groups, and closed into segments that batches take.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    durable::Note,
    frame::{self, Frame, Kind, Known, Pace, Story},
    keys::{Keys, Position},
    segments,
};
use crate::model::{CrashPoint, Error, ErrorKind, Faults, PlannedFile, Result};

/// What became of rows that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// They are durable, and will be in a batch.
    New,
    /// They came before under the same key, are durable, and count once.
    Repeated,
    /// Something else came under the same key.
    OtherRows,
}

/// An open log. Clones are the same one.
#[derive(Clone)]
pub(super) struct ReceiveLog(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) source: String,
    pub(super) story: Story,
    pub(super) note: Note,
    pub(super) remembers: bool,
    pub(super) segment_bytes: u64,
    pub(super) unread_bytes_max: u64,
    pub(super) faults: Faults,
    pub(super) state: Mutex<State>,
    /// Something came, became durable, was taken, or ended.
    pub(super) changed: Condvar,
}

/// The segment that is being written.
pub(super) struct Open {
    pub(super) file: Arc<File>,
    pub(super) number: u64,
    pub(super) secret: u64,
    /// Bytes that were written, and those of them that are known to be durable.
    pub(super) length: u64,
    pub(super) durable: u64,
    /// Bytes of lines in it.
    pub(super) rows_bytes: u64,
    pub(super) known: Vec<Known>,
}

pub(super) struct State {
    pub(super) open: Open,
    /// The number of the next line.
    pub(super) line: u64,
    /// Closed segments that no committed batch has taken, in order.
    pub(super) unread: VecDeque<PlannedFile>,
    pub(super) keys: Keys,
    /// Whether somebody is making the open segment durable.
    pub(super) syncing: bool,
    /// Whether nothing more should be received: what is on its way is taken.
    pub(super) stopping: bool,
    pub(super) closed: bool,
    /// Why nothing is received any more; the first to ask is given the error itself.
    pub(super) failure: Option<Error>,
    pub(super) failed: bool,
}

/// A segment with so many keys is closed at once, so that they can be forgotten in parts.
const SEGMENT_KEYS_MAX: usize = 1 << 16;

impl ReceiveLog {
    /// Takes whole lines, and returns when they are durable. `key`: under which they came, if that is remembered.
    ///
    /// # Errors
    /// Where they cannot be written, or the log is closed: then nobody may be promised anything.
    pub fn append(&self, rows: &[u8], key: &[u8]) -> Result<Taken> {
        let known = (self.0.remembers && !key.is_empty()).then(|| Known::new(key, rows));
        let mut state = self.lock();
        state.usable()?;
        if let Some(known) = known
            && let Some((body, position)) = state.keys.get(&known.key)
        {
            if body != known.body {
                return Ok(Taken::OtherRows);
            }
            // the first request may not be durable yet
            return self.make_durable(state, position).map(|_| Taken::Repeated);
        }
        let position = match self.write(&mut state, rows, key, known) {
            Ok(position) => position,
            Err(error) => return Err(self.fail(&mut state, error)),
        };
        let state = self.make_durable(state, position)?;
        self.close_if_large(state)?;
        Ok(Taken::New)
    }

    /// Appends a frame; where it ends.
    fn write(&self, state: &mut State, rows: &[u8], key: &[u8], known: Option<Known>) -> Result<Position> {
        let (line, open) = (state.line, &mut state.open);
        let key = if known.is_some() { key } else { b"" };
        let mut bytes = Vec::new();
        let frame = Frame { kind: Kind::Rows, line, durable: open.durable, key, payload: rows };
        frame.push(open.secret, &mut bytes);
        open.write(&bytes).map_err(|error| self.cannot(open.number, &error))?;
        open.rows_bytes += rows.len() as u64;
        let position = (open.number, open.length);
        state.line += frame::lines_in(rows);
        if let Some(known) = known {
            state.open.known.push(known);
            state.keys.insert(known, position);
        }
        self.0.changed.notify_all();
        self.0.faults.reach(CrashPoint::ReceivedWritten)?;
        Ok(position)
    }

    /// Waits until all up to a place is durable; whoever comes first makes it so for all who wait.
    fn make_durable<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        (number, end): Position,
    ) -> Result<MutexGuard<'s, State>> {
        loop {
            if state.open.number > number || state.open.durable >= end {
                return Ok(state);
            }
            state.usable()?;
            if state.syncing {
                state = self.wait_for(state);
                continue;
            }
            state.syncing = true;
            let (file, target, segment) = (Arc::clone(&state.open.file), state.open.length, state.open.number);
            drop(state);
            let synced = file.sync_all();
            state = self.lock();
            state.syncing = false;
            let marked = synced.map_err(|error| self.cannot(segment, &error)).and_then(|()| {
                self.0.faults.reach(CrashPoint::ReceivedDurable)?;
                state.open.durable = target;
                self.0.note.write(&self.0.folder, state.open.secret, target)?;
                // nobody waits for this one: where it is lost nothing else is
                if state.open.length == target { self.mark(&mut state) } else { Ok(()) }
            });
            if let Err(error) = marked {
                return Err(self.fail(&mut state, error));
            }
            self.0.changed.notify_all();
        }
    }

    /// Says in the segment itself that all before is durable.
    fn mark(&self, state: &mut State) -> Result<()> {
        let open = &mut state.open;
        let mut bytes = Vec::new();
        Frame { kind: Kind::Mark, line: state.line, durable: open.durable, key: b"", payload: b"" }
            .push(open.secret, &mut bytes);
        open.write(&bytes).map_err(|error| self.cannot(open.number, &error))
    }

    fn close_if_large(&self, state: MutexGuard<'_, State>) -> Result<()> {
        let is_large = state.open.length >= self.0.segment_bytes || state.open.known.len() >= SEGMENT_KEYS_MAX;
        if is_large { self.close_open(state) } else { Ok(()) }
    }

    /// Closes the open segment, if there are rows in it, so that a batch can take it.
    ///
    /// # Errors
    /// Where that cannot be made durable.
    pub fn close_segment(&self) -> Result<()> {
        self.close_open(self.lock())
    }

    fn close_open(&self, mut state: MutexGuard<'_, State>) -> Result<()> {
        while state.syncing {
            state = self.wait_for(state);
        }
        if state.open.rows_bytes == 0 && state.open.known.is_empty() {
            return Ok(());
        }
        state.usable()?;
        if let Err(error) = self.seal(&mut state) {
            return Err(self.fail(&mut state, error));
        }
        self.0.changed.notify_all();
        Ok(())
    }

    fn seal(&self, state: &mut State) -> Result<()> {
        let Shared { folder, source, story, faults, .. } = &*self.0;
        let line = state.line;
        let open = &mut state.open;
        let number = open.number;
        let bytes = segments::seal(open.secret, open.length, line, &open.known);
        open.write(&bytes).map_err(|error| self.cannot(number, &error))?;
        faults.reach(CrashPoint::SegmentSealed)?;
        open.file.sync_all().map_err(|error| self.cannot(number, &error))?;
        faults.reach(CrashPoint::SegmentWritten)?;
        let next = segments::begin(folder, number + 1, line, *story, source)?;
        segments::close(folder, number, faults)?;
        faults.reach(CrashPoint::SegmentClosed)?;
        let planned = segments::planned_if_there(folder, number)?;
        let gone = || segments::damaged(folder.join(segments::closed_name(number)), "it is gone");
        let planned = planned.ok_or_else(gone)?;
        let closed = std::mem::replace(&mut state.open, next);
        state.keys.close(number, planned.modified_ns / 1000, closed.known.len());
        state.unread.push_back(planned);
        Ok(())
    }

    /// Closed segments that no committed batch has taken, in order.
    pub fn unread(&self) -> Vec<PlannedFile> {
        self.lock().unread.iter().cloned().collect()
    }

    /// Notes that a batch took these segments for good.
    pub fn committed(&self, files: &[PlannedFile]) {
        let mut state = self.lock();
        state.unread.retain(|waiting| files.iter().all(|file| file.identity != waiting.identity));
        self.0.changed.notify_all();
    }

    /// Forgets what came under keys in segments that were removed: those up to this one.
    pub fn forget(&self, newest: u64) {
        self.lock().keys.forget_up_to(newest);
    }

    /// Forgets what came under keys in segments that were closed longer ago than `kept_us`.
    pub fn forget_old(&self, now_us: i64, kept_us: i64) {
        self.lock().keys.forget_old(now_us, kept_us);
    }

    /// Bytes that no committed batch has taken.
    pub fn unread_bytes(&self) -> u64 {
        self.lock().unread_bytes()
    }

    /// Bytes of lines in the open segment.
    pub fn open_bytes(&self) -> u64 {
        self.lock().open.rows_bytes
    }

    /// The number of the next line.
    pub fn line(&self) -> u64 {
        self.lock().line
    }

    /// When lines are due.
    pub fn pace(&self) -> Pace {
        self.0.story.pace
    }

    /// Whether nothing more may be received before a batch has taken something.
    pub fn is_full(&self) -> bool {
        self.unread_bytes() >= self.0.unread_bytes_max
    }

    /// Waits until there is room; false: nothing more should be received.
    pub fn wait_for_room(&self) -> bool {
        let mut state = self.lock();
        while state.receives() && state.unread_bytes() >= self.0.unread_bytes_max {
            state = self.wait_for(state);
        }
        state.receives()
    }

    /// Waits until something is there that a batch could take, at most so long.
    pub fn wait_for_rows(&self, longest: Duration) {
        let state = self.lock();
        if state.open.rows_bytes > 0 || !state.unread.is_empty() || state.failed {
            return;
        }
        drop(self.0.changed.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets whoever waits look again.
    pub fn wake(&self) {
        // whoever holds the lock has looked, and does not wait yet
        drop(self.lock());
        self.0.changed.notify_all();
    }

    /// Waits, at most so long, until nothing more should be received; whether that is so.
    pub fn wait_for_stop(&self, longest: Duration) -> bool {
        let waited = self.0.changed.wait_timeout_while(self.lock(), longest, |state| state.receives());
        !waited.unwrap_or_else(PoisonError::into_inner).0.receives()
    }

    /// Whether nothing more should be received.
    pub fn is_stopping(&self) -> bool {
        !self.lock().receives()
    }

    /// Asks whoever receives to bring what they have, and no more.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.0.changed.notify_all();
    }

    /// Nothing is written from now on, whoever still receives.
    pub fn close(&self) {
        let mut state = self.lock();
        while state.syncing {
            state = self.wait_for(state);
        }
        state.closed = true;
        self.0.changed.notify_all();
    }

    /// Why the log takes nothing more, for the one who stops the job.
    ///
    /// # Errors
    /// The failure, once.
    pub fn check(&self) -> Result<()> {
        let mut state = self.lock();
        match state.failure.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Notes that the disk failed: nothing is tried again. Returns what the one who wanted something is told.
    fn fail(&self, state: &mut State, error: Error) -> Error {
        let told = Error::new(error.kind(), error.what().to_owned());
        state.failed = true;
        state.failure.get_or_insert(error);
        self.0.changed.notify_all();
        told
    }

    fn cannot(&self, number: u64, error: &io::Error) -> Error {
        Error::io("cannot write to a receive log", self.0.folder.join(segments::open_name(number)), error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn new(open: Open, line: u64, unread: VecDeque<PlannedFile>, keys: Keys) -> State {
        let (syncing, stopping, closed, failed) = (false, false, false, false);
        State { open, line, unread, keys, syncing, stopping, closed, failure: None, failed }
    }

    /// Whether more should be received.
    fn receives(&self) -> bool {
        !self.stopping && !self.closed && !self.failed
    }

    fn usable(&self) -> Result<()> {
        match self.closed || self.failed {
            true => Err(Error::new(ErrorKind::Failed, "nothing more is received: the job is stopping")),
            false => Ok(()),
        }
    }

    fn unread_bytes(&self) -> u64 {
        self.unread.iter().map(|file| file.size_bytes).sum::<u64>() + self.open.rows_bytes
    }
}

impl Open {
    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}
