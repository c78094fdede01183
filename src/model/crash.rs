//! The named places where a crash is tried, and the switch that makes one happen.
//!
//! Production code calls [`Faults::reach`] at each point; it costs an atomic load unless a test armed it.
//! An armed point either kills the process as `kill -9` would, or (in-process tests) returns an error of kind
//! `Crashed`, after which everything in memory must be dropped as it is.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::error::{Error, ErrorKind, Result};

macro_rules! crash_points {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A place in the life of a batch, or of a checkpoint, where a crash is tried.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CrashPoint { $($(#[$doc])* $name),* }

        impl CrashPoint {
            /// Every point, in the order of the life of a batch.
            pub const ALL: &'static [CrashPoint] = &[$(CrashPoint::$name),*];

            /// The name used on command lines and in the environment.
            pub fn name(self) -> &'static str {
                match self { $(CrashPoint::$name => $text),* }
            }
        }
    };
}

crash_points! {
    /// A new checkpoint was built in its temporary folder, not yet renamed into place.
    CheckpointBuilt = "checkpoint-built",
    /// The new checkpoint is in place.
    CheckpointCreated = "checkpoint-created",
    /// At open: the live log was copied, the copy not yet renamed.
    OpenCopied = "open-copied",
    /// At open: the copy is in place, nothing committed in it yet.
    OpenRenamed = "open-renamed",
    /// Rows of a source that receives are written to its receive log, not yet fsynced.
    ReceivedWritten = "received-written",
    /// They are durable; whoever sent them was not told yet.
    ReceivedDurable = "received-durable",
    /// A segment of a receive log is written to its end, not yet fsynced.
    SegmentSealed = "segment-sealed",
    /// A segment of a receive log is durable to its end, and does not have its name yet.
    SegmentWritten = "segment-written",
    /// The segment behind it is begun, durably; it does not have its name yet.
    SegmentBegun = "segment-begun",
    /// The segment is closed, no batch has taken it.
    SegmentClosed = "segment-closed",
    /// A segment that a crash left open is written anew, and does not have its closed name yet.
    SegmentMended = "segment-mended",
    /// The batch is planned.
    Planned = "planned",
    /// Its plan is durable.
    Intended = "intended",
    /// Its input was read.
    Read = "read",
    /// The queries ran over it.
    Stepped = "stepped",
    /// Its output is staged.
    Staged = "staged",
    /// Large deltas are written to files of their own, the log does not name them yet.
    PayloadsWritten = "payloads-written",
    /// The log has the commit, in memory only.
    Applied = "applied",
    /// The log wrote the commit, not yet fsynced.
    Flushed = "flushed",
    /// The commit is durable, nothing is published.
    Committed = "committed",
    /// Some sinks have published.
    PublishedFirst = "published-first",
    /// All sinks have published.
    Published = "published",
    /// A snapshot's files are written, the log does not name them yet.
    SnapshotWritten = "snapshot-written",
    /// The sealed part is written under a temporary name.
    SealWritten = "seal-written",
    /// The sealed part is in place, the old live log not yet replaced.
    Sealed = "sealed",
    /// The fresh live log is in place, the old one not yet removed.
    LiveReplaced = "live-replaced",
    /// Retention is about to remove what is no longer needed.
    Retiring = "retiring",
    /// The rewind is durable, the sinks know nothing of it.
    Rewound = "rewound",
    /// Some of a rewind's output is retracted.
    RetractedFirst = "retracted-first",
    /// All of it is.
    Retracted = "retracted",
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CrashPoint {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        CrashPoint::ALL
            .iter()
            .copied()
            .find(|point| point.name() == text)
            .ok_or_else(|| format!("'{text}' is not a crash point"))
    }
}

/// What an armed point does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Kill the process with SIGKILL.
    Kill,
    /// Return an error of kind [`ErrorKind::Crashed`].
    Error,
}

/// Handed to everything that can crash; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    watching: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(CrashPoint, u64, Crash)>,
    reached: Vec<(CrashPoint, u64)>,
}

impl Faults {
    /// Nothing ever crashes.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// Crashes at the `nth` time (from 1) that `point` is reached.
    pub fn armed(point: CrashPoint, nth: u64, crash: Crash) -> Faults {
        let faults = Faults::watching();
        faults.lock().armed = Some((point, nth, crash));
        faults
    }

    /// Counts what is reached, and crashes nowhere.
    pub fn watching() -> Faults {
        let faults = Faults::default();
        faults.0.watching.store(true, Ordering::Relaxed);
        faults
    }

    /// From text such as `committed:3`: killed at the third commit. Used by tests of the real binary.
    pub fn from_text(text: &str) -> std::result::Result<Faults, String> {
        let (point, nth) = text.split_once(':').unwrap_or((text, "1"));
        let nth = nth.parse().map_err(|_| format!("'{nth}' is not a count"))?;
        Ok(Faults::armed(point.parse()?, nth, Crash::Kill))
    }

    /// Says that the point is reached.
    ///
    /// # Errors
    /// Of kind `Crashed`, where this point is armed to return one.
    pub fn reach(&self, point: CrashPoint) -> Result<()> {
        if !self.0.watching.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = self.lock();
        let count = match state.reached.iter_mut().find(|(reached, _)| *reached == point) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                state.reached.push((point, 1));
                1
            }
        };
        match state.armed {
            Some((armed, nth, crash)) if armed == point && nth == count => match crash {
                Crash::Kill => kill_self(),
                Crash::Error => Err(Error::new(ErrorKind::Crashed, format!("crashed at {point}"))),
            },
            _ => Ok(()),
        }
    }

    /// How often each point was reached so far.
    pub fn reached(&self) -> Vec<(CrashPoint, u64)> {
        self.lock().reached.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The most honest crash there is: no destructor, no flush, no exit handler runs.
fn kill_self() -> ! {
    // SAFETY: kill(2) on our own process id takes no pointers and cannot violate memory safety.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_point_crashes_at_its_count_only() {
        let faults = Faults::armed(CrashPoint::Committed, 2, Crash::Error);
        assert!(faults.reach(CrashPoint::Committed).is_ok());
        assert!(faults.reach(CrashPoint::Planned).is_ok());
        assert_eq!(faults.reach(CrashPoint::Committed).unwrap_err().kind(), ErrorKind::Crashed);
        assert!(faults.reach(CrashPoint::Committed).is_ok());
        assert_eq!(faults.reached(), vec![(CrashPoint::Committed, 3), (CrashPoint::Planned, 1)]);
    }

    #[test]
    fn names_read_back() {
        for point in CrashPoint::ALL {
            assert_eq!(point.name().parse::<CrashPoint>().unwrap(), *point);
        }
    }
}
