//! Triggers, limits, signals, and the commands that tell about jobs and about the program.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{INPUT, fixture, run};
use crate::binary::{Folder, Running};

/// How many batches are committed; none as long as nothing can be read.
fn batches(folder: &Folder) -> usize {
    folder.call(&["log", "checkpoint", "--json"]).stdout.lines().count()
}

fn wait_for(folder: &Folder, wanted: usize, longest: Duration) -> Duration {
    let started = Instant::now();
    while batches(folder) < wanted {
        assert!(started.elapsed() < longest, "{} batches of {wanted} after {longest:?}", batches(folder));
        std::thread::sleep(Duration::from_millis(10));
    }
    started.elapsed()
}

fn start(folder: &Folder, options: &[&str]) -> Running {
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input"];
    folder.start(&[&words[..], options].concat())
}

#[test]
fn a_watching_job_notices_a_new_file_and_stops_on_a_signal() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let folder = fixture();
        let running = start(&folder, &["--output", "json"]);
        wait_for(&folder, INPUT.len(), Duration::from_secs(20));
        // placed atomically, as a producer should
        folder.write("input/.new", b"{\"device\":\"d\",\"port\":\"80\",\"bytes\":99}\n");
        fs::rename(folder.at("input/.new"), folder.at("input/new.json")).expect("it can be moved");
        // about a second, and some room for a busy machine
        wait_for(&folder, INPUT.len() + 1, Duration::from_secs(4));
        running.signal(signal);
        let ended = running.wait().expect(0);
        assert_eq!(
            ended.json().last().map(|line| line["rows"].clone()),
            Some(serde_json::json!([{"device": "d", "bytes": 99}]))
        );
        assert!(ended.stderr.contains("stopped after batch 4"), "{}", ended.stderr);
        // a clean stop: nothing is owed, nothing is printed again
        assert_eq!(run(&folder, &["--output", "json"]).expect(0).stdout, "");
    }
}

/// The first signal lets the batch end; the second waits for nothing, and what was committed stays.
#[test]
fn a_second_signal_stops_at_once() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let folder = Folder::new(super::JOB);
        let row = format!("{{\"device\":\"{}\",\"port\":\"80\",\"bytes\":9}}\n", "x".repeat(100));
        folder.input(0, row.repeat(5_000).as_bytes());
        // a batch that does not end: the console's rows are more than a pipe holds, and nobody reads them
        let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--output", "json"];
        let mut running = Running::start_unread(&mut folder.command(&words));
        wait_for(&folder, 1, Duration::from_secs(20));
        running.signal(signal);
        std::thread::sleep(Duration::from_millis(200));
        assert!(running.is_running(), "the first signal lets the batch end");
        running.signal(signal);
        let ended = running.wait().sober();
        assert_eq!(ended.code(), Some(130), "{}", ended.stderr);
        assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
        // the batch is committed: its rows are printed again, once and whole, and nothing is lost or read twice
        let again = run(&folder, &["--output", "json", "--quiet"]).expect(0).json();
        assert_eq!((again.len(), again[0]["rows"].as_array().map(Vec::len)), (1, Some(5_000)));
        assert_eq!(batches(&folder), 1);
        folder.call(&["verify", "checkpoint"]).expect(0);
    }
}

#[test]
fn max_batches_once_and_available_now_stop_where_they_should() {
    let folder = fixture();
    run(&folder, &["--max-batches", "3"]).expect(0);
    assert_eq!(batches(&folder), 3);
    run(&folder, &[]).expect(0);
    assert_eq!(batches(&folder), 4);
    let folder = fixture();
    let once = start(&folder, &["--once"]).wait().expect(0);
    assert!(once.stderr.contains("batch 0  9 rows"), "--once ignores the limits: {}", once.stderr);
    assert_eq!(batches(&folder), 1);
    start(&folder, &["--once"]).wait().expect(0);
    assert_eq!(batches(&folder), 1, "idle triggers make no batch");
    // stops by itself while watching, too
    let folder = fixture();
    start(&folder, &["--max-batches", "2"]).wait().expect(0);
    assert_eq!(batches(&folder), 2);
}

#[test]
fn an_interval_paces_the_batches() {
    let folder = fixture();
    let started = Instant::now();
    start(&folder, &["--interval", "400ms", "--max-batches", "4", "--quiet"]).wait().expect(0);
    // the first comes at once, the others at the multiples of the interval
    assert!(started.elapsed() >= Duration::from_millis(800), "{:?}", started.elapsed());
    assert_eq!(batches(&folder), 4);
}

