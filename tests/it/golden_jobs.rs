//! The jobs of `jobs/` over event time, and their generated input: straight, crashed at every point that they come to,
//! and rewound to every batch, with answers that plain Rust computes from the same lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use chrono::DateTime;
use highwater::{
    model::{BatchAddress, BatchId},
    trial::generate::{Content, FilesOptions, generate},
};
use serde_json::{Value, json};

use crate::{
    golden::{golden, result},
    stream::{Scratch, rows},
    trace::files,
};

const HASHTAGS: &str = include_str!("../../jobs/hashtags.sql");
const SPOOL_COUNTS: &str = include_str!("../../jobs/spool_counts.sql");
const SENSOR_ALERTS: &str = include_str!("../../jobs/sensor_alerts.sql");
const SESSIONS: &str = include_str!("../../jobs/sessions.sql");
const ORDERS_JOIN: &str = include_str!("../../jobs/orders_join.sql");

/// A job over generated input, not yet run.
fn generated(sql: &str, content: Content, count: u32, rows: u32) -> Scratch {
    let scratch = Scratch::new(&format!("SET snapshot_batches = '3';\n{sql}"));
    let options = FilesOptions { files: count, rows, ..FilesOptions::default() };
    generate(content, &options, &scratch.input()).unwrap_or_else(|error| panic!("{error}"));
    scratch
}

/// The lines of all files below a folder, file after file.
fn lines(folder: &Path) -> Vec<String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is text");
    files(folder).into_values().flat_map(|bytes| text(bytes).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn objects(folder: &Path) -> Vec<Value> {
    lines(folder)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// All that the job published, in the order of its text.
fn published(scratch: &Scratch) -> Vec<String> {
    let mut rows: Vec<String> = objects(&scratch.output()).iter().map(Value::to_string).collect();
    rows.sort_unstable();
    rows
}

#[track_caller]
fn assert_published(scratch: &Scratch, mut expected: Vec<Value>) {
    expected.sort_by_key(Value::to_string);
    let found = published(scratch);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(*found, expected.to_string());
    }
    assert_eq!(found.len(), expected.len());
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("{field} of {row}"))
}

fn seconds(row: &Value) -> i64 {
    DateTime::parse_from_rfc3339(text(row, "time")).unwrap_or_else(|error| panic!("{error}: {row}")).timestamp()
}

/// A time as a sink writes it.
fn time(seconds: i64) -> String {
    DateTime::from_timestamp_secs(seconds).expect("it is in the calendar").format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// The windows that a time is in, by when they begin.
fn windows(seconds: i64, length: i64, slide: i64) -> Vec<i64> {
    let newest = seconds.div_euclid(slide) * slide;
    (0..length / slide).map(|back| newest - back * slide).collect()
}

#[test]
fn hashtags_of_the_newest_windows() {
    let scratch = generated(HASHTAGS, Content::Messages, 5, 300);
    let mut counts: BTreeMap<(i64, String), u64> = BTreeMap::new();
    for row in objects(&scratch.input()) {
        let message = text(&row, "text").to_lowercase();
        let words = message.split(|letter: char| !(letter.is_ascii_alphanumeric() || "#_".contains(letter)));
        for tag in words.filter(|word| word.len() > 1 && word.starts_with('#')) {
            for began in windows(seconds(&row), 30, 10) {
                *counts.entry((began, tag.to_owned())).or_default() += 1;
            }
        }
    }
    let mut expected: Vec<_> = counts.into_iter().collect();
    expected.sort_by(|((a, _), m), ((b, _), n)| (b, n).cmp(&(a, m)));
    let expected: Vec<Value> = expected
        .iter()
        .take(10)
        .map(|((began, tag), count)| json!({"began": time(*began), "tag": tag, "count": count}))
        .collect();
    golden(&scratch, 5);
    assert_eq!(result(&scratch, "top_tags"), expected);
}

/// The same log under a second and a third name: every count doubles, then triples.
#[test]
fn a_spool_folder_counts_each_file_once() {
    let mut scratch = generated(SPOOL_COUNTS, Content::AccessLog, 1, 4_000);
    let log = lines(&scratch.input());
    for copy in ["again.log", "once_more.log"] {
        scratch.add_named(copy, (log.join("\n") + "\n").as_bytes());
    }
    let mut urls: BTreeMap<&str, u64> = BTreeMap::new();
    let mut by_hour: BTreeMap<(i64, &str), u64> = BTreeMap::new();
    // a line that was cut off lacks its last quotes
    for line in log.iter().filter(|line| line.matches('"').count() == 6) {
        let path = line.split(' ').nth(6).expect("a path");
        let (_, rest) = line.split_once('[').expect("a time");
        let moment = DateTime::parse_from_str(&rest[..26], "%d/%b/%Y:%H:%M:%S %z").expect("a time").timestamp();
        *urls.entry(path).or_default() += 1;
        for began in windows(moment, 3_600, 1_800) {
            *by_hour.entry((began, path)).or_default() += 1;
        }
    }
    let mut urls: Vec<_> = urls.into_iter().collect();
    urls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut by_hour: Vec<_> = by_hour.into_iter().collect();
    by_hour.sort_by_key(|((began, _), count)| (*began, std::cmp::Reverse(*count)));
    assert!(by_hour.len() > 3 * urls.len(), "there are several hours");
    golden(&scratch, 3);
    for times in 1..=3 {
        let at = BatchAddress { batch: BatchId(times - 1), generation: None };
        let found = |query: &str| -> Vec<Value> {
            let table = scratch.view().result(query, at).unwrap_or_else(|error| panic!("{error}"));
            rows(&table).iter().map(|row| serde_json::from_str(row).expect("it is JSON")).collect()
        };
        let expected = urls.iter().map(|(path, count)| json!({"path": path, "count": count * times}));
        assert_eq!(found("urls"), expected.collect::<Vec<_>>(), "{times}");
        let expected = by_hour
            .iter()
            .map(|((began, path), count)| json!({"began": time(*began), "path": path, "count": count * times}));
        assert_eq!(found("urls_by_hour"), expected.collect::<Vec<_>>(), "{times}");
    }
}

/// The fields of a line of CSV.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("there is one");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

/// A table by its first column.
fn table(path: &Path) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(path).expect("it was generated");
    text.lines().skip(1).map(|line| (fields(line)[0].clone(), fields(line))).collect()
}

