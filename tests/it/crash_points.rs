//! Every crash point, the first, second and last time that it is reached, in a new job, a resumed one, a rewind and
//! the replay after it; some recoveries crash again. What is left must be what an uninterrupted run leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
};

use highwater::model::{CrashPoint, ErrorKind, Faults, Result, crash::Crash};

use crate::{
    received::POINTS,
    stream::{Scratch, stamp, temporary_folder},
    trace::{Trace, restore_folder},
};

const SOURCE: &str = "CREATE TABLE t (k STRING, n BIGINT, d DOUBLE)
WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
";

/// What an operator does, one step after the other.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many files are there, and all of them are processed.
    Run {
        files: usize,
    },
    Rewind {
        to: Option<u64>,
        replan: bool,
    },
}

/// A job and what is done with it.
struct Scenario {
    name: &'static str,
    tables: &'static str,
    steps: &'static [Step],
}

/// In the second scenario this file holds more than fits into the log.
const LARGE: usize = 3;

const SCENARIOS: [Scenario; 5] = [
    Scenario {
        name: "two file sinks and snapshots",
        tables: "SET snapshot_batches = '2';
CREATE TABLE whole WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'complete');
CREATE TABLE changes WITH (connector = 'files', path = '${OUTPUT}', format = 'csv', output_mode = 'update');
INSERT INTO whole SELECT k, count(*) AS c, sum(d) AS s FROM t GROUP BY k ORDER BY c DESC LIMIT 4;
INSERT INTO changes SELECT k, max(n) AS high, count(DISTINCT n) AS kinds FROM t WHERE n > 0 GROUP BY k;",
        steps: &[
            Step::Run { files: 3 },
            Step::Run { files: 5 },
            Step::Rewind { to: Some(1), replan: false },
            Step::Run { files: 6 },
        ],
    },
    Scenario {
        name: "to the start, and payloads that are files",
        tables: "SET snapshot_batches = '3';
CREATE TABLE longest WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
CREATE TABLE plain WITH (connector = 'memory', output_mode = 'append');
INSERT INTO longest SELECT k, count(*) AS c FROM t GROUP BY k;
INSERT INTO plain SELECT k, n * 2 AS twice FROM t WHERE n % 2 = 0;",
        steps: &[Step::Run { files: 4 }, Step::Rewind { to: None, replan: true }, Step::Run { files: 4 }],
    },
    Scenario {
        name: "retention, appended files",
        tables: "SET snapshot_batches = '2'; SET retain_batches = '2';
CREATE TABLE rows_out WITH (connector = 'files', path = '${OUTPUT}/rows', format = 'json', output_mode = 'append');
CREATE TABLE kinds WITH (connector = 'files', path = '${OUTPUT}/kinds', format = 'json', output_mode = 'append');
CREATE TABLE total WITH (connector = 'memory');
INSERT INTO rows_out SELECT k, n, d FROM t WHERE n IS NOT NULL;
INSERT INTO kinds SELECT DISTINCT k FROM t;
INSERT INTO total SELECT count(*) AS c, sum(n) AS s, avg(d) AS a FROM t;",
        steps: &[
            Step::Run { files: 2 },
            Step::Run { files: 6 },
            Step::Rewind { to: Some(4), replan: false },
            Step::Run { files: 7 },
        ],
    },
    Scenario {
        name: "tables of a database",
        tables: "SET snapshot_batches = '3';
CREATE TABLE added WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'append');
CREATE TABLE changes WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', table = 'groups', output_mode = 'update');
CREATE TABLE whole WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'complete');
INSERT INTO added SELECT k, n, d FROM t WHERE n > 3;
INSERT INTO changes SELECT k, count(*) AS c, sum(n) AS s FROM t GROUP BY k;
INSERT INTO whole SELECT k, max(n) AS m FROM t GROUP BY k ORDER BY m DESC LIMIT 4;",
        steps: &[
            Step::Run { files: 3 },
            Step::Run { files: 4 },
            Step::Rewind { to: Some(1), replan: false },
            Step::Run { files: 5 },
        ],
    },
    Scenario {
        name: "event time: windows, sessions, joins, keys that are forgotten",
        tables: "SET snapshot_batches = '3';
CREATE TABLE e (k STRING, n BIGINT, ts TIMESTAMP) WITH (connector = 'files', path = '${INPUT}', format = 'json',
  max_files_per_trigger = 1, event_time = 'ts', watermark_delay = '20 seconds');
CREATE TABLE windows WITH (connector = 'files', path = '${OUTPUT}/windows', format = 'json', output_mode = 'append');
CREATE TABLE changes WITH (connector = 'files', path = '${OUTPUT}/changes', format = 'csv', output_mode = 'update');
CREATE TABLE visits WITH (connector = 'files', path = '${OUTPUT}/visits', format = 'json', output_mode = 'append');
CREATE TABLE pairs WITH (connector = 'files', path = '${OUTPUT}/pairs', format = 'json', output_mode = 'append');
CREATE TABLE kinds WITH (connector = 'memory', output_mode = 'append', dedup_within_watermark = 'true');
CREATE TABLE total WITH (connector = 'memory');
INSERT INTO windows SELECT window.start, k, count(*) AS c FROM e GROUP BY window(ts, '20 seconds', '10 seconds'), k;
INSERT INTO changes SELECT window.end, sum(n) AS s FROM e GROUP BY window(ts, '30 seconds');
INSERT INTO visits SELECT session_window.start, session_window.end, k, count(*) AS c FROM e GROUP BY session_window(ts, '9 seconds'), k;
INSERT INTO pairs SELECT a.k, a.ts, b.ts AS other FROM e a LEFT JOIN e b
  ON a.k = b.k AND b.n > 2 AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5 seconds';
INSERT INTO kinds SELECT DISTINCT ON (k) k, ts FROM e;
INSERT INTO total SELECT count(*) AS c FROM t;",
        steps: &[
            Step::Run { files: 3 },
            Step::Run { files: 4 },
            Step::Rewind { to: Some(2), replan: false },
            Step::Run { files: 5 },
        ],
    },
];

