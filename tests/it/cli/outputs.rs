//! What the commands print, line for line.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
};

use super::{finished, fixture, fixture_of, run};
use crate::binary::Folder;

const COUNTS: &str = r#"{"device":"b","count":3}
{"device":"a","count":2}
{"device":"c","count":1}
"#;

#[test]
fn the_console_prints_one_line_per_batch_and_stdout_nothing_else() {
    let folder = fixture();
    let ended = run(&folder, &["--output", "json"]).expect(0);
    assert_eq!(
        ended.stdout,
        r#"{"query":"query1","batchId":0,"rows":[]}
{"query":"query1","batchId":1,"rows":[]}
{"query":"query1","batchId":2,"rows":[{"device":"c","bytes":5},{"device":"b","bytes":6}]}
{"query":"query1","batchId":3,"rows":[{"device":"c","bytes":7},{"device":"a","bytes":8}]}
"#
    );
    assert!(ended.stderr.contains("done with batch 3: 4 batches, 9 rows, 1 bad record\n"), "{}", ended.stderr);
    // after a clean exit nothing is printed again
    let again = run(&folder, &["--output", "json"]).expect(0);
    assert_eq!((again.stdout.as_str(), again.stderr.contains("nothing new: the newest is batch 3")), ("", true));
}

#[test]
fn show_prints_a_result_as_table_json_or_csv_as_of_any_batch() {
    let folder = finished();
    let show = |options: &[&str]| folder.call(&[&["show", "checkpoint"], options].concat()).expect(0).stdout;
    assert_eq!(show(&["--query", "counts", "--output", "json"]), COUNTS);
    assert_eq!(show(&["--query", "counts", "--output", "csv"]), "device,count\nb,3\na,2\nc,1\n");
    let table = show(&["--query", "counts"]);
    assert_eq!(table.lines().nth(3), Some("| b      | 3     |"), "{table}");
    for (batch, expected) in [("0", "a,1\nb,1\n"), ("1", "a,1\nb,1\n"), ("2@1", "b,3\na,1\n")] {
        let shown = show(&["--query", "counts", "--output", "csv", "--at", batch]);
        assert_eq!(shown, format!("device,count\n{expected}"), "at {batch}");
    }
    let sql =
        "SELECT sum(count) AS total, max(bytes) AS most FROM counts JOIN traffic ON counts.device = traffic.device";
    assert_eq!(show(&["--sql", sql, "--output", "json"]), "{\"total\":6,\"most\":12}\n");
    // every query, each row with its name; the appended rows are kept as well
    assert_eq!(
        show(&["--output", "json"]),
        r#"{"query":"counts","device":"b","count":3}
{"query":"counts","device":"a","count":2}
{"query":"counts","device":"c","count":1}
{"query":"traffic","device":null,"bytes":null}
{"query":"traffic","device":"a","bytes":12}
{"query":"traffic","device":"b","bytes":12}
{"query":"traffic","device":"c","bytes":12}
{"query":"query1","device":"c","bytes":5}
{"query":"query1","device":"b","bytes":6}
{"query":"query1","device":"c","bytes":7}
{"query":"query1","device":"a","bytes":8}
"#
    );
}

#[test]
fn batch_is_the_baseline_of_show() {
    let folder = finished();
    let batch = |options: &[&str]| {
        folder.call(&[&["batch", "job.sql", "--set", "INPUT=input", "--output", "json"], options].concat()).expect(0)
    };
    assert_eq!(batch(&["--query", "counts"]).stdout, COUNTS);
    let all = batch(&[]);
    assert_eq!(all.stdout, folder.shown());
    assert!(all.stderr.contains("0002.json: 1 bad record"), "{}", all.stderr);
    let verified = folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
    assert_eq!(verified.stdout, "all good: 4 batches checked, 12 results compared with the batch\n");
}

