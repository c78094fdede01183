//! The real binary under `kill -9`: at random moments and at every named point, while running, recovering and
//! rewinding. However often it is killed, the tables, the log and the output folder end up as those of a run that
//! nobody disturbed, and every batch is one file.
//!
//! `HIGHWATER_KILLS=5000` kills that often at random; `HIGHWATER_SEED` repeats a run of them.

mod beside;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use highwater::model::CrashPoint;

use crate::{
    binary::{Chance, Ended, Folder, Running, from_environment, same_lines},
    received::POINTS,
};

/// Batches, too: each takes one file.
pub const FILES: usize = 12;
const ROWS: usize = 200;

/// Three queries over one pass: one in the checkpoint, one with a file per batch, one with a file that is replaced.
pub const JOB: &str = concat!(
    "
SET snapshot_batches = '3';
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
CREATE TABLE ports WITH (connector = 'files', path = '${OUTPUT}', format = 'csv', output_mode = 'complete');
INSERT INTO counts SELECT device, count(*) AS count FROM flows WHERE port IN ('80', '443') GROUP BY device ORDER BY count DESC;
INSERT INTO traffic SELECT device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY device;
INSERT INTO ports SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
",
    operators!()
);

/// Input that is the same each time. The devices of two files have long names, so that their deltas are too large to
/// be kept inside the log.
pub fn fill(folder: &Folder) {
    let mut chance = Chance::new(7);
    for file in 0..FILES {
        let mut text = String::new();
        for row in 0..ROWS {
            let device = match file {
                4 | 8 => format!("{row}-{}", long_name(&mut chance)),
                _ => format!("Comp{}", chance.below(40)),
            };
            let port = ["80", "443", "22", "Port7"][chance.below(4)];
            let bytes = chance.below(100_000);
            text += &format!("{{\"device\": \"{device}\", \"port\": \"{port}\", \"bytes\": {bytes}}}\n");
        }
        folder.input(file, text.as_bytes());
    }
}

/// A job whose watermark rises with each file, so that a batch without data follows each.
pub const EVENT_JOB: &str = concat!("\nSET snapshot_batches = '5';\n", over_event_time!());

/// Files of [`EVENT_JOB`]; as many batches as of [`JOB`].
pub fn fill_with_events(folder: &Folder) {
    (0..FILES / 2).for_each(|file| folder.input(file, events(file).as_bytes()));
}

/// The bytes of one file over event time: a function of its number. Some rows are late, and one has no time.
pub fn events(file: usize) -> String {
    let mut chance = Chance::new(70 + file as u64);
    let mut text = format!("{{\"device\": \"timeless\", \"port\": \"22\", \"bytes\": {file}}}\n");
    for row in 0..40 {
        // each file ends later than the one before
        let time = match row {
            0 => file * 15 + 14,
            1 => 1,
            _ => file * 15 + chance.below(15),
        };
        let (device, port) = (chance.below(7), ["80", "443", "22"][chance.below(3)]);
        let bytes = row * 7 + file;
        text +=
            &format!("{{\"device\": \"Comp{device}\", \"port\": \"{port}\", \"bytes\": {bytes}, \"ts\": {time}}}\n");
    }
    text
}

#[test]
fn a_job_over_event_time_is_killed_and_ends_as_if_it_had_not_been() {
    let folder = Folder::new(EVENT_JOB);
    fill_with_events(&folder);
    let words = ["crash-test", "job.sql", "--set", "INPUT=input", "--set", "OUTPUT=output", "--kills", "12"];
    let tested = folder.call(&words).expect(0);
    assert!(tested.stdout.contains("the same after 12 kills"), "{}", tested.stdout);
}

/// Chance, so that it cannot be compressed away.
pub fn long_name(chance: &mut Chance) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..2400).map(|_| char::from(LETTERS[chance.below(LETTERS.len())])).collect()
}

fn scratch(sql: &str) -> Folder {
    let folder = Folder::new(sql);
    fill(&folder);
    folder
}

/// All that a user can see of a job that ran.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub shown: String,
    pub log: Vec<String>,
    pub published: BTreeMap<String, Vec<u8>>,
}

impl Outcome {
    pub fn of(folder: &Folder) -> Outcome {
        Outcome { shown: folder.shown(), log: folder.canonical_log(), published: folder.published() }
    }

