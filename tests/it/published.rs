//! The published results over real data, and a fixture of the project's own with a known answer.

use std::{collections::BTreeMap, fs, path::PathBuf};

use highwater::{
    batch::{self, VerifyOptions},
    model::{BatchAddress, BatchId, Faults},
};

use crate::stream::{Scratch, rows};

const WEB_SERVERS: &str = include_str!("../../jobs/web_servers.sql");

/// The folder of real data; `None`, with a message, where it is missing.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    crate::binary::skip(name, "../shared/data is not here");
    None
}

/// The web-server job over a copy of the 50 files, with increasing times in name order.
fn lanl() -> Option<Scratch> {
    let folder = shared("lanl")?;
    let mut scratch = Scratch::new(WEB_SERVERS);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        scratch.add_named(&name, &fs::read(&file).unwrap());
    }
    Some(scratch)
}

fn expected() -> serde_json::Value {
    serde_json::from_slice(&fs::read(shared("lanl-expected.json").unwrap()).unwrap()).unwrap()
}

fn at(batch: u64) -> BatchAddress {
    BatchAddress { batch: BatchId(batch), generation: None }
}

#[test]
fn the_published_table_after_every_file() {
    let Some(scratch) = lanl() else { return };
    let summary = scratch.run(Faults::none(), 2).unwrap();
    assert_eq!((summary.batches, summary.rows, summary.bad_rows), (50, 500_000, 0));
    let view = scratch.view();
    let expected = expected();
    let found = rows(&view.result("counts", view.resolve(None).unwrap()).unwrap());
    let all: Vec<String> = expected["all_50_files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!(r#"{{"dstdevice":{},"count":{}}}"#, row[0], row[1]))
        .collect();
    assert_eq!(found[..20], all[..20]);
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    assert_eq!(sorted(found), sorted(all));
    for (number, after) in expected["per_batch_one_file_per_trigger"].as_array().unwrap().iter().enumerate() {
        let found = rows(&view.result("counts", at(number as u64)).unwrap());
        let count = |row: &String| serde_json::from_str::<serde_json::Value>(row).unwrap()["count"].as_u64().unwrap();
        assert_eq!(found.iter().map(count).sum::<u64>(), after["matched_cumulative"].as_u64().unwrap());
        assert_eq!(found.len() as u64, after["state_rows_cumulative"].as_u64().unwrap());
    }
    let log = view.log().unwrap();
    assert_eq!(log.len(), 50);
    assert!(log.iter().all(|row| row.files.len() == 1), "every batch is one file");
    let options = VerifyOptions { batch: true, every: true, threads: 2 };
    let report = batch::verify(&scratch.checkpoint(), &options, &mut |_| {}).unwrap();
    assert_eq!((report.findings, report.notes, report.results_compared), (vec![], vec![], 50));
}

#[test]
fn a_file_that_is_no_json_is_named_and_the_rest_counts() {
    let Some(mut scratch) = lanl() else { return };
    let first = scratch.input().join("time_01.json");
    fs::write(&first, [0xff, 0xfe, 0x00, 0x01, b'x']).unwrap();
    crate::stream::stamp(&first, 0);
    let summary = scratch.run(Faults::none(), 2).unwrap();
    assert_eq!((summary.batches, summary.bad_rows), (50, 1));
    let view = scratch.view();
    let found = rows(&view.result("counts", view.resolve(None).unwrap()).unwrap());
    let published = &expected()["without_time_01"];
    assert_eq!(found.len() as u64, published["groups"].as_u64().unwrap());
    assert_eq!(found[0], r#"{"dstdevice":"EnterpriseAppServer","count":14199}"#);
    assert_eq!(found[19], r#"{"dstdevice":"Comp457448","count":1159}"#);
    assert_eq!(view.log().unwrap()[0].progress.bad_files, ["time_01.json"]);
    scratch.sql.clear();
}

/// Without the real data: three devices, four files, every count known by hand.
#[test]
fn the_fixture_has_the_known_answer_after_every_file() {
    let mut scratch = Scratch::new(WEB_SERVERS);
    let flow = |device: &str, port: &str| format!("{{\"dstdevice\": \"{device}\", \"dstport\": \"{port}\"}}\n");
    scratch.add((flow("a", "80") + &flow("b", "443") + &flow("a", "53")).as_bytes());
    scratch.add(b"");
    scratch.add((flow("b", "80") + "not json\n" + &flow("c", "Port80") + &flow("b", "443")).as_bytes());
    scratch.add((flow("c", "443") + &flow("a", "443")).as_bytes());
    let summary = scratch.run(Faults::none(), 1).unwrap();
    assert_eq!((summary.batches, summary.rows, summary.bad_rows), (4, 9, 1));
    let expected = [
        vec![("a", 1), ("b", 1)],
        vec![("a", 1), ("b", 1)],
        vec![("b", 3), ("a", 1)],
        vec![("b", 3), ("a", 2), ("c", 1)],
    ];
    let view = scratch.view();
    for (batch, expected) in expected.iter().enumerate() {
        let expected: Vec<String> =
            expected.iter().map(|(device, count)| format!(r#"{{"dstdevice":"{device}","count":{count}}}"#)).collect();
        assert_eq!(rows(&view.result("counts", at(batch as u64)).unwrap()), expected, "after batch {batch}");
    }
    let offsets: BTreeMap<u64, Option<u64>> = view
        .log()
        .unwrap()
        .iter()
        .map(|row| (row.progress.batch_id, row.progress.sources[0].end_offset.map(|offset| offset.log_offset)))
        .collect();
    assert_eq!(offsets, BTreeMap::from([(0, Some(0)), (1, Some(1)), (2, Some(2)), (3, Some(3))]));
    let report =
        batch::verify(&scratch.checkpoint(), &VerifyOptions { batch: true, every: true, threads: 1 }, &mut |_| {})
            .unwrap();
    assert_eq!((report.findings, report.notes), (vec![], vec![]));
}
