//! The command line's contract, by the real binary over a small fixture whose every answer is known by hand.

mod mistakes;
mod outputs;
mod refusals;
mod rewinding;
mod running;
mod terminal;

use crate::binary::{Ended, Folder};

/// One query of each kind: a table in the checkpoint, a file per batch, lines on the console.
const JOB: &str = "\
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT:-output}', format = 'json', output_mode = 'update');
INSERT INTO counts SELECT device, count(*) AS count FROM flows WHERE port IN ('80', '443') GROUP BY device ORDER BY count DESC;
INSERT INTO traffic SELECT device, sum(bytes) AS bytes FROM flows GROUP BY device;
SELECT device, bytes FROM flows WHERE bytes > 4;
";

/// Four files: three rows; none; three rows and a bad record; two rows.
const INPUT: [&str; 4] = [
    r#"{"device":"a","port":"80","bytes":1}
{"device":"b","port":"443","bytes":2}
{"device":"a","port":"53","bytes":3}
"#,
    "",
    r#"{"device":"b","port":"80","bytes":4}
not json
{"device":"c","port":"Port80","bytes":5}
{"device":"b","port":"443","bytes":6}
"#,
    r#"{"device":"c","port":"443","bytes":7}
{"device":"a","port":"443","bytes":8}
"#,
];

/// The job and its input; nothing has run.
fn fixture() -> Folder {
    fixture_of(JOB)
}

fn fixture_of(sql: &str) -> Folder {
    let folder = Folder::new(sql);
    for (number, text) in INPUT.iter().enumerate() {
        folder.input(number, text.as_bytes());
    }
    folder
}

/// A run over all that is there.
#[track_caller]
fn run(folder: &Folder, options: &[&str]) -> Ended {
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--available-now"];
    folder.call(&[&words[..], options].concat())
}

/// The fixture after all four batches.
fn finished() -> Folder {
    let folder = fixture();
    run(&folder, &["--quiet"]).expect(0);
    folder
}
