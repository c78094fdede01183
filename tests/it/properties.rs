//! Random flows, files, limits, queries, kills and rewinds: the streaming result equals the batch result of plain
//! DataFusion over all input, a fold of our own for counts and sums, and whatever was killed when leaves no trace.
//!
//! `PROPTEST_CASES` sets how many jobs are tried. A find becomes a named test at the end of this file.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use highwater::{
    batch::{self, VerifyOptions},
    model::{CrashPoint, ErrorKind, Faults, crash::Crash},
    query::difference,
    sink,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use self::{
    flows::{COLUMNS, line},
    queries::{Body, Query, SinkKind, query},
};

use crate::{
    oracle::{Oracle, Type},
    stream::{Scratch, rows},
    trace::{Trace, files},
};

mod flows;
mod queries;

#[derive(Debug, Clone)]
struct Case {
    files: Vec<Vec<String>>,
    files_max: Option<u8>,
    drop_malformed: bool,
    snapshot_batches: u8,
    retain: Option<u8>,
    queries: Vec<Query>,
    kills: Vec<(usize, u64)>,
    rewind: (u8, bool),
}

fn case() -> impl Strategy<Value = Case> {
    let file = prop_oneof![6 => prop::collection::vec(line(), 1..25), 1 => Just(Vec::new())];
    let kills = prop::collection::vec((0..CrashPoint::ALL.len(), 1_u64..6), 0..5);
    (
        prop::collection::vec(file, 1..7),
        prop::option::weighted(0.8, 1_u8..3),
        prop::bool::weighted(0.2),
        prop::sample::select(vec![1_u8, 2, 3, 255]),
        prop::option::weighted(0.2, 1_u8..4),
        prop::collection::vec(query(), 1..4),
        kills,
        (any::<u8>(), any::<bool>()),
    )
        .prop_map(|(files, files_max, drop_malformed, snapshot_batches, retain, queries, kills, rewind)| Case {
            files,
            files_max,
            drop_malformed,
            snapshot_batches,
            retain,
            queries,
            kills,
            rewind,
        })
}

impl Case {
    fn sql(&self) -> String {
        let mut sql = format!("SET snapshot_batches = '{}';\n", self.snapshot_batches);
        if let Some(retain) = self.retain {
            writeln!(sql, "SET retain_batches = '{retain}';").expect("text grows");
        }
        let columns: Vec<String> = COLUMNS.iter().map(|(name, _, sql)| format!("{name} {sql}")).collect();
        let limit = self.files_max.map_or(String::new(), |max| format!(", max_files_per_trigger = {max}"));
        let mode = if self.drop_malformed { "dropmalformed" } else { "permissive" };
        writeln!(sql, "CREATE TABLE t ({}, seq BIGINT) WITH (connector = 'files', path = '${{INPUT}}', format = 'json', mode = '{mode}'{limit});", columns.join(", "))
            .expect("text grows");
        sql += "CREATE VIEW v AS SELECT * FROM t WHERE i IS NULL OR i < 8;\n";
        sql += "CREATE TABLE naive WITH (connector = 'memory');\n";
        sql += "INSERT INTO naive SELECT k, count(*) AS rows, count(n) AS count, sum(n) AS sum, min(n) AS min, max(n) AS max FROM t GROUP BY k;\n";
        for (number, query) in self.queries.iter().enumerate() {
            let connector = match query.sink() {
                SinkKind::Memory => "connector = 'memory'",
                SinkKind::Json => "connector = 'files', path = '${OUTPUT}', format = 'json'",
                SinkKind::Csv => "connector = 'files', path = '${OUTPUT}', format = 'csv'",
            };
            let select = query.select(if query.through_view { "v" } else { "t" });
            writeln!(
                sql,
                "CREATE TABLE q{number} WITH ({connector}, output_mode = '{}');\nINSERT INTO q{number} {select};",
                query.mode()
            )
            .expect("text grows");
        }
        sql
    }

    fn scratch(&self) -> Scratch {
        let mut scratch = Scratch::new(&self.sql());
        let mut seq = 0;
        for file in &self.files {
            let mut text = String::new();
            for line in file {
                let mut parts = line.split("SEQ");
                text += parts.next().unwrap_or_default();
                for part in parts {
                    seq += 1;
                    write!(text, "{seq}{part}").expect("text grows");
                }
                text.push('\n');
            }
            scratch.add(text.as_bytes());
        }
        scratch
    }

    /// Everything that is promised of this job.
    fn check(&self) {
        let scratch = self.scratch();
        scratch.run(Faults::none(), 1).unwrap_or_else(|error| panic!("{error}\n{}", self.sql()));
        let trace = Trace::of(&scratch);
        self.equals_batch(&scratch);
        self.equals_naive_fold(&scratch, &trace);
        self.output_is_the_result(&scratch, &trace);
        for folder in [scratch.checkpoint(), scratch.output()] {
            if folder.exists() {
                fs::remove_dir_all(folder).expect("a folder is removed");
            }
        }
        self.run_with_kills(&scratch);
        Trace::of(&scratch).assert_same(&trace, &self.sql());
        self.rewind(&scratch, &trace);
    }

