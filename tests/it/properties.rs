//! Random flows, files, limits, queries, kills and rewinds: the streaming result equals the batch result of plain
//! DataFusion over all input, a fold of our own for counts and sums, and whatever was killed when leaves no trace.
//!
//! `PROPTEST_CASES` sets how many jobs are tried. A find becomes a named test at the end of this file.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use highwater::{
    batch::{self, VerifyOptions},
    model::{CrashPoint, ErrorKind, Faults, crash::Crash},
    query, sink,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    oracle::{Oracle, Type},
    stream::{Scratch, rows},
    trace::{Trace, files},
};

/// The columns of every job's source. `x` alone gets floats of any size, `d` those that a sum does not overflow with;
/// `seq` numbers the rows, so that an `ORDER BY` inside an aggregate leaves no tie.
const COLUMNS: [(&str, Type, &str); 9] = [
    ("k", Type::Text, "STRING"),
    ("p", Type::Text, "STRING"),
    ("n", Type::Integer(64), "BIGINT"),
    ("i", Type::Integer(32), "INT"),
    ("d", Type::Double, "DOUBLE"),
    ("x", Type::Double, "DOUBLE"),
    ("b", Type::Boolean, "BOOLEAN"),
    ("t", Type::Timestamp, "TIMESTAMP"),
    ("m", Type::Decimal(10), "DECIMAL(12, 2)"),
];

/// Aggregates that equal the batch result.
const AGGREGATES: [&str; 47] = [
    "count(*)",
    "count(n)",
    "sum(n)",
    "min(n)",
    "max(n)",
    "sum(i)",
    "avg(i)",
    "sum(m)",
    "avg(m)",
    "min(m)",
    "min(k)",
    "max(p)",
    "min(t)",
    "max(t)",
    "min(x)",
    "max(x)",
    "count(x)",
    "sum(d)",
    "avg(d)",
    "stddev(d)",
    "stddev_pop(d)",
    "variance(d)",
    "var_pop(d)",
    "corr(d, i)",
    "covar_samp(d, i)",
    "regr_slope(d, i)",
    "regr_count(d, i)",
    "count(DISTINCT p)",
    "count(DISTINCT n)",
    "sum(DISTINCT i)",
    "approx_distinct(p)",
    "approx_distinct(n)",
    "bool_and(b)",
    "bool_or(b)",
    "bit_and(n)",
    "bit_or(i)",
    "bit_xor(n)",
    "median(i)",
    "percentile_cont(0.25) WITHIN GROUP (ORDER BY i)",
    "array_agg(p ORDER BY seq)",
    "array_agg(i)",
    "string_agg(p, '|' ORDER BY seq)",
    "first_value(n ORDER BY seq)",
    "last_value(p ORDER BY seq DESC)",
    "nth_value(n, 2 ORDER BY seq)",
    "sum(n) FILTER (WHERE b)",
    "count(*) FILTER (WHERE p IN (80, 443))",
];

/// Aggregates whose result depends on where batches end: equal from run to run only.
const APPROXIMATE: [&str; 3] =
    ["approx_median(d)", "approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY i)", "array_agg(DISTINCT p)"];

const KEYS: [&str; 8] = [
    "k",
    "p",
    "b",
    "upper(k)",
    "n % 3",
    "coalesce(p, 'none')",
    "date_bin(INTERVAL '1 hour', t)",
    "character_length(k)",
];
const FILTERS: [&str; 7] = [
    "p IN (80, 443)",
    "n > 0",
    "b",
    "k IS NOT NULL AND k <> ''",
    "p = 80 OR p BETWEEN 10 AND 90",
    "x * 2 > 1",
    "k LIKE '%a%'",
];
const HAVINGS: [&str; 3] = ["count(*) > 1", "max(n) IS NOT NULL", "count(*) % 2 = 1"];
const PLAIN: [&str; 11] =
    ["k", "p", "n", "i + 1", "x", "b", "upper(p)", "CASE WHEN b THEN 'yes' ELSE p END", "t", "m * 2", "d / i"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum SinkKind {
    Memory,
    Json,
    Csv,
}

#[derive(Debug, Clone)]
enum Body {
    /// Keys, aggregates, HAVING, and for complete mode ORDER BY the first column with LIMIT.
    Group {
        keys: Vec<usize>,
        aggregates: Vec<usize>,
        having: Option<usize>,
        limit: Option<(u8, bool)>,
        rollup: bool,
        hide_keys: bool,
    },
    Distinct {
        columns: Vec<usize>,
    },
    Plain {
        columns: Vec<usize>,
    },
}

#[derive(Debug, Clone)]
struct Query {
    body: Body,
    filter: Option<usize>,
    sink: SinkKind,
    update: bool,
    through_view: bool,
    approximate: Option<usize>,
}

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

fn key() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "A", "ab", " a", "", "null", "ключ", "日本", "e\u{301}", "é", "😀"]).prop_map(Value::from),
        3 => prop::sample::select(vec!["\u{0}", "\u{7f}\u{1b}[2J", "a\"b\\c", "x,\ny", "\u{2028}", "\r", "\u{feff}a", "'"]).prop_map(Value::from),
        1 => any::<String>().prop_map(|text| text.chars().take(5).collect::<String>().into()),
        1 => prop::sample::select(vec![json!(80), json!(true), json!({"a": [1]}), json!(["a"]), json!(-5)]),
        1 => Just(Value::Null),
    ]
}

