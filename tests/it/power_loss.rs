//! The crash-state explorer: what if the power fails?
//!
//! A real run of the real binary is recorded with `strace`. From its calls every state is rebuilt that the checkpoint
//! and the output folder may legally be in after the power failed behind any of them ([`states`]), and the job goes on
//! from there ([`check`]): nothing acknowledged is lost, nothing is there that was never issued, the results are those
//! of plain DataFusion over the same files, published files are whole, and the end is that of an undisturbed run.
//!
//! Where results go to a server, that one loses nothing: what it has at each moment belongs to the state ([`server`]).
//!
//! `HIGHWATER_STATES=20000` tries that many, `HIGHWATER_SEED` chooses others, `HIGHWATER_FIRST` goes on at a number.
//! States have the same numbers as long as the recordings are kept: in the folder `HIGHWATER_RECORDINGS`.

mod calls;
mod check;
mod disk;
mod explorer;
mod mutation;
mod posted;
mod received;
mod record;
mod recording;
mod scenarios;
mod server;
mod states;
mod tables;
mod world;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

use check::{Oracle, Shown};
use explorer::{Found, Task};
use mutation::Mutation;
use recording::{Recording, Start};
use scenarios::Scenario;
use states::Crashes;
use world::World;

use highwater::model::Faults;

use crate::{
    binary::{from_environment, skip},
    stream::{Scratch, temporary_folder},
};

const SEED: u64 = 1;

/// Where recordings are: kept, if the environment says so.
struct Recordings {
    path: PathBuf,
    _removed: Option<tempfile::TempDir>,
}

impl Recordings {
    fn new() -> Recordings {
        match std::env::var_os("HIGHWATER_RECORDINGS") {
            Some(path) => {
                std::fs::create_dir_all(&path).expect("the folder for recordings is made");
                Recordings { path: Path::new(&path).canonicalize().expect("it is there"), _removed: None }
            }
            None => {
                let folder = temporary_folder();
                Recordings { path: folder.path().to_owned(), _removed: Some(folder) }
            }
        }
    }
}

/// Does all tasks, two at a time.
fn explore(tasks: Vec<Task>) -> Vec<(Task, Found)> {
    let (waiting, done) = (Mutex::new(VecDeque::from(tasks)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(task) = waiting.lock().map(|mut tasks| tasks.pop_front()).expect("no thread panicked") {
                    let found = task.clone().run();
                    done.lock().expect("no thread panicked").push((task, found));
                }
            });
        }
    });
    done.into_inner().expect("no thread panicked")
}

fn task(scenario: &'static str, recordings: &Recordings) -> Task {
    Task {
        scenario,
        recovery: false,
        mutation: Mutation::None,
        seed: from_environment("HIGHWATER_SEED").unwrap_or(SEED),
        first: from_environment("HIGHWATER_FIRST").unwrap_or(0),
        count: 0,
        folder: recordings.path.clone(),
    }
}

#[test]
fn whatever_a_power_loss_leaves_is_recovered() {
    if let Some(why) = record::cannot_trace() {
        return skip("whatever_a_power_loss_leaves_is_recovered", &why);
    }
    let started = Instant::now();
    let recordings = Recordings::new();
    let states = from_environment("HIGHWATER_STATES").unwrap_or(1000);
    let all_of = |recovery: bool, count: u64| -> Vec<Task> {
        let of = |scenario: &Scenario| Task { recovery, count, ..task(scenario.name, &recordings) };
        scenarios::ALL.iter().map(of).collect()
    };
    // Two of three while the job runs, as far as there are so many. The others while it recovers from a power loss before.
    let each = |states: u64| states.div_ceil(scenarios::ALL.len() as u64);
    let mut all = explore(all_of(false, each(states * 2 / 3)));
    let left = states.saturating_sub(all.iter().map(|(_, found)| found.distinct).sum());
    all.extend(explore(all_of(true, each(left))));
    let sum = |of: fn(&Found) -> u64| all.iter().map(|(_, found)| of(found)).sum::<u64>();
    let seed = task("small-deltas", &recordings).seed;
    eprintln!(
        "power loss: {} distinct states ({} checked), HIGHWATER_SEED={seed}, next HIGHWATER_FIRST={}, {:.0} s",
        sum(|found| found.distinct),
        sum(|found| found.checked),
        all.iter().map(|(_, found)| found.next).max().unwrap_or(0),
        started.elapsed().as_secs_f64(),
    );
    for (task, found) in &all {
        eprintln!("  {}: {} distinct, {} checked", task.name(), found.distinct, found.checked);
    }
    let failures: Vec<&String> = all.iter().flat_map(|(_, found)| &found.failures).collect();
    assert!(failures.is_empty(), "HIGHWATER_SEED={seed}: {failures:#?}");
    let distinct = sum(|found| found.distinct);
    assert!(distinct >= states, "there are only {distinct} different states");
}

