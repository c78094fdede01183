//! Opening a receive log: what a crash left open is closed, and what is missing is told.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use super::{
    durable::Note,
    frame::{Known, Pace, Story},
    keys::Keys,
    log::{ReceiveLog, Shared, State},
    segments::{self, Folder, Hole, Left},
};
use crate::model::{ErrorKind, Faults, Result};

/// How a log is opened.
pub(super) struct Opening<'a> {
    pub folder: &'a Path,
    pub source: &'a str,
    /// The newest segment that a committed batch has taken.
    pub committed: Option<u64>,
    /// Go on without segments that are gone.
    pub accept_gap: bool,
    /// How long requests are known by their keys, microseconds; `None`: they have none.
    pub keys_kept_us: Option<i64>,
    /// How many rows the clock makes; 0: it makes none.
    pub rows_per_second: u64,
    pub segment_bytes: u64,
    pub unread_bytes_max: u64,
    /// Microseconds since the Unix epoch.
    pub now_us: i64,
    pub faults: Faults,
}

/// Where a log goes on.
struct Start {
    /// The segment that will be open.
    number: u64,
    /// The segment that is to be closed once that one is begun, and the keys in it.
    left: Option<(u64, Vec<Known>)>,
    line: u64,
    story: Story,
}

impl ReceiveLog {
    /// Opens the log, closes what a crash left open, and begins a segment; also says what is missing of it, where that
    /// was accepted.
    ///
    /// # Errors
    /// Of kind `Refused`, where segments that no batch has taken are gone or damaged; of kind `Failed` for the disk.
    pub fn open(opening: Opening<'_>) -> Result<(ReceiveLog, Vec<String>)> {
        let (folder, mut notices) = (opening.folder, Vec::new());
        let Start { number, left, line, mut story } = opening.start(&mut notices)?;
        let found = Folder::read(folder)?;
        let left_number = left.as_ref().map(|(number, _)| *number);
        let closed: Vec<u64> = found.closed.iter().copied().chain(left_number).collect();
        story.whole_from = opening.gaps(&closed, number, story.whole_from, &mut notices)?;
        let keys = opening.keys(&found.closed, left, &mut story.whole_from, &mut notices)?;
        story.pace = story.pace.at_rate(opening.rows_per_second, line);
        let open = segments::begin(folder, number, line, story, opening.source)?;
        match left_number {
            Some(left) => segments::close(folder, left, &opening.faults)?,
            None => segments::sync_folder(folder)?,
        }
        if found.forked {
            segments::no_longer_forked(folder)?;
        }
        let mut unread = VecDeque::new();
        for number in closed.iter().filter(|number| Some(**number) > opening.committed) {
            unread.extend(segments::planned_if_there(folder, *number)?);
        }
        let log = Shared {
            folder: folder.to_owned(),
            source: opening.source.to_owned(),
            story,
            note: Note::open(folder)?,
            remembers: opening.keys_kept_us.is_some(),
            segment_bytes: opening.segment_bytes,
            unread_bytes_max: opening.unread_bytes_max,
            faults: opening.faults,
            state: Mutex::new(State::new(open, line, unread, keys)),
            changed: Condvar::new(),
        };
        Ok((ReceiveLog(Arc::new(log)), notices))
    }
}

