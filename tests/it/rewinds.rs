//! Back to any batch and forward again: the suffix is the same to the byte, and the log tells what was retracted.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use highwater::{
    batch::{self, RewindOptions},
    model::{BatchAddress, BatchId, ErrorKind, Faults, Generation},
};

use crate::{
    published::shared,
    stream::{Scratch, rows},
    trace::{Trace, files},
};

const JOB: &str = "SET snapshot_batches = '4';
CREATE TABLE t (device STRING, port STRING, bytes DOUBLE)
WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
CREATE TABLE counts WITH (connector = 'memory');
CREATE TABLE top WITH (connector = 'files', path = '${OUTPUT}/top', format = 'json', output_mode = 'complete');
CREATE TABLE changes WITH (connector = 'files', path = '${OUTPUT}/changes', format = 'csv', output_mode = 'update');
CREATE TABLE large WITH (connector = 'files', path = '${OUTPUT}/large', format = 'json', output_mode = 'append');
INSERT INTO counts SELECT device, count(*) AS count FROM t WHERE port IN (80, 443) GROUP BY device ORDER BY count DESC;
INSERT INTO top SELECT device, sum(bytes) AS bytes FROM t GROUP BY device ORDER BY count(*) DESC LIMIT 5;
INSERT INTO changes SELECT port, count(*) AS count, avg(bytes) AS mean FROM t GROUP BY port;
INSERT INTO large SELECT device, port, bytes FROM t WHERE bytes > 800;";

const FILES: usize = 50;

/// Fifty small files: a function of the seed alone.
fn flows(sql: &str) -> Scratch {
    let mut scratch = Scratch::new(sql);
    let mut x: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut random = |below: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 20) % below
    };
    for _ in 0..FILES {
        let mut text = String::new();
        for _ in 0..40 {
            let port = ["80", "443", "53", "Port46272"][random(4) as usize];
            let bytes = random(10_000) as f64 / 7.0;
            writeln!(text, r#"{{"device": "Comp{}", "port": "{port}", "bytes": {bytes}}}"#, random(30))
                .expect("text grows");
        }
        scratch.add(text.as_bytes());
    }
    scratch
}

fn run(scratch: &Scratch, batches_max: Option<u64>) -> u64 {
    scratch.run_batches(Faults::none(), 1, batches_max).unwrap_or_else(|error| panic!("{error}")).batches
}