    fn equals_batch(&self, scratch: &Scratch) {
        let options = VerifyOptions { batch: true, every: true, threads: 1 };
        let mut report = batch::verify(&scratch.checkpoint(), &options, &mut |_| {})
            .unwrap_or_else(|error| panic!("{error}\n{}", self.sql()));
        let inexact = |finding: &String| {
            (0..)
                .zip(&self.queries)
                .any(|(number, query)| !query.exact() && finding.starts_with(&format!("query 'q{number}'")))
        };
        report.findings.retain(|finding| !inexact(finding));
        report.notes.retain(|note| self.retain.is_none() || !note.contains("retain_batches"));
        assert_eq!((report.findings, report.notes), (vec![], vec![]), "{}", self.sql());
        let view = scratch.view();
        for (number, batch) in batch::baseline(&scratch.job(), 1, 0, &mut |_| {}).unwrap().iter().enumerate() {
            // CSV cannot tell an empty string from a null; verify knows that.
            let csv = number > 0
                && self.queries[number - 1].sink() == SinkKind::Csv
                && self.queries[number - 1].mode() != "complete";
            let exact = number == 0 || (self.queries[number - 1].exact() && !csv);
            let Ok(ours) = view.result(&batch.query, view.newest().expect("there is a batch")) else {
                assert!(self.retain.is_some());
                continue;
            };
            if exact {
                let difference = difference(&ours.rows, &batch.rows).unwrap();
                assert_eq!(difference, None, "{} over all input: {}", batch.query, self.sql());
            }
        }
    }

    fn equals_naive_fold(&self, scratch: &Scratch, trace: &Trace) {
        let mut columns: Vec<(&str, Type)> = COLUMNS.iter().map(|(name, data_type, _)| (*name, *data_type)).collect();
        columns.push(("seq", Type::Integer(64)));
        let mut oracle = Oracle::default();
        let mut read = 0;
        for batch in trace.batches.values() {
            // The oldest batch that is kept comes after others: those files are read first.
            let last = batch.files.last().map_or(0, |name| name[..4].parse::<usize>().expect("files are numbered") + 1);
            let (records, bad) = (oracle.records, oracle.bad);
            let whole = read + batch.files.len() == last;
            for file in read..last {
                oracle.add(
                    &columns,
                    self.drop_malformed,
                    &fs::read(scratch.input().join(format!("{file:04}.json"))).unwrap(),
                );
            }
            read = last;
            if whole {
                let counted = (&batch.progress["rows"], &batch.progress["badRows"]);
                assert_eq!(
                    counted,
                    (&json!(oracle.records - records), &json!(oracle.bad - bad)),
                    "records and bad ones: {}",
                    self.sql()
                );
            }
            let ours: BTreeMap<Option<String>, Value> = batch.results["naive"]
                .iter()
                .flatten()
                .map(|row| {
                    let row: Value = serde_json::from_str(row).unwrap();
                    (row["k"].as_str().map(str::to_owned), row)
                })
                .collect();
            let naive: BTreeMap<Option<String>, Value> = oracle.groups.iter().map(|(key, group)| {
                let row = json!({"k": key, "rows": group.rows, "count": group.count, "sum": group.sum, "min": group.min, "max": group.max});
                (key.clone(), row)
            }).collect();
            assert_eq!(ours, naive, "after {last} files");
        }
    }

    /// What the sinks show adds up to the newest result.
    fn output_is_the_result(&self, scratch: &Scratch, trace: &Trace) {
        let view = scratch.view();
        let output = files(&scratch.output());
        for (number, query) in self.queries.iter().enumerate() {
            if query.sink() == SinkKind::Memory {
                continue;
            }
            let name = format!("q{number}");
            let extension = if query.sink() == SinkKind::Json { "json" } else { "csv" };
            let of_batches = || output.iter().filter(|(file, _)| file.starts_with(&format!("{name}-")));
            let Ok(newest) = view.result(&name, view.newest().expect("there is a batch")) else { continue };
            match (query.mode(), query.sink()) {
                ("complete", sink_kind) => {
                    let format = if sink_kind == SinkKind::Json {
                        highwater::job::RowFormat::Json
                    } else {
                        highwater::job::RowFormat::Csv
                    };
                    let expected = sink::rows::to_bytes(format, &newest.schema, &newest.rows).unwrap();
                    let found = &output[&format!("{name}.{extension}")];
                    assert_eq!(String::from_utf8_lossy(found), String::from_utf8_lossy(&expected), "{}", self.sql());
                }
                ("append", SinkKind::Json) => {
                    let mut published: Vec<String> = of_batches().flat_map(|(_, bytes)| lines(bytes)).collect();
                    let mut expected = rows(&batch::baseline(&scratch.job(), 1, 0, &mut |_| {}).unwrap()[number + 1]);
                    published.sort();
                    expected.sort();
                    assert_eq!(published, expected, "{}", self.sql());
                }
                ("update", SinkKind::Json) if query.stateful() && !newest.keys.is_empty() => {
                    let Body::Group { having: None, rollup: false, hide_keys: false, .. } = &query.body else {
                        continue;
                    };
                    let keys: Vec<String> =
                        newest.keys.iter().map(|key| newest.schema.field(*key).name().clone()).collect();
                    let key_of = |line: &String| {
                        let row: Value = serde_json::from_str(line).unwrap();
                        keys.iter().map(|key| row[key].to_string()).collect::<Vec<_>>()
                    };
                    let folded: BTreeMap<_, _> =
                        of_batches().flat_map(|(_, bytes)| lines(bytes)).map(|line| (key_of(&line), line)).collect();
                    let expected: BTreeMap<_, _> =
                        rows(&newest).into_iter().map(|line| (key_of(&line), line)).collect();
                    assert_eq!(folded, expected, "{}", self.sql());
                }
                _ => {}
            }
            let published = of_batches().count();
            let all = trace.batches.keys().last().map_or(0, |last| *last as usize + 1);
            assert_eq!(published, if query.mode() == "complete" { 0 } else { all }, "one file per batch");
        }
    }

