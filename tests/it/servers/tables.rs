//! The three modes over the same input, and what their tables must hold.

use highwater::{model::Faults, sink::rows};
use serde_json::Value;

use crate::stream::Scratch;

/// A key that is sometimes null, in three tables of one schema; `SINK` stands for the options of each.
const JOB: &str = "SET snapshot_batches = '3';
CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
CREATE TABLE added WITH (SINK, output_mode = 'append');
CREATE TABLE changes WITH (SINK, output_mode = 'update');
CREATE TABLE whole WITH (SINK, table = 'the whole', output_mode = 'complete');
INSERT INTO added SELECT k, n, CAST(n AS DECIMAL(10, 2)) AS price FROM t WHERE n % 2 = 0;
INSERT INTO changes SELECT k, n % 3 AS m, count(*) AS c, sum(n) AS n FROM t GROUP BY k, n % 3;
INSERT INTO whole SELECT k, max(n) AS m FROM t GROUP BY k ORDER BY m DESC;";

/// Each query, and its table in SQL.
pub const TABLES: [(&str, &str); 3] = [("added", "added"), ("changes", "changes"), ("whole", "\"the whole\"")];

pub const FILES: usize = 9;

pub fn job(sink: &str) -> String {
    JOB.replace("SINK", sink)
}

pub fn file(number: usize) -> String {
    let row = |row: usize| {
        let x = (number * 31 + row * 17) % 23;
        let key = if x.is_multiple_of(5) { "null".to_owned() } else { format!("\"k{}\"", x % 7) };
        format!("{{\"k\": {key}, \"n\": {x}}}\n")
    };
    // one file has no rows
    (0..if number == 4 { 0 } else { 6 }).map(row).collect()
}

pub fn scratch(sql: &str) -> Scratch {
    let mut scratch = Scratch::new(sql);
    (0..FILES).for_each(|number| scratch.add(file(number).as_bytes()));
    scratch
}

pub fn run(scratch: &Scratch, batches_max: Option<u64>) {
    scratch.run_batches(Faults::none(), 1, batches_max).unwrap_or_else(|error| panic!("{error}"));
}

/// What the checkpoint shows of each query.
pub fn results(scratch: &Scratch, queries: &[&str]) -> Vec<Vec<Value>> {
    let view = scratch.view();
    let newest = view.newest().expect("a batch");
    let rows = |query: &&str| {
        let table = view.result(query, newest).unwrap_or_else(|error| panic!("{error}"));
        parsed(String::from_utf8(rows::json_lines(&table.rows).expect("rows")).expect("text").lines())
    };
    queries.iter().map(rows).collect()
}

/// Rows of JSON, their numbers as numbers are: 2.00 is 2.
pub fn parsed<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> Vec<Value> {
    let row = |line: T| {
        let mut row: Value = serde_json::from_str(line.as_ref()).expect("JSON");
        for cell in row.as_object_mut().expect("an object").values_mut() {
            if let Some(number) = cell.as_f64() {
                *cell = number.into();
            }
        }
        row
    };
    let mut rows: Vec<Value> = lines.into_iter().map(row).collect();
    rows.sort_by_key(Value::to_string);
    rows
}

pub fn sound(scratch: &Scratch) {
    let options = highwater::batch::VerifyOptions { batch: true, every: false, threads: 1 };
    let report = highwater::batch::verify(&scratch.checkpoint(), &options, &mut |_| {});
    let findings = report.unwrap_or_else(|error| panic!("{error}")).findings;
    assert!(findings.is_empty(), "{findings:?}");
}
