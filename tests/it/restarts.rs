//! What may change between two runs on one checkpoint, what may not, and what a failure leaves.

use std::fs;

use highwater::{
    batch::{EngineOptions, Summary, VerifyOptions, verify},
    checkpoint::Reader,
    model::{BatchAddress, BatchId, CrashPoint, ErrorKind, Faults, Result, crash::Crash},
};

use crate::{
    stream::{Scratch, rows, stamp},
    trace::{Trace, files},
};

const JOB: &str = "CREATE TABLE t (k STRING, p STRING, n BIGINT)
WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
CREATE TABLE counts WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'complete');
INSERT INTO counts SELECT k, count(*) AS c FROM t WHERE n > 0 GROUP BY k;
";

fn row(k: &str, n: i64) -> String {
    format!("{{\"k\": \"{k}\", \"p\": \"{}\", \"n\": {n}}}\n", n % 2)
}

/// Two batches committed, a third file waiting.
fn started(sql: &str) -> Scratch {
    let mut scratch = Scratch::new(sql);
    scratch.add((row("a", 1) + &row("b", -1)).as_bytes());
    scratch.add((row("a", 2) + &row("b", 3)).as_bytes());
    assert_eq!(scratch.run(Faults::none(), 1).unwrap().batches, 2);
    scratch.add((row("a", -4) + &row("b", 5)).as_bytes());
    scratch
}

fn run(scratch: &Scratch, accept_change: bool) -> Result<Summary> {
    scratch.run_with(
        EngineOptions { checkpoint: scratch.checkpoint(), threads: 1, accept_change, faults: Faults::none() },
        None,
    )
}

fn newest(scratch: &Scratch, query: &str) -> Vec<String> {
    rows(&scratch.view().result(query, scratch.view().newest().unwrap()).unwrap())
}

