//! Sources whose rows come to the job. What comes is made durable in the source's receive log before anything else is done
//! with it; a batch then takes closed segments of that log as it would take files, so that everything that holds for
//! input files holds for them: plans, hashes, replays, bad records, limits of memory.
//!
//! - `frame`: the bytes of a segment; `scan`, `unframe`: reading an open and a closed one; `durable`: how long the open one is
//! - `segments`: files and names; `opening`, `log`: recovery, appending, group commit, closing; `keys`: requests that are
//!   repeated; `verify`: looking at all of it
//! - `socket`, `http`, `rate`: where rows come from; `lines`: cutting what comes at line ends

mod durable;
mod frame;
mod http;
mod keys;
mod lines;
mod log;
mod opening;
mod rate;
mod scan;
mod segments;
mod socket;
mod unframe;
mod verify;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

pub use self::verify::verify;
use self::{
    lines::{Ended, pump},
    log::ReceiveLog,
    opening::Opening,
};
pub(super) use self::{
    segments::{closed_number, damaged, list},
    unframe::Unframing,
};
use super::Seen;
use crate::{
    job::{ReceivedSpec, Sender, SourceSpec},
    model::{Error, ErrorKind, Faults, Notice, PlannedFile, Result},
};

/// Tells the time: microseconds since the Unix epoch.
pub type Clock = fn() -> i64;

/// What receives rows for one source, and its receive log. Nothing is written any more once it is dropped.
pub struct Receiver {
    spec: ReceivedSpec,
    source: String,
    line_bytes_max: usize,
    folder: PathBuf,
    log: ReceiveLog,
    notices: Notices,
    /// Whether nothing more will come.
    ended: Arc<AtomicBool>,
    /// Why nothing more comes, where it should have.
    broken: Arc<OnceLock<String>>,
    /// What receives, while it does.
    thread: Option<JoinHandle<()>>,
    now_us: Clock,
    passed_us: Clock,
}

/// How a receive log is opened.
#[derive(Debug, Clone)]
pub struct ReceiverOptions {
    /// Go on without segments that are gone.
    pub accept_gap: bool,
    pub now_us: Clock,
    /// Tells how much time has passed, whatever happens to the calendar: microseconds since any moment.
    pub passed_us: Clock,
    pub faults: Faults,
}

/// So long a stop waits for rows that are on their way.
const STOP_LONGEST: Duration = Duration::from_millis(500);
const STOP_LOOK: Duration = Duration::from_millis(2);

/// What the operator should know; told by whoever runs the job.
#[derive(Debug, Clone, Default)]
struct Notices(Arc<Mutex<VecDeque<Notice>>>);

impl Notices {
    /// Notices that nobody has asked for; older ones are forgotten.
    const KEPT_MAX: usize = 100;

    fn tell(&self, notice: impl Into<Notice>) {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == Notices::KEPT_MAX {
            notices.pop_front();
        }
        notices.push_back(notice.into());
    }

