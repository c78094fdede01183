//! What a review and long runs found, each as the smallest story that shows it.

use std::{fs, process::Command};

use crate::{
    binary::{Folder, Running, copy_tree},
    kills,
};

/// Runs until the crash point is reached for the n-th time; whether it was.
fn crashes(mut command: Command, point: &str, nth: usize) -> bool {
    let ended = Running::start(command.env("HIGHWATER_CRASH_AT", format!("{point}:{nth}"))).wait();
    assert!([None, Some(0)].contains(&ended.code()), "neither killed nor done: {}", ended.stderr);
    ended.code().is_none()
}

/// Lost batches whose input is divided otherwise the second time must not leave their files beside the new ones.
#[test]
fn what_lost_batches_published_is_taken_back_before_their_input_is_read_again() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    Running::start(&mut folder.run_command(&["--available-now", "--max-batches", "4"])).wait().expect(0);
    copy_tree(&folder.at("checkpoint/log"), &folder.at("old"));
    folder.run().expect(0);
    assert_eq!(folder.published().len(), kills::FILES + 1);
    fs::remove_dir_all(folder.at("checkpoint/log")).expect("it can be removed");
    copy_tree(&folder.at("old"), &folder.at("checkpoint/log"));
    let ended = Running::start(&mut folder.run_command(&["--once"])).wait().expect(0);
    assert!(ended.stderr.contains("damaged"), "{}", ended.stderr);
    let names: Vec<String> = folder.published().into_keys().collect();
    let expected = [0, 1, 2, 3, 4].map(|batch| format!("traffic-{batch:08}.json"));
    assert_eq!(names, [&["ports.csv".to_owned()], &expected[..]].concat());
    folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
}

/// The state that a fork begins with follows from nothing else, not even where it begins with batch 0.
#[test]
fn a_fork_at_the_first_batch_without_its_state_is_refused() {
    let folder = Folder::new(&kills::JOB.replace("'${OUTPUT}'", "'${OUTPUT:-output}'"));
    kills::fill(&folder);
    folder.run().expect(0);
    folder.call(&["fork", "checkpoint", "--at", "0", "fork", "--set", "OUTPUT=elsewhere"]).expect(0);
    let states = fs::read_dir(folder.at("fork/state")).expect("a folder").map(|entry| entry.expect("listed").path());
    let states: Vec<_> = states.filter(|path| path.extension().is_some_and(|kind| kind == "snapshot")).collect();
    assert!(!states.is_empty());
    for path in states {
        fs::remove_file(path).expect("it can be removed");
    }
    let words = ["run", "job.sql", "--checkpoint", "fork", "--set", "INPUT=input", "--set", "OUTPUT=elsewhere"];
    let ended = folder.call(&[&words[..], &["--available-now"]].concat()).expect(3);
    assert!(ended.stderr.contains("can no longer be restored"), "{}", ended.stderr);
}