fn odd() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(""),
        json!("6"),
        json!([]),
        json!({}),
        json!("NaN"),
        json!("yesterday"),
        json!(1.5e3),
        Value::Null,
    ])
}

fn field(usual: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![12 => usual.prop_map(Some), 1 => odd().prop_map(Some), 1 => Just(None)]
}

fn flow() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        4 => prop::sample::select(vec!["80", "443", "53", "Port46272", "80.0", "", "9"]).prop_map(Value::from),
        1 => Just(json!(80)),
        1 => key(),
    ];
    let n = prop_oneof![
        6 => (-20_i64..20).prop_map(Value::from),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN, i64::MAX - 1, 1 << 53]).prop_map(Value::from),
        1 => Just(json!(u64::MAX)),
    ];
    let i = prop_oneof![8 => (-9_i64..9).prop_map(Value::from), 1 => prop::sample::select(vec![json!(i32::MAX), json!(i32::MIN), json!(1_i64 << 31)])];
    let d = prop_oneof![6 => (-70_000_i32..70_000).prop_map(|v| json!(f64::from(v) / 7.0)), 1 => Just(json!(3))];
    let x = prop_oneof![
        3 => any::<f64>().prop_filter("JSON has finite numbers only", |x| x.is_finite()).prop_map(Value::from),
        2 => prop::sample::select(vec![json!(0), json!(f64::MAX), json!(f64::MIN), json!(5e-324), json!(1e300)]),
    ];
    let t = prop_oneof![
        4 => (1_600_000_000_i64..1_600_020_000).prop_map(Value::from),
        1 => prop::sample::select(vec![json!("2020-09-13T12:26:40Z"), json!(-1), json!(0.5), json!("2020-09-13")]),
    ];
    let m = prop_oneof![6 => (-500_i64..500).prop_map(|cents| json!(cents as f64 / 4.0)), 1 => Just(json!(1e30)), 1 => Just(json!(9_999_999_999_i64))];
    (
        field(key()),
        field(port),
        field(n),
        field(i),
        field(d),
        field(x),
        field(any::<bool>().prop_map(Value::from)),
        field(t),
        field(m),
    )
        .prop_map(|(k, p, n, i, d, x, b, t, m)| {
            let fields = [("k", k), ("p", p), ("n", n), ("i", i), ("d", d), ("x", x), ("b", b), ("t", t), ("m", m)];
            Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
        })
}

/// A line of input; `SEQ` in it becomes the row's number.
fn line() -> impl Strategy<Value = String> {
    let numbered = || {
        flow().prop_map(|mut flow| {
            flow["seq"] = json!("SEQ");
            flow.to_string().replace("\"SEQ\"", "SEQ")
        })
    };
    prop_oneof![
        20 => numbered(),
        1 => numbered().prop_map(|line| line.replacen("\"n\":", "\"N\":", 1) + "\r"),
        1 => numbered().prop_map(|line| format!(" [{line} , {{\"seq\": SEQ, \"k\": \"second\"}}]")),
        1 => numbered().prop_map(|line| format!("[{line}, 5]")),
        1 => numbered().prop_map(|line| { let cut = line.floor_char_boundary(line.len() / 2); line[..cut].to_owned() }),
        1 => prop::sample::select(vec!["", "   ", "not json", "null", "{}", "[]", "\u{0}", "{\"d\": 1e999, \"seq\": SEQ}", "\"text\"", "{\"k\": \"a\"} x"]).prop_map(str::to_owned),
    ]
}

fn several(upto: usize, count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..upto, count)
}

