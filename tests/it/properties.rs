//! Random flows, files, limits, queries, kills and rewinds: the streaming result equals the batch result of plain
//! DataFusion over all input, a fold of our own for counts and sums, and whatever was killed when leaves no trace.
//!
//! `PROPTEST_CASES` sets how many jobs are tried. A find becomes a named test in `found`.

use std::{collections::BTreeMap, fmt::Write as _, fs, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, Float64Array},
    record_batch::RecordBatch,
};
use highwater::{
    batch::{self, VerifyOptions},
    model::{CrashPoint, ErrorKind, Faults, crash::Crash},
    query::{Closeness, Expected, difference},
    sink,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use self::{
    flows::{COLUMNS, line},
    queries::{Body, Grouping, Query, SinkKind, query},
};

use crate::{
    oracle::{Oracle, Type},
    stream::{Scratch, rows, stamp},
    trace::{Trace, files},
};

mod flows;
mod found;
mod queries;

#[derive(Debug, Clone)]
struct Case {
    files: Vec<Vec<String>>,
    /// Files of a second source.
    others: Vec<Vec<String>>,
    limit: Limit,
    drop_malformed: bool,
    snapshot_batches: u8,
    retain: Option<u8>,
    queries: Vec<Query>,
    kills: Vec<(usize, u64)>,
    rewind: (u8, bool),
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    None,
    Files(u8),
    Bytes(u16),
}

fn case() -> impl Strategy<Value = Case> {
    let file = || prop_oneof![6 => prop::collection::vec(line(), 1..25), 1 => Just(Vec::new())];
    let limit = prop_oneof![1 => Just(Limit::None), 4 => (1_u8..3).prop_map(Limit::Files), 2 => (1_u16..9000).prop_map(Limit::Bytes)];
    let others = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(file(), 1..4)];
    let kills = prop::collection::vec((0..CrashPoint::ALL.len(), 1_u64..6), 0..5);
    (
        (prop::collection::vec(file(), 1..7), others),
        limit,
        prop::bool::weighted(0.2),
        prop::sample::select(vec![1_u8, 2, 3, 255]),
        prop::option::weighted(0.2, 1_u8..4),
        prop::collection::vec(query(), 1..4),
        kills,
        (any::<u8>(), any::<bool>()),
    )
        .prop_map(|((files, others), limit, drop_malformed, snapshot_batches, retain, queries, kills, rewind)| {
            Case { files, others, limit, drop_malformed, snapshot_batches, retain, queries, kills, rewind }
        })
}

impl Case {
    fn sql(&self) -> String {
        let mut sql = format!("SET snapshot_batches = '{}';\n", self.snapshot_batches);
        if let Some(retain) = self.retain {
            writeln!(sql, "SET retain_batches = '{retain}';").expect("text grows");
        }
        let columns: Vec<String> = COLUMNS.iter().map(|(name, _, sql)| format!("{name} {sql}")).collect();
        let limit = match self.limit {
            Limit::None => String::new(),
            Limit::Files(max) => format!(", max_files_per_trigger = {max}"),
            Limit::Bytes(max) => format!(", max_bytes_per_trigger = {max}"),
        };
        let mode = if self.drop_malformed { "dropmalformed" } else { "permissive" };
        let tables: &[(&str, &str)] = if self.others.is_empty() { &[("t", "")] } else { &[("t", ""), ("u", "2")] };
        for (table, folder) in tables {
            writeln!(sql, "CREATE TABLE {table} ({}, seq BIGINT) WITH (connector = 'files', path = '${{INPUT}}{folder}', format = 'json', mode = '{mode}'{limit});", columns.join(", "))
                .expect("text grows");
        }
        sql += "CREATE VIEW v AS SELECT * FROM t WHERE i IS NULL OR i < 8;\n";
        sql += "CREATE TABLE naive WITH (connector = 'memory');\n";
        sql += "INSERT INTO naive SELECT k, count(*) AS rows, count(n) AS count, sum(n) AS sum, min(n) AS min, max(n) AS max FROM t GROUP BY k;\n";
        for (number, query) in self.queries.iter().enumerate() {
            let connector = match query.sink() {
                SinkKind::Memory => "connector = 'memory'",
                SinkKind::Console => "connector = 'console'",
                SinkKind::Json => "connector = 'files', path = '${OUTPUT}', format = 'json'",
                SinkKind::Csv => "connector = 'files', path = '${OUTPUT}', format = 'csv'",
            };
            let select = query.select(match (query.other && !self.others.is_empty(), query.through_view) {
                (true, _) => "u",
                (false, true) => "v",
                (false, false) => "t",
            });
            let window = query.window().map_or(String::new(), |(batches, slide)| {
                format!(", window_batches = {batches}, slide_batches = {slide}")
            });
            writeln!(
                sql,
                "CREATE TABLE q{number} WITH ({connector}, output_mode = '{}'{window});\nINSERT INTO q{number} {select};",
                query.mode()
            )
            .expect("text grows");
        }
        sql
    }

