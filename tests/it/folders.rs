//! A checkpoint belongs to its input and output: they may move, and must not be exchanged for others.

use std::fs;

use crate::{
    binary::{Ended, Folder},
    kills,
};

/// Runs the job with other places for its input and output.
fn run_with(folder: &Folder, input: &str, output: &str, options: &[&str]) -> Ended {
    let (input, output) = (format!("INPUT={input}"), format!("OUTPUT={output}"));
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", &input, "--set", &output, "--available-now"];
    folder.call(&[&words, options].concat())
}

/// A job with half of its input read, and the same job with all of it read, undisturbed.
fn half_done() -> (Folder, Folder) {
    let (half, whole) = (Folder::new(kills::JOB), Folder::new(kills::JOB));
    kills::fill(&half);
    kills::fill(&whole);
    run_with(&half, "input", "output", &["--max-batches", "6"]).expect(0);
    whole.run().expect(0);
    (half, whole)
}

#[track_caller]
fn refused(ended: Ended, parts: &[&str]) {
    let ended = ended.expect(3);
    for part in [&["error: ", "why: ", "help: "], parts].concat() {
        assert!(ended.stderr.contains(part), "no '{part}' in: {}", ended.stderr);
    }
}

#[test]
fn output_goes_on_where_it_was_published_or_moved_to_and_nowhere_else() {
    let (half, whole) = half_done();
    let log = half.canonical_log();
    refused(
        run_with(&half, "input", "elsewhere", &[]),
        &["elsewhere", "published to another folder", "highwater fork"],
    );
    assert!(!half.at("elsewhere").exists(), "nothing is written");
    assert_eq!(half.canonical_log(), log);
    half.call(&["verify", "checkpoint", "--batch"]).expect(0);
    fs::rename(half.at("output"), half.at("moved")).expect("it can be moved");
    refused(run_with(&half, "input", "output", &[]), &["output"]);
    run_with(&half, "input", "moved", &[]).expect(0);
    half.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
    fs::rename(half.at("moved"), half.at("output")).expect("it can be moved");
    assert!(half.published() == whole.published());
}

#[test]
fn output_that_was_removed_is_made_again_by_a_rewind_to_the_start() {
    let (half, whole) = half_done();
    fs::remove_dir_all(half.at("output")).expect("it can be removed");
    refused(half.run(), &["rewind --to start"]);
    half.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    half.run().expect(0);
    assert!(half.published() == whole.published());
    half.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

#[test]
fn input_may_move_and_other_files_of_the_same_names_are_refused() {
    let (half, whole) = half_done();
    fs::create_dir(half.at("other")).expect("a new folder");
    for entry in fs::read_dir(half.at("input")).expect("a folder") {
        let name = entry.expect("listed").file_name();
        fs::write(half.at("other").join(name), "{\"device\": \"x\", \"port\": \"80\"}\n").expect("it is written");
    }
    refused(
        run_with(&half, "other", "output", &[]),
        &["other", "would read another folder", "--checkpoint", "--accept-change"],
    );
    fs::rename(half.at("input"), half.at("moved")).expect("it can be moved");
    run_with(&half, "moved", "output", &[]).expect(0);
    assert_eq!(half.shown(), whole.shown());
    assert!(half.published() == whole.published());
    half.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
}

#[test]
fn input_that_was_cleared_away_after_a_move_can_be_accepted_and_no_longer_compared() {
    let (half, whole) = half_done();
    fs::rename(half.at("input"), half.at("moved")).expect("it can be moved");
    for number in 0..6 {
        fs::remove_file(half.at(&format!("moved/{number:04}.json"))).expect("it was read");
    }
    refused(run_with(&half, "moved", "output", &[]), &["moved", "--accept-change"]);
    run_with(&half, "moved", "output", &["--accept-change"]).expect(0);
    assert_eq!(half.shown(), whole.shown());
    for number in 6..12 {
        fs::remove_file(half.at(&format!("moved/{number:04}.json"))).expect("it was read");
    }
    run_with(&half, "moved", "output", &[]).expect(0);
    half.call(&["verify", "checkpoint"]).expect(0);
    let verified = half.call(&["verify", "checkpoint", "--batch"]).expect(1);
    assert!(verified.stdout.contains("good as far as checked: 12 batches"), "{}", verified.stdout);
    for part in ["an input file is gone", "0000.json", "without --batch"] {
        assert!(verified.stderr.contains(part), "no '{part}' in: {}", verified.stderr);
    }
}
