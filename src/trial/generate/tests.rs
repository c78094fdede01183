use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::*;
use crate::model::ErrorKind;

const FLOWS: Content = Content::Flows { unique: false };

fn small() -> FilesOptions {
    FilesOptions { files: 3, rows: 200, ..FilesOptions::default() }
}

fn generated(options: &FilesOptions) -> BTreeMap<String, Vec<u8>> {
    generated_as(FLOWS, options)
}

fn generated_as(content: Content, options: &FilesOptions) -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let summary = generate(content, options, dir.path()).unwrap();
    let files: BTreeMap<_, _> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect();
    assert_eq!(summary.files as usize, files.len());
    assert_eq!(summary.rows, u64::from(options.files) * u64::from(options.rows));
    assert_eq!(summary.bytes, files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    files
}

fn rows(bytes: &[u8]) -> Vec<Value> {
    std::str::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_seed_alone_decides_the_bytes() {
    assert_eq!(generated(&small()), generated(&small()));
    let other = generated(&FilesOptions { seed: 2, ..small() });
    for (name, bytes) in generated(&small()) {
        assert_ne!(bytes, other[&name], "{name}");
    }
}

#[test]
fn files_of_one_seed_differ() {
    let distinct: HashSet<_> = generated(&small()).into_values().collect();
    assert_eq!(distinct.len(), 3);
}

#[test]
fn the_first_row_never_changes() {
    // a change here changes every published figure that was measured on generated input
    let files = generated(&FilesOptions { files: 1, rows: 1, ..FilesOptions::default() });
    let row = [
        r#"{"time": 172800.0, "duration": 0.0, "srcdevice": "Comp413148", "#,
        r#""dstdevice": "Comp217099", "protocol": 17.0, "srcport": "Port46108", "dstport": "514", "#,
        r#""srcpackets": 0.0, "dstpackets": 22.0, "srcbytes": 0.0, "dstbytes": 3938.0}"#,
    ];
    assert_eq!(std::str::from_utf8(&files["flows_0001.json"]).unwrap(), row.concat() + "\n");
}

#[test]
fn every_line_is_a_flow() {
    let files = generated(&small());
    assert_eq!(files.keys().collect::<Vec<_>>(), ["flows_0001.json", "flows_0002.json", "flows_0003.json"]);
    for bytes in files.values() {
        assert!(bytes.ends_with(b"}\n"));
        let rows = rows(bytes);
        assert_eq!(rows.len(), 200);
        for row in rows {
            let fields = row.as_object().unwrap();
            assert_eq!(fields.len(), 11);
            for name in ["time", "duration", "protocol", "srcpackets", "dstpackets", "srcbytes", "dstbytes"] {
                assert!(fields[name].is_f64() && fields[name].as_f64() >= Some(0.0), "{name} in {row}");
            }
            for name in ["srcdevice", "dstdevice", "srcport", "dstport"] {
                assert!(fields[name].is_string(), "{name} in {row}");
            }
        }
    }
}

#[test]
fn a_quarter_asks_for_the_web_and_a_few_servers_answer_most() {
    let files = generated(&FilesOptions { files: 1, rows: 20_000, ..FilesOptions::default() });
    let mut servers: BTreeMap<String, u32> = BTreeMap::new();
    for row in rows(&files["flows_0001.json"]) {
        if row["dstport"] == "80" || row["dstport"] == "443" {
            *servers.entry(row["dstdevice"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let asked: u32 = servers.values().sum();
    assert!((4_500..5_500).contains(&asked), "{asked}");
    assert!((200..512).contains(&servers.len()), "{}", servers.len());
    assert_eq!(servers.values().max(), Some(&servers["EnterpriseAppServer"]));
    assert!(servers["EnterpriseAppServer"] > asked / 20);
}

#[test]
fn unique_makes_nearly_every_device_different() {
    let devices = |unique| {
        let files = generated_as(
            Content::Flows { unique },
            &FilesOptions { files: 1, rows: 10_000, ..FilesOptions::default() },
        );
        let rows = rows(&files["flows_0001.json"]);
        rows.iter().map(|row| row["dstdevice"].to_string()).collect::<HashSet<_>>().len()
    };
    assert!(devices(true) > 9_990);
    assert!(devices(false) < 4_000);
}

#[test]
fn modification_times_follow_the_names() {
    let dir = tempfile::tempdir().unwrap();
    generate(FLOWS, &small(), dir.path()).unwrap();
    let modified = |name: &str| {
        let time = fs::metadata(dir.path().join(name)).unwrap().modified().unwrap();
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    };
    assert_eq!(modified("flows_0001.json"), MODIFIED_FIRST_S);
    assert_eq!(modified("flows_0002.json"), MODIFIED_FIRST_S + 1);
    assert_eq!(modified("flows_0003.json"), MODIFIED_FIRST_S + 2);
}

#[test]
fn names_sort_as_numbers_past_9999_files() {
    let files = generated(&FilesOptions { files: 10_000, rows: 0, ..FilesOptions::default() });
    assert_eq!(files.first_key_value().unwrap().0, "flows_00001.json");
    assert_eq!(files.last_key_value().unwrap().0, "flows_10000.json");
}

#[test]
fn a_folder_with_something_in_it_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine.txt"), "mine").unwrap();
    let error = generate(FLOWS, &small(), dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("mine.txt") && error.to_string().contains("help: "), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let none = FilesOptions { files: 0, ..small() };
    assert_eq!(generate(FLOWS, &none, &dir.path().join("new")).unwrap_err().kind(), ErrorKind::Usage);
    assert!(!dir.path().join("new").exists());
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(generate(FLOWS, &small(), &file).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn numbers_are_written_as_they_are() {
    for (value, width, text) in
        [(0, 1, "0"), (7, 1, "7"), (10, 1, "10"), (42, 5, "00042"), (u64::MAX, 1, "18446744073709551615")]
    {
        let mut out = Vec::new();
        push_padded(&mut out, value, width);
        assert_eq!(out, text.as_bytes());
    }
}

/// Rows in each file, a first row that never changes, and what else must hold of the lines.
fn lines(content: Content, name: &str) -> Vec<String> {
    let options = FilesOptions { files: 2, rows: 6_000, ..FilesOptions::default() };
    let files = generated_as(content, &options);
    assert_eq!(files, generated_as(content, &options), "the seed alone decides the bytes");
    assert_eq!(files.keys().next().map(String::as_str), Some(name));
    let text = files
        .into_values()
        .flat_map(|bytes| String::from_utf8(bytes).expect("it is text").lines().map(str::to_owned).collect::<Vec<_>>());
    text.collect()
}

#[test]
fn an_access_log_has_what_logs_have() {
    let lines = lines(Content::AccessLog, "access_0001.log");
    let first = [
        r#"192.0.0.18 - - [17/May/2026:10:00:35 +0000] "GET /favicon.ico HTTP/1.1" 200 14 "-" "#,
        r#""Mozilla/5.0 (compatible; Feedbot/2.1; +http://example.org/bot.html)""#,
    ];
    assert_eq!(lines[0], first.concat());
    let without_size = lines.iter().filter(|line| line.contains(" 304 - ")).count();
    assert!((400..700).contains(&without_size), "{without_size}");
    let cut = lines.iter().filter(|line| !line.ends_with('"')).count();
    assert!((1..10).contains(&cut), "{cut}");
    assert!(lines.iter().all(|line| line.len() < ROW_BYTES_MAX));
}

#[test]
fn sentences_are_made_of_words() {
    let lines = lines(Content::Text, "text_0001.txt");
    assert_eq!(lines[0], "The of to from the a query.");
    assert!(lines.iter().all(|line| line.ends_with('.') && line.len() < ROW_BYTES_MAX && line.is_ascii()));
    let the = lines.iter().flat_map(|line| line.split(' ')).filter(|word| word.eq_ignore_ascii_case("the")).count();
    assert!(the > lines.len() / 2, "{the}");
}

/// Names and texts of all files, those in folders too.
fn everything(content: Content, options: &FilesOptions) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let summary = generate(content, options, dir.path()).unwrap();
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    let numbered = files.keys().filter(|name| name.contains("_0")).count();
    assert_eq!((summary.files as usize, summary.rows), (numbered, numbered as u64 * u64::from(options.rows)));
    files
}

/// The rows of all files below a folder.
fn all_rows(files: &BTreeMap<String, String>, folder: &str) -> Vec<Value> {
    let texts = files.iter().filter(|(name, _)| name.starts_with(folder) && name.ends_with(".json"));
    texts.flat_map(|(_, text)| rows(text.as_bytes())).collect()
}

fn seconds(row: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(row["time"].as_str().unwrap()).unwrap().timestamp()
}

/// How far a row stands behind the newest before it, at most.
fn disorder_s(rows: &[Value]) -> i64 {
    let mut newest = i64::MIN;
    let behind = rows.iter().map(|row| {
        newest = newest.max(seconds(row));
        newest - seconds(row)
    });
    behind.max().unwrap()
}

#[test]
fn the_seed_alone_decides_the_bytes_of_all_contents() {
    for content in [Content::Messages, Content::Sensors, Content::Clicks, Content::Orders] {
        let files = everything(content, &small());
        assert_eq!(files, everything(content, &small()), "{content:?}");
        let other = everything(content, &FilesOptions { seed: 2, ..small() });
        for (name, text) in &files {
            assert_ne!(text, &other[name], "{name}");
            assert!(text.ends_with('\n') && text.lines().all(|line| line.len() < ROW_BYTES_MAX), "{name}");
        }
        let distinct: HashSet<_> = files.values().collect();
        assert_eq!(distinct.len(), files.len(), "{content:?}");
    }
}

#[test]
fn messages_have_tags_of_which_few_are_in_most() {
    let files = everything(Content::Messages, &FilesOptions { files: 2, rows: 3_000, ..small() });
    assert_eq!(files.keys().collect::<Vec<_>>(), ["messages_0001.json", "messages_0002.json"]);
    let rows = all_rows(&files, "");
    assert!((1..=3).contains(&disorder_s(&rows)), "{}", disorder_s(&rows));
    let mut tags: BTreeMap<String, u32> = BTreeMap::new();
    for row in &rows {
        let text = row["text"].as_str().unwrap().to_lowercase();
        for tag in text.split([' ', '.']).filter(|word| word.starts_with('#')) {
            *tags.entry(tag.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(tags.len(), 24, "{tags:?}");
    assert_eq!(tags.values().max(), Some(&tags["#rust"]));
    assert!(tags["#rust"] > 10 * tags["#coffee"], "{tags:?}");
}

#[test]
fn sensors_come_with_tables_about_them() {
    let files = everything(Content::Sensors, &FilesOptions { files: 2, rows: 5_000, ..small() });
    let names = ["maintenance.csv", "readings/readings_0001.json", "readings/readings_0002.json", "vendor.csv"];
    assert_eq!(files.keys().collect::<Vec<_>>(), names);
    let rows = all_rows(&files, "readings");
    assert_eq!(disorder_s(&rows), 0);
    let low = rows.iter().filter(|row| row["psi"].as_f64().unwrap() < 5.0).count();
    assert!((100..300).contains(&low), "{low}");
    for (table, missing) in [("vendor.csv", "pump09"), ("maintenance.csv", "pump04")] {
        let ids: HashSet<&str> = files[table].lines().skip(1).filter_map(|line| line.split(',').next()).collect();
        assert_eq!((ids.len(), ids.contains(missing), ids.contains("pump00")), (36, false, true), "{table}");
    }
    assert!(files["vendor.csv"].contains(",\"Riverside, Inc.\",") && files["maintenance.csv"].contains("\"\"routine"));
}

#[test]
fn users_come_and_go() {
    let files = everything(Content::Clicks, &FilesOptions { files: 2, rows: 3_000, ..small() });
    let rows = all_rows(&files, "clicks");
    assert!((10..=20).contains(&disorder_s(&rows)), "{}", disorder_s(&rows));
    let users = |from: usize| -> HashSet<String> {
        rows[from..from + 600].iter().map(|row| row["user_id"].to_string()).collect()
    };
    let (first, second, last) = (users(0), users(600), users(5_400));
    assert!(first.intersection(&second).count() > 5 && second.difference(&first).count() > 5);
    assert_eq!(first.intersection(&last).count(), 0);
}

#[test]
fn orders_are_paid_in_time_too_late_or_never() {
    let files = everything(Content::Orders, &FilesOptions { files: 3, rows: 3_000, ..small() });
    assert_eq!(files.len(), 6);
    let (orders, payments) = (all_rows(&files, "orders/"), all_rows(&files, "payments/"));
    assert!(disorder_s(&orders) <= 30 && disorder_s(&payments) <= 30);
    let ordered: BTreeMap<&str, i64> =
        orders.iter().map(|row| (row["order_id"].as_str().unwrap(), seconds(row))).collect();
    assert_eq!(ordered.len(), 9_000, "each has a number of its own");
    let (mut in_time, mut too_late, mut unknown) = (0, 0, 0);
    for payment in &payments {
        match ordered.get(payment["order_id"].as_str().unwrap()).map(|time| seconds(payment) - time) {
            None => unknown += 1,
            Some(after) if after <= 3_600 => in_time += 1,
            Some(_) => too_late += 1,
        }
    }
    assert!(
        in_time > 7_000 && (200..500).contains(&too_late) && (700..1_200).contains(&unknown),
        "{in_time} {too_late} {unknown}"
    );
    let paid: HashSet<&str> = payments.iter().map(|row| row["order_id"].as_str().unwrap()).collect();
    let never = ordered.keys().filter(|number| !paid.contains(*number)).count();
    assert!((2_500..4_500).contains(&never), "{never}");
}

#[test]
fn the_first_rows_of_other_contents_never_change_either() {
    let firsts = [
        (
            Content::Messages,
            "messages_0001.json",
            r##"{"time": "2026-05-17T10:00:01Z", "user": "user1", "text": "shipped release #rust"}"##,
        ),
        (
            Content::Sensors,
            "readings/readings_0001.json",
            r#"{"time": "2026-05-17T10:00:00Z", "resid": "pump16", "hz": 9.8, "flow": 925, "psi": 83.8}"#,
        ),
        (
            Content::Clicks,
            "clicks_0001.json",
            r#"{"time": "2026-05-17T10:00:08Z", "user_id": "user1", "page": "/articles"}"#,
        ),
        (
            Content::Orders,
            "orders/orders_0001.json",
            r#"{"time": "2026-05-17T10:00:06Z", "order_id": "1000000", "customer": "customer17", "cents": 12031}"#,
        ),
        (
            Content::Orders,
            "payments/payments_0001.json",
            r#"{"time": "2026-05-17T10:00:03Z", "order_id": "999004", "cents": 10164}"#,
        ),
    ];
    for (content, name, line) in firsts {
        let files = everything(content, &FilesOptions { files: 1, rows: 1, ..FilesOptions::default() });
        assert_eq!(files[name], format!("{line}\n"), "{name}");
    }
}