    fn scratch(&self) -> Scratch {
        let mut scratch = Scratch::new(&self.sql());
        let mut seq = 0;
        let mut numbered = |file: &[String]| {
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
            text
        };
        for file in &self.files {
            scratch.add(numbered(file).as_bytes());
        }
        if !self.others.is_empty() {
            let folder = scratch.dir.path().join("input2");
            fs::create_dir(&folder).expect("a folder for the other input");
            for (number, file) in self.others.iter().enumerate() {
                let path = folder.join(format!("u{number:03}.json"));
                fs::write(&path, numbered(file)).expect("input is written");
                stamp(&path, number);
            }
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

    /// A job that allows so many bad records a batch (`None`: it is failfast) stops in front of the first file with
    /// more, each time, and leaves what came before.
    fn refuses(mut self, max: Option<u64>) {
        (self.limit, self.retain, self.drop_malformed) = (Limit::Files(1), None, false);
        self.others.clear();
        let mut scratch = self.scratch();
        let strict = max.map_or("mode = 'failfast'".to_owned(), |max| format!("max_bad_records = {max}"));
        scratch.sql = scratch.sql.replace("mode = 'permissive'", &strict);
        let mut columns: Vec<(&str, Type)> = COLUMNS.iter().map(|(name, data_type, _)| (*name, *data_type)).collect();
        columns.push(("seq", Type::Integer(64)));
        let bad = |file: usize| {
            let mut oracle = Oracle::default();
            oracle.add(&columns, false, &fs::read(scratch.input().join(format!("{file:04}.json"))).unwrap());
            oracle.bad
        };
        let good = (0..self.files.len()).take_while(|file| bad(*file) <= max.unwrap_or(0)).count();
        for _ in 0..2 {
            let ended = scratch.run(Faults::none(), 1).map_err(|error| error.kind());
            assert_eq!(ended.err(), (good < self.files.len()).then_some(ErrorKind::Data), "{}", scratch.sql);
            assert_eq!(scratch.view().log().unwrap().len(), good, "{}", scratch.sql);
            let options = VerifyOptions { batch: true, every: true, threads: 1 };
            let report = batch::verify(&scratch.checkpoint(), &options, &mut |_| {}).unwrap();
            assert_eq!(report.findings, Vec::<String>::new(), "{}", scratch.sql);
        }
    }

    fn equals_batch(&self, scratch: &Scratch) {
        let options = VerifyOptions { batch: true, every: true, threads: 1 };
        let mut report = batch::verify(&scratch.checkpoint(), &options, &mut |_| {})
            .unwrap_or_else(|error| panic!("{error}\n{}", self.sql()));
        let approximate = self.queries.iter().any(|query| !query.exact());
        report.notes.retain(|note| !approximate || !note.contains("approximate"));
        report.notes.retain(|note| self.retain.is_none() || !note.contains("retain_batches"));
        assert_eq!((report.findings, report.notes), (vec![], vec![]), "{}", self.sql());
        let view = scratch.view();
        for (number, batch) in batch::baseline(&scratch.job(), 1, 0, &mut |_| {}).unwrap().iter().enumerate() {
            // CSV cannot tell an empty string from a null; verify knows that.
            let csv = number > 0
                && self.queries[number - 1].sink() == SinkKind::Csv
                && self.queries[number - 1].mode() != "complete";
            // what is over the last batches is compared by verify, too
            let over_all = |query: &Query| query.exact() && query.window().is_none();
            let exact = number == 0 || (over_all(&self.queries[number - 1]) && !csv);
            let Ok(ours) = view.result(&batch.query, view.newest().expect("there is a batch")) else {
                assert!(self.retain.is_some());
                continue;
            };
            if exact {
                // As large as the addends of any sum are here; verify, above, knows those of each group.
                let size = |rows: &RecordBatch, of: &ArrayRef| -> Option<ArrayRef> {
                    of.data_type()
                        .is_floating()
                        .then(|| Arc::new(Float64Array::from(vec![1e5; rows.num_rows()])) as ArrayRef)
                };
                let sizes: Vec<Vec<_>> =
                    batch.rows.iter().map(|rows| rows.columns().iter().map(|of| size(rows, of)).collect()).collect();
                let closeness = vec![Closeness::Rounded; batch.schema.fields().len()];
                let expected = Expected { rows: &batch.rows, closeness: &closeness, sizes: &sizes };
                assert_eq!(
                    difference(&ours.rows, &expected).unwrap(),
                    None,
                    "{} over all input: {}",
                    batch.query,
                    self.sql()
                );
            }
        }
    }

    fn equals_naive_fold(&self, scratch: &Scratch, trace: &Trace) {
        let mut columns: Vec<(&str, Type)> = COLUMNS.iter().map(|(name, data_type, _)| (*name, *data_type)).collect();
        columns.push(("seq", Type::Integer(64)));
        let mut oracle = Oracle::default();
        let mut read = 0;
        if self.retain.is_some() && !self.others.is_empty() {
            // The oldest batch that is kept may have read of the other source only, and so not say how far it was.
            return;
        }
        for batch in trace.batches.values() {
            let own: Vec<&String> = batch.files.iter().filter(|name| !name.starts_with('u')).collect();
            // The oldest batch that is kept comes after others: those files are read first.
            let last = own.last().map_or(read, |name| name[..4].parse::<usize>().expect("files are numbered") + 1);
            let (records, bad) = (oracle.records, oracle.bad);
            let whole = read + own.len() == last && self.others.is_empty();
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
            if matches!(query.sink(), SinkKind::Memory | SinkKind::Console) {
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
                ("append", SinkKind::Json) if query.window().is_none() => {
                    let mut published: Vec<String> = of_batches().flat_map(|(_, bytes)| lines(bytes)).collect();
                    let mut expected = rows(&batch::baseline(&scratch.job(), 1, 0, &mut |_| {}).unwrap()[number + 1]);
                    published.sort();
                    expected.sort();
                    assert_eq!(published, expected, "{}", self.sql());
                }
                ("update", SinkKind::Json) if query.stateful() && !newest.keys.is_empty() => {
                    let Body::Group { having: None, grouping: Grouping::Plain, hide_keys: false, .. } = &query.body
                    else {
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

    #[test]
    fn refused_records_leave_what_came_before(case in case(), max in prop::option::of(0_u64..5)) {
        case.refuses(max);
    }
}