const PLAIN: &str = "
CREATE TABLE flows (device STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1', mode = 'failfast');
SELECT device, bytes FROM flows;
";

#[test]
fn rows_are_not_printed_again_after_a_failure_that_is_no_kill() {
    let folder = Folder::new(PLAIN);
    folder.input(0, b"{\"device\": \"a\", \"bytes\": 1}\n");
    folder.input(1, b"not json\n");
    let run = || {
        let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--available-now"];
        folder.call(&[&words[..], &["--output", "json"]].concat())
    };
    assert_eq!(run().expect(4).stdout.lines().count(), 1, "batch 0");
    assert_eq!(run().expect(4).stdout, "", "nothing new");
    folder.input(1, b"{\"device\": \"b\", \"bytes\": 2}\n");
    let mended = run().expect(0).stdout;
    assert!(mended.lines().count() == 1 && mended.contains("\"batchId\":1"), "{mended}");
}

#[test]
fn a_batch_that_is_committed_and_not_yet_published_is_no_damage() {
    for point in ["committed", "published-first"] {
        let folder = Folder::new(kills::JOB);
        kills::fill(&folder);
        assert!(crashes(folder.run_command(&["--available-now"]), point, 3), "it was not reached: {point}");
        let verified = folder.call(&["verify", "checkpoint"]).expect(0);
        assert!(verified.stdout.contains("the next start of the job completes it"), "{}", verified.stdout);
        // what is wrong whether or not the newest batch is published is still found
        fs::remove_file(folder.at("output/traffic-00000000.json")).expect("it is there");
        let verified = folder.call(&["verify", "checkpoint"]).expect(3);
        assert!(verified.stdout.contains("finding: sink 'traffic'"), "{}", verified.stdout);
    }
}

/// Bad records are written before the commit: what an attempt left that never was committed must not outlive it.
#[test]
fn bad_records_are_those_that_the_committed_batch_found() {
    let job = PLAIN.replace(", mode = 'failfast'", "");
    let bad = "checkpoint/bad-records/000000000000-g1.jsonl";
    let mut seen = false;
    for nth in 1..6 {
        let folder = Folder::new(&job);
        folder.input(0, b"not json\n{\"device\": \"a\", \"bytes\": 1}\n");
        let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--available-now"];
        let crashed = crashes(folder.command(&words), "applied", nth);
        let committed = folder.call(&["log", "checkpoint", "--json"]).stdout.lines().count();
        if !crashed || committed > 0 || !folder.at(bad).exists() {
            continue;
        }
        seen = true;
        folder.input(0, b"{\"device\": \"a\", \"bytes\": 1}\n");
        folder.call(&words).expect(0);
        assert!(!folder.at(bad).exists(), "the batch has no bad record");
    }
    assert!(seen, "no kill came between the bad records and the commit");
}

/// What a batch's result was does not change because the query was changed later.
#[test]
fn an_accepted_change_does_not_rewrite_what_older_batches_show() {
    let job = "
CREATE TABLE flows (device STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory');
INSERT INTO counts SELECT device, count(*) AS c FROM flows GROUP BY device;
";
    let folder = Folder::new(job);
    let run = |options: &[&str]| {
        let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--available-now"];
        folder.call(&[&words[..], options].concat()).expect(0)
    };
    let show = |at: &str| folder.call(&["show", "checkpoint", "--at", at, "--output", "json"]).expect(0).stdout;
    folder.input(0, b"{\"device\": \"a\", \"bytes\": 1}\n");
    run(&[]);
    let before = show("0");
    folder.write("job.sql", job.replace("count(*) AS c", "count(*) * 10 AS tenfold").as_bytes());
    folder.input(1, b"{\"device\": \"a\", \"bytes\": 2}\n");
    run(&["--accept-change"]);
    assert_eq!(show("0"), before);
    assert_eq!(show("1"), "{\"device\":\"a\",\"tenfold\":20}\n");
    let diff = folder.call(&["diff", "checkpoint", "--from", "0", "--to", "1"]).expect(2);
    assert!(diff.stderr.contains("other columns at batch 0@1 than at batch 1@1"), "{}", diff.stderr);
}

#[test]
fn batches_before_the_input_that_is_gone_are_still_compared() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    folder.run().expect(0);
    fs::remove_file(folder.at("input/0010.json")).expect("it was read");
    let verified = folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(1);
    // ten batches of seven queries
    assert!(verified.stdout.contains("70 results compared with the batch"), "{}", verified.stdout);
    assert!(verified.stderr.contains("0010.json"), "{}", verified.stderr);
}

#[test]
fn of_several_first_starts_at_once_each_runs_or_is_told_why_not() {
    for _ in 0..8 {
        let folder = Folder::new(kills::JOB);
        folder.input(0, b"{\"device\": \"a\", \"port\": \"80\", \"bytes\": 1}\n");
        let started: Vec<_> = (0..4).map(|_| Running::start(&mut folder.run_command(&["--available-now"]))).collect();
        let ended: Vec<_> = started.into_iter().map(Running::wait).collect();
        assert!(ended.iter().any(|ended| ended.code() == Some(0)), "none ran");
        for ended in ended.iter().filter(|ended| ended.code() != Some(0)) {
            assert_eq!(ended.code(), Some(3), "{}", ended.stderr);
            assert!(ended.stderr.contains("help: "), "{}", ended.stderr);
        }
        folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    }
}

#[test]
fn a_start_that_is_refused_for_its_sink_leaves_no_checkpoint_behind() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    folder.run().expect(0);
    let words = ["run", "job.sql", "--checkpoint", "second", "--set", "INPUT=input", "--set", "OUTPUT=output"];
    let refused = folder.call(&[&words[..], &["--available-now"]].concat()).expect(3);
    assert!(refused.stderr.contains("belong to another checkpoint"), "{}", refused.stderr);
    assert!(!folder.at("second").exists());
}

/// A path that was edited is another place, also where the old one ends like it.
#[test]
fn a_path_that_is_the_end_of_the_old_one_is_another_place() {
    let job = "CREATE TABLE t (v STRING) WITH (connector = 'files', path = 'old/input', format = 'json');\n\
               CREATE TABLE o WITH (connector = 'sqlite', path = 'old/x.db', output_mode = 'append');\n\
               INSERT INTO o SELECT v FROM t;\n";
    let folder = Folder::new(job);
    fs::create_dir_all(folder.at("old/input")).expect("a folder");
    folder.write("old/input/1.json", b"{\"v\":\"old\"}\n");
    folder.input(5, b"{\"v\":\"new\"}\n");
    let run = || folder.call(&["run", "job.sql", "--checkpoint", "checkpoint", "--available-now"]);
    run().expect(0);
    folder.write("job.sql", job.replace("old/input", "input").as_bytes());
    let told = run().expect(3).stderr;
    assert!(told.contains("would read another folder"), "{told}");
    folder.write("job.sql", job.replace("old/x.db", "x.db").as_bytes());
    let told = run().expect(3).stderr;
    assert!(told.contains("another table"), "{told}");
    folder.write("job.sql", job.as_bytes());
    run().expect(0);
}