#[track_caller]
fn refused(scratch: &mut Scratch, from: &str, to: &str, accept: bool, names: &[&str]) {
    let before = Trace::of(scratch);
    let sql = scratch.sql.clone();
    assert!(sql.contains(from));
    scratch.sql = sql.replace(from, to);
    let error = run(scratch, accept).expect_err(to);
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    for name in names {
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    scratch.sql = sql;
    Trace::of(scratch).assert_same(&before, &to);
    assert_eq!(Reader::open(&scratch.checkpoint()).unwrap().history().accepted().len(), 0);
}

#[test]
fn what_state_is_made_of_may_not_change() {
    let mut scratch = started(JOB);
    for accept in [false, true] {
        refused(
            &mut scratch,
            "SELECT k, count(*) AS c FROM t WHERE n > 0 GROUP BY k",
            "SELECT p AS k, count(*) AS c FROM t WHERE n > 0 GROUP BY p",
            accept,
            &["'counts'", "grouping keys", "was t.k", "is t.p"],
        );
        refused(&mut scratch, "count(*) AS c", "sum(n) AS c", accept, &["'counts'", "aggregates", "count(", "sum("]);
        refused(
            &mut scratch,
            "output_mode = 'complete'",
            "output_mode = 'update'",
            accept,
            &["'counts'", "output mode", "was complete", "is update"],
        );
        refused(&mut scratch, "k STRING", "k BIGINT", accept, &["'counts'", "state schema"]);
    }
    assert_eq!(run(&scratch, false).unwrap().batches, 1);
}

/// A cast inside of an aggregate gives its column the same name, and other sums.
#[test]
fn a_cast_inside_an_aggregate_may_not_change() {
    let mut scratch = started(&JOB.replace("count(*) AS c", "sum(CAST(n AS DOUBLE)) AS c"));
    for accept in [false, true] {
        let to = "CAST(CAST(n AS SMALLINT) AS DOUBLE)";
        refused(&mut scratch, "CAST(n AS DOUBLE)", to, accept, &["'counts'", "aggregates", "was sum(CAST("]);
        let to = "TRY_CAST(n AS DOUBLE)";
        refused(&mut scratch, "CAST(n AS DOUBLE)", to, accept, &["'counts'", "aggregates", "is sum(TRY_CAST("]);
    }
}

#[test]
fn a_space_a_comment_and_a_limit_change_nothing() {
    let mut scratch = started(JOB);
    scratch.sql = format!(
        "-- another comment\n{}",
        JOB.replace("count(*) AS c", "count( * )   AS c")
            .replace("max_files_per_trigger = 1", "max_files_per_trigger = 2")
    );
    scratch.add(row("c", 7).as_bytes());
    assert_eq!(run(&scratch, false).unwrap().batches, 1);
    let view = scratch.view();
    let log = view.log().unwrap();
    assert_eq!(log.iter().map(|row| row.files.len()).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(newest(&scratch, "counts"), [r#"{"k":"a","c":2}"#, r#"{"k":"b","c":2}"#, r#"{"k":"c","c":1}"#]);
    let reader = Reader::open(&scratch.checkpoint()).unwrap();
    assert!(reader.history().accepted().iter().all(|accepted| accepted.differences.is_empty()));
}

#[test]
fn a_changed_filter_is_a_fact_in_the_log_once_accepted() {
    let mut scratch = started(JOB);
    refused(&mut scratch, "n > 0", "n > -10", false, &["'counts'", "filter", "--accept-change"]);
    scratch.sql = scratch.sql.replace("n > 0", "n > -10");
    assert_eq!(run(&scratch, true).unwrap().batches, 1);
    assert_eq!(newest(&scratch, "counts"), [r#"{"k":"a","c":3}"#, r#"{"k":"b","c":2}"#]);
    let reader = Reader::open(&scratch.checkpoint()).unwrap();
    let [accepted] = reader.history().accepted() else { panic!("{:?}", reader.history().accepted()) };
    assert_eq!((accepted.from, accepted.differences[0].query.as_str()), (BatchId(2), "counts"));
    // It holds from then on, without being asked for again; the old one is now the change.
    scratch.add(row("d", -1).as_bytes());
    assert_eq!(run(&scratch, false).unwrap().batches, 1);
    scratch.sql = scratch.sql.replace("n > -10", "n > 0");
    assert_eq!(run(&scratch, false).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn an_added_query_starts_at_its_batch() {
    let mut scratch = started(JOB);
    scratch.sql += "CREATE TABLE total WITH (connector = 'memory');\nINSERT INTO total SELECT count(*) AS c, sum(n) AS s FROM t;\n";
    assert_eq!(run(&scratch, false).unwrap().batches, 1);
    assert_eq!(newest(&scratch, "total"), [r#"{"c":2,"s":1}"#]);
    assert_eq!(newest(&scratch, "counts"), [r#"{"k":"a","c":2}"#, r#"{"k":"b","c":2}"#]);
    let report =
        verify(&scratch.checkpoint(), &VerifyOptions { batch: true, every: true, threads: 1 }, &mut |_| {}).unwrap();
    assert_eq!((report.findings, report.notes), (vec![], vec![]));
}

/// A rewind to before a query was added: its replayed batches count from there, and verify knows it.
#[test]
fn an_added_query_takes_part_in_what_is_replayed() {
    let mut scratch = started(JOB);
    scratch.sql += "CREATE TABLE total WITH (connector = 'memory');\nINSERT INTO total SELECT count(*) AS c FROM t;\n";
    run(&scratch, false).unwrap();
    scratch.rewind(Some(0), false, Faults::none()).unwrap();
    assert_eq!(run(&scratch, false).unwrap().batches, 2);
    assert_eq!(newest(&scratch, "total"), [r#"{"c":4}"#]);
    let report =
        verify(&scratch.checkpoint(), &VerifyOptions { batch: true, every: true, threads: 1 }, &mut |_| {}).unwrap();
    assert_eq!((report.findings, report.notes), (vec![], vec![]));
}

#[test]
fn a_bad_file_in_failfast_leaves_nothing_and_is_read_once_mended() {
    for limit in ["mode = 'failfast'", "max_bad_records = 0"] {
        let mut scratch = started(&JOB.replace("format = 'json', max", &format!("format = 'json', {limit}, max")));
        let bad = scratch.input().join("0002.json");
        fs::write(&bad, "{\"k\": \"a\"\n").unwrap();
        stamp(&bad, 2);
        let before = (Trace::of(&scratch), files(&scratch.output()));
        for _ in 0..2 {
            let error = run(&scratch, false).unwrap_err();
            assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Data, 4), "{error}");
            assert!(error.to_string().contains("0002.json, line 1"), "{error}");
            Trace::of(&scratch).assert_same(&before.0, &limit);
            assert_eq!(files(&scratch.output()), before.1);
            assert!(Reader::open(&scratch.checkpoint()).unwrap().history().intent().is_none());
        }
        fs::write(&bad, row("a", 9)).unwrap();
        stamp(&bad, 3);
        scratch.add(row("b", 9).as_bytes());
        assert_eq!(run(&scratch, false).unwrap().batches, 2);
        assert_eq!(newest(&scratch, "counts"), [r#"{"k":"a","c":3}"#, r#"{"k":"b","c":2}"#]);
    }
}

#[test]
fn a_planned_file_that_is_gone_is_named_with_the_way_out() {
    let scratch = started(JOB);
    let error = scratch.run(Faults::armed(CrashPoint::Intended, 1, Crash::Error), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Crashed);
    fs::remove_file(scratch.input().join("0002.json")).unwrap();
    for _ in 0..2 {
        let error = run(&scratch, false).unwrap_err();
        assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Moved, 1), "{error}");
        let text = error.to_string();
        assert!(text.contains("0002.json") && text.contains("--to 1 --replan"), "{text}");
    }
    let before = Trace::of(&scratch);
    scratch.rewind(Some(1), true, Faults::none()).unwrap();
    assert_eq!(run(&scratch, false).unwrap().batches, 0);
    Trace::of(&scratch).assert_same(&before, &"the plan was dropped");
}

/// Time travel to before a query existed says so.
#[test]
fn a_result_from_before_its_query_is_empty() {
    let mut scratch = started(JOB);
    scratch.sql += "CREATE TABLE listed WITH (connector = 'memory');\nINSERT INTO listed SELECT k FROM t WHERE n > 0 GROUP BY k;\n";
    run(&scratch, false).unwrap();
    let before = BatchAddress { batch: BatchId(1), generation: None };
    assert_eq!(rows(&scratch.view().result("listed", before).unwrap()), Vec::<String>::new());
    assert_eq!(newest(&scratch, "listed"), [r#"{"k":"b"}"#]);
}

/// Appended rows that retention let go cannot be compared with anything: a note, no failure of verify.
#[test]
fn verify_of_an_append_query_with_retention_says_what_is_gone() {
    let job = "SET retain_batches = '1'; SET snapshot_batches = '1';
CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
CREATE TABLE kept WITH (connector = 'memory');
INSERT INTO kept SELECT k FROM t WHERE n > 0;";
    let scratch = started(job);
    run(&scratch, false).unwrap();
    let report =
        verify(&scratch.checkpoint(), &VerifyOptions { batch: true, every: true, threads: 1 }, &mut |_| {}).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert!(matches!(report.notes.as_slice(), [note] if note.contains("retain_batches")), "{:?}", report.notes);
}

/// The oldest batch that is kept has its rows in a part of the log that is gone.
#[test]
fn appended_rows_behind_the_horizon_are_refused_even_where_it_is_the_first_batch() {
    let job = "SET retain_batches = '1'; SET snapshot_batches = '1';
CREATE TABLE t (k STRING) WITH (connector = 'files', path = '${INPUT}', format = 'json');
CREATE TABLE kept WITH (connector = 'memory');
INSERT INTO kept SELECT k FROM t;";
    let mut scratch = Scratch::new(job);
    scratch.add(row("a", 1).as_bytes());
    run(&scratch, false).unwrap();
    let error = scratch.view().result("kept", scratch.view().newest().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}

/// A fork's folder does not hold what was appended before it.
#[test]
fn a_fork_does_not_pass_its_part_of_appended_files_off_as_all() {
    let job = "CREATE TABLE t (k STRING) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
CREATE TABLE kept WITH (connector = 'files', path = '${OUTPUT}', format = 'json');
INSERT INTO kept SELECT k FROM t;";
    let scratch = started(job);
    let (dir, output) = (scratch.dir.path().join("fork"), scratch.dir.path().join("other"));
    let set = [("OUTPUT".to_owned(), output.to_string_lossy().into_owned())].into();
    highwater::batch::fork(&scratch.checkpoint(), BatchAddress { batch: BatchId(0), generation: None }, &dir, set)
        .unwrap();
    let view = highwater::batch::View::open(&dir).unwrap();
    let error = view.result("kept", view.newest().unwrap()).unwrap_err();
    assert!(error.to_string().contains("fork"), "{error}");
    let report = verify(&dir, &VerifyOptions { batch: true, every: true, threads: 1 }, &mut |_| {}).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert!(report.notes.iter().any(|note| note.contains("fork")), "{:?}", report.notes);
}
