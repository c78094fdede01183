//! Rewind and fork: what they print, take back, refuse, and leave alone.

use super::{finished, run};

#[test]
fn a_dry_run_says_what_would_become_invisible_and_does_nothing() {
    let folder = finished();
    let (log, published) = (folder.canonical_log(), folder.published());
    let ended = folder.call(&["rewind", "checkpoint", "--to", "1", "--dry-run"]).expect(0);
    for part in [
        "would go from batch 3 back to batch 1",
        "retracted: 2@1 to 3@1 (2 batches)",
        "traffic-00000002.json, traffic-00000003.json",
        "console",
        "2 retracted plans first",
    ] {
        assert!(ended.stdout.contains(part), "no '{part}' in {}", ended.stdout);
    }
    assert!(folder.canonical_log() == log && folder.published() == published);
}

#[test]
fn a_rewind_takes_files_back_and_the_next_run_gives_the_same_again() {
    let folder = finished();
    let (shown, published) = (folder.shown(), folder.published());
    let first = folder.call(&["show", "checkpoint", "--at", "1", "--output", "json"]).expect(0).stdout;
    let ended = folder.call(&["rewind", "checkpoint", "--to", "1"]).expect(0);
    assert!(ended.stdout.contains("went from batch 3 back to batch 1"), "{}", ended.stdout);
    assert!(ended.stderr.contains("retracted"), "the console is told by a notice: {}", ended.stderr);
    assert_eq!(folder.shown(), first);
    assert_eq!(folder.published().keys().collect::<Vec<_>>(), ["traffic-00000000.json", "traffic-00000001.json"]);
    // the retracted batches are addressed by their generation
    assert_eq!(folder.call(&["show", "checkpoint", "--at", "3@1", "--output", "json"]).expect(0).stdout, shown);
    folder.call(&["show", "checkpoint", "--at", "3"]).expect(2);
    let log = folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
    let retracted: Vec<bool> = log.iter().map(|batch| batch["retracted"] == true).collect();
    assert_eq!(retracted, [false, false, true, true]);

    run(&folder, &["--quiet"]).expect(0);
    assert!(folder.shown() == shown && folder.published() == published, "byte for byte the same");
    let same = folder.call(&["diff", "checkpoint", "--from", "3@1", "--to", "3@2", "--output", "json"]).expect(0);
    assert_eq!(same.stdout, "");
    folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
}

#[test]
fn a_rewind_to_the_start_begins_anew_and_replan_drops_the_plans() {
    let folder = finished();
    let shown = folder.shown();
    let ended = folder.call(&["rewind", "checkpoint", "--to", "start", "--replan"]).expect(0);
    assert!(ended.stdout.contains("next: new input is planned"), "{}", ended.stdout);
    assert_eq!(folder.published().len(), 0);
    // the folder of the job's input must be there, for what is replayed
    std::fs::rename(folder.at("input"), folder.at("moved")).expect("it moves");
    let refused = folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(2);
    assert!(refused.stderr.contains("does not exist") && refused.stderr.contains("--set"), "{}", refused.stderr);
    std::fs::rename(folder.at("moved"), folder.at("input")).expect("it moves");
    // without plans to replay, other limits apply: all four files are one batch
    let once =
        folder.call(&["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--once"]).expect(0);
    assert!(
        once.stderr.contains("resuming from the start") && once.stderr.contains("batch 0  9 rows"),
        "{}",
        once.stderr
    );
    assert!(folder.shown() == shown);
    let nothing = folder.call(&["rewind", "checkpoint", "--to", "0"]).expect(0);
    assert!(nothing.stdout.contains("nothing to retract"), "{}", nothing.stdout);
    folder.call(&["rewind", "checkpoint", "--to", "12"]).expect(2);
}

#[test]
fn a_fork_needs_an_output_folder_of_its_own_and_leaves_the_first_alone() {
    let folder = finished();
    let (shown, published) = (folder.shown(), folder.published());
    let refused = folder.call(&["fork", "checkpoint", "--at", "1", "fork"]).expect(3);
    assert!(refused.stderr.contains("'traffic'") && refused.stderr.contains("--set"), "{}", refused.stderr);
    assert!(!folder.at("fork").exists());
    let forked = folder.call(&["fork", "checkpoint", "--at", "1", "fork", "--set", "OUTPUT=elsewhere"]).expect(0);
    assert!(forked.stdout.contains("highwater run"), "{}", forked.stdout);
    let words = ["run", "job.sql", "--checkpoint", "fork", "--set", "INPUT=input", "--set", "OUTPUT=elsewhere"];
    let ran = folder.call(&[&words[..], &["--available-now"]].concat()).expect(0);
    assert!(ran.stderr.contains("resuming after batch 1"), "{}", ran.stderr);
    let theirs = folder.call(&["show", "fork", "--query", "counts", "--output", "json"]).expect(0);
    let ours = folder.call(&["show", "checkpoint", "--query", "counts", "--output", "json"]).expect(0);
    assert_eq!((theirs.stdout, theirs.stderr.as_str()), (ours.stdout, ""), "nothing is missing, and no warning");
    assert_eq!(folder.call(&["show", "fork", "--output", "json"]).expect(0).stdout, shown);
    let theirs = crate::binary::files(&folder.at("elsewhere"));
    assert!(theirs.contains_key("traffic-00000003.json") && !theirs.contains_key("traffic-00000001.json"));
    assert!(folder.shown() == shown && folder.published() == published, "the first is as it was");
    let taken = folder.call(&["fork", "checkpoint", "--at", "1", "fork", "--set", "OUTPUT=third"]).expect(3);
    assert!(taken.stderr.contains("not empty"), "{}", taken.stderr);
}
