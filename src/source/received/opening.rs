//! Opening a receive log: what a crash left open is closed, and what is missing is told.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, OpenOptions},
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use super::{
    frame::{Header, Known},
    log::{Open, ReceiveLog, Shared, State},
    segments::{self, Folder},
};
use crate::model::{Error, ErrorKind, Faults, Result};

/// How a log is opened.
pub(super) struct Opening<'a> {
    pub folder: &'a Path,
    pub source: &'a str,
    /// The newest segment that a committed batch has taken.
    pub committed: Option<u64>,
    /// Go on without segments that are gone.
    pub accept_gap: bool,
    /// Whether requests are told by their keys.
    pub remembers: bool,
    pub segment_bytes: u64,
    pub unread_bytes_max: u64,
    /// Microseconds since the Unix epoch.
    pub now_us: i64,
    pub faults: Faults,
}

impl ReceiveLog {
    /// Opens the log, closes what a crash left open, and begins a segment; also says what is missing of it, where that
    /// was accepted.
    ///
    /// # Errors
    /// Of kind `Refused`, where segments that no batch has taken are gone or damaged; of kind `Failed` for the disk.
    pub fn open(opening: Opening<'_>) -> Result<(ReceiveLog, Vec<String>)> {
        let Opening { folder, source, committed, accept_gap, remembers, now_us, faults, .. } = opening;
        segments::make_folder(folder)?;
        let open = Folder::read(folder)?.open;
        for (index, number) in open.iter().enumerate() {
            segments::recover(folder, *number, source, index + 1 == open.len())?;
        }
        let closed = Folder::read(folder)?.closed;
        // behind the newest closed segment there was an open one, even without a row
        let open = open.last().copied().filter(|open| !closed.contains(open));
        let present: Vec<u64> = closed.iter().copied().chain(open).collect();
        let mut notices = gaps(folder, &present, committed, accept_gap)?;
        let mut unread = VecDeque::new();
        for number in closed.iter().filter(|number| Some(**number) > committed) {
            unread.extend(segments::planned_if_there(folder, *number)?);
        }
        let mut known = HashMap::new();
        if remembers {
            for number in &closed {
                let end = match segments::read_end(folder, *number, source) {
                    Err(error) if accept_gap && error.kind() == ErrorKind::Refused => {
                        notices
                            .push(format!("requests of segment {number} that are repeated will count again: {error}"));
                        continue;
                    }
                    end => end?,
                };
                known.extend(end.known.into_iter().map(|Known { key, body }| (key, (body, (*number, 0)))));
            }
        }
        let (line, began_us) = newest_end(folder, &closed, source, accept_gap)?.unwrap_or((0, now_us));
        let number = closed.last().copied().max(committed).map_or(0, |last| last + 1).max(open.unwrap_or(0));
        if let Some(stale) = open.filter(|open| *open != number) {
            let path = folder.join(segments::open_name(stale));
            fs::remove_file(&path)
                .map_err(|error| Error::io("cannot remove an empty segment of a receive log", path, &error))?;
        }
        let begun = begin(folder, &Header { number, line, began_us, source: source.to_owned() })?;
        segments::sync_folder(folder)?;
        let state =
            State { open: begun, line, unread, known, syncing: false, closed: false, failure: None, failed: false };
        let log = Shared {
            folder: folder.to_owned(),
            source: source.to_owned(),
            began_us,
            remembers,
            segment_bytes: opening.segment_bytes,
            unread_bytes_max: opening.unread_bytes_max,
            faults,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Ok((ReceiveLog(Arc::new(log)), notices))
    }
}

/// Begins a segment; its name is not durable yet.
pub(super) fn begin(folder: &Path, header: &Header) -> Result<Open> {
    let path = folder.join(segments::open_name(header.number));
    let cannot = |error: io::Error| Error::io("cannot begin a segment of a receive log", &path, &error);
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).map_err(cannot)?;
    let bytes = header.encode();
    let mut open =
        Open { file: Arc::new(file), number: header.number, length: 0, durable: 0, rows_bytes: 0, known: Vec::new() };
    open.write(&bytes).map_err(cannot)?;
    Ok(open)
}

/// Checks that no segment is missing of those that no committed batch has taken; `present`: those that are there, in order.
fn gaps(folder: &Path, present: &[u64], committed: Option<u64>, accept: bool) -> Result<Vec<String>> {
    let mut expected = committed.map_or(0, |committed| committed + 1);
    let mut notices = Vec::new();
    for number in present.iter().filter(|number| Some(**number) > committed) {
        if *number != expected {
            let missing = folder.join(segments::closed_name(expected));
            if !accept {
                return Err(segments::damaged(missing, "it is gone, and no batch has read it"));
            }
            notices.push(format!(
                "{} is gone, and no batch has read it: the job goes on with segment {number}",
                missing.display()
            ));
        }
        expected = number + 1;
    }
    Ok(notices)
}

/// Where the newest closed segment ends: its next line, and when the source began.
fn newest_end(folder: &Path, closed: &[u64], source: &str, accept_gap: bool) -> Result<Option<(u64, i64)>> {
    for number in closed.iter().rev() {
        match segments::read_end(folder, *number, source) {
            Ok(end) => return Ok(Some((end.line, end.began_us))),
            Err(error) if accept_gap && error.kind() == ErrorKind::Refused => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