/// The disk of the job and a server's memory do not lose the same: see [`server`].
#[test]
fn whatever_a_power_loss_leaves_goes_on_with_what_a_server_has() {
    let name = "whatever_a_power_loss_leaves_goes_on_with_what_a_server_has";
    if let Some(why) = record::cannot_trace() {
        return skip(name, &why);
    }
    let there = || scenarios::SERVERS.iter().filter(|scenario| server::is_there(scenario));
    if there().count() < scenarios::SERVERS.len() {
        skip(name, crate::servers::NO_SERVER);
    }
    let (started, recordings) = (Instant::now(), Recordings::new());
    let states = from_environment("HIGHWATER_STATES").unwrap_or(1000);
    let of = |recovery: bool, count: u64| {
        let recordings = &recordings;
        there().map(move |scenario| Task { recovery, count, ..task(scenario.name, recordings) })
    };
    let found = explore(of(false, states / 20).chain(of(true, states / 50)).collect());
    let seed = task("postgres", &recordings).seed;
    for (task, found) in &found {
        eprintln!("  {}: {} distinct, {} checked", task.name(), found.distinct, found.checked);
    }
    eprintln!("power loss beside servers: HIGHWATER_SEED={seed}, {:.0} s", started.elapsed().as_secs_f64());
    let failures: Vec<&String> = found.iter().flat_map(|(_, found)| &found.failures).collect();
    assert!(failures.is_empty(), "HIGHWATER_SEED={seed}: {failures:#?}");
    for (task, found) in &found {
        assert!(found.distinct >= task.count, "{}: there are only {} different states", task.name(), found.distinct);
    }
}