fn query() -> impl Strategy<Value = Query> {
    let limit = prop::option::weighted(0.3, (1_u8..5, any::<bool>()));
    let having = prop::option::weighted(0.2, 0..HAVINGS.len());
    let group = (
        several(KEYS.len(), 0..=2),
        several(AGGREGATES.len(), 1..=5),
        having,
        limit,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    let body = prop_oneof![
        6 => group.prop_map(|(keys, aggregates, having, limit, rollup, hide_keys)| Body::Group { keys, aggregates, having, limit, rollup, hide_keys }),
        1 => several(PLAIN.len(), 1..=2).prop_map(|columns| Body::Distinct { columns }),
        1 => several(PLAIN.len(), 1..=4).prop_map(|columns| Body::Plain { columns }),
    ];
    let sink = prop::sample::select(vec![SinkKind::Memory, SinkKind::Json, SinkKind::Csv]);
    let filter = prop::option::weighted(0.4, 0..FILTERS.len());
    let approximate = prop::option::weighted(0.1, 0..APPROXIMATE.len());
    (body, filter, sink, any::<bool>(), prop::bool::weighted(0.2), approximate).prop_map(
        |(body, filter, sink, update, through_view, approximate)| Query {
            body,
            filter,
            sink,
            update,
            through_view,
            approximate,
        },
    )
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

impl Query {
    fn stateful(&self) -> bool {
        !matches!(self.body, Body::Plain { .. })
    }

    /// Its result equals the batch result.
    fn exact(&self) -> bool {
        self.approximate.is_none() || !matches!(self.body, Body::Group { .. })
    }

    fn mode(&self) -> &'static str {
        match (&self.body, self.update) {
            (Body::Plain { .. }, false) | (Body::Distinct { .. }, true) => "append",
            (Body::Plain { .. }, true) | (Body::Group { .. }, true) => "update",
            (Body::Group { .. } | Body::Distinct { .. }, false) => "complete",
        }
    }

    fn select(&self, from: &str) -> String {
        let filter = self.filter.map_or(String::new(), |filter| format!(" WHERE {}", FILTERS[filter]));
        let columns = |columns: &[usize], of: &[&str]| {
            (0..).zip(columns).map(|(place, column)| format!("{} AS c{place}", of[*column])).collect::<Vec<_>>()
        };
        match &self.body {
            Body::Plain { columns: chosen } => {
                format!("SELECT {} FROM {from}{filter}", columns(chosen, &PLAIN).join(", "))
            }
            Body::Distinct { columns: chosen } => {
                format!("SELECT DISTINCT {} FROM {from}{filter}", columns(chosen, &PLAIN).join(", "))
            }
            Body::Group { keys, aggregates, having, limit, rollup, hide_keys } => {
                let mut keys = keys.clone();
                keys.dedup();
                let shown = if *hide_keys { vec![] } else { columns(&keys, &KEYS) };
                let chosen = || aggregates.iter().map(|which| AGGREGATES[*which]);
                // An order inside one aggregate and none inside another is refused.
                let ordered = chosen().any(|aggregate| aggregate.contains("ORDER BY seq"));
                let chosen = chosen().map(|aggregate| {
                    if ordered && aggregate == "array_agg(i)" { "max(i)" } else { aggregate }.to_owned()
                });
                let approximate = self
                    .approximate
                    .map(|which| APPROXIMATE[which])
                    .filter(|which| !ordered || !which.contains("array_agg"));
                let numbered = (0..).zip(chosen.chain(approximate.map(str::to_owned)));
                let shown: Vec<String> = shown
                    .into_iter()
                    .chain(numbered.map(|(place, aggregate)| format!("{aggregate} AS a{place}")))
                    .collect();
                let mut sql = format!("SELECT {} FROM {from}{filter}", shown.join(", "));
                let list = keys.iter().map(|key| KEYS[*key]).collect::<Vec<_>>().join(", ");
                match (keys.is_empty(), rollup) {
                    (true, _) => {}
                    (false, false) => write!(sql, " GROUP BY {list}").expect("text grows"),
                    (false, true) => write!(sql, " GROUP BY ROLLUP ({list})").expect("text grows"),
                }
                if let Some(having) = having {
                    write!(sql, " HAVING {}", HAVINGS[*having]).expect("text grows");
                }
                if let (Some((limit, down)), "complete") = (limit, self.mode()) {
                    write!(sql, " ORDER BY count(*) {} LIMIT {limit}", if *down { "DESC" } else { "ASC" })
                        .expect("text grows");
                }
                sql
            }
        }
    }

    /// CSV has no lists.
    fn sink(&self) -> SinkKind {
        let lists = matches!(&self.body, Body::Group { aggregates, .. } if aggregates.iter().any(|which| AGGREGATES[*which].starts_with("array_agg")) || self.approximate == Some(2));
        if lists && self.sink == SinkKind::Csv { SinkKind::Json } else { self.sink }
    }
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
                let difference = query::difference(&ours.rows, &batch.rows).unwrap();
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
