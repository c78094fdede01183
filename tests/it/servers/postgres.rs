//! Tables of PostgreSQL: what they hold after every batch, whose they are, and what is in their columns.

use highwater::model::Faults;
use serde_json::Value;

use super::{
    Place, schema,
    tables::{self, FILES, TABLES, parsed, results, run, sound},
};
use crate::{
    binary::{Ended, Folder},
    stream::Scratch,
};

fn held(place: &Place) -> Vec<Vec<Value>> {
    TABLES.iter().map(|(_, table)| parsed(place.rows(table))).collect()
}

#[test]
fn tables_are_the_batch_result_after_every_batch_and_after_a_rewind_to_every_batch() {
    let Some(place) = schema("servers::postgres::tables_are_the_batch_result") else { return };
    let scratch = tables::scratch(&tables::job(&place.options()));
    let mut after = Vec::new();
    for batch in 0..FILES {
        run(&scratch, Some(1));
        after.push(held(&place));
        assert_eq!(after[batch], results(&scratch, &TABLES.map(|(query, _)| query)), "after batch {batch}");
    }
    sound(&scratch);
    assert!(after[FILES - 1][1].iter().any(|row| row["k"].is_null()), "a key is null");
    for to in (0..FILES - 1).rev().step_by(2) {
        scratch.rewind(Some(to as u64), false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(held(&place), after[to], "rewound to {to}");
        sound(&scratch);
        run(&scratch, Some(1));
        assert_eq!(held(&place), after[to + 1], "rewound to {to}, and one batch on");
        run(&scratch, None);
        assert_eq!(held(&place), after[FILES - 1], "rewound to {to}, and to the end");
    }
    scratch.rewind(None, false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(held(&place), vec![Vec::<Value>::new(); 3], "rewound to the start");
    run(&scratch, None);
    assert_eq!(held(&place), after[FILES - 1]);
    sound(&scratch);
}

/// Windows that the watermark closed are no longer in the state: a rewind must not take them for rows that came later. A window
/// is a key of a nested type.
#[test]
fn a_rewind_keeps_windows_that_were_closed() {
    let Some(place) = schema("servers::postgres::a_rewind_keeps_windows_that_were_closed") else { return };
    let mut scratch = Scratch::new(&format!(
        "CREATE TABLE e (n BIGINT, ts TIMESTAMP) WITH (connector = 'files', path = '${{INPUT}}', format = 'json',
  max_files_per_trigger = 1, event_time = 'ts', watermark_delay = '5 seconds');
CREATE TABLE w WITH ({}, output_mode = 'update');
INSERT INTO w SELECT window, count(*) AS c FROM e GROUP BY window(ts, '10 seconds');",
        place.options()
    ));
    for ts in [1, 12, 31, 33, 52] {
        scratch.add(format!("{{\"n\": 1, \"ts\": {ts}}}\n{{\"n\": 1, \"ts\": {ts}}}\n").as_bytes());
    }
    let mut after = Vec::new();
    while scratch.run_batches(Faults::none(), 1, Some(1)).unwrap_or_else(|error| panic!("{error}")).batches > 0 {
        after.push(place.rows("w"));
    }
    assert_eq!(after.last().map(Vec::len), Some(4), "{after:?}");
    for to in (0..after.len() - 1).rev() {
        scratch.rewind(Some(to as u64), false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(place.rows("w"), after[to], "rewound to {to}");
        run(&scratch, None);
        assert_eq!(place.rows("w"), after[after.len() - 1], "rewound to {to}, and to the end");
    }
}

const ADDED: &str = "
CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE added WITH (SINK, table = '${TABLE:-added}', output_mode = 'append');
INSERT INTO added SELECT k, n FROM t;
";

fn folder(place: &Place) -> Folder {
    let folder = Folder::new(&ADDED.replace("SINK", &place.options()));
    (0..3).for_each(|number| folder.input(number, format!("{{\"k\":\"a\",\"n\":{number}}}\n").as_bytes()));
    folder
}

fn call(folder: &Folder, checkpoint: &str, more: &[&str]) -> Ended {
    let words = ["run", "job.sql", "--checkpoint", checkpoint, "--available-now", "--set", "INPUT=input"];
    folder.call(&[&words[..], more].concat())
}

#[test]
fn a_table_is_one_checkpoints_and_a_fork_has_its_own() {
    let Some(place) = schema("servers::postgres::a_table_is_one_checkpoints") else { return };
    let folder = folder(&place);
    call(&folder, "checkpoint", &[]).expect(0);
    let all = place.contents(&["added"]);
    assert_eq!(all.len(), 6, "{all:?}");
    let refused = call(&folder, "another", &[]).expect(3);
    assert!(refused.stderr.contains("belongs to another checkpoint"), "{}", refused.stderr);
    assert!(!folder.at("another").exists(), "a refusal makes nothing");
    let elsewhere = call(&folder, "checkpoint", &["--set", "TABLE=other"]).expect(3);
    assert!(elsewhere.stderr.contains("has published to another table"), "{}", elsewhere.stderr);
    let fork = |more: &[&str]| folder.call(&[&["fork", "checkpoint", "--at", "1", "fork"][..], more].concat());
    let shared = fork(&[]).expect(3);
    assert!(shared.stderr.contains("table") && shared.stderr.contains("added"), "{}", shared.stderr);
    fork(&["--set", "TABLE=forked"]).expect(0);
    call(&folder, "fork", &["--set", "TABLE=forked"]).expect(0);
    assert_eq!(place.ask("SELECT n FROM forked"), ["2"], "what came before the fork is in the first table");
    for checkpoint in ["fork", "checkpoint"] {
        folder.call(&["verify", checkpoint, "--batch"]).expect(0);
    }
    assert_eq!(place.ask("SELECT n FROM added ORDER BY n"), ["0", "1", "2"]);
    // what is wrong is found
    place.execute("UPDATE added SET n = 9 WHERE n = 1");
    let verified = folder.call(&["verify", "checkpoint"]).expect(3);
    assert!(
        format!("{}{}", verified.stdout, verified.stderr).contains("its rows of batch 1 are not"),
        "{}",
        verified.stdout
    );
    place.execute("DROP TABLE added");
    call(&folder, "checkpoint", &[]).expect(3);
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    call(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(place.ask("SELECT n FROM added ORDER BY n"), ["0", "1", "2"]);
}

#[test]
fn a_table_of_the_users_own_must_have_the_columns_and_may_have_other_types() {
    let Some(place) = schema("servers::postgres::a_table_of_the_users_own") else { return };
    let folder = folder(&place);
    let check = || folder.call(&["check", "job.sql", "--set", "INPUT=input"]);
    place.execute("CREATE TABLE added (k TEXT)");
    for refused in [check().expect(3), call(&folder, "checkpoint", &["--max-batches", "1"]).expect(3)] {
        let told = refused.stderr;
        assert!(told.contains("has no column 'n'") && told.contains("ADD COLUMN \"n\" BIGINT"), "{told}");
    }
    assert!(!folder.at("checkpoint").exists(), "nothing was touched");
    place.execute("DROP TABLE added; CREATE TABLE added (id INT GENERATED ALWAYS AS IDENTITY, k VARCHAR(9), n DATE)");
    let told = check().expect(3).stderr;
    assert!(told.contains("column 'n' of another type") && told.contains("bigint"), "{told}");
    place.execute("ALTER TABLE added DROP COLUMN n; ALTER TABLE added ADD COLUMN n NUMERIC(9, 1) NOT NULL");
    let checked = check().expect(0).stdout;
    assert!(checked.contains("exactly once") && checked.contains("a rewind would be refused"), "{checked}");
    call(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(place.ask("SELECT concat_ws(' ', id, k, n) FROM added ORDER BY id"), ["1 a 0.0", "2 a 1.0", "3 a 2.0"]);
    for more in [&["--dry-run"][..], &[]] {
        let refused = folder.call(&[&["rewind", "checkpoint", "--to", "1"], more].concat()).expect(3);
        assert!(refused.stderr.contains("highwater_batch"), "{}", refused.stderr);
    }
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    // what the table does not take stops the job, and is not lost
    folder.input(3, b"{\"k\":\"much too long a key\",\"n\":3}\n");
    let told = call(&folder, "checkpoint", &[]).expect(1).stderr;
    assert!(told.contains("too long") && told.contains("change it, then run again"), "{told}");
    place.execute("ALTER TABLE added ALTER COLUMN k TYPE TEXT");
    call(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(place.ask("SELECT count(*) FROM added"), ["4"]);
}

#[test]
fn a_view_and_rows_of_others_are_refused() {
    let Some(place) = schema("servers::postgres::a_view_and_rows_of_others") else { return };
    let folder = folder(&place);
    let refused = |sql: &str| {
        place.clear();
        place.execute(sql);
        call(&folder, "checkpoint", &[]).expect(3).stderr
    };
    let told = refused("CREATE VIEW added AS SELECT 'a' AS k, 1 AS n");
    assert!(told.contains("is a view"), "{told}");
    let told = refused("CREATE TABLE added (k TEXT, n BIGINT); INSERT INTO added VALUES ('x', 1)");
    assert!(told.contains("not its own") && told.contains("DELETE FROM \"added\""), "{told}");
    let told = refused("CREATE TABLE added (k TEXT, n BIGINT, m INT NOT NULL)");
    assert!(told.contains("needs a column 'm'"), "{told}");
    folder.write("job.sql", ADDED.replace("SINK", &place.options().replace(&place.schema, "nowhere")).as_bytes());
    let told = call(&folder, "checkpoint", &[]).expect(3).stderr;
    assert!(told.contains("no schema 'nowhere'"), "{told}");
}

#[test]
fn each_type_arrives_as_it_was() {
    let Some(place) = schema("servers::postgres::each_type_arrives") else { return };
    let folder = Folder::new(&format!(
        "CREATE TABLE t (s STRING, n BIGINT, f DOUBLE, a ARRAY<BIGINT>, ts TIMESTAMP)
  WITH (connector = 'files', path = '${{INPUT}}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE types WITH ({}, output_mode = 'append');
INSERT INTO types SELECT s, n, f, a, ts, n % 2 = 0 AS even, CAST(ts AS DATE) AS day, CAST(f AS FLOAT) AS short,
  CAST(f AS DECIMAL(30, 4)) AS price, arrow_cast(n, 'UInt64') + arrow_cast('18446744073709551000', 'UInt64') AS big,
  arrow_cast(s, 'Binary') AS bytes, f / 0 AS infinite, -f / 0 AS low, 0 * (f / 0) AS nan, -0.0 * n AS minus FROM t;",
        place.options()
    ));
    folder.input(
        0,
        "{\"s\":\"it's\\t\\\\ é\",\"n\":7,\"f\":1234567.25,\"a\":[1,null],\"ts\":\"1969-12-31T23:59:59.5Z\"}\n"
            .as_bytes(),
    );
    folder.input(1, b"{\"s\":null,\"n\":null,\"f\":null,\"a\":null,\"ts\":null}\n");
    call(&folder, "checkpoint", &[]).expect(0);
    let first =
        |column: &str| place.ask(&format!("SELECT {column}::text FROM types WHERE highwater_batch = 0")).remove(0);
    for (column, value) in [
        ("s", "it's\t\\ é"),
        ("n", "7"),
        ("f", "1234567.25"),
        ("a", "[1,null]"),
        ("ts", "1969-12-31 23:59:59.5"),
        ("even", "false"),
        ("day", "1969-12-31"),
        ("short", "1.2345672e+06"),
        ("price", "1234567.2500"),
        ("big", "18446744073709551007"),
        ("convert_from(bytes, 'UTF8')", "it's\t\\ é"),
        ("infinite", "Infinity"),
        ("low", "-Infinity"),
        ("nan", "NaN"),
        ("minus", "-0"),
    ] {
        assert_eq!(first(column), value, "{column}");
    }
    assert_eq!(
        place.ask("SELECT count(*) FROM types WHERE num_nulls(VARIADIC ARRAY[s, n::text, a, big::text]) = 4"),
        ["1"]
    );
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    // what has no place stops the batch before its commit
    folder.input(2, b"{\"s\":\"a\\u0000b\",\"n\":1,\"f\":1.0,\"a\":[],\"ts\":1}\n");
    let told = call(&folder, "checkpoint", &[]).expect(4).stderr;
    assert!(told.contains("column 's' of row 0 holds the character NUL") && told.contains("batch 2"), "{told}");
    // the ways out that it names
    let folder = Folder::new(&format!(
        "CREATE TABLE t (s STRING) WITH (connector = 'files', path = '${{INPUT}}', format = 'json');
CREATE TABLE texts WITH ({}, output_mode = 'append');
INSERT INTO texts SELECT regexp_replace(s, '\\x00', '', 'g') AS s, arrow_cast(s, 'Binary') AS bytes FROM t;",
        place.options()
    ));
    folder.input(0, b"{\"s\":\"a\\u0000b\"}\n");
    call(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(place.ask("SELECT concat_ws(' ', s, encode(bytes, 'hex')) FROM texts"), ["ab 610062"]);
}

/// A text that is too long for an index, and no column at all.
#[test]
fn any_key_is_replaced() {
    let Some(place) = schema("servers::postgres::any_key_is_replaced") else { return };
    let folder = Folder::new(&format!(
        "CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${{INPUT}}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE long WITH ({0}, output_mode = 'update');
CREATE TABLE one WITH ({0}, output_mode = 'update');
INSERT INTO long SELECT k, sum(n) AS n FROM t GROUP BY k;
INSERT INTO one SELECT count(*) AS c FROM t;",
        place.options()
    ));
    // they begin with the same letters, and cannot be made shorter
    let key = |seed| {
        let mut chance = crate::binary::Chance::new(seed);
        "k".repeat(90) + &(0..400).map(|_| format!("{:016x}", chance.next())).collect::<String>()
    };
    for number in 0..3 {
        let row = |seed: u64| format!("{{\"k\":\"{}\",\"n\":{}}}\n", key(seed), seed + number);
        let rows = row(number % 2) + &row(7) + "{\"k\":null,\"n\":1}\n";
        folder.input(usize::try_from(number).expect("a small number"), rows.as_bytes());
    }
    call(&folder, "checkpoint", &[]).expect(0);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    assert_eq!(place.ask("SELECT c FROM one"), ["9"]);
    // 0 + 2, 1 + 1, 7 + 8 + 9, and three times nothing but a one
    assert_eq!(place.ask("SELECT n FROM long ORDER BY n, k"), ["2", "2", "3", "24"]);
}