fn rewind(scratch: &Scratch, to: Option<u64>, replan: bool) {
    scratch.rewind(to, replan, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
}

fn live_files(scratch: &Scratch) -> Vec<usize> {
    scratch.view().log().unwrap().iter().filter(|row| !row.retracted).map(|row| row.files.len()).collect()
}

#[test]
fn every_batch_can_be_gone_back_to() {
    let scratch = flows(JOB);
    assert_eq!(run(&scratch, None), FILES as u64);
    let expected = Trace::of(&scratch);
    for k in (0..FILES as u64).rev() {
        rewind(&scratch, Some(k), false);
        retracted_after(&scratch, &expected.output, Some(k));
        assert_eq!(run(&scratch, None), FILES as u64 - 1 - k);
        same_output(&scratch, &expected, k);
    }
    rewind(&scratch, None, false);
    retracted_after(&scratch, &expected.output, None);
    assert_eq!(run(&scratch, None), FILES as u64);
    Trace::of(&scratch).assert_same(&expected, &"start");
    let log = scratch.view().log().unwrap();
    assert_eq!(log.iter().filter(|row| !row.retracted).count(), FILES);
    assert_eq!(log.len(), FILES + (0..FILES).sum::<usize>() + FILES);
}

/// What batches after `to` published is gone, what came before is as it was.
#[track_caller]
fn retracted_after(scratch: &Scratch, all: &BTreeMap<String, Vec<u8>>, to: Option<u64>) {
    let number = |name: &str| name.rsplit_once('-')?.1.split_once('.')?.0.parse::<u64>().ok();
    let stays = |name: &&String| number(name).is_none_or(|batch| Some(batch) <= to);
    let found = files(&scratch.output());
    let mut names: Vec<&String> = all.keys().filter(stays).collect();
    names.retain(|name| to.is_some() || *name != "top/top.json");
    assert_eq!(found.keys().collect::<Vec<_>>(), names, "after a rewind to {to:?}");
    assert!(found.iter().all(|(name, bytes)| name == "top/top.json" || all[name] == *bytes));
    if let (Some(to), Some(top)) = (to, found.get("top/top.json")) {
        let at = BatchAddress { batch: BatchId(to), generation: None };
        let table = scratch.view().result("top", at).unwrap();
        assert_eq!(
            String::from_utf8_lossy(top).lines().collect::<Vec<_>>(),
            rows(&table),
            "the whole result as of batch {to}"
        );
    }
}

#[track_caller]
fn same_output(scratch: &Scratch, expected: &Trace, k: u64) {
    assert_eq!(files(&scratch.output()), expected.output, "after a rewind to {k}");
    let view = scratch.view();
    for batch in [k, k + 1, FILES as u64 - 1].into_iter().filter(|batch| *batch < FILES as u64) {
        let found = view.result("counts", BatchAddress { batch: BatchId(batch), generation: None }).unwrap();
        assert_eq!(
            Some(rows(&found)),
            expected.batches[&batch].results["counts"],
            "batch {batch} after a rewind to {k}"
        );
    }
}

#[test]
fn the_log_tells_what_was_retracted() {
    let scratch = flows(JOB);
    run(&scratch, None);
    let before = scratch.view();
    let address = |batch, generation| BatchAddress { batch: BatchId(batch), generation: Some(Generation(generation)) };
    let old = rows(&before.result("counts", address(30, 1)).unwrap());
    let report = scratch.rewind(Some(24), false, Faults::none()).unwrap();
    assert_eq!((report.from, report.replays), (Some(BatchId(49)), 25));
    assert_eq!(report.retracted.first(), Some(&address(25, 1)));
    assert_eq!(report.retracted.len(), 25);
    run(&scratch, None);
    let view = scratch.view();
    let log = view.log().unwrap();
    let told: Vec<(String, bool)> = log.iter().map(|row| (row.address.to_string(), row.retracted)).collect();
    let expected = (0..50)
        .map(|batch| (format!("{batch}@1"), batch > 24))
        .chain((25..50).map(|batch| (format!("{batch}@2"), false)));
    assert_eq!(told, expected.collect::<Vec<_>>());
    // The retracted batch is still addressed, and what replaced it is the same.
    assert_eq!(rows(&view.result("counts", address(30, 1)).unwrap()), old);
    assert_eq!(rows(&view.result("counts", address(30, 2)).unwrap()), old);
    assert!(view.result("counts", address(30, 3)).is_err());
}

#[test]
fn a_dry_run_changes_nothing() {
    let scratch = flows(JOB);
    run(&scratch, Some(6));
    let before = (Trace::of(&scratch), scratch.view().log().unwrap().len());
    let options =
        RewindOptions { to: Some(BatchId(3)), dry_run: true, replan: false, threads: 1, faults: Faults::none() };
    let report = scratch.rewind_with(&options).unwrap();
    assert_eq!(report.retracted.len(), 2);
    assert_eq!(report.invisible.len(), 4);
    assert!(report.invisible[2].contains("changes-00000004.csv, changes-00000005.csv"), "{:?}", report.invisible);
    Trace::of(&scratch).assert_same(&before.0, &"dry run");
    assert_eq!(scratch.view().log().unwrap().len(), before.1);
}

#[test]
fn a_rewind_during_replay_goes_on_with_the_plans_that_are_left() {
    let scratch = flows(JOB);
    run(&scratch, None);
    let expected = Trace::of(&scratch);
    for (first, steps, second) in [
        (Some(10), 5, Some(12)),
        (Some(40), 2, Some(7)),
        (None, 3, None),
        (Some(20), 0, Some(20)),
        (Some(9), 6, Some(15)),
    ] {
        rewind(&scratch, first, false);
        assert_eq!(run(&scratch, Some(steps)), steps);
        rewind(&scratch, second, false);
        run(&scratch, None);
        Trace::of(&scratch).assert_same(&expected, &(first, steps, second));
    }
}

/// Replayed plans are what they were, whatever the limit is now; `--replan` plans anew.
#[test]
fn a_new_limit_counts_after_replay_or_with_replan() {
    let mut scratch = flows(JOB);
    run(&scratch, Some(20));
    scratch.sql = scratch.sql.replace("max_files_per_trigger = 1", "max_files_per_trigger = 4");
    rewind(&scratch, Some(9), false);
    run(&scratch, None);
    assert_eq!(live_files(&scratch), [vec![1; 20], vec![4; 7], vec![2]].concat());
    let whole = |scratch: &Scratch| rows(&scratch.view().result("counts", scratch.view().newest().unwrap()).unwrap());
    let expected = whole(&scratch);
    rewind(&scratch, Some(9), true);
    run(&scratch, None);
    assert_eq!(live_files(&scratch), [vec![1; 10], vec![4; 10]].concat());
    assert_eq!(whole(&scratch), expected);
    rewind(&scratch, Some(3), false);
    rewind(&scratch, Some(2), true);
    run(&scratch, None);
    assert_eq!(live_files(&scratch), [vec![1; 3], vec![4; 11], vec![3]].concat());
    assert_eq!(whole(&scratch), expected);
}

#[test]
fn what_was_let_go_cannot_be_gone_back_to() {
    let scratch = flows(&format!("SET retain_batches = '5'; {JOB}"));
    run(&scratch, None);
    let before = Trace::of(&scratch);
    let horizon = *before.batches.keys().next().unwrap();
    assert!((40..=45).contains(&horizon), "{horizon}");
    for to in [None, Some(0), Some(horizon - 1), Some(50)] {
        let error = scratch.rewind(to, false, Faults::none()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Refused | ErrorKind::Usage), "{error}");
        assert!(
            error.to_string().contains(&format!("batches {horizon} to 49 exist"))
                || error.to_string().contains(&format!("rewind to batch {horizon}")),
            "{to:?}: {error}"
        );
    }
    Trace::of(&scratch).assert_same(&before, &"refused rewinds");
    rewind(&scratch, Some(horizon), false);
    run(&scratch, None);
    Trace::of(&scratch).assert_same(&before, &"to the horizon");
}

