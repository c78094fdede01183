//! Sinks beside files: a table of SQLite, exactly once whatever is killed, and a program, at least once.

mod command;
mod places;

use std::path::PathBuf;

use highwater::{
    model::{ErrorKind, Faults},
    sink::{rows, table_lines},
};
use serde_json::Value;

use crate::{
    binary::{Folder, Running},
    stream::Scratch,
};

/// A key that is sometimes null, in three tables of one database.
const JOB: &str = "SET snapshot_batches = '3';
CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
CREATE TABLE added WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'append');
CREATE TABLE changes WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'update');
CREATE TABLE whole WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', table = 'the whole', output_mode = 'complete');
INSERT INTO added SELECT k, n, CAST(n AS DECIMAL(10, 2)) AS price FROM t WHERE n % 2 = 0;
INSERT INTO changes SELECT k, count(*) AS m, sum(n) AS n FROM t GROUP BY k;
INSERT INTO whole SELECT k, max(n) AS m FROM t GROUP BY k ORDER BY m DESC;";

/// Each query, its table, and whether the table has the column for the batch.
const TABLES: [(&str, &str, bool); 3] =
    [("added", "added", true), ("changes", "changes", true), ("whole", "the whole", false)];

const FILES: usize = 9;

fn file(number: usize) -> String {
    let row = |row: usize| {
        let x = (number * 31 + row * 17) % 23;
        let key = if x.is_multiple_of(5) { "null".to_owned() } else { format!("\"k{}\"", x % 7) };
        format!("{{\"k\": {key}, \"n\": {x}}}\n")
    };
    // one file has no rows
    (0..if number == 4 { 0 } else { 6 }).map(row).collect()
}

fn scratch() -> Scratch {
    let mut scratch = Scratch::new(JOB);
    (0..FILES).for_each(|number| scratch.add(file(number).as_bytes()));
    scratch
}

fn database(scratch: &Scratch) -> PathBuf {
    scratch.output().join("out.db")
}

fn run(scratch: &Scratch, batches_max: Option<u64>) {
    scratch.run_batches(Faults::none(), 1, batches_max).unwrap_or_else(|error| panic!("{error}"));
}

/// Rows of each table, without the batch.
fn tables(scratch: &Scratch) -> Vec<Vec<Value>> {
    let rows = |(_, table, by_batch): &(&str, &str, bool)| {
        let lines = table_lines(&database(scratch), table).unwrap_or_else(|error| panic!("{error}"));
        let row = |line: &String| match serde_json::from_str(line) {
            Ok(Value::Array(mut cells)) => {
                if *by_batch {
                    cells.pop();
                }
                Value::Array(cells)
            }
            other => panic!("{other:?}"),
        };
        sorted(lines.iter().map(row).collect())
    };
    TABLES.iter().map(rows).collect()
}

/// What the checkpoint shows of the same; columns come in the order of their names.
fn results(scratch: &Scratch) -> Vec<Vec<Value>> {
    let view = scratch.view();
    let newest = view.newest().expect("a batch");
    let rows = |(query, ..): &(&str, &str, bool)| {
        let table = view.result(query, newest).unwrap_or_else(|error| panic!("{error}"));
        let text = String::from_utf8(rows::json_lines(&table.rows).expect("rows")).expect("text");
        let row = |line: &str| match serde_json::from_str(line) {
            Ok(Value::Object(mut cells)) => {
                if let Some(price) = cells.get_mut("price") {
                    // exact in a column of text
                    *price = format!("{:.2}", price.as_f64().expect("a number")).into();
                }
                Value::Array(cells.into_iter().map(|(_, cell)| cell).collect())
            }
            other => panic!("{other:?}"),
        };
        sorted(text.lines().map(row).collect())
    };
    TABLES.iter().map(rows).collect()
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(Value::to_string);
    rows
}

