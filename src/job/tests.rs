//! Whole jobs, good and bad.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::model::{Error, ErrorKind, OutputMode};

mod refused;

const GOOD: &str = "-- Which devices are web servers?
CREATE TABLE flows (
  time DOUBLE, dstdevice STRING, \"DstPort\" TEXT, amount DECIMAL(10, 2), day DATE, at TIMESTAMP,
  _corrupt_record STRING
) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1',
  'latest_first' = true, max_file_age = '7 days', max_line_bytes = '1MB', mode = 'FailFast', max_bad_records = 0);
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE Out WITH (connector = 'files', path = 'out/${DAY:-today}', format = 'csv');
SET retain_batches = '100';
SET snapshot_batches = 8; SET read_ahead_bytes = '3 MiB';
CREATE VIEW web AS SELECT * FROM flows WHERE \"DstPort\" IN ('80', '443');
INSERT INTO counts
SELECT dstdevice, count(*) AS count FROM web GROUP BY dstdevice -- all of them
;
SELECT 1 FROM flows; ;
INSERT INTO OUT WITH x AS (SELECT 1) SELECT * FROM x;
(SELECT 2 FROM flows)";

fn variables() -> Variables {
    let given = BTreeMap::from([("INPUT".to_owned(), "it's/in".to_owned())]);
    Variables::with_environment(given, |name| match name {
        "SECRET" => Some(OsString::from("hush")),
        "DEPTH" => Some(OsString::from("987")),
        "DATABASE_URL" => Some(OsString::from("postgres://me@localhost/mine")),
        _ => None,
    })
}

fn job(text: &str) -> crate::model::Result<JobSpec> {
    parse("a.sql", "a", text, &variables())
}

fn error(text: &str) -> Error {
    let error = job(text).err().unwrap_or_else(|| panic!("this job was accepted: {text}"));
    assert_eq!(error.kind(), ErrorKind::Usage);
    error
}

#[test]
fn a_good_job_becomes_plain_data() {
    let job = job(GOOD).unwrap();
    assert_eq!((job.name.as_str(), job.template.as_str()), ("a", GOOD));
    assert_eq!(
        job.variables,
        BTreeMap::from([("DAY", "today"), ("INPUT", "it's/in")].map(|(a, b)| (a.into(), b.into())))
    );

    let flows = job.source("flows").unwrap();
    let types: Vec<(&str, DataType)> =
        flows.columns.iter().map(|column| (column.name.as_str(), column.data_type.clone())).collect();
    assert_eq!(
        types,
        [
            ("time", DataType::Float64),
            ("dstdevice", DataType::Utf8),
            ("DstPort", DataType::Utf8),
            ("amount", DataType::Decimal128(10, 2)),
            ("day", DataType::Date32),
            ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("_corrupt_record", DataType::Utf8),
            ("_file", DataType::Utf8),
        ]
    );
    assert_eq!(flows.files.path, "it's/in");
    assert!(flows.files.latest_first && !flows.files.recursive && !flows.files.file_name_only);
    assert_eq!(flows.files.max_files_per_trigger.map(u64::from), Some(1));
    assert_eq!(flows.files.max_file_age, Some(Duration::from_secs(7 * 86_400)));
    let records = RecordOptions {
        mode: Mode::FailFast,
        corrupt_column: Some(6),
        file_column: Some(7),
        line_bytes_max: 1 << 20,
        bad_records_max: Some(0),
    };
    assert_eq!(flows.format, FormatSpec { records, kind: FormatKind::Json { depth_max: 128 } });

    assert_eq!(job.settings.retain_batches.map(u64::from), Some(100));
    assert_eq!(u64::from(job.settings.snapshot_batches), 8);
    assert_eq!((job.settings.read_ahead_bytes, Settings::default().read_ahead_bytes), (3 << 20, 64 << 20));
    assert_eq!(job.views[0].sql, "CREATE VIEW web AS SELECT * FROM flows WHERE \"DstPort\" IN ('80', '443')");
}

#[test]
fn queries_keep_their_text_their_place_and_their_sink() {
    let job = job(GOOD).unwrap();
    let queries: Vec<(&str, &str, &str, Option<OutputMode>)> = job
        .queries
        .iter()
        .map(|query| {
            assert!(job.text[query.sql_at.0..].starts_with(&query.sql));
            let sink = job.sink_of(query);
            assert_eq!(sink.name, query.name);
            (query.name.as_str(), query.sql.as_str(), sink.connector.name(), sink.output_mode)
        })
        .collect();
    let counts = "SELECT dstdevice, count(*) AS count FROM web GROUP BY dstdevice";
    assert_eq!(
        queries,
        [
            ("counts", counts, "memory", Some(OutputMode::Complete)),
            ("query1", "SELECT 1 FROM flows", "console", None),
            ("out", "WITH x AS (SELECT 1) SELECT * FROM x", "files", None),
            ("query2", "(SELECT 2 FROM flows)", "console", None),
        ]
    );
    let files = SinkConnector::Files { path: "out/today".into(), format: RowFormat::Csv };
    assert_eq!(job.sink_of(&job.queries[2]).connector, files);
    let at = JobSpec::find_token(&job.queries[0].sql, job.queries[0].sql_at, "DSTDEVICE").unwrap();
    assert_eq!(
        Error::usage("x").at(job.place(at)).to_string(),
        "x\n  --> a.sql:13:8\n   | SELECT dstdevice, count(*) AS count FROM web GROUP BY dstdevice -- all of them\n   |        ^"
    );
}