/// A fork at any batch goes on into a folder of its own, with the same bytes.
#[test]
fn a_fork_writes_the_same_suffix() {
    let mut scratch = flows(JOB);
    run(&scratch, None);
    let expected = Trace::of(&scratch);
    for k in 0..FILES as u64 {
        let scratch_sql = scratch.sql.clone();
        let (dir, output) = (scratch.dir.path().join(format!("fork-{k}")), scratch.dir.path().join(format!("out-{k}")));
        let at = BatchAddress { batch: BatchId(k), generation: None };
        let set =
            |folder: &std::path::Path| BTreeMap::from([("OUTPUT".to_owned(), folder.to_string_lossy().into_owned())]);
        let refused = batch::fork(&scratch.checkpoint(), at, &dir, set(&scratch.output())).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        batch::fork(&scratch.checkpoint(), at, &dir, set(&output)).unwrap_or_else(|error| panic!("{error}"));
        scratch.sql = scratch_sql.replace("${OUTPUT}", &output.to_string_lossy());
        let engine =
            batch::EngineOptions { checkpoint: dir.clone(), threads: 1, accept_change: false, faults: Faults::none() };
        let summary = scratch.run_with(engine, None).unwrap_or_else(|error| panic!("{error}"));
        scratch.sql = scratch_sql;
        assert_eq!(summary.batches, FILES as u64 - 1 - k);
        if k < 49 {
            for (name, bytes) in files(&output) {
                assert_eq!(bytes, expected.output[&name], "{name} of a fork at {k}");
            }
        }
        let view = batch::View::open(&dir).unwrap();
        let newest = view.result("counts", view.newest().unwrap()).unwrap();
        assert_eq!(Some(rows(&newest)), expected.batches[&49].results["counts"]);
        fs::remove_dir_all(&dir).unwrap();
    }
}

/// The real data, where `HIGHWATER_LANL` asks for it.
#[test]
fn every_batch_of_the_real_data_can_be_gone_back_to() {
    if std::env::var_os("HIGHWATER_LANL").is_none() {
        return;
    }
    let Some(folder) = shared("lanl") else { return };
    let sql = include_str!("../../jobs/web_servers.sql")
        .replace("connector = 'memory'", "connector = 'files', path = '${OUTPUT}', format = 'json'");
    let mut scratch = Scratch::new(&sql);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in &paths {
        scratch.add_named(&path.file_name().unwrap().to_string_lossy(), &fs::read(path).unwrap());
    }
    run(&scratch, None);
    let expected = Trace::of(&scratch);
    for k in (0..paths.len() as u64).map(Some).chain([None]) {
        rewind(&scratch, k, false);
        run(&scratch, None);
        assert_eq!(files(&scratch.output()), expected.output, "after a rewind to {k:?}");
    }
    Trace::of(&scratch).assert_same(&expected, &"lanl");
}

/// The second rewind did not know the snapshot, which lies in an older part of the log, and a new one was taken.
#[test]
fn two_rewinds_in_a_row_keep_the_snapshot() {
    let scratch = flows(JOB);
    run(&scratch, Some(12));
    let expected = Trace::of(&scratch);
    rewind(&scratch, Some(5), false);
    rewind(&scratch, Some(5), false);
    run(&scratch, None);
    let found = Trace::of(&scratch);
    for batch in 0..12 {
        assert_eq!(found.batches[&batch].snapshot, expected.batches[&batch].snapshot, "batch {batch}");
    }
}
