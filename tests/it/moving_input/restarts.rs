//! Changes while no process runs: between a kill and the next run, after a commit, and before a replay.

use std::{fs, time::Duration};

use super::{Change, JOB, Moving, Original, clear_error, lines};
use crate::{
    binary::{Ended, Running},
    stream::stamp,
};

const FILES: usize = 5;
/// The file that changes, and its batch.
const CHANGED: usize = 2;

fn changed_file(moving: &Moving) -> std::path::PathBuf {
    moving.path(format!("{CHANGED:04}.json"))
}

/// What `rewind --replan` is told to do in an error about a plan that must be kept.
#[track_caller]
fn drop_the_plan(moving: &Moving, ended: &Ended, newest: &str) {
    let said = format!("--to {newest} --replan`");
    assert!(ended.stderr.contains(&said), "no '{said}' in: {}", ended.stderr);
    moving.folder.call(&["rewind", "checkpoint", "--to", newest, "--replan"]).expect(0);
}

#[test]
fn an_interrupted_plan_takes_the_planned_file_or_says_what_became_of_it() {
    for change in Change::ALL {
        let moving = Moving::with_files(JOB, FILES);
        moving.killed_at(&format!("intended:{}", CHANGED + 1));
        let path = changed_file(&moving);
        let original = Original::of(&path);
        change.apply(&moving, &path);
        let Some(reason) = change.reason() else {
            // nothing was read yet: the plan names no bytes, the commit names those that are there
            moving.run().expect(0);
            moving.check();
            continue;
        };
        clear_error(moving.run(), &path, reason);
        assert_eq!(moving.read().len(), CHANGED, "{change:?}: nothing was taken instead");
        original.put_back();
        moving.run().expect(0);
        assert_eq!(moving.read().len(), FILES, "{change:?}");
        moving.check();
    }
}

#[test]
fn an_interrupted_plan_can_be_dropped_as_its_error_says() {
    for change in [Change::Cut, Change::Removed, Change::Pipe, Change::Renamed] {
        let moving = Moving::with_files(JOB, FILES);
        moving.killed_at(&format!("staged:{}", CHANGED + 1));
        let path = changed_file(&moving);
        change.apply(&moving, &path);
        let ended = clear_error(moving.run(), &path, change.reason().expect("it can be told"));
        drop_the_plan(&moving, &ended, &(CHANGED - 1).to_string());
        moving.run().expect(0);
        let left = if matches!(change, Change::Cut | Change::Renamed) { FILES } else { FILES - 1 };
        assert_eq!(moving.read().len(), left, "{change:?}");
        moving.check();
    }
}

#[test]
fn a_file_that_changes_after_its_commit_is_reported_once_and_not_read_again() {
    let moving = Moving::with_files(JOB, Change::ALL.len());
    moving.run().expect(0);
    let (read, shown) = (moving.read(), moving.folder.shown());
    for (number, change) in Change::ALL.into_iter().enumerate() {
        change.apply(&moving, &moving.path(format!("{number:04}.json")));
        // what was moved away is in the way of the next one that is
        drop(fs::remove_file(moving.folder.at("moved.json")));
    }
    // under its new name the renamed one is a new file; that is tried elsewhere
    fs::remove_file(moving.path("renamed.json")).expect("it was renamed");
    let running = Running::start(&mut moving.folder.run_command(&["--interval", "100ms"]));
    std::thread::sleep(Duration::from_millis(800));
    running.signal(libc::SIGTERM);
    let ended = running.wait().expect(0);
    for (number, change) in Change::ALL.into_iter().enumerate() {
        let told = ended.stderr.matches(&format!("{number:04}.json was ")).count();
        assert_eq!(told, usize::from(change.reason().is_some()), "{change:?}: {}", ended.stderr);
    }
    assert_eq!((moving.read(), moving.folder.shown()), (read, shown));
    moving.check();
}