#[test]
fn a_secret_reaches_the_option_and_nothing_that_is_kept_or_shown() {
    let text = "CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'json', max_depth = '${env:DEPTH}'); SELECT a FROM t";
    let job = job(text).unwrap();
    assert_eq!(job.sources[0].format.kind, FormatKind::Json { depth_max: 987 });
    assert!(job.variables.is_empty());
    for kept in [&job.text, &job.template, &job.queries[0].sql] {
        assert!(!kept.contains("987"));
    }
    let in_a_path = error(&text.replace("'x'", "'x''/${env:SECRET}'"));
    assert_eq!(in_a_path.what(), "${env:SECRET} stands in a path");
    assert!(!in_a_path.to_string().contains("hush"), "{in_a_path}");
    let bad = error(&text.replace("'json'", "'${env:SECRET}'")).to_string();
    assert!(bad.contains("bad value '${env:SECRET}'") && !bad.contains("hush"), "{bad}");
    assert_eq!(error("SELECT '${env:SECRET}'").what(), "${env:SECRET} stands in a query");
}

#[test]
fn a_value_that_no_name_takes_is_an_error() {
    let given = |name: &str| {
        let given = BTreeMap::from([(name.to_owned(), "x".to_owned())]);
        Variables::with_environment(given, |_| None)
    };
    let job = parse("a.sql", "a", "SELECT '${INPUT:-x}'", &given("INPUT")).unwrap();
    assert!(given("INPUT").check_all_used(&job).is_ok());
    assert_eq!(
        given("INPT").check_all_used(&job).unwrap_err().to_string(),
        "--set INPT: the job has no ${INPT}\n  help: did you mean --set INPUT=...?"
    );
}

/// The files that a user runs first.
#[test]
fn every_job_of_the_project_is_good() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-- "), "{name} does not say what it answers");
        assert!(text.contains(&format!("highwater run jobs/{name}.sql")), "{name} does not say how to run it");
        let job = parse(&format!("{name}.sql"), &name, &text, &variables());
        assert!(job.is_ok(), "{}", job.unwrap_err());
        names.push(name);
    }
    assert!(names.iter().any(|name| name == "web_servers"), "{names:?}");
}

#[test]
fn a_source_may_not_read_what_a_sink_writes() {
    for (input, options, output, fed) in [
        ("io", "", "io", true),
        ("io", "", "io/out", false),
        ("io", "", "io/day=1/hour=2", true),
        ("io", "", "io/day=1/x", false),
        ("io", ", recursive = true", "io/out", true),
        ("io/*.json", "", "io", true),
        ("io/*.log", "", "io", false),
        ("io/*/*", "", "io/out", true),
        ("io/*/*", "", "io", false),
        ("io/in", "", "io/out", false),
        ("io/s.json", "", "io", false),
    ] {
        let text = format!(
            "CREATE TABLE t (a INT) WITH (connector = 'files', path = '{input}', format = 'json'{options});
             CREATE TABLE s WITH (connector = 'files', path = '{output}', format = 'json'); INSERT INTO s SELECT a FROM t"
        );
        assert_eq!(job(&text).is_err(), fed, "{input} {options} {output}");
    }
}

proptest! {
    /// Whatever a job file holds, reading it ends in a job or in an error that names a place in the text.
    #[test]
    fn no_text_makes_the_parser_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[ -~é\n]{0,6}|'|\"|;|\\$\\{|/\\*!?|--|\\)|E'|\\$\\$"), 1..8)
    ) {
        let mut text = GOOD.to_owned();
        for (place, length, with) in edits {
            let start = text.floor_char_boundary(place.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len())).max(start);
            text.replace_range(start..end, &with);
        }
        match job(&text) {
            Ok(job) => for query in &job.queries {
                prop_assert!(job.text[query.sql_at.0..].starts_with(&query.sql));
            },
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Usage);
                prop_assert!(error.place().is_some(), "{}", error);
            }
        }
    }
}

/// Types inside of types, their brackets written together or not.
#[test]
fn nested_types_are_read() {
    for (declared, shown) in [
        ("ARRAY<INT>", "List(Int32)"),
        ("ARRAY<ARRAY<ARRAY<STRING>>>", "List(List(List(Utf8)))"),
        ("STRUCT<a: INT, \"B c\" ARRAY<DECIMAL(5, 2)> >", "Struct(\"a\": Int32, \"B c\": List(Decimal128(5, 2)))"),
        (
            "MAP<STRING, STRUCT<x MAP<STRING, BIGINT>>>",
            "Map(\"entries\": non-null Struct(\"key\": non-null Utf8, \"value\": Struct(\"x\": Map(\"entries\": non-null Struct(\"key\": non-null Utf8, \"value\": Int64), unsorted))), unsorted)",
        ),
    ] {
        let text = format!(
            "CREATE TABLE t (v {declared}, w INT) WITH (connector = 'files', path = 'x', format = 'json'); SELECT w FROM t"
        );
        let job = job(&text).unwrap();
        assert_eq!(job.sources[0].columns[0].data_type.to_string(), shown, "{declared}");
        assert_eq!(job.sources[0].declared_schema().fields().len(), 2);
    }
}
