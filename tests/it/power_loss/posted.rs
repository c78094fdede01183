//! The power fails while rows are posted, in a job that has just been killed: what was answered with 200 is there, once.
//!
//! Requests come one after the other. So each was answered before the rows of the next one are written.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    SEED, calls,
    disk::{Change, Disk, Event, Tree},
    record::{self, Recorder, traced},
    scenarios::Scenario,
    states::Crashes,
    world::{APART, World},
};
use crate::{
    binary::{HANGS_AFTER, Running, executable, from_environment, skip},
    received::http::{free_port, post},
    stream::temporary_folder,
};

fn job(port: u16) -> String {
    format!(
        "SET snapshot_batches = '2'; SET retain_batches = '3';
CREATE TABLE rows (value BIGINT) WITH (connector = 'http', listen = '127.0.0.1:{port}', format = 'json', batch_interval = '10 ms', batch_bytes = '1KiB');
CREATE TABLE seen WITH (connector = 'memory', output_mode = 'complete');
INSERT INTO seen SELECT value, count(*) AS count FROM rows GROUP BY value;
"
    )
}

fn command(world: &World, options: &[&str]) -> Command {
    let mut command = Command::new(executable());
    command.args(["run", "job.sql", "--checkpoint", "checkpoint"]).args(options).current_dir(world.root());
    for name in ["HIGHWATER_CRASH_AT", "RUST_LOG", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command
}

fn row(number: usize) -> String {
    format!("{{\"value\": {number}}}\n")
}

/// A traced job, and the trace.
struct Traced {
    child: Child,
    trace: std::path::PathBuf,
}

impl Traced {
    fn start(world: &World, crash_at: Option<&str>, trace: &str) -> Traced {
        let trace = world.root().with_file_name(trace);
        let mut command = command(world, &[]);
        crash_at.into_iter().for_each(|point| {
            command.env("HIGHWATER_CRASH_AT", point);
        });
        let mut traced = traced(&command, &trace);
        let child = traced.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Traced { child: child.expect("strace starts"), trace }
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// Posts a row until it is answered; false: the job has ended instead.
    fn post(&mut self, port: u16, number: usize) -> bool {
        let started = Instant::now();
        while self.is_running() {
            if let Some((status, answer)) = post(port, &format!("key {number}"), &row(number)) {
                assert_eq!(status, 200, "{answer}");
                return true;
            }
            assert!(started.elapsed() < HANGS_AFTER, "row {number} is not answered");
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn stop(&mut self) {
        stop_traced(&self.child);
        assert!(self.child.wait().expect("it ends").success());
    }
}

/// Asks a traced program to end. It is a child of strace: the one that opened the trace's first lines.
pub fn stop_traced(strace: &Child) {
    let of_strace = format!("/proc/{0}/task/{0}/children", strace.id());
    let children = fs::read_to_string(of_strace).expect("it runs");
    let program: i32 = children.split_whitespace().next().and_then(|id| id.parse().ok()).expect("a child");
    // SAFETY: kill(2) takes no pointers; the process is a child of our child, which has not ended.
    assert_eq!(unsafe { libc::kill(program, libc::SIGTERM) }, 0);
}

/// What happened to the disk, and how many rows were answered by each event.
struct Recorded {
    disk: Disk,
    told: Vec<usize>,
}

/// A job that is killed where a segment was written to its end and not fsynced, and goes on; the recording of both.
fn record(world: &World) -> Recorded {
    let port = free_port();
    fs::write(world.root().join("job.sql"), job(port)).expect("the job is written");
    let mut next = 0;
    let mut killed = Traced::start(world, Some("segment-sealed:3"), "calls-1");
    while killed.post(port, next) {
        next += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    let ended = killed.child.wait().expect("it ends");
    assert!(ended.signal() == Some(libc::SIGKILL) || ended.code() == Some(128 + libc::SIGKILL), "{ended:?}");
    let mut again = Traced::start(world, None, "calls-2");
    // the request that was not answered comes first, and again
    for number in next..next + 25 {
        assert!(again.post(port, number));
        std::thread::sleep(Duration::from_millis(2));
    }
    again.stop();

    let root = world.root().to_str().expect("the folder is UTF-8").to_owned();
    let mut recorder = Recorder::new(Disk::holding(&Tree::default()), &root, &APART);
    for traced in [&killed, &again] {
        let text = fs::read_to_string(&traced.trace).expect("the trace is read");
        let calls = calls::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        recorder.follow(&calls, text.lines().count()).unwrap_or_else(|error| panic!("{error}"));
    }
    let mut told = Vec::new();
    for event in &recorder.disk.events {
        let written = match &event.event {
            Event::Change(Change::Write { bytes, .. }) if event.about.contains("/received/") => newest_row(bytes),
            _ => None,
        };
        // who posts this row has been told of those before it
        told.push(told.last().copied().unwrap_or(0).max(written.unwrap_or(0)));
    }
    assert_eq!(told.last(), Some(&(next + 24)), "every row is written");
    Recorded { disk: recorder.disk, told }
}

/// The last row in a write.
fn newest_row(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.rsplit_once("{\"value\": ")?;
    rest.split('}').next()?.parse().ok()
}

/// The rows that are counted once the job has gone on from this state.
fn counted(world: &World) -> Result<Vec<usize>, String> {
    let ended = Running::start(&mut command(world, &["--available-now"])).wait();
    if ended.code() != Some(0) {
        return Err(ended.stderr);
    }
    let mut show = Command::new(executable());
    show.args(["show", "checkpoint", "--output", "json"]).current_dir(world.root());
    let ended = Running::start(&mut show).wait();
    if ended.stderr.contains("has no batch yet") {
        return Ok(Vec::new());
    }
    if ended.code() != Some(0) {
        return Err(ended.stderr);
    }
    let rows = ended.json();
    if let Some(row) = rows.iter().find(|row| row["count"] != 1) {
        return Err(format!("not once: {row}"));
    }
    let mut numbers: Vec<_> = rows.iter().map(|row| row["value"].as_u64().unwrap_or(u64::MAX) as usize).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// What is wrong in so many states of a disk; stops at the first, if one is enough.
fn explore(world: &World, (disk, told): (&Disk, &[usize]), states: u64, one_is_enough: bool) -> Vec<String> {
    let crashes = Crashes::of(disk);
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(SEED);
    let mut failures = Vec::new();
    for number in 0..states {
        let state = crashes.state(seed, number);
        world.put(&state.tree);
        let found = counted(world);
        let told = told[state.after];
        let is_sound =
            found.as_ref().is_ok_and(|found| found.len() >= told && *found == (0..found.len()).collect::<Vec<_>>());
        if !is_sound {
            failures.push(format!("HIGHWATER_SEED={seed}, state {number}: {} ({told} told): {found:?}", state.story));
            if one_is_enough {
                break;
            }
        }
    }
    failures
}

#[test]
fn what_was_answered_survives_a_power_loss_in_recovery_too() {
    if let Some(why) = record::cannot_trace() {
        return skip("what_was_answered_survives_a_power_loss_in_recovery_too", &why);
    }
    let folder = temporary_folder();
    let world = World::new(&folder.path().join("world"), Scenario::named("small-deltas"));
    let Recorded { disk, told } = record(&world);
    let states = from_environment("HIGHWATER_STATES").unwrap_or(1000) / 10;
    let failures = explore(&world, (&disk, &told), states, false);
    assert!(failures.is_empty(), "{failures:#?}");

    // a program that leaves out one kind of fsync must be found out
    let is_sync = |event: &Event| matches!(event, Event::Sync(_));
    for (left_out, ending) in
        [("rows", ".open"), ("segments written anew", "/new"), ("names", "/received/rows"), ("the log", "/received")]
    {
        let mut worse = disk.clone();
        let mut worse_told = Vec::new();
        let mut events = Vec::new();
        for (event, told) in worse.events.drain(..).zip(&told) {
            if !(is_sync(&event.event) && event.about.ends_with(ending)) {
                events.push(event);
                worse_told.push(*told);
            }
        }
        assert!(events.len() < told.len(), "there are fsyncs of {left_out}");
        worse.events = events;
        let failures = explore(&world, (&worse, &worse_told), 400, true);
        let failure = failures.first().unwrap_or_else(|| panic!("{left_out} without fsync: nothing is noticed"));
        eprintln!("{left_out} without fsync: {failure:.300}");
    }
}