#[test]
fn a_recomputation_says_which_file_is_no_longer_what_was_read() {
    for change in Change::ALL {
        let moving = Moving::with_files(JOB, FILES);
        moving.run().expect(0);
        let path = changed_file(&moving);
        change.apply(&moving, &path);
        let ended = moving.folder.call(&["verify", "checkpoint", "--batch"]).expect(1);
        for part in [&format!("--> {}", path.display()), "why: ", "error: "] {
            assert!(ended.stderr.contains(part), "{change:?}: no '{part}' in: {}{}", ended.stdout, ended.stderr);
        }
    }
}

/// A replay promises the same rows: of other bytes it takes none, not even where size and time are the same.
fn replays_only_what_was_read(sql: &str, changes: &[Change]) {
    for &change in changes {
        let moving = Moving::with_files(sql, FILES);
        moving.run().expect(0);
        let (read, shown, published) = (moving.read(), moving.folder.shown(), moving.folder.published());
        moving.folder.call(&["rewind", "checkpoint", "--to", "0"]).expect(0);
        let path = changed_file(&moving);
        let original = Original::of(&path);
        change.apply(&moving, &path);
        let reason = change.reason().unwrap_or("but other bytes: their hash was ");
        let ended = clear_error(moving.run(), &path, reason);
        assert!(ended.stderr.contains("--replan`"), "{change:?}: {}", ended.stderr);
        assert_eq!(moving.read().len(), CHANGED, "{change:?}");
        // now with the plan of the replay in the log, as after a kill
        if change == Change::Disguised {
            clear_error(moving.run(), &path, reason);
        }
        original.put_back();
        moving.run().expect(0);
        assert_eq!(moving.read(), read, "{change:?}");
        assert_eq!(moving.folder.published(), published, "{change:?}");
        assert_eq!(moving.folder.shown(), shown, "{change:?}");
        moving.check();
    }
}

#[test]
fn a_replay_reads_what_was_read_before_or_nothing() {
    replays_only_what_was_read(JOB, &Change::ALL);
}

#[test]
fn a_replay_knows_what_was_read_in_older_parts_of_the_log() {
    let sql = format!("SET snapshot_batches = '2';{JOB}");
    replays_only_what_was_read(&sql, &[Change::Disguised, Change::Cut]);
}

#[test]
fn a_replay_of_another_file_can_be_dropped_as_its_error_says() {
    let moving = Moving::with_files(JOB, FILES);
    moving.run().expect(0);
    moving.folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    let path = changed_file(&moving);
    Change::Disguised.apply(&moving, &path);
    let ended = clear_error(moving.run(), &path, "but other bytes");
    drop_the_plan(&moving, &ended, &(CHANGED - 1).to_string());
    moving.run().expect(0);
    assert_eq!(moving.read().len(), FILES);
    moving.check();
}

#[test]
fn a_compressed_file_that_is_cut_gives_what_is_whole_and_names_the_rest() {
    let moving = Moving::new(JOB);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &lines("gz", 5_000)).expect("memory takes it");
    let whole = encoder.finish().expect("memory takes it");
    let path = moving.path("a.json.gz");
    fs::write(&path, &whole[..whole.len() / 2]).expect("a file");
    stamp(&path, 1);
    let ended = moving.run().expect(0);
    assert!(ended.stderr.contains("bad record"), "{}", ended.stderr);
    let log = moving.folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
    assert_eq!(log[0]["badFiles"][0].as_str(), Some("a.json.gz"));
    let rows = log[0]["numInputRows"].as_u64().expect("a number");
    assert!((1_000..5_000).contains(&rows), "{rows} rows");
    // the rest comes later, under the same name: reported, not read
    fs::write(&path, &whole).expect("a file");
    let again = moving.run().expect(0);
    assert!(again.stderr.contains("a.json.gz was changed after it was committed"), "{}", again.stderr);
    // who wants nothing but warnings gets this one
    let quiet = &mut moving.folder.run_command(&["--available-now", "--quiet"]);
    let quiet = crate::binary::Running::start(quiet).wait().expect(0).stderr;
    assert!(quiet.contains("WARN") && quiet.contains("a.json.gz was changed") && quiet.lines().count() == 1, "{quiet}");
    assert_eq!(moving.folder.call(&["log", "checkpoint", "--json"]).expect(0).json().len(), 1);
}
