//! The jobs of `jobs/` over formats other than JSON: straight, crashed at every point that they come to, and rewound to
//! every batch, with the answers that are known of the input.

use std::fs;

use highwater::{
    batch::{self, VerifyOptions},
    model::{CrashPoint, ErrorKind, Faults, crash::Crash},
};
use serde_json::{Value, json};

use crate::{
    published::shared,
    stream::{Scratch, rows},
    trace::{Trace, restore_folder},
};

const LOG_ANALYZER: &str = include_str!("../../jobs/log_analyzer.sql");
const WORD_COUNT: &str = include_str!("../../jobs/word_count.sql");

/// A job over files, not yet run.
pub fn job(sql: &str, ending: &str, files: &[Vec<u8>]) -> Scratch {
    let mut scratch = Scratch::new(&format!("SET snapshot_batches = '3';\n{sql}"));
    for (number, bytes) in files.iter().enumerate() {
        scratch.add_named(&format!("{number:04}.{ending}"), bytes);
    }
    scratch
}

pub fn run(scratch: &Scratch) {
    scratch.run(Faults::none(), 2).unwrap_or_else(|error| panic!("{error}"));
}

/// Runs it straight; then again, crashed and rewound everywhere: each time it ends the same.
pub fn golden(scratch: &Scratch, batches: u64) {
    let untouched = crate::stream::temporary_folder();
    restore_folder(scratch.dir.path(), untouched.path());
    let faults = Faults::watching();
    scratch.run(faults.clone(), 2).unwrap_or_else(|error| panic!("{error}"));
    let expected = Trace::of(scratch);
    assert_eq!(expected.batches.len() as u64, batches);
    let done = crate::stream::temporary_folder();
    restore_folder(scratch.dir.path(), done.path());
    for (point, count) in faults.reached() {
        restore_folder(untouched.path(), scratch.dir.path());
        crash(scratch, point, 1 + count / 2);
        run(scratch);
        Trace::of(scratch).assert_same(&expected, &(point, 1 + count / 2));
    }
    restore_folder(done.path(), scratch.dir.path());
    for batch in (0..batches).rev() {
        scratch.rewind(Some(batch), false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
        run(scratch);
        // the batches of another generation are told apart by it, and by nothing else
        let found = Trace::of(scratch);
        assert_eq!(found.output, expected.output, "after a rewind to {batch}");
        let results = |trace: &Trace| trace.batches.values().map(|batch| batch.results.clone()).collect::<Vec<_>>();
        assert_eq!(results(&found), results(&expected), "after a rewind to {batch}");
    }
}

fn crash(scratch: &Scratch, point: CrashPoint, nth: u64) {
    match scratch.run(Faults::armed(point, nth, Crash::Error), 1) {
        Err(error) if error.kind() == ErrorKind::Crashed => {}
        other => panic!("no crash at {point:?}, {nth}: {other:?}"),
    }
}

/// The newest result of a query, a JSON object a row.
pub fn result(scratch: &Scratch, query: &str) -> Vec<Value> {
    let view = scratch.view();
    let at = view.newest().unwrap_or_else(|| panic!("there are batches"));
    let table = view.result(query, at).unwrap_or_else(|error| panic!("{error}"));
    rows(&table).iter().map(|row| serde_json::from_str(row).unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// Of the batches that count.
pub fn bad_rows(scratch: &Scratch) -> u64 {
    let log = scratch.view().log().unwrap_or_else(|error| panic!("{error}"));
    log.iter().filter(|row| !row.retracted).map(|row| row.bad_rows).sum()
}

#[test]
fn words_are_counted() {
    let files: [&[u8]; 4] = [
        b"The batch, the LOG.\n\nonce\n",
        b"",
        "\u{FEFF}  log-log \u{e9}t\u{e9}; the\r\n1 2 3\n".as_bytes(),
        b"\xFF\nthe once",
    ];
    let scratch = job(WORD_COUNT, "txt", &files.map(<[u8]>::to_vec));
    golden(&scratch, 4);
    let counts = [("the", 4), ("log", 3), ("once", 2), ("batch", 1), ("\u{e9}t\u{e9}", 1)];
    let counts: Vec<Value> = counts.iter().map(|(word, count)| json!({"word": word, "count": count})).collect();
    assert_eq!(result(&scratch, "words"), counts);
    assert_eq!(bad_rows(&scratch), 1, "a line is no UTF-8");
}

/// Objects and arrays inside of records: their parts, and their elements as rows.
#[test]
fn nested_values_are_queried() {
    let sql = "
        CREATE TABLE messages (author STRUCT<name STRING, age INT>, tags ARRAY<STRING>, counts MAP<STRING, BIGINT>)
          WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
        CREATE TABLE tags WITH (connector = 'memory', output_mode = 'complete');
        CREATE TABLE authors WITH (connector = 'memory', output_mode = 'complete');
        INSERT INTO tags SELECT tag, count(*) AS count FROM (SELECT unnest(tags) AS tag FROM messages) GROUP BY tag ORDER BY count DESC;
        INSERT INTO authors SELECT author['name'] AS name, sum(counts['likes']) AS likes, max(cardinality(tags)) AS most
          FROM messages GROUP BY author['name'] ORDER BY name;";
    let files: [&[u8]; 3] = [
        br#"{"author": {"name": "ann", "age": 7}, "tags": ["a", "b", "a"], "counts": {"likes": 2}}
{"author": {"name": "bob"}, "tags": [], "counts": {}}
"#,
        br#"{"author": {"name": "ann"}, "tags": null, "counts": {"likes": 3, "shares": 1}}
{"author": {"name": 5}, "tags": ["b", 1], "counts": {"likes": "many"}}
"#,
        b"",
    ];
    let scratch = job(sql, "json", &files.map(<[u8]>::to_vec));
    golden(&scratch, 3);
    assert_eq!(
        result(&scratch, "tags"),
        [json!({"tag": "a", "count": 2}), json!({"tag": "b", "count": 2}), json!({"tag": "1", "count": 1})]
    );
    let authors = [
        json!({"name": "5", "likes": null, "most": 2}),
        json!({"name": "ann", "likes": 5, "most": 3}),
        json!({"name": "bob", "likes": null, "most": 0}),
    ];
    assert_eq!(result(&scratch, "authors"), authors);
    assert_eq!(bad_rows(&scratch), 1, "a count is no number");
}

/// Arrays, structs and maps as group keys: equal ones are one group, and ties are ordered by them, in stream and batch.
#[test]
fn nested_values_are_group_keys() {
    let sql = "
        CREATE TABLE t (a ARRAY<BIGINT>, s STRUCT<x BIGINT, y STRING>, m MAP<STRING, BIGINT>)
          WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
        CREATE TABLE arrays WITH (connector = 'memory', output_mode = 'complete');
        CREATE TABLE structs WITH (connector = 'memory', output_mode = 'complete');
        CREATE TABLE maps WITH (connector = 'memory', output_mode = 'complete');
        INSERT INTO arrays SELECT a, count(*) AS n FROM t GROUP BY a ORDER BY n DESC LIMIT 2;
        INSERT INTO structs SELECT s, count(*) AS n FROM t GROUP BY s ORDER BY n DESC;
        INSERT INTO maps SELECT m, count(*) AS n FROM t GROUP BY m;";
    let files: [&[u8]; 2] = [
        br#"{"a": [2], "s": {"x": 1, "y": "b"}, "m": {"k": 1, "l": 2}}
{"a": [1, 2], "s": {"x": 1, "y": "a"}, "m": {"l": 2}}
"#,
        br#"{"a": [1], "s": {"y": "b", "x": 1}, "m": {"l": 2, "k": 1}}
{"a": [1, 2], "s": {"x": 0}, "m": {}}
"#,
    ];
    let scratch = job(sql, "json", &files.map(<[u8]>::to_vec));
    golden(&scratch, 2);
    assert_eq!(result(&scratch, "arrays"), [json!({"a": [1, 2], "n": 2}), json!({"a": [1], "n": 1})]);
    let structs = [
        json!({"s": {"x": 1, "y": "b"}, "n": 2}),
        json!({"s": {"x": 0, "y": null}, "n": 1}),
        json!({"s": {"x": 1, "y": "a"}, "n": 1}),
    ];
    assert_eq!(result(&scratch, "structs"), structs);
    let maps = [json!({"m": {}, "n": 1}), json!({"m": {"k": 1, "l": 2}, "n": 2}), json!({"m": {"l": 2}, "n": 1})];
    assert_eq!(result(&scratch, "maps"), maps);
    let options = VerifyOptions { batch: true, every: true, threads: 1 };
    let report = batch::verify(&scratch.checkpoint(), &options, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((report.findings, report.notes), (vec![], vec![]));
}

/// The log in ten files of a thousand lines.
fn apache_log() -> Option<(Scratch, Value)> {
    let folder = shared("apache-access")?;
    let text = fs::read_to_string(folder.join("apache_logs")).expect("it is text");
    let lines: Vec<&str> = text.lines().collect();
    let files: Vec<Vec<u8>> = lines.chunks(1000).map(|lines| (lines.join("\n") + "\n").into_bytes()).collect();
    let expected = fs::read(folder.join("expected.json")).expect("the answers are beside it");
    Some((job(LOG_ANALYZER, "log", &files), serde_json::from_slice(&expected).expect("it is JSON")))
}

#[test]
fn a_real_access_log_gives_the_published_answers() {
    let Some((scratch, expected)) = apache_log() else { return };
    golden(&scratch, 10);
    let sizes = &result(&scratch, "content_size")[0];
    let null_for_dash = &expected["content_size_null_for_dash"];
    for (found, published) in [("smallest", "min"), ("largest", "max"), ("total", "sum")] {
        assert_eq!(sizes[found], null_for_dash[published], "{found}");
    }
    let mean = |value: &Value| value.as_f64().expect("a number");
    assert!((mean(&sizes["mean"]) - mean(&null_for_dash["avg"])).abs() < 1e-6, "{sizes}");
    // the line that cannot be read has no size either
    assert_eq!(sizes["answers"].as_u64(), Some(10_000 - 1 - expected["bytes_dash_rows"].as_u64().expect("a number")));

    let codes: serde_json::Map<String, Value> = result(&scratch, "response_codes")
        .iter()
        .map(|row| (row["status"].to_string(), row["count"].clone()))
        .collect();
    assert_eq!(Value::from(codes), expected["status_counts"]);
    let hosts = result(&scratch, "frequent_hosts");
    assert_eq!(hosts.len() as u64, expected["ips_gt_10"].as_u64().expect("a number"));
    let pairs =
        |rows: &[Value], name: &str| Value::from_iter(rows.iter().take(10).map(|row| json!([row[name], row["count"]])));
    assert_eq!(pairs(&hosts, "host"), expected["top10_ips"]);
    assert_eq!(pairs(&result(&scratch, "top_endpoints"), "path"), expected["top10_endpoints"]);
    let hours: Vec<u64> =
        result(&scratch, "hourly").iter().map(|row| row["count"].as_u64().expect("a count")).collect();
    let published =
        expected["hourly_counts"].as_array().expect("pairs").iter().map(|pair| pair[1].as_u64().expect("a count"));
    assert_eq!(hours, published.collect::<Vec<_>>());
}

/// Its one bad record is named with its line: the 8,899th of all is the 899th of the ninth file.
#[test]
fn the_bad_line_of_a_real_access_log_is_named() {
    let Some((scratch, expected)) = apache_log() else { return };
    run(&scratch);
    assert_eq!(expected["unparsed_lines"], json!([8899]));
    let folder = scratch.checkpoint().join("bad-records");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("bad records").map(|entry| entry.expect("listed").path()).collect();
    let file = files.pop().filter(|_| files.is_empty()).expect("one batch has one");
    let record: Value = serde_json::from_str(&fs::read_to_string(file).expect("text")).expect("one line of JSON");
    assert!(record["file"].as_str().expect("its file").ends_with("0008.log"), "{record}");
    assert_eq!(record["line"], 899, "{record}");
}