    fn run_with_kills(&self, scratch: &Scratch) {
        for (number, (point, nth)) in self.kills.iter().enumerate() {
            let faults = Faults::armed(CrashPoint::ALL[*point], *nth, Crash::Error);
            let batches_max = (number % 2 == 1).then_some(*nth);
            match scratch.run_batches(faults, 1 + number % 2, batches_max) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Crashed, "{error}"),
            }
        }
        scratch.run(Faults::none(), 2).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Back to any batch that is kept, crashing on the way, and forward again.
    fn rewind(&self, scratch: &Scratch, trace: &Trace) {
        let (place, replan) = self.rewind;
        let kept: Vec<u64> = trace.batches.keys().copied().collect();
        let mut targets: Vec<Option<u64>> = kept.iter().copied().map(Some).collect();
        if self.retain.is_none() {
            targets.push(None);
        }
        let to = targets[usize::from(place) % targets.len()];
        let kill = self.kills.first().copied().unwrap_or_default();
        for faults in [Faults::armed(CrashPoint::ALL[kill.0], kill.1, Crash::Error), Faults::none()] {
            match scratch.rewind(to, replan, faults) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Crashed, "{error}\n{}", self.sql()),
            }
        }
        assert_eq!(scratch.view().newest().map(|newest| newest.batch.0), to);
        self.run_with_kills(scratch);
        let first = scratch
            .view()
            .log()
            .unwrap()
            .iter()
            .filter(|row| !row.retracted)
            .map(|row| row.address.batch.0)
            .min()
            .unwrap_or(0);
        Trace::of(scratch).assert_same(&trace.clone().from(first), &(to, replan, self.sql()));
    }
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

/// Few by default, so that all tests stay quick; as many as `PROPTEST_CASES` says by hand.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 24 };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 400, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_job_equals_its_batch_result_whatever_is_killed(case in case()) {
        case.check();
    }
}

/// What proptest found once, as small as it became.
mod found {
    use super::*;

    fn one(sql: &str, files: &[&str]) -> Scratch {
        let table = "CREATE TABLE t (k STRING, n BIGINT, d DOUBLE) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);\n";
        let mut scratch = Scratch::new(&format!("{table}{sql}"));
        files.iter().for_each(|file| scratch.add(file.as_bytes()));
        scratch.run(Faults::none(), 1).unwrap_or_else(|error| panic!("{error}"));
        let report =
            batch::verify(&scratch.checkpoint(), &VerifyOptions { batch: true, every: true, threads: 1 }, &mut |_| {})
                .unwrap();
        assert_eq!((report.findings, report.notes), (vec![], vec![]), "{sql}");
        scratch
    }

    /// The rows of a query without state in update mode were in no state, and so nowhere.
    #[test]
    fn rows_without_state_are_kept_in_update_mode_too() {
        let sql = "CREATE TABLE q WITH (connector = 'memory', output_mode = 'update');\nINSERT INTO q SELECT k FROM t;";
        let scratch = one(sql, &["{\"k\": \"a\"}\n", "{\"k\": \"b\"}\n"]);
        let table = scratch.view().result("q", scratch.view().newest().unwrap()).unwrap();
        assert_eq!(rows(&table), [r#"{"k":"a"}"#, r#"{"k":"b"}"#]);
    }

    #[test]
    fn csv_with_empty_strings_and_nulls_is_no_finding() {
        let sql = "CREATE TABLE q WITH (connector = 'files', path = '${OUTPUT}', format = 'csv');\nINSERT INTO q SELECT k, n FROM t;";
        one(sql, &["{\"k\": \"\", \"n\": 1}\n{\"n\": 2}\n", "{\"k\": \"a,\\r\\n\\\"b\"}\n"]);
    }

    /// Spark's name.
    #[test]
    fn variance_is_known() {
        one(
            "CREATE TABLE q WITH (connector = 'memory');\nINSERT INTO q SELECT variance(d) AS v FROM t;",
            &["{\"d\": 1}\n{\"d\": 3}\n", "{\"d\": 8}\n"],
        );
    }
}
