//! The power fails while a source receives: rows that a batch told of are there, and none is there twice, or without those
//! before it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use super::{
    SEED, calls,
    disk::{Disk, Event, Tree},
    posted::stop_traced,
    record::{self, Recorder, traced},
    scenarios::Scenario,
    states::Crashes,
    world::{APART, World},
};
use crate::{
    binary::{HANGS_AFTER, Running, executable, from_environment, skip},
    stream::temporary_folder,
};

/// A job that counts lines; `source`: its columns, and where it is.
fn job(source: &str) -> String {
    format!(
        "SET snapshot_batches = '2'; SET retain_batches = '3';
CREATE TABLE lines ({source}, batch_interval = '10 ms', batch_bytes = '400');
CREATE TABLE seen WITH (connector = 'memory', output_mode = 'complete');
INSERT INTO seen SELECT value, count(*) AS count FROM lines GROUP BY value;
"
    )
}

const LINES: usize = 240;

/// The job, taking what there is and what comes through its standard input; without `--available-now` also what comes from a
/// peer.
fn command(world: &World, options: &[&str]) -> Command {
    let mut command = Command::new(executable());
    command.args(["run", "job.sql", "--checkpoint", "checkpoint"]).args(options).current_dir(world.root());
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
        let value = row["value"].as_str().map_or_else(|| row["value"].to_string(), str::to_owned);
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

/// Sends all lines, a few at a time.
fn send(mut to: impl Write) {
    for number in 0..LINES {
        writeln!(to, "line {number}").expect("the job reads");
        if number % 12 == 0 {
            std::thread::sleep(Duration::from_millis(25));
        }
    }
}

/// Lets a traced job count all lines of its standard input.
fn read_pipe(world: &World, trace: &Path) {
    let mut job = traced(&command(world, &NOW), trace);
    let job = job.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut job = job.expect("strace starts");
    send(job.stdin.take().expect("a pipe"));
    let ended = job.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// Lets a traced job count all lines of a peer, which never closes: then stops it.
fn call_peer(world: &World, trace: &Path, peer: &TcpListener) {
    let job = start(world, trace);
    let (mut stream, _) = peer.accept().expect("the job calls");
    send(&mut stream);
    stop_when_told(job);
}

/// A traced job that goes on until it is stopped.
fn start(world: &World, trace: &Path) -> Child {
    let mut job = traced(&command(world, &[]), trace);
    let job = job.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    job.expect("strace starts")
}

/// Stops it when it has told of all lines.
fn stop_when_told(mut job: Child) {
    let said = BufReader::new(job.stderr.take().expect("it is piped")).lines();
    let (lines, heard) = mpsc::channel();
    // to its end: nobody may be left with a pipe that nobody reads
    let reader = std::thread::spawn(move || said.map_while(Result::ok).for_each(|line| drop(lines.send(line))));
    let mut told = 0;
    while told < LINES
        && let Ok(line) = heard.recv_timeout(HANGS_AFTER)
    {
        told += rows_told(&line);
    }
    stop_traced(&job);
    assert!(job.wait().expect("it ends").success());
    reader.join().expect("it reads");
    assert!(told >= LINES, "the job told of {told} lines");
}

const NOW: [&str; 1] = ["--available-now"];

/// What is wrong in so many states of a job that received all lines; and how many states had less than all of them.
fn explore(source: &str, states: u64, receive: impl FnOnce(&World, &Path)) {
    let folder = temporary_folder();
    let world = World::new(&folder.path().join("world"), Scenario::named("small-deltas"));
    fs::write(world.root().join("job.sql"), job(source)).expect("the job is written");
    let trace = folder.path().join("calls");
    receive(&world, &trace);

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
    assert!(acknowledged.last().is_some_and(|told| *told >= LINES), "every batch says how many rows it has");

    let crashes = Crashes::of(&recorder.disk);
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(SEED);
    let (mut failures, mut less) = (Vec::new(), 0);
    for number in 0..states {
        let state = crashes.state(seed, number);
        world.put(&state.tree);
        let told = acknowledged[state.after];
        let ended = Running::start(&mut command(&world, &NOW)).wait();
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
    eprintln!("power loss of what was received ({source}): {states} states, {less} of them with less than all");
    assert!(less > 0, "some states come before the end");
}

fn states() -> u64 {
    from_environment("HIGHWATER_STATES").unwrap_or(1000)
}

#[test]
fn what_was_received_survives_a_power_loss() {
    if let Some(why) = record::cannot_trace() {
        return skip("what_was_received_survives_a_power_loss", &why);
    }
    explore("value STRING) WITH (connector = 'stdin', format = 'text'", states() / 10, read_pipe);
}

#[test]
fn what_was_received_of_a_socket_survives_a_power_loss() {
    if let Some(why) = record::cannot_trace() {
        return skip("what_was_received_of_a_socket_survives_a_power_loss", &why);
    }
    let peer = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = peer.local_addr().expect("it is bound").port();
    let source =
        format!("value STRING) WITH (connector = 'socket', host = '127.0.0.1', port = {port}, format = 'text'");
    explore(&source, states() / 20, |world, trace| call_peer(world, trace, &peer));
}

#[test]
fn what_came_by_the_clock_survives_a_power_loss() {
    if let Some(why) = record::cannot_trace() {
        return skip("what_came_by_the_clock_survives_a_power_loss", &why);
    }
    let source = "timestamp TIMESTAMP, value BIGINT) WITH (connector = 'rate', rows_per_second = 400";
    explore(source, states() / 25, |world, trace| stop_when_told(start(world, trace)));
}