/// A new group whose values are all null, beside groups that were there before.
#[test]
fn a_sum_over_nulls_only_is_null_in_a_group_that_comes_late() {
    let folder = finished();
    let shown = folder.call(&["show", "checkpoint", "--query", "traffic", "--at", "2", "--output", "json"]).expect(0);
    assert_eq!(shown.lines()[0], r#"{"device":null,"bytes":null}"#);
}

#[test]
fn diff_prints_the_groups_that_changed_with_both_values() {
    let folder = finished();
    let diff = |options: &[&str]| folder.call(&[&["diff", "checkpoint"], options].concat()).expect(0).stdout;
    assert_eq!(
        diff(&["--from", "0", "--to", "3", "--query", "counts", "--output", "json"]),
        r#"{"key":{"device":"a"},"from":{"count":1},"to":{"count":2}}
{"key":{"device":"b"},"from":{"count":1},"to":{"count":3}}
{"key":{"device":"c"},"from":null,"to":{"count":1}}
"#
    );
    assert_eq!(
        diff(&["--from", "3", "--to", "0", "--query", "counts", "--output", "csv"]),
        "device,count at 3,count at 0\na,2,1\nb,3,1\nc,1,\n"
    );
    assert_eq!(
        diff(&["--from", "2", "--to", "3", "--query", "query1", "--output", "json"]),
        r#"{"key":{},"from":null,"to":{"device":"c","bytes":7}}
{"key":{},"from":null,"to":{"device":"a","bytes":8}}
"#
    );
    assert_eq!(diff(&["--from", "0", "--to", "1", "--output", "json"]), "", "an empty file changes nothing");
    assert!(diff(&["--from", "0", "--to", "3"]).starts_with("counts\n+--"));
}

/// By text 10 would come before 9.
#[test]
fn diff_orders_groups_as_show_does() {
    let folder = fixture_of(&super::JOB.replace(
        "SELECT device, bytes FROM flows WHERE bytes > 4;",
        "SELECT bytes + 4 AS size, count(*) AS count FROM flows GROUP BY bytes + 4;",
    ));
    run(&folder, &["--quiet"]).expect(0);
    let first = |line: &&str| line.split(',').next().expect("a cell").to_owned();
    let words = ["show", "checkpoint", "--query", "query1", "--output", "csv"];
    let shown: Vec<String> = folder.call(&words).expect(0).lines().iter().map(first).collect();
    assert_eq!(shown, ["size", "", "5", "6", "7", "8", "9", "10", "11", "12"]);
    let words = ["diff", "checkpoint", "--from", "0", "--to", "3", "--query", "query1", "--output", "csv"];
    let changed: Vec<String> = folder.call(&words).expect(0).lines().iter().map(first).collect();
    assert_eq!(changed, ["size", "", "8", "9", "10", "11", "12"]);
}

#[test]
fn log_prints_a_row_per_batch_and_spark_s_progress_as_json() {
    let folder = finished();
    let log = folder.call(&["log", "checkpoint"]).expect(0);
    assert_eq!(log.lines().len(), 4 + 4, "a frame, a header and four batches:\n{}", log.stdout);
    let json = folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
    assert_eq!(json.len(), 4);
    for (number, batch) in json.iter().enumerate() {
        assert_eq!(batch["batchId"], number);
        assert_eq!(batch["name"], "job");
        assert_eq!(batch["sources"][0]["endOffset"]["logOffset"], number);
        assert_eq!(batch["sources"][0]["files"][0], format!("{number:04}.json"));
        assert_eq!(batch["id"], json[0]["id"]);
        assert_eq!(batch["address"], format!("{number}@1"));
        assert!(batch["retracted"].is_null());
        for field in ["runId", "timestamp", "durationMs", "eventTime", "stateOperators", "sink", "sinks"] {
            assert!(!batch[field].is_null(), "{field}: {batch}");
        }
        // what is known only after the commit travels with the next one
        assert_eq!(batch["batchDuration"].is_null(), number == 3, "{batch}");
    }
    let of = |field: &str| json.iter().map(|batch| batch[field].as_u64().expect("a number")).collect::<Vec<_>>();
    assert_eq!((of("numInputRows"), of("numBadRows")), (vec![3, 0, 4, 2], vec![0, 0, 1, 0]));
    assert_eq!(json[2]["badFiles"], serde_json::json!(["0002.json"]));
    assert_eq!(json[3]["stateOperators"][0]["numRowsTotal"], 3);
}

#[test]
fn log_has_the_formats_of_show_and_says_where_a_duration_is_not_known() {
    let folder = fixture();
    run(&folder, &["--max-batches", "2"]).expect(0);
    run(&folder, &[]).expect(0);
    let log = |options: &[&str]| folder.call(&[&["log", "checkpoint"], options].concat());
    assert_eq!(log(&["--output", "json"]).expect(0).stdout, log(&["--json"]).expect(0).stdout);
    assert_eq!(log(&["--output", "table"]).expect(0).stdout, log(&[]).expect(0).stdout);
    let refused = log(&["--json", "--output", "csv"]).expect(2);
    assert!(refused.stderr.contains("cannot be used with"), "{}", refused.stderr);
    let csv = log(&["--output", "csv"]).expect(0);
    let lines = csv.lines();
    let header = "batch,generation,committed_at,files,rows,bad,state,watermark,ms,rows_per_second,retracted";
    assert_eq!((lines.len(), lines[0]), (5, header));
    for (batch, expected) in
        ["0,1,*,0000.json,3,0,4,,", "1,1,*,0001.json,0,0,4,,", "2,1,*,0002.json,4,1,6,,"].iter().enumerate()
    {
        let mut cells: Vec<&str> = lines[batch + 1].split(',').collect();
        cells[2] = "*";
        assert_eq!(cells[..8].join(",") + ",", *expected, "{}", csv.stdout);
        // batch 1 is the last of the first run: nobody was there to keep how long it took
        assert_eq!(cells[8].is_empty(), batch == 1, "{}", csv.stdout);
        assert_eq!(cells[10], "false");
    }
    let table = log(&[]).expect(0);
    let dashes: Vec<usize> = (0..4).filter(|batch| table.lines()[batch + 3].contains("| -  ")).collect();
    assert_eq!(dashes, [1, 3], "{}", table.stdout);
}

#[test]
fn a_checkpoint_without_a_batch_has_an_empty_log() {
    let folder = Folder::new(super::JOB);
    run(&folder, &[]).expect(0);
    assert_eq!(folder.call(&["log", "checkpoint", "--json"]).expect(0).stdout, "");
    folder.call(&["log", "checkpoint"]).expect(0);
    let shown = folder.call(&["show", "checkpoint"]).expect(2);
    assert!(shown.stderr.contains("no batch yet") && shown.stderr.contains("highwater run"), "{}", shown.stderr);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

#[test]
fn json_progress_is_all_that_stderr_has_and_is_what_the_log_has() {
    let folder = fixture();
    let ended = run(&folder, &["--progress", "json"]).expect(0);
    let told: Vec<serde_json::Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let log = folder.call(&["log", "checkpoint", "--json"]).expect(0).json();
    assert_eq!(told.len(), 4);
    for (batch, (told, logged)) in told.iter().zip(&log).enumerate() {
        for field in ["id", "runId", "timestamp", "numInputRows", "stateOperators", "eventTime", "numBadRows"] {
            // how long the newest commit took, only the next one tells the log
            if (batch, field) != (3, "stateOperators") {
                assert_eq!(told[field], logged[field], "{field}");
            }
        }
        assert!(told["batchDuration"].is_u64(), "{told}");
    }
    let quiet = run(&folder, &["--progress", "none"]).expect(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn bad_records_are_kept_with_file_line_and_byte() {
    let folder = finished();
    let kept = crate::binary::files(&folder.at("checkpoint/bad-records"));
    let [(name, bytes)] = &kept.into_iter().collect::<Vec<_>>()[..] else { panic!("one batch had a bad record") };
    assert_eq!(name, "000000000002-g1.jsonl");
    let record: serde_json::Value = serde_json::from_slice(bytes).expect("one line of JSON");
    let of = |field: &str| record[field].clone();
    assert_eq!((of("source"), of("file"), of("text")), ("flows".into(), "0002.json".into(), "not json".into()));
    assert_eq!((of("line"), of("byte")), (2.into(), 37.into()));
    assert!(record["reason"].as_str().is_some_and(|reason| reason.starts_with("not JSON")), "{record}");
}

#[test]
fn the_output_folder_shows_one_whole_file_per_batch() {
    let folder = finished();
    let published = folder.published();
    let names: Vec<_> = published.keys().cloned().collect();
    assert_eq!(names, [0, 1, 2, 3].map(|batch| format!("traffic-{batch:08}.json")));
    let text = |batch: usize| String::from_utf8(published[&names[batch]].clone()).expect("UTF-8");
    assert_eq!(text(0), "{\"device\":\"a\",\"bytes\":4}\n{\"device\":\"b\",\"bytes\":2}\n");
    assert_eq!(text(1), "");
    assert_eq!(text(3), "{\"device\":\"a\",\"bytes\":12}\n{\"device\":\"c\",\"bytes\":12}\n");
}

#[test]
fn control_characters_in_data_never_reach_the_terminal() {
    let folder = fixture();
    let nasty = "\u{1b}]0;gotcha\u{7}\u{1b}[2J\r\u{9b}31m";
    let row = serde_json::json!({"device": nasty, "port": "80", "bytes": 9});
    folder.input(4, format!("{row}\n").as_bytes());
    let name = format!("{}.json", "\u{1b}[31mred");
    folder.write(&format!("input/{name}"), b"not json\n");
    crate::stream::stamp(&folder.at(&format!("input/{name}")), 5);
    let ran = run(&folder, &[]).expect(0);
    let commands =
        [&["show", "checkpoint"][..], &["log", "checkpoint"], &["diff", "checkpoint", "--from", "0", "--to", "4"]];
    let printed = commands.map(|words| folder.call(words).expect(0));
    let texts = printed.iter().chain([&ran]).flat_map(|ended| [&ended.stdout, &ended.stderr]);
    for text in texts {
        let control = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!text.contains(control), "{text:?}");
    }
    assert!(printed[0].stdout.contains("\\u{1b}]0;gotcha"), "{}", printed[0].stdout);
    // data that is data: JSON escapes it, and reads back
    let json = folder.call(&["show", "checkpoint", "--query", "counts", "--output", "json"]).expect(0).json();
    assert!(json.iter().any(|row| row["device"] == nasty));
}

#[test]
fn a_reader_that_has_enough_ends_a_command_quietly() {
    let folder = fixture_of(super::JOB);
    let many: String =
        (0..30_000).map(|n| format!("{{\"device\":\"device{n}\",\"port\":\"80\",\"bytes\":1}}\n")).collect();
    folder.input(4, many.as_bytes());
    run(&folder, &["--quiet"]).expect(0);
    for words in [&["show", "checkpoint", "--output", "json"][..], &["batch", "job.sql", "--set", "INPUT=input"]] {
        let mut command = folder.command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut first).expect("it can be read");
        let ended = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{said}");
        assert!(!said.contains("panicked") && !said.contains("error"), "{said}");
    }
}

#[test]
fn a_secret_is_used_and_no_byte_of_a_checkpoint_holds_it() {
    // what a secret may be today: the value of any option that is no path
    const SECRET: &str = "1048613";
    let folder =
        fixture_of(&super::JOB.replacen("format = 'json',", "format = 'json', max_line_bytes = '${env:LENGTH}',", 1));
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--available-now", "-vv"];
    let ended = crate::binary::Running::start(folder.command(&words).env("LENGTH", SECRET)).wait().expect(0);
    assert!(ended.stderr.contains("4 batches"), "{}", ended.stderr);
    assert!(!ended.stderr.contains(SECRET) && !ended.stdout.contains(SECRET), "{}", ended.stderr);
    let mut files = 0;
    each_file(&folder.at("checkpoint"), &mut |path| {
        let content = fs::read(path).expect("it is readable");
        files += 1;
        let found = content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "{} holds the secret", path.display());
    });
    assert!(files > 3, "there is a checkpoint");
    let missing = folder.call(&words).expect(2);
    assert!(missing.stderr.contains("LENGTH"), "{}", missing.stderr);
    // results can be read without it
    folder.call(&["show", "checkpoint", "--query", "counts"]).expect(0);
    folder.call(&["log", "checkpoint"]).expect(0);
}

#[test]
fn a_secret_is_refused_where_it_would_be_kept() {
    const SECRET: &str = "correct-horse-battery";
    for (part, instead) in [("bytes > 4", "device <> '${env:PASSWORD}' AND bytes > 4"), ("${INPUT}", "${env:PASSWORD}")]
    {
        let folder = fixture_of(&super::JOB.replace(part, instead));
        let mut command = folder.command(&["run", "job.sql", "--checkpoint", "checkpoint", "--available-now", "-vv"]);
        let ended =
            crate::binary::Running::start(command.env("PASSWORD", SECRET).env("INPUT", "input")).wait().expect(2);
        assert!(ended.stderr.contains("${env:PASSWORD} stands in a"), "{}", ended.stderr);
        assert!(!ended.stderr.contains(SECRET) && !ended.stdout.contains(SECRET), "{}", ended.stderr);
        assert!(!folder.at("checkpoint").exists(), "nothing is touched");
    }
}

fn each_file(folder: &std::path::Path, see: &mut dyn FnMut(&std::path::Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("listed").path()) {
        if path.is_dir() { each_file(&path, see) } else { see(&path) }
    }
}