/// Rows whose keys compress badly.
fn large_file() -> String {
    let mut x: u64 = 1;
    let mut random = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        x >> 16
    };
    let mut text = String::new();
    for row in 0..80 {
        let key: String = (0..1000).map(|_| format!("{:012x}", random())).collect();
        writeln!(text, r#"{{"k": "{key}", "n": {row}}}"#).expect("text grows");
    }
    text
}

/// The bytes of a file: a function of its number. One is empty, one has lines that are no records.
fn file(number: usize) -> String {
    let mut text = String::new();
    let rows = if number == 1 { 0 } else { 12 };
    for row in 0..rows {
        let x = (number * 31 + row * 17) % 23;
        let (k, n, d, ts) = (x % 7, x as i64 - 5, x as f64 / 7.0, number * 25 + (row * 7) % 31);
        writeln!(text, r#"{{"k": "k{k}", "n": {n}, "d": {d}, "ts": {ts}}}"#).expect("text grows");
    }
    if number == 2 {
        text += "{\"k\": \"cut\nnull\n{\"k\": 5, \"n\": \"6\"}\n";
    }
    text
}

fn add(scratch: &Scratch, files: usize) {
    for number in 0..files {
        let path = scratch.input().join(format!("{number:04}.json"));
        if !path.exists() {
            let large = number == LARGE && scratch.sql.contains("longest");
            fs::write(&path, if large { large_file() } else { file(number) }).expect("input is written");
            stamp(&path, number);
        }
    }
}

fn perform(scratch: &Scratch, step: Step, faults: Faults) -> Result<()> {
    match step {
        Step::Run { files } => {
            add(scratch, files);
            scratch.run(faults, 1).map(drop)
        }
        Step::Rewind { to, replan } => scratch.rewind(to, replan, faults).map(drop),
    }
}

/// What the operator does after a crash: the same again; or, where the rewind is in the log already, go on.
fn recover(scratch: &Scratch, step: Step, patient: bool, faults: Faults) -> Result<()> {
    if let Step::Rewind { to, .. } = step {
        let done = scratch.view().newest().map(|newest| newest.batch.0) == to;
        if done && patient {
            return Ok(());
        }
    }
    perform(scratch, step, faults)
}

/// An uninterrupted run: what it left, the folder before each step, and what each step reached.
struct Reference {
    trace: Trace,
    before: Vec<tempfile::TempDir>,
    reached: Vec<Vec<(CrashPoint, u64)>>,
}

fn reference(scratch: &Scratch, steps: &[Step]) -> Reference {
    let (mut before, mut reached) = (Vec::new(), Vec::new());
    for step in steps {
        before.push(kept(scratch));
        let faults = Faults::watching();
        perform(scratch, *step, faults.clone()).unwrap_or_else(|error| panic!("{step:?}: {error}"));
        reached.push(faults.reached());
    }
    Reference { trace: Trace::of(scratch), before, reached }
}

fn kept(scratch: &Scratch) -> tempfile::TempDir {
    let copy = temporary_folder();
    restore_folder(scratch.dir.path(), copy.path());
    copy
}

/// Where a trial crashes, for the message of one that fails: in which step, at which point, the how manieth time.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code)] // read by Debug alone
struct Trial {
    scenario: &'static str,
    step: usize,
    point: CrashPoint,
    nth: u64,
    /// Where recovery crashes, if it does.
    again: Option<(CrashPoint, u64)>,
}

#[track_caller]
fn crash(result: Result<()>, trial: Trial) {
    match result {
        Err(error) if error.kind() == ErrorKind::Crashed => {}
        other => panic!("{trial:?} did not crash: {other:?}"),
    }
}

impl Scenario {
    /// Crashes everywhere; returns what was reached.
    fn crash_everywhere(&self) -> BTreeSet<CrashPoint> {
        let scratch = Scratch::new(&format!("{SOURCE}{}", self.tables));
        let reference = reference(&scratch, self.steps);
        let mut number = 0;
        for (step, reached) in reference.reached.iter().enumerate() {
            for (point, count) in reached {
                for nth in BTreeSet::from([1, 2.min(*count), *count]) {
                    number += 1;
                    let trial = Trial { scenario: self.name, step, point: *point, nth, again: None };
                    self.try_one(&scratch, &reference, trial, number);
                }
            }
        }
        reference.reached.iter().flatten().map(|(point, _)| *point).collect()
    }

    fn try_one(&self, scratch: &Scratch, reference: &Reference, mut trial: Trial, number: usize) {
        let step = self.steps[trial.step];
        restore_folder(reference.before[trial.step].path(), scratch.dir.path());
        crash(perform(scratch, step, Faults::armed(trial.point, trial.nth, Crash::Error)), trial);
        let crashed = number.is_multiple_of(3).then(|| kept(scratch));
        let patient = number.is_multiple_of(2);
        let faults = Faults::watching();
        recover(scratch, step, patient, faults.clone()).unwrap_or_else(|error| panic!("{trial:?}: {error}"));
        self.finish(scratch, reference, trial);
        // A seeded choice of what recovery reached: there it crashes in its turn.
        let Some(crashed) = crashed else { return };
        let reached = faults.reached();
        let Some((point, count)) = reached.get(number / 3 % reached.len().max(1)) else { return };
        trial.again = Some((*point, 1 + number as u64 % count));
        let (point, nth) = trial.again.expect("just set");
        restore_folder(crashed.path(), scratch.dir.path());
        crash(recover(scratch, step, false, Faults::armed(point, nth, Crash::Error)), trial);
        recover(scratch, step, false, Faults::none()).unwrap_or_else(|error| panic!("{trial:?}: {error}"));
        self.finish(scratch, reference, trial);
    }

    /// The steps after the one that crashed; then all must be as if nothing had.
    fn finish(&self, scratch: &Scratch, reference: &Reference, trial: Trial) {
        for step in &self.steps[trial.step + 1..] {
            perform(scratch, *step, Faults::none()).unwrap_or_else(|error| panic!("{trial:?}, then {step:?}: {error}"));
        }
        let trace = Trace::of(scratch);
        let horizon = |trace: &Trace| trace.batches.keys().next().copied();
        assert_eq!(horizon(&trace), horizon(&reference.trace), "{trial:?}");
        trace.assert_same(&reference.trace, &trial);
        let mut left: Vec<_> =
            fs::read_dir(scratch.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        left.retain(|name| name != "output");
        assert_eq!(left, ["checkpoint", "input"], "{trial:?} leaves something behind");
    }
}

#[test]
fn a_crash_at_every_point_changes_nothing() {
    let reached: BTreeSet<CrashPoint> = std::thread::scope(|scope| {
        let threads: Vec<_> = SCENARIOS.iter().map(|scenario| scope.spawn(|| scenario.crash_everywhere())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no trial panicked")).collect()
    });
    let missed: Vec<_> =
        CrashPoint::ALL.iter().filter(|point| !reached.contains(point) && !POINTS.contains(point)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

#[test]
fn one_thread_and_two_leave_the_same() {
    for scenario in &SCENARIOS {
        let traces: Vec<Trace> = [1, 2]
            .map(|threads| {
                let scratch = Scratch::new(&format!("{SOURCE}{}", scenario.tables));
                add(&scratch, 5);
                scratch.run(Faults::none(), threads).unwrap_or_else(|error| panic!("{error}"));
                Trace::of(&scratch)
            })
            .into();
        traces[1].assert_same(&traces[0], &scenario.name);
    }
}

/// A batch's time is in its plan: what was staged before the crash is what is published after it.
#[test]
fn an_interrupted_batch_keeps_its_time() {
    let tables = "CREATE TABLE timed WITH (connector = 'files', path = '${OUTPUT}', format = 'json');
INSERT INTO timed SELECT k, now() AS at FROM t;";
    let scratch = Scratch::new(&format!("{SOURCE}{tables}"));
    let step = Step::Run { files: 1 };
    let error = perform(&scratch, step, Faults::armed(CrashPoint::Staged, 1, Crash::Error)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Crashed);
    let staged = crate::trace::files(&scratch.output());
    std::thread::sleep(std::time::Duration::from_millis(5));
    perform(&scratch, step, Faults::none()).unwrap();
    let published: BTreeMap<String, Vec<u8>> = crate::trace::files(&scratch.output());
    let bytes = &published["timed-00000000.json"];
    assert!(!bytes.is_empty());
    assert_eq!(&staged[".highwater-staging-timed/timed-00000000.json"], bytes);
}