fn sound(scratch: &Scratch) {
    let options = highwater::batch::VerifyOptions { batch: true, every: false, threads: 1 };
    let report = highwater::batch::verify(&scratch.checkpoint(), &options, &mut |_| {});
    let findings = report.unwrap_or_else(|error| panic!("{error}")).findings;
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn tables_are_the_batch_result_after_every_batch_and_after_a_rewind_to_every_batch() {
    let scratch = scratch();
    let mut after = Vec::new();
    for batch in 0..FILES {
        run(&scratch, Some(1));
        after.push(tables(&scratch));
        assert_eq!(after[batch], results(&scratch), "after batch {batch}");
    }
    sound(&scratch);
    assert!(after[FILES - 1][1].iter().any(|row| row[0].is_null()), "a key is null");
    for to in (0..FILES - 1).rev() {
        scratch.rewind(Some(to as u64), false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(tables(&scratch), after[to], "rewound to {to}");
        sound(&scratch);
        run(&scratch, Some(1));
        assert_eq!(tables(&scratch), after[to + 1], "rewound to {to}, and one batch on");
        run(&scratch, None);
        assert_eq!(tables(&scratch), after[FILES - 1], "rewound to {to}, and to the end");
    }
    scratch.rewind(None, false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(tables(&scratch), vec![Vec::<Value>::new(); 3], "rewound to the start");
    run(&scratch, None);
    assert_eq!(tables(&scratch), after[FILES - 1]);
    sound(&scratch);
}

/// Found as damage of databases was tried: an older copy was written to as if the batches in between were in it.
#[test]
fn a_database_that_was_put_back_is_not_written_to_with_a_gap() {
    let expected = scratch();
    run(&expected, None);
    let scratch = scratch();
    run(&scratch, Some(3));
    let older = std::fs::read(database(&scratch)).expect("a database");
    run(&scratch, Some(3));
    std::fs::write(database(&scratch), older).expect("it is put back");
    let refused = scratch.run(Faults::none(), 1).expect_err("batches 3 to 5 are missing");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(refused.to_string().contains("rewind CHECKPOINT --to 2"), "{refused}");
    scratch.rewind(Some(2), false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
    run(&scratch, None);
    assert_eq!(tables(&scratch), tables(&expected));
    sound(&scratch);
}

/// Windows that the watermark closed are no longer in the state: a rewind must not take them for rows that came later.
#[test]
fn a_rewind_keeps_windows_that_were_closed() {
    let mut scratch = Scratch::new(
        "CREATE TABLE e (n BIGINT, ts TIMESTAMP) WITH (connector = 'files', path = '${INPUT}', format = 'json',
  max_files_per_trigger = 1, event_time = 'ts', watermark_delay = '5 seconds');
CREATE TABLE w WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'update');
INSERT INTO w SELECT window, count(*) AS c FROM e GROUP BY window(ts, '10 seconds');",
    );
    for ts in [1, 12, 31, 33, 52] {
        scratch.add(format!("{{\"n\": 1, \"ts\": {ts}}}\n{{\"n\": 1, \"ts\": {ts}}}\n").as_bytes());
    }
    let lines = || {
        let lines = table_lines(&database(&scratch), "w").expect("a table");
        lines.iter().map(|line| line.rsplit_once(',').expect("a batch").0.to_owned()).collect::<Vec<_>>()
    };
    let mut after = Vec::new();
    while scratch.run_batches(Faults::none(), 1, Some(1)).unwrap_or_else(|error| panic!("{error}")).batches > 0 {
        after.push(lines());
    }
    assert_eq!(after.last().map(Vec::len), Some(4), "{after:?}");
    for to in (0..after.len() - 1).rev() {
        scratch.rewind(Some(to as u64), false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(lines(), after[to], "rewound to {to}");
        run(&scratch, None);
        assert_eq!(lines(), after[after.len() - 1], "rewound to {to}, and to the end");
    }
}

/// The real binary: killed between commit and publishing, and at random; no row twice, none missing.
#[test]
fn killed_wherever_it_is_each_row_is_there_once() {
    let folder = Folder::new(JOB);
    (0..FILES).for_each(|number| folder.input(number, file(number).as_bytes()));
    let words = ["crash-test", "job.sql", "--set", "INPUT=input", "--set", "OUTPUT=output", "--kills", "12"];
    let tested = folder.call(&words).expect(0);
    assert!(tested.stdout.contains("the same after 12 kills"), "{}", tested.stdout);
    assert!(!folder.at("output").exists(), "a crash test writes elsewhere");
    folder.run().expect(0);
    let expected = crate::trace::database(&folder.at("output/out.db"));
    for (point, nth) in [("committed", 2), ("published-first", 3), ("published", 1), ("staged", 5)] {
        crate::kills::start_over(&folder);
        let killed = Running::start(
            folder.run_command(&["--available-now"]).env("HIGHWATER_CRASH_AT", format!("{point}:{nth}")),
        );
        assert!(killed.wait().was_killed(), "{point}");
        // half published is what the next start completes: no damage
        folder.call(&["verify", "checkpoint"]).expect(0);
        folder.run().expect(0);
        assert_eq!(crate::trace::database(&folder.at("output/out.db")), expected, "{point}");
        folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    }
}