#[test]
fn sensor_alerts_know_vendor_and_service() {
    let scratch = generated(SENSOR_ALERTS, Content::Sensors, 4, 1_000);
    let (vendors, services) =
        (table(&scratch.input().join("vendor.csv")), table(&scratch.input().join("maintenance.csv")));
    let mut expected = Vec::new();
    for row in objects(&scratch.input().join("readings")) {
        let Some(vendor) = vendors.get(text(&row, "resid")) else { continue };
        if row["psi"].as_f64().expect("a number") >= 5.0 {
            continue;
        }
        let service = services.get(text(&row, "resid"));
        expected.push(json!({
            "time": time(seconds(&row)), "resid": row["resid"], "psi": row["psi"], "model": vendor[1], "vendor": vendor[2],
            "serviced": service.map(|service| &service[1]), "technician": service.map(|service| &service[2]),
        }));
    }
    assert!(expected.len() > 40 && expected.iter().any(|row| row["serviced"].is_null()), "{}", expected.len());
    golden(&scratch, 4);
    assert_published(&scratch, expected);
}

/// Visits that are over at the end of the input were published once each; the others wait in the state.
#[test]
fn sessions_are_published_once() {
    const GAP_S: i64 = 300;
    let scratch = generated(SESSIONS, Content::Clicks, 4, 1_000);
    let mut clicks: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for row in objects(&scratch.input()) {
        let click = (seconds(&row), text(&row, "page").to_owned());
        clicks.entry(text(&row, "user_id").to_owned()).or_default().push(click);
    }
    let watermark = clicks.values().flatten().map(|(time, _)| *time).max().expect("there are clicks") - 30;
    let (mut over, mut open) = (Vec::new(), 0);
    for (user, mut clicks) in clicks {
        clicks.sort();
        // a click at the very end of a visit still belongs to it
        for visit in clicks.chunk_by(|before, after| after.0 <= before.0 + GAP_S) {
            let (began, ended) = (visit[0].0, visit[visit.len() - 1].0 + GAP_S);
            let pages: BTreeSet<&str> = visit.iter().map(|(_, page)| page.as_str()).collect();
            if ended > watermark {
                open += 1;
                continue;
            }
            over.push(json!({
                "user_id": user, "began": time(began), "ended": time(ended), "clicks": visit.len(), "pages": pages.len(),
            }));
        }
    }
    assert!(over.len() > 100 && open > 10, "{} and {open}", over.len());
    golden(&scratch, 8);
    assert_published(&scratch, over);
    let log = scratch.view().log().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(log.last().map(|row| row.state_rows), Some(open));
}

/// Orders with each payment within an hour, and those that nobody paid for which no payment can come in time any more.
#[test]
fn orders_meet_their_payments() {
    const HOUR_S: i64 = 3_600;
    let scratch = generated(ORDERS_JOIN, Content::Orders, 4, 1_200);
    let orders = objects(&scratch.input().join("orders"));
    let mut payments: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for payment in objects(&scratch.input().join("payments")) {
        payments.entry(text(&payment, "order_id").to_owned()).or_default().push(payment);
    }
    let newest = |rows: &mut dyn Iterator<Item = &Value>| rows.map(seconds).max().expect("there are rows");
    let watermark = newest(&mut orders.iter()).min(newest(&mut payments.values().flatten())) - 60;
    let (mut expected, mut unpaid) = (Vec::new(), 0);
    for order in &orders {
        let ordered = seconds(order);
        let row = |paid: Option<&Value>| {
            json!({
                "order_id": order["order_id"], "customer": order["customer"], "owed": order["cents"], "ordered": time(ordered),
                "paid": paid.map(|payment| time(seconds(payment))), "given": paid.map(|payment| &payment["cents"]),
            })
        };
        let candidates = payments.get(text(order, "order_id")).into_iter().flatten();
        let in_time: Vec<_> =
            candidates.filter(|payment| (ordered..=ordered + HOUR_S).contains(&seconds(payment))).collect();
        expected.extend(in_time.iter().map(|payment| row(Some(payment))));
        if in_time.is_empty() && ordered + HOUR_S < watermark {
            expected.push(row(None));
            unpaid += 1;
        }
    }
    assert!(unpaid > 500 && expected.len() > 3_000, "{unpaid} of {}", expected.len());
    golden(&scratch, 8);
    assert_published(&scratch, expected);
}