impl Opening<'_> {
    /// Finds out where the log goes on, and makes whole what a crash left open.
    fn start(&self, notices: &mut Vec<String>) -> Result<Start> {
        let mut found = Folder::read(self.folder)?;
        if !found.exists && self.committed.is_none() {
            segments::make(self.folder, self.begun_now(), self.source)?;
            found = Folder::read(self.folder)?;
        }
        let Some((last, before)) = found.open.split_last() else {
            return self.start_without_open(&found, notices);
        };
        let named = |number: u64| self.folder.join(segments::open_name(number));
        if let Some(number) = found.open.iter().copied().find(|number| Some(*number) <= found.closed.last().copied()) {
            return Err(segments::damaged(named(number), "it was closed, and stands here as if it had not been"));
        }
        for number in before {
            segments::recover(self.folder, *number, self.source, false, &self.faults)?;
            segments::close(self.folder, *number, &self.faults)?;
        }
        let Left { line, story, known, has_rows } =
            segments::recover(self.folder, *last, self.source, true, &self.faults)?;
        let (number, left) = if has_rows { (last + 1, Some((*last, known))) } else { (*last, None) };
        match self.committed.filter(|committed| committed >= last) {
            None => Ok(Start { number, left, line, story }),
            Some(committed) if self.accept_gap => {
                notices.push(format!("the receive log ends with segment {last}, and batches have read segment {committed}: it goes on behind that one"));
                if left.is_none() {
                    segments::remove_open(self.folder, *last)?;
                }
                Ok(Start { number: committed + 1, left, line, story })
            }
            Some(committed) => Err(segments::damaged(
                named(*last),
                format!("it is older than the log of batches, which have read segment {committed}"),
            )),
        }
    }

    /// There is always an open segment, but in a fork that nobody has run.
    fn start_without_open(&self, found: &Folder, notices: &mut Vec<String>) -> Result<Start> {
        let number = found.closed.last().copied().max(self.committed).map_or(0, |last| last + 1);
        let lost = self.folder.join(segments::open_name(number));
        if !found.forked {
            if !self.accept_gap {
                return Err(segments::damaged(lost, "it is gone, and with it what came last"));
            }
            notices.push(format!("{} is gone, and with it what came last: the job goes on without it", lost.display()));
        }
        segments::make_folder(self.folder)?;
        let (line, story) = self.newest_end(&found.closed)?.unwrap_or((0, self.begun_now()));
        Ok(Start { number, left: None, line, story })
    }

    fn begun_now(&self) -> Story {
        let pace = Pace { since_us: self.now_us, line: 0, rows_per_second: self.rows_per_second };
        Story { whole_from: 0, pace }
    }

    /// Checks that no segment is missing of those that no committed batch has taken, nor one whose keys are remembered;
    /// from which segment on none is.
    fn gaps(&self, closed: &[u64], open: u64, whole_from: u64, notices: &mut Vec<String>) -> Result<u64> {
        let mut whole_from = whole_from;
        let holes = segments::holes(closed, Some(open), self.committed, self.keys_kept_us.is_some(), whole_from);
        for Hole { first, next, why } in holes {
            let missing = self.folder.join(segments::closed_name(first));
            if !self.accept_gap {
                return Err(segments::damaged(missing, why));
            }
            notices.push(format!("{}: {why}; the job goes on with segment {next}", missing.display()));
            whole_from = next;
        }
        Ok(whole_from)
    }

    /// The keys of requests that may come again. `left`: the segment that is about to be closed.
    fn keys(
        &self,
        closed: &[u64],
        left: Option<(u64, Vec<Known>)>,
        whole_from: &mut u64,
        notices: &mut Vec<String>,
    ) -> Result<Keys> {
        let mut keys = Keys::new();
        let Some(kept_us) = self.keys_kept_us else { return Ok(keys) };
        if let Some((number, known)) = left {
            keys.insert_before(number, self.now_us, &known);
        }
        for number in closed.iter().rev().copied() {
            let file = segments::planned_if_there(self.folder, number)?;
            let Some(closed_us) = file.map(|file| file.modified_ns / 1000) else { continue };
            if closed_us < self.now_us.saturating_sub(kept_us) {
                break;
            }
            match segments::read_end(self.folder, number, self.source) {
                Ok(end) if keys.insert_before(number, closed_us, &end.known) => {}
                Ok(_) => break,
                // it was accepted before
                Err(error) if error.kind() == ErrorKind::Refused && number < *whole_from => {}
                Err(error) if error.kind() == ErrorKind::Refused && self.accept_gap => {
                    notices.push(format!("requests of segment {number} that are repeated will count again: {error}"));
                    *whole_from = number + 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(keys)
    }

    /// Where the newest closed segment ends, and what it tells.
    fn newest_end(&self, closed: &[u64]) -> Result<Option<(u64, Story)>> {
        for number in closed.iter().rev() {
            match segments::read_end(self.folder, *number, self.source) {
                Ok(end) => return Ok(Some((end.line, end.story))),
                Err(error) if self.accept_gap && error.kind() == ErrorKind::Refused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