    /// Fails the test, naming what differs, unless both are the same.
    #[track_caller]
    pub fn must_be(&self, expected: &Outcome, story: &str) {
        self.must_show(expected, story);
        same_lines(&self.log, &expected.log, &format!("{story}: the log"));
    }

    /// As [`Outcome::must_be`], the log apart.
    #[track_caller]
    fn must_show(&self, expected: &Outcome, story: &str) {
        let lines = |outcome: &'_ Outcome| outcome.shown.lines().map(str::to_owned).collect::<Vec<_>>();
        same_lines(&lines(self), &lines(expected), &format!("{story}: the tables"));
        let names = |outcome: &Outcome| outcome.published.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(expected), "{story}: the output folder");
        assert!(self.published == expected.published, "{story}: the bytes of the output");
    }
}

/// Each batch took the one file that is its turn.
#[track_caller]
fn every_batch_is_one_file(folder: &Folder) {
    let log = folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
    let live: Vec<_> = log.iter().filter(|batch| batch["retracted"] != true).collect();
    assert_eq!(live.len(), FILES);
    for (number, batch) in live.iter().enumerate() {
        assert_eq!(batch["batchId"], number);
        assert_eq!(batch["sources"][0]["files"], serde_json::json!([format!("{number:04}.json")]));
    }
}

/// A run that nobody disturbs, and how long it takes.
fn undisturbed(folder: &Folder) -> (Outcome, Duration) {
    let ended = folder.run().expect(0);
    every_batch_is_one_file(folder);
    (Outcome::of(folder), ended.took)
}

/// Away with what the job wrote.
pub fn start_over(folder: &Folder) {
    for name in ["checkpoint", "output"] {
        let path = folder.at(name);
        if path.exists() {
            fs::remove_dir_all(path).expect("a scratch folder can be removed");
        }
    }
}

/// Runs a command that is to be killed at the nth time it reaches a point.
fn crash(folder: &Folder, words: &[&str], point: &str, nth: u64) -> Ended {
    let mut command = match words {
        [] => folder.run_command(&["--available-now"]),
        words => folder.command(words),
    };
    Running::start(command.env("HIGHWATER_CRASH_AT", format!("{point}:{nth}"))).wait().sober()
}

#[test]
fn killed_at_random_the_end_is_that_of_an_undisturbed_run() {
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(20_240_229);
    let kills_wanted = from_environment("HIGHWATER_KILLS").unwrap_or(45);
    let folder = scratch(JOB);
    let (expected, whole) = undisturbed(&folder);
    let (mut chance, mut kills, mut rounds) = (Chance::new(seed), 0, 0);
    while kills < kills_wanted {
        start_over(&folder);
        rounds += 1;
        loop {
            // mostly early, so that starting and recovering are hit as often as batches
            let longest = if chance.below(3) == 0 { whole } else { whole / 4 };
            let run = Running::start(&mut folder.run_command(&["--available-now"]));
            let ended = if kills < kills_wanted { run.kill_after(chance.moment(longest)) } else { run.wait() };
            let ended = ended.sober();
            if !ended.was_killed() {
                ended.expect(0);
                break;
            }
            kills += 1;
        }
        let story = format!("HIGHWATER_SEED={seed}, round {rounds}, after {kills} kills");
        Outcome::of(&folder).must_be(&expected, &story);
        every_batch_is_one_file(&folder);
    }
    eprintln!("{kills} kills at random in {rounds} rounds");
}

/// Points that no run of this job comes to: retention and rewinds have tests of their own below, and sources that receive
/// in `beside` and in `received`.
fn elsewhere() -> Vec<CrashPoint> {
    let others = [CrashPoint::Retiring, CrashPoint::Rewound, CrashPoint::RetractedFirst, CrashPoint::Retracted];
    POINTS.into_iter().chain(others).collect()
}