    fn take(&self) -> VecDeque<Notice> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Receiver {
    /// Opens the receive log of a source, and closes what a crash left open. The checkpoint must be locked by this process.
    ///
    /// # Errors
    /// Of kind `Refused`, where something is gone or damaged that no batch has taken; of kind `Failed` for the disk.
    pub fn open(spec: &SourceSpec, seen: &Seen, options: &ReceiverOptions) -> Result<Receiver> {
        let received = spec.received.clone().ok_or_else(|| Error::failed("a source of files receives nothing"))?;
        let folder = PathBuf::from(&spec.files.path);
        let opening = Opening {
            folder: &folder,
            source: &spec.name,
            committed: seen.newest_segment(),
            accept_gap: options.accept_gap,
            keys_kept_us: keys_kept_us(&received),
            rows_per_second: match received.sender {
                Sender::Rate { rows_per_second } => rows_per_second.get(),
                _ => 0,
            },
            segment_bytes: received.batch_bytes,
            unread_bytes_max: received.unread_bytes_max,
            now_us: (options.now_us)(),
            faults: options.faults.clone(),
        };
        let (log, told) = ReceiveLog::open(opening)?;
        let notices = Notices::default();
        told.into_iter().for_each(|notice| notices.tell(notice));
        Ok(Receiver {
            spec: received,
            source: spec.name.clone(),
            line_bytes_max: spec.format.records.line_bytes_max,
            folder,
            log,
            notices,
            ended: Arc::default(),
            broken: Arc::default(),
            thread: None,
            now_us: options.now_us,
            passed_us: options.passed_us,
        })
    }

    /// Begins to receive, on threads of its own.
    ///
    /// # Errors
    /// Of kind `Failed`, where the system has no thread.
    pub fn start(&mut self) -> Result<()> {
        let (log, notices, ended) = (self.log.clone(), self.notices.clone(), Arc::clone(&self.ended));
        let broken = Arc::clone(&self.broken);
        let (line_bytes_max, now_us, passed_us) = (self.line_bytes_max, self.now_us, self.passed_us);
        let receive: Box<dyn FnOnce() + Send> = match self.spec.sender.clone() {
            Sender::Socket { host, port } => {
                Box::new(move || socket::receive(&log, (&host, port), line_bytes_max, &notices))
            }
            Sender::Rate { .. } => Box::new(move || rate::receive(&log, now_us)),
            Sender::Stdin => Box::new(move || {
                if let (Ended::Broken { error, unfinished_bytes }, _) =
                    pump(&log, std::io::stdin().lock(), line_bytes_max)
                {
                    let why = format!("{error}; {unfinished_bytes} bytes had come of a line that has no end");
                    // a sender that has a standard input breaks once
                    broken.get_or_init(|| why);
                }
                ended.store(true, Ordering::Release);
                // a run that ends with it waits for more
                log.wake();
            }),
            Sender::Http(spec) => {
                // an address that is taken is told before anything is received
                let listener = http::listen(&spec)?;
                Box::new(move || {
                    if let Err(error) = http::receive(log, &listener, &spec, passed_us, &notices) {
                        notices.tell(format!("the server on {} has ended: {error}", spec.listen));
                    }
                })
            }
        };
        let name = format!("receive-{}", self.source);
        let thread = std::thread::Builder::new().name(name).spawn(receive);
        let no_thread =
            |error: std::io::Error| Error::failed("there is no thread to receive on").because(error.to_string());
        self.thread = Some(thread.map_err(no_thread)?);
        Ok(())
    }

    /// Whether this is a source that ends, and all of it has not come yet.
    pub fn will_end(&self) -> bool {
        self.spec.sender == Sender::Stdin && !self.has_ended()
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Why nothing more comes of what should have gone on to its end; `None`: it has not broken off. Known once
    /// [`Receiver::has_ended`] is.
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// Whether nothing more is received before a batch has taken something.
    pub fn is_full(&self) -> bool {
        self.log.is_full()
    }

    /// How long rows wait for others before their segment is closed.
    pub fn batch_interval(&self) -> Duration {
        self.spec.batch_interval
    }

    /// Bytes of lines that are in no closed segment.
    pub fn open_bytes(&self) -> u64 {
        self.log.open_bytes()
    }

    /// Bytes that no committed batch has taken.
    pub fn unread_bytes(&self) -> u64 {
        self.log.unread_bytes()
    }

    /// Closes the segment that is being written, if there are rows in it.
    ///
    /// # Errors
    /// Of kind `Failed`, where that cannot be made durable, or could not before.
    pub fn close_segment(&self) -> Result<()> {
        // what made receiving impossible says more than that it is
        self.log.close_segment().map_err(|told| self.log.check().err().unwrap_or(told))
    }

    /// Closed segments that no committed batch has taken, in the order in which they came.
    ///
    /// # Errors
    /// What made receiving impossible, if something did: the job must stop.
    pub fn unread(&self) -> Result<Vec<PlannedFile>> {
        self.log.check()?;
        Ok(self.log.unread())
    }

    /// Notes that a batch took these segments for good.
    pub fn committed(&self, files: &[PlannedFile]) {
        self.log.committed(files);
        if let Some(kept_us) = keys_kept_us(&self.spec) {
            self.log.forget_old((self.now_us)(), kept_us);
        }
    }

    /// Waits until something is there that a batch could take, at most so long.
    pub fn wait(&self, longest: Duration) {
        self.log.wait_for_rows(longest);
    }

    /// What the operator should know since this was asked last.
    pub fn take_notices(&self) -> VecDeque<Notice> {
        self.notices.take()
    }

    /// Removes segments of this source up to this one, which nobody needs any more; the newest closed one stays, since it says
    /// how many lines there were. Returns how many went.
    ///
    /// # Errors
    /// Of kind `Failed`, naming the segment that cannot be removed.
    pub fn retire(&self, unneeded: &PlannedFile, now_us: i64) -> Result<u64> {
        let keys_kept_us = keys_kept_us(&self.spec);
        let Some(unneeded) = closed_number(unneeded.path.as_path()) else { return Ok(0) };
        let closed = segments::Folder::read(&self.folder)?.closed;
        let (mut gone, mut last) = (0, None);
        for number in
            closed.iter().copied().filter(|number| *number <= unneeded && Some(*number) != closed.last().copied())
        {
            let Some(file) = segments::planned_if_there(&self.folder, number)? else { continue };
            if file.modified_ns / 1000 > now_us.saturating_sub(keys_kept_us.unwrap_or(0)) {
                break;
            }
            let path = self.folder.join(file.path.as_path());
            std::fs::remove_file(&path)
                .map_err(|error| Error::io("cannot remove a segment that nobody needs", path, &error))?;
            if keys_kept_us.is_some() {
                // a power loss must not leave a hole: a segment that is missing between others is missed
                segments::sync_folder(&self.folder)?;
            }
            gone += 1;
            last = Some(number);
        }
        if let Some(last) = last {
            self.log.forget(last);
        }
        Ok(gone)
    }

    /// Receives no more. Rows that are on their way, or in no closed segment, are put into one; not half a line.
    ///
    /// # Errors
    /// As [`Receiver::close_segment`].
    pub fn stop(&mut self) -> Result<()> {
        self.log.stop();
        if let Some(thread) = self.thread.take() {
            let mut left = STOP_LONGEST;
            // one that waits for its standard input has nothing in hand, and cannot be woken
            while !thread.is_finished() && !left.is_zero() {
                std::thread::sleep(STOP_LOOK);
                left = left.saturating_sub(STOP_LOOK);
            }
        }
        let closed = self.close_segment();
        self.log.close();
        closed.and(self.log.check())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.log.close();
    }
}

/// How long requests are known by their keys, microseconds; `None`: they have none.
fn keys_kept_us(spec: &ReceivedSpec) -> Option<i64> {
    let kept_us = i64::try_from(spec.keys_kept.as_micros()).unwrap_or(i64::MAX);
    matches!(spec.sender, Sender::Http(_)).then_some(kept_us)
}

/// Checks what can be known of a source before it receives: that not everybody can send rows to it.
///
/// # Errors
/// Of kind `Usage`, where a token is missing or an address means nothing.
pub fn check_received(spec: &ReceivedSpec) -> Result<()> {
    match &spec.sender {
        Sender::Http(http) => http::check(http).map(drop),
        Sender::Socket { .. } | Sender::Stdin | Sender::Rate { .. } => Ok(()),
    }
}

/// What is wrong with an input file, where that is a segment: nobody but retention and damage removes or changes one.
pub(super) fn in_segment(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Moved => {}
        ErrorKind::Data => {
            return error.help(
                "what was received stays as it is; set mode = 'permissive' to have the record counted and reported, then run again",
            );
        }
        _ => return error,
    }
    let why = error.why().unwrap_or_default().to_owned();
    let moved =
        Error::new(ErrorKind::Moved, "a segment of a receive log is gone, or not what was received").because(why);
    let moved = error.place().cloned().into_iter().fold(moved, Error::at);
    moved.help(
        "retention removes segments that no batch it keeps needs; another one must be put back from a copy, or run with --accept-change to go on without the rows in it",
    )
}

/// The folder of a source's receive log, as an input folder.
pub(super) fn folder(spec: &SourceSpec) -> Option<&Path> {
    spec.received.as_ref().map(|_| Path::new(&spec.files.path))
}

#[cfg(test)]
mod tests;
