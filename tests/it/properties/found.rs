//! What proptest found once, as small as it became.

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
