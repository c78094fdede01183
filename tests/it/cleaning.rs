//! Input that is cleared away once no batch needs it.

use std::fs;

use serde_json::Value;

use crate::binary::{Folder, Running};

fn job(options: &str) -> Folder {
    let folder = Folder::in_memory(&format!(
        "SET snapshot_batches = '2'; SET retain_batches = '2';
CREATE TABLE t (n BIGINT) WITH (connector = 'files', path = '${{INPUT}}', format = 'json', max_files_per_trigger = '1', {options});
CREATE TABLE total WITH (connector = 'memory');
CREATE TABLE copied WITH (connector = 'files', path = '${{OUTPUT}}', format = 'json', output_mode = 'update');
INSERT INTO total SELECT count(*) AS rows, sum(n) AS sum FROM t;
INSERT INTO copied SELECT n, count(*) AS c FROM t GROUP BY n;
"
    ));
    (0..10).for_each(|number| folder.input(number, format!("{{\"n\": {number}}}\n").as_bytes()));
    folder
}

fn left(folder: &Folder, name: &str) -> Vec<String> {
    crate::binary::files(&folder.at(name)).into_keys().collect()
}

fn is_whole(folder: &Folder) {
    let total = folder.call(&["show", "checkpoint", "--query", "total", "--output", "json"]).expect(0).json();
    assert_eq!((total[0]["rows"].as_u64(), total[0]["sum"].as_u64()), (Some(10), Some(45)), "{total:?}");
}

#[test]
fn files_go_when_no_kept_batch_needs_them_and_no_sooner() {
    for (options, archived) in
        [("clean_source = 'delete'", false), ("clean_source = 'archive', archive_dir = 'archive'", true)]
    {
        let folder = job(options);
        let checked =
            folder.call(&["check", "job.sql", "--set", "INPUT=input", "--set", "OUTPUT=output"]).expect(0).stdout;
        let what = if archived { "moved to archive" } else { "deleted" };
        let told = format!("source 't': files are {what} once none of the last 2 batches can need them");
        assert!(checked.contains(&told), "{checked}");
        let ran = folder.run().expect(0);
        assert!(!ran.stderr.contains("removed"), "{}", ran.stderr);
        is_whole(&folder);
        let kept = left(&folder, "input");
        assert!((2..8).contains(&kept.len()) && kept.contains(&"0009.json".to_owned()), "{kept:?}");
        let gone: Vec<String> =
            (0..10).map(|number| format!("{number:04}.json")).filter(|name| !kept.contains(name)).collect();
        assert_eq!(left(&folder, "archive"), if archived { gone.clone() } else { Vec::new() });
        // each is named in the progress of the batch after
        let log = folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
        let named = |batch: &Value| batch["sources"][0]["filesCleaned"].as_array().cloned().unwrap_or_default();
        assert!(log.iter().any(|batch| !named(batch).is_empty()), "{log:?}");
        // what is kept can be gone back to, and read again
        let oldest = log[0]["batchId"].as_u64().expect("a number").to_string();
        folder.call(&["rewind", "checkpoint", "--to", &oldest]).expect(0);
        let again = folder.run().expect(0);
        assert!(!again.stderr.contains("removed"), "{}", again.stderr);
        is_whole(&folder);
        let batch = folder.call(&["verify", "checkpoint", "--batch"]);
        assert!(batch.code() == Some(1) && batch.stderr.contains("gone"), "{}", batch.stderr);
    }
}

#[test]
fn what_cannot_be_cleared_away_stays_and_is_named() {
    let folder = job("clean_source = 'archive', archive_dir = 'archive'");
    fs::create_dir(folder.at("archive")).expect("a folder");
    folder.write("archive/0001.json", b"somebody else's");
    folder.run().expect(0);
    is_whole(&folder);
    assert!(left(&folder, "input").contains(&"0001.json".to_owned()));
    assert_eq!(crate::binary::files(&folder.at("archive"))["0001.json"], b"somebody else's");
    // a start tries again what a run before could not
    folder.input(10, b"{\"n\": 0}\n");
    folder.input(11, b"{\"n\": 0}\n");
    folder.input(12, b"{\"n\": 0}\n");
    fs::remove_file(folder.at("archive/0001.json")).expect("it can be removed");
    folder.run().expect(0);
    assert!(!left(&folder, "input").contains(&"0001.json".to_owned()));
}

#[test]
fn a_killed_job_clears_away_no_more_than_any_other_and_no_less() {
    let undisturbed = job("clean_source = 'delete'");
    undisturbed.run().expect(0);
    let kept = left(&undisturbed, "input");
    for points in
        [&["retiring:1", "committed:4", "retiring:2", "planned:1"][..], &["retiring:2", "retiring:2"], &["planned:9"]]
    {
        let folder = job("clean_source = 'delete'");
        for point in points {
            let mut command = folder.run_command(&["--available-now"]);
            let ended = Running::start(command.env("HIGHWATER_CRASH_AT", point)).wait().sober();
            assert!(ended.was_killed(), "it comes to {point}");
            let left = left(&folder, "input");
            assert!(kept.iter().all(|name| left.contains(name)), "{point}: {left:?}");
        }
        folder.run().expect(0);
        is_whole(&folder);
        assert_eq!(left(&folder, "input"), kept, "{points:?}");
    }
}

/// Between its new name and the end of its old one a file has both.
#[test]
fn a_file_that_a_kill_has_left_in_both_places_goes() {
    let folder = job("clean_source = 'archive', archive_dir = 'archive'");
    fs::create_dir(folder.at("archive")).expect("a folder");
    fs::hard_link(folder.at("input/0001.json"), folder.at("archive/0001.json")).expect("a link");
    folder.run().expect(0);
    assert!(!left(&folder, "input").contains(&"0001.json".to_owned()));
    assert!(left(&folder, "archive").contains(&"0001.json".to_owned()));
    is_whole(&folder);
}