#[test]
fn the_default_checkpoint_is_named_after_the_job() {
    let folder = fixture();
    folder.call(&["run", "job.sql", "--set", "INPUT=input", "--available-now", "--quiet"]).expect(0);
    assert!(folder.at("checkpoints/job/LOCK").exists());
    // the environment is the fallback of --set
    let mut command = folder.command(&["run", "job.sql", "--available-now"]);
    Running::start(command.env("INPUT", "input")).wait().expect(0);
}

#[test]
fn a_job_is_resumed_from_another_folder_and_reads_what_it_read() {
    let folder = fixture();
    run(&folder, &["--max-batches", "2"]).expect(0);
    let elsewhere = folder.at("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    let words = ["run", "../job.sql", "--checkpoint", "../checkpoint", "--set", "INPUT=input", "--available-now"];
    Running::start(folder.command(&words).current_dir(&elsewhere)).wait().expect(0);
    assert_eq!((batches(&folder), folder.published().len()), (4, 4));
}

#[test]
fn check_and_explain_tell_what_a_job_would_do_and_touch_nothing() {
    let folder = fixture();
    let check = folder.call(&["check", "job.sql", "--set", "INPUT=input"]).expect(0).stdout;
    for part in [
        "query counts\n",
        "one row per group, for ever",
        "output mode  complete",
        "guarantee    exactly once",
        "query query1\n",
        "state        none",
        "guarantee    at least once",
        "4 files in ",
    ] {
        assert!(check.contains(part), "no '{part}' in {check}");
    }
    let explain = folder.call(&["explain", "job.sql", "--set", "INPUT=input"]).expect(0).stdout;
    for part in ["query counts (complete mode)", "one pass for all queries", "AggregateExec: mode=Partial"] {
        assert!(explain.contains(part), "no '{part}' in {explain}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "the job and its input");
    for (query, kept) in [
        ("t a JOIN t b ON a.k = b.k", "kept of the other stream"),
        ("(SELECT DISTINCT ON (k) k FROM t) a", "keys are looked up"),
    ] {
        let sql = format!(
            "CREATE TABLE t (k STRING) WITH (connector = 'files', path = '${{INPUT}}', format = 'json'); SELECT a.k FROM {query};"
        );
        folder.write("kept.sql", sql.as_bytes());
        let check = folder.call(&["check", "kept.sql", "--set", "INPUT=input"]).expect(0).stdout;
        assert!(check.contains(kept) && !check.contains("aggregation"), "{check}");
    }
}

#[test]
fn help_ends_with_two_examples_and_completions_and_man_pages_are_made() {
    let folder = fixture();
    let commands = [
        "run",
        "batch",
        "check",
        "explain",
        "show",
        "log",
        "diff",
        "verify",
        "rewind",
        "fork",
        "crash-test",
        "generate",
        "demo",
        "completions",
        "man",
    ];
    for command in commands {
        let help = folder.call(&[command, "--help"]).expect(0).stdout;
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("no examples: {help}"));
        let examples: Vec<&str> = examples.trim_end().lines().collect();
        assert_eq!(examples.len(), 2, "{help}");
        assert!(examples.iter().all(|example| example.contains("highwater ")), "{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = folder.call(&["completions", shell]).expect(0).stdout;
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    assert!(folder.call(&["man"]).expect(0).stdout.contains(".TH"));
    assert!(folder.call(&["man", "run"]).expect(0).stdout.contains("available"));
    folder.call(&["man", "rnu"]).expect(2);
    assert!(folder.call(&["--version"]).expect(0).stdout.starts_with("highwater "));
}

#[test]
fn generate_crash_test_and_demo_do_what_they_say() {
    let folder = Folder::new(include_str!("../../../jobs/port_traffic.sql"));
    folder.call(&["generate", "flows", "flows", "--files", "6", "--rows", "50", "--seed", "3"]).expect(0);
    assert_eq!(fs::read_dir(folder.at("flows")).expect("a folder").count(), 6);
    folder.call(&["generate", "flows", "again", "--files", "6", "--rows", "50", "--seed", "3"]).expect(0);
    assert!(
        crate::binary::files(&folder.at("flows")) == crate::binary::files(&folder.at("again")),
        "same seed, same bytes"
    );
    let test = folder.call(&["crash-test", "job.sql", "--set", "INPUT=flows", "--kills", "6"]).expect(0);
    assert!(test.stdout.contains("the same after 6 kills"), "{}", test.stdout);
    assert!(!folder.at("out").exists() && !folder.at("checkpoints").exists(), "it stays in its scratch folder");
    let demo = folder.call(&["demo", "--files", "6", "--rows", "50", "--kills", "3"]).expect(0);
    // Six tiny files can be done before the last kill comes.
    assert!(demo.stdout.contains("the same: ") && demo.stdout.contains("with kill -9"), "{}", demo.stdout);
}
