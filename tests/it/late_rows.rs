//! The side output for late rows belongs to the checkpoint like any other output: wherever its folder went, whatever lies in it.

use std::fs;

use crate::binary::{Ended, Folder, Running};

const JOB: &str = "
CREATE TABLE events (k STRING, ts TIMESTAMP) WITH (connector = 'files', path = '${INPUT}', format = 'json',
  max_files_per_trigger = '1', event_time = 'ts', watermark_delay = '10 seconds');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'append', late_rows = '${LATE}');
INSERT INTO counts SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
";

/// Batch 0, batch 1 without data, batch 2 with a late row, batch 3 without one.
fn ran() -> Folder {
    let folder = Folder::new(JOB);
    for (number, time) in [25, 9, 24].into_iter().enumerate() {
        folder.input(number, format!("{{\"k\":\"a\",\"ts\":{time}}}\n").as_bytes());
    }
    assert!(!check(&folder).contains("would be refused"));
    run(&folder, "late").expect(0);
    folder
}

fn check(folder: &Folder) -> String {
    folder.call(&["check", "job.sql", "--set", "INPUT=input", "--set", "LATE=late"]).expect(0).stdout
}

fn run(folder: &Folder, late: &str) -> Ended {
    let set = format!("LATE={late}");
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--available-now"];
    folder.call(&[&words[..], &["--set", "INPUT=input", "--set", &set]].concat())
}

#[test]
fn a_folder_that_was_exchanged_is_refused_though_the_newest_batch_had_no_late_row() {
    let folder = ran();
    let file = folder.at("late/counts.late-00000002.json");
    assert_eq!(
        fs::read_to_string(&file).expect("it was published"),
        "{\"row\":{\"k\":\"a\",\"ts\":\"1970-01-01T00:00:09\"},\"watermark\":\"1970-01-01T00:00:15\"}\n"
    );
    let refused = run(&folder, "elsewhere").expect(3);
    assert!(refused.stderr.contains("'counts.late' has published to another folder"), "{}", refused.stderr);
    assert!(!folder.at("elsewhere").exists(), "a refusal makes nothing");
    let told = check(&folder);
    assert!(told.contains("a new checkpoint would be refused: the files of 'counts.late' belong to another"), "{told}");
    run(&folder, "late").expect(0);
}

#[test]
fn a_file_that_no_batch_published_is_found_between_those_that_some_did() {
    let folder = ran();
    // a second late row, so that there are files before and behind the stray one
    folder.input(3, b"{\"k\":\"a\",\"ts\":8}\n");
    run(&folder, "late").expect(0);
    folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
    fs::copy(folder.at("late/counts.late-00000002.json"), folder.at("late/counts.late-00000003.json")).expect("a copy");
    let verified = folder.call(&["verify", "checkpoint"]).expect(3);
    let said = format!("{}{}", verified.stdout, verified.stderr);
    assert!(said.contains("counts.late-00000003.json was published by no committed batch"), "{said}");
}

#[test]
fn a_rewind_takes_late_rows_back_and_a_fork_has_a_folder_of_its_own() {
    let folder = ran();
    let fork = |set: &[&str]| folder.call(&[&["fork", "checkpoint", "--at", "0", "fork"][..], set].concat());
    let refused = fork(&[]).expect(3);
    assert!(refused.stderr.contains("late rows of sink 'counts'"), "{}", refused.stderr);
    fork(&["--set", "LATE=forked"]).expect(0);
    let rewound = folder.call(&["rewind", "checkpoint", "--to", "1"]).expect(0);
    let said = format!("{}{}", rewound.stdout, rewound.stderr);
    assert!(said.contains("counts.late: files in") && said.contains("counts.late-00000002.json"), "{said}");
    assert!(!folder.at("late/counts.late-00000002.json").exists());
    run(&folder, "late").expect(0);
    assert!(folder.at("late/counts.late-00000002.json").exists());
}

/// Roots are kept when a checkpoint is made: a folder that comes later must not depend on who looks from where.
#[test]
fn a_relative_folder_is_not_added_to_a_checkpoint() {
    let folder = Folder::new(&JOB.replace(", late_rows = '${LATE}'", ""));
    folder.input(0, b"{\"k\":\"a\",\"ts\":25}\n");
    folder.call(&["run", "job.sql", "--checkpoint", "checkpoint", "--available-now", "--set", "INPUT=input"]).expect(0);
    fs::write(folder.at("job.sql"), JOB).expect("it is written");
    let refused = run(&folder, "late").expect(3);
    assert!(refused.stderr.contains("the folder of 'counts.late' is relative"), "{}", refused.stderr);
    let late = folder.at("late").to_string_lossy().into_owned();
    run(&folder, &late).expect(0);
}

/// Without the secret the query would be another one, wherever the checkpoint is read.
#[test]
fn what_a_query_means_is_no_secret() {
    let folder = Folder::new(&JOB.replace("late_rows = '${LATE}'", "window_batches = '${env:N}'"));
    let words = ["check", "job.sql", "--set", "INPUT=input", "--set", "LATE=late"];
    let mut command = folder.command(&words);
    let ended = Running::start(command.env("N", "3")).wait().expect(2);
    assert!(ended.stderr.contains("${env:N} stands in option 'window_batches'"), "{}", ended.stderr);
}
