//! The power fails while a source receives: rows that a batch told of are there, and none is there twice, or without those
//! before it.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    SEED, calls,
    disk::{Disk, Event, Tree},
    record::{self, Recorder, traced},
    scenarios::Scenario,
    states::Crashes,
    world::{APART, World},
};
use crate::{
    binary::{Running, executable, from_environment, skip},
    stream::temporary_folder,
};

const JOB: &str = "SET snapshot_batches = '2'; SET retain_batches = '3';
CREATE TABLE lines (value STRING) WITH (connector = 'stdin', format = 'text', batch_interval = '10 ms', batch_bytes = '400');
CREATE TABLE seen WITH (connector = 'memory', output_mode = 'complete');
INSERT INTO seen SELECT value, count(*) AS count FROM lines GROUP BY value;
";
const LINES: usize = 240;

/// The job, taking what there is and what comes through its standard input.
fn command(world: &World) -> Command {
    let mut command = Command::new(executable());
    command.args(["run", "job.sql", "--checkpoint", "checkpoint", "--available-now"]).current_dir(world.root());
    for name in ["HIGHWATER_CRASH_AT", "RUST_LOG", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command
}

/// The lines that were counted, in order.
///
/// # Errors
/// Where one was counted twice, or the job says anything else than a table.
fn counted(world: &World) -> Result<Vec<usize>, String> {
    let mut show = Command::new(executable());
    show.args(["show", "checkpoint", "--output", "json"]).current_dir(world.root());
    let ended = Running::start(&mut show).wait();
    if ended.stderr.contains("has no batch yet") {
        return Ok(Vec::new());
    }
    if ended.code() != Some(0) {
        return Err(ended.stderr);
    }
    let mut numbers = Vec::new();
    for row in ended.json() {
        if row["count"] != 1 {
            return Err(format!("not once: {row}"));
        }
        let value = row["value"].as_str().unwrap_or_default();
        numbers.push(value.trim_start_matches("line ").parse().map_err(|_| format!("no line of ours: {row}"))?);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// How many rows a message acknowledges: `batch 3  12 rows  ...`.
fn rows_told(said: &str) -> usize {
    let rows = |line: &str| {
        let mut words = line.strip_prefix("batch ")?.split_whitespace();
        let rows = words.by_ref().take_while(|word| !word.starts_with("row")).last()?;
        rows.replace(',', "").parse::<usize>().ok()
    };
    said.lines().filter_map(rows).sum()
}

#[test]
fn what_was_received_survives_a_power_loss() {
    if let Some(why) = record::cannot_trace() {
        return skip("what_was_received_survives_a_power_loss", &why);
    }
    let folder = temporary_folder();
    let world = World::new(&folder.path().join("world"), Scenario::named("small-deltas"));
    fs::write(world.root().join("job.sql"), JOB).expect("the job is written");
    let trace = folder.path().join("calls");
    let mut recorded = traced(&command(&world), &trace)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts");
    let mut pipe = recorded.stdin.take().expect("a pipe");
    for number in 0..LINES {
        writeln!(pipe, "line {number}").expect("the job reads");
        if number % 12 == 0 {
            std::thread::sleep(Duration::from_millis(25));
        }
    }
    drop(pipe);
    let ended = recorded.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));

    let root = world.root().to_str().expect("the folder is UTF-8");
    let mut recorder = Recorder::new(Disk::holding(&Tree::default()), root, &APART);
    let text = fs::read_to_string(&trace).expect("the trace is read");
    let calls = calls::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    recorder.follow(&calls, text.lines().count()).unwrap_or_else(|error| panic!("{error}"));
    let mut acknowledged = Vec::new();
    for event in &recorder.disk.events {
        let told = if let Event::Said(text) = &event.event { rows_told(text) } else { 0 };
        acknowledged.push(acknowledged.last().copied().unwrap_or(0) + told);
    }
    assert_eq!(acknowledged.last(), Some(&LINES), "every batch says how many rows it has");

    let crashes = Crashes::of(&recorder.disk);
    let states = from_environment("HIGHWATER_STATES").unwrap_or(1000) / 10;
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(SEED);
    let (mut failures, mut less) = (Vec::new(), 0);
    for number in 0..states {
        let state = crashes.state(seed, number);
        world.put(&state.tree);
        let told = acknowledged[state.after];
        let ended = Running::start(&mut command(&world)).wait();
        let found = match ended.code() {
            Some(0) => counted(&world),
            _ => Err(ended.stderr),
        };
        let sound =
            found.as_ref().is_ok_and(|found| found.len() >= told && *found == (0..found.len()).collect::<Vec<_>>());
        less += u32::from(found.as_ref().is_ok_and(|found| found.len() < LINES));
        if !sound {
            let found = found.map(|found| format!("{} lines: {found:?}", found.len()));
            failures.push(format!("state {number}: {} ({told} rows told): {found:?}", state.story));
        }
    }
    assert!(failures.is_empty(), "HIGHWATER_SEED={seed}: {failures:#?}");
    eprintln!("power loss of what was received: {states} states, {less} of them with less than all");
    assert!(less > 0, "some states come before the end");
}
