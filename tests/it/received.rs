//! Sources that receive, by the real binary: what came is counted once, whatever was killed when.

pub mod http;
mod kept;
mod socket;
mod stdin;

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use highwater::model::CrashPoint;

use crate::binary::{Ended, Folder, HANGS_AFTER, Running};

/// The points that only a source which receives comes to, in the order of [`CrashPoint::ALL`].
pub const POINTS: [CrashPoint; 7] = [
    CrashPoint::ReceivedWritten,
    CrashPoint::ReceivedDurable,
    CrashPoint::SegmentSealed,
    CrashPoint::SegmentWritten,
    CrashPoint::SegmentBegun,
    CrashPoint::SegmentClosed,
    CrashPoint::SegmentMended,
];

/// How often each value was counted.
type Counts = BTreeMap<String, u64>;

/// A job that counts the values of one source, whose options these are.
fn counting(options: &str) -> String {
    format!(
        "SET snapshot_batches = '3';
CREATE TABLE lines (value STRING) WITH ({options});
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
INSERT INTO counts SELECT value, count(*) AS count FROM lines GROUP BY value;
"
    )
}

/// A folder with a job, run without any `--set`.
struct Job(Folder);

impl Job {
    fn new(sql: &str) -> Job {
        Job(Folder::in_memory(sql))
    }

    fn command(&self, options: &[&str]) -> Command {
        self.0.command(&[&["run", "job.sql", "--checkpoint", "checkpoint"], options].concat())
    }

    /// The job as it runs until it is stopped.
    fn start(&self) -> Running {
        Running::start(&mut self.command(&[]))
    }

    /// The same, killed at the nth time it reaches a point.
    fn start_to_crash(&self, at: &str) -> Running {
        Running::start(self.command(&[]).env("HIGHWATER_CRASH_AT", at))
    }

    /// What was received so far becomes part of batches.
    fn finish(&self) -> Ended {
        Running::start(&mut self.command(&["--available-now"])).wait().sober().expect(0)
    }

    fn call(&self, words: &[&str]) -> Ended {
        self.0.call(words)
    }

    fn counts(&self) -> Counts {
        self.counts_at("checkpoint")
    }

    fn counts_at(&self, checkpoint: &str) -> Counts {
        Job::counted(&self.call(&["show", checkpoint, "--output", "json"]).expect(0).json())
    }

    /// Of one query of several.
    fn counts_of(&self, query: &str) -> Counts {
        let words = ["show", "checkpoint", "--output", "json", "--query", query];
        Job::counted(&self.call(&words).expect(0).json())
    }

    fn counted(rows: &[serde_json::Value]) -> Counts {
        let count = |row: &serde_json::Value| {
            let value = row["value"].as_str().unwrap_or_default().to_owned();
            (value, row["count"].as_u64().expect("a count"))
        };
        rows.iter().map(count).collect()
    }

    /// The bytes of a source's receive log, file by file.
    fn log(&self, source: &str) -> BTreeMap<String, Vec<u8>> {
        crate::binary::files(&self.0.at("checkpoint/received").join(source))
    }

    /// Waits until the receive log has this text.
    #[track_caller]
    fn wait_for_receipt(&self, source: &str, text: &str) {
        let has = |bytes: &Vec<u8>| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        wait_until(&format!("'{text}' is received"), || {
            // a segment is renamed while its folder is read
            let folder = self.0.at("checkpoint/received").join(source);
            let Ok(entries) = fs::read_dir(folder) else { return false };
            entries.flatten().any(|entry| fs::read(entry.path()).is_ok_and(|bytes| has(&bytes)))
        });
    }

    /// Every state equals the batch result over what was received.
    #[track_caller]
    fn verify(&self) {
        self.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
    }
}

/// Each of these values was counted once, and nothing else was.
#[track_caller]
fn once(counts: &Counts, values: impl IntoIterator<Item = String>) {
    let expected: Counts = values.into_iter().map(|value| (value, 1)).collect();
    let wrong: Vec<_> = counts.iter().filter(|(value, count)| expected.get(*value) != Some(count)).collect();
    let missing: Vec<_> = expected.keys().filter(|value| !counts.contains_key(*value)).collect();
    assert!(wrong.is_empty() && missing.is_empty(), "not once: {wrong:?}, missing: {missing:?}");
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < HANGS_AFTER, "in vain: until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child whose standard input is ours; killed when it is dropped.
struct Fed(Child);

impl Fed {
    fn start(command: &mut Command) -> Fed {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Fed(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