/// Found by the explorer: only the checkpoint's own folder was fsynced into the one above it. Where that one had just
/// been made, too, all acknowledged batches were lost with it.
#[test]
fn a_checkpoint_is_as_durable_as_the_folders_that_were_made_for_it() {
    let name = "a_checkpoint_is_as_durable_as_the_folders_that_were_made_for_it";
    if let Some(why) = record::cannot_trace() {
        return skip(name, &why);
    }
    let folder = temporary_folder();
    let world = World::new(&folder.path().join("world"), Scenario::named("small-deltas"));
    let recorded = Recording::make(&world, &Start::of_nothing(), &folder.path().join("calls"));
    let recording = recorded.unwrap_or_else(|error| panic!("{error}"));
    let (oracle, crashes) = (Oracle::of(&world, &recording), Crashes::of(&recording.disk));
    let events = recording.disk.events.iter().enumerate();
    let told: Vec<usize> = events.filter(|(_, event)| event.about.contains("batch ")).map(|(at, _)| at).collect();
    assert_eq!(told.len(), 5 + 3, "a line for each batch, and where the two runs begin and end");
    for after in told {
        world.put(&crashes.fsynced(after));
        let bounds = recording.bounds(after);
        let position = oracle.recovered(bounds, Shown::Yes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(position, bounds.acknowledged);
    }
}

/// Found by the explorer's oracle: a rewind removes the bad records of retracted batches without an fsync, after it is
/// durable. What a power loss (or a kill) brings back, and half a file of a batch that was cut off, goes at the next start.
#[test]
fn bad_records_of_retracted_batches_do_not_come_back() {
    let mut scratch = Scratch::new(
        "CREATE TABLE t (k STRING) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
         CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
         INSERT INTO counts SELECT k, count(*) AS c FROM t GROUP BY k;",
    );
    scratch.add(b"{\"k\": \"a\"}\n");
    scratch.add(b"{\"k\": \"cut\n");
    scratch.run(Faults::none(), 1).unwrap_or_else(|error| panic!("{error}"));
    let folder = scratch.checkpoint().join("bad-records");
    let before = crate::trace::files(&folder);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["000000000001-g1.jsonl"]);
    scratch.rewind(Some(0), false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
    for name in ["000000000001-g1.jsonl", "000000000001-g1.tmp"] {
        std::fs::write(folder.join(name), &before["000000000001-g1.jsonl"]).expect("it is written");
    }
    scratch.run(Faults::none(), 1).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(crate::trace::files(&folder).keys().collect::<Vec<_>>(), ["000000000001-g2.jsonl"]);
}

/// Who tests the test? A program that leaves out an fsync, or publishes before it commits, must be found out.
#[test]
fn what_a_worse_program_would_lose_is_noticed() {
    if let Some(why) = record::cannot_trace() {
        return skip("what_a_worse_program_would_lose_is_noticed", &why);
    }
    let recordings = Recordings::new();
    let worse = |mutation: Mutation| {
        let scenario = match mutation {
            Mutation::PayloadFsync => "large-deltas",
            Mutation::ReceiptFsync => "received",
            Mutation::JournalFsync => "database",
            Mutation::RowsFirst | Mutation::ServerFirst => "postgres",
            Mutation::BatchFirst => "redis",
            _ => "small-deltas",
        };
        let folder = recordings.path.join(format!("{mutation:?}"));
        std::fs::create_dir_all(&folder).expect("a folder is made");
        // SQLite is in the middle of a change for a short while only
        Task { mutation, count: 2000, folder, ..task(scenario, &recordings) }
    };
    let mutations = Mutation::ALL.into_iter().filter(|mutation| *mutation != Mutation::None);
    let (tasks, without): (Vec<Task>, Vec<Task>) =
        mutations.map(worse).partition(|task| server::is_there(Scenario::named(task.scenario)));
    for task in without {
        skip(&format!("what_a_worse_program_would_lose_is_noticed: {:?}", task.mutation), "its server is not there");
    }
    for (task, found) in explore(tasks) {
        let failure = found.failures.first().unwrap_or_else(|| panic!("{:?} is not noticed", task.mutation));
        assert!(failure.contains("[Bounds"), "{:?}: not a state, but the explorer failed: {failure}", task.mutation);
        eprintln!("{:?} is noticed in state {}: {failure}", task.mutation, found.next - 1);
    }
}

/// Checksums are for disks that break their promises: here files of `state/` are torn although they were fsynced. That
/// may cost batches, but no result is ever made of such a file.
#[test]
fn a_torn_file_is_never_taken_for_a_sound_one() {
    if let Some(why) = record::cannot_trace() {
        return skip("a_torn_file_is_never_taken_for_a_sound_one", &why);
    }
    let folder = temporary_folder();
    let world = World::new(&folder.path().join("world"), Scenario::named("large-deltas"));
    let recorded = Recording::make(&world, &Start::of_nothing(), &folder.path().join("calls"));
    let recording = recorded.unwrap_or_else(|error| panic!("{error}"));
    let oracle = Oracle::of(&world, &recording);
    let torn = Mutation::PayloadFsync.of(recording.disk.clone());
    let crashes = Crashes::of(&torn);
    let mut found_by_checksum = 0;
    for number in 0..80 {
        let state = crashes.state(SEED, number);
        world.put(&state.tree);
        if let Err(why) = oracle.recovered(torn.events[state.after].bounds(recording.scenario), Shown::Yes) {
            assert!(!why.contains(check::WRONG_RESULT), "state {number}: {}: {why}", state.story);
            found_by_checksum += u64::from(why.contains("checksum"));
        }
    }
    assert!(found_by_checksum > 0, "no state has a torn file of the right length");
}

/// Not a test of its own: the process in which the tests above let jobs recover.
#[test]
#[ignore = "is started by the explorer"]
fn child() {
    match Task::of_this_process() {
        Some(task) => task.explore(),
        None => skip("child", "it is started by the explorer"),
    }
}