#[test]
fn killed_at_every_named_point_of_a_run_and_of_its_recovery() {
    let folder = scratch(JOB);
    let (expected, _) = undisturbed(&folder);
    let mut reached = BTreeSet::new();
    let elsewhere = elsewhere();
    for point in CrashPoint::ALL.iter().filter(|point| !elsewhere.contains(point)) {
        for nth in [1, 3] {
            start_over(&folder);
            // the first crash leaves work behind, so that the start that follows has something to recover
            let opening = matches!(point, CrashPoint::OpenCopied | CrashPoint::OpenRenamed);
            if opening {
                assert!(crash(&folder, &[], "committed", 3 * nth + 1).was_killed());
            }
            let first = crash(&folder, &[], point.name(), if opening { 1 } else { nth });
            if !first.was_killed() {
                // a run does not come here, or not so often
                continue;
            }
            reached.insert(*point);
            // and again inside the recovery, where a second copy of the log begins
            crash(&folder, &[], "open-copied", 1);
            crash(&folder, &[], "open-renamed", 1);
            crash(&folder, &[], "published", 1);
            folder.run().expect(0);
            Outcome::of(&folder).must_be(&expected, &format!("killed at {point}:{nth}"));
            every_batch_is_one_file(&folder);
        }
    }
    let missed: Vec<_> = CrashPoint::ALL.iter().filter(|point| !reached.contains(point)).copied().collect();
    assert_eq!(missed, elsewhere, "points that nothing reached");
}

#[test]
fn killed_during_a_rewind_and_during_the_replay_after_it() {
    let rewind = ["rewind", "checkpoint", "--to", "5"];
    let folder = scratch(JOB);
    let (before, _) = undisturbed(&folder);
    folder.call(&rewind).expect(0);
    folder.run().expect(0);
    let expected = Outcome::of(&folder);
    expected.must_show(&before, "a rewind and its replay end byte for byte the same");
    assert_eq!(expected.log.len(), FILES + 6, "six batches are retracted and stay in the log");

    let rewound = |folder: &Folder| folder.canonical_log().iter().any(|line| line.contains("\"retracted\":true"));
    let mut points: Vec<&str> = vec!["open-copied", "open-renamed", "applied", "flushed"];
    points.extend(["rewound", "retracted-first", "retracted"]);
    for point in points {
        start_over(&folder);
        folder.run().expect(0);
        assert!(crash(&folder, &rewind, point, 1).was_killed(), "a rewind comes to {point}");
        // before it is durable nothing happened, and the command is given again; afterwards the job just goes on
        if !rewound(&folder) {
            assert!(!point.starts_with("re"), "{point}: the rewind was durable");
            folder.call(&rewind).expect(0);
        }
        assert!(crash(&folder, &[], "staged", 2).was_killed());
        assert!(crash(&folder, &[], "committed", 2).was_killed());
        folder.run().expect(0);
        Outcome::of(&folder).must_be(&expected, &format!("rewind killed at {point}"));
        every_batch_is_one_file(&folder);
    }
}

#[test]
fn killed_at_random_during_rewinds() {
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(6);
    let folder = scratch(JOB);
    let (expected, whole) = undisturbed(&folder);
    let mut chance = Chance::new(seed);
    let kills = from_environment("HIGHWATER_KILLS").map_or(8, |kills| kills / 10);
    for _ in 0..kills {
        let to = chance.below(FILES).to_string();
        let rewind = folder.start(&["rewind", "checkpoint", "--to", &to]).kill_after(chance.moment(whole / 3)).sober();
        let run =
            Running::start(&mut folder.run_command(&["--available-now"])).kill_after(chance.moment(whole)).sober();
        folder.run().expect(0);
        let story = format!("HIGHWATER_SEED={seed}: rewind to {to} {}, run {}", rewind.status, run.status);
        Outcome::of(&folder).must_show(&expected, &story);
        every_batch_is_one_file(&folder);
    }
}

#[test]
fn killed_while_old_batches_are_dropped() {
    let folder = scratch(&format!("SET retain_batches = '4';\n{JOB}"));
    folder.run().expect(0);
    let expected = Outcome::of(&folder);
    let newest = |outcome: &Outcome| outcome.log[outcome.log.len() - 4..].to_vec();
    assert!(expected.log.len() < FILES, "some batches were dropped");
    for nth in 1..=2 {
        start_over(&folder);
        assert!(crash(&folder, &[], "retiring", nth).was_killed(), "retention comes to its point {nth} times");
        folder.run().expect(0);
        let outcome = Outcome::of(&folder);
        // what the kill kept from being dropped is dropped at the next snapshot: only the newest four are promised
        outcome.must_show(&expected, "killed while old batches are dropped");
        same_lines(&newest(&outcome), &newest(&expected), "the newest four batches");
    }
}
