//! Places that could not keep what they are given: refused before a batch is committed, or before anything is touched.

use super::{Place, redis::Keys, run, run_command, schema};
use crate::binary::{Folder, Running};

/// Groups by one column; the options of the sink, and its key.
fn grouped(place: &Place, key: &str) -> Folder {
    let folder = Folder::new(&format!(
        "CREATE TABLE t (k STRING, n BIGINT, ts TIMESTAMP) WITH (connector = 'files', path = '${{INPUT}}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE groups WITH ({}, output_mode = 'update');
INSERT INTO groups SELECT {key} AS k, count(*) AS c FROM t GROUP BY {key};",
        place.options()
    ));
    folder.input(0, b"{\"k\":\"a\",\"n\":1,\"ts\":1}\n{\"k\":\"A\",\"n\":2,\"ts\":1.25}\n");
    folder
}

#[test]
fn a_table_that_a_crash_of_the_server_empties_is_refused() {
    let Some(place) = schema("servers::refused::a_table_that_a_crash") else { return };
    let folder = grouped(&place, "k");
    let refused = |sql: &str, name: &str| {
        place.clear();
        place.execute(sql);
        for command in ["check", "run"] {
            let words = [
                &[command, "job.sql", "--set", "INPUT=input"][..],
                if command == "run" { &["--available-now"] } else { &[] },
            ];
            let told = folder.call(&words.concat()).expect(3).stderr;
            assert!(told.contains(&format!("table '{name}' is unlogged")) && told.contains("SET LOGGED"), "{told}");
        }
    };
    refused("CREATE UNLOGGED TABLE groups (k TEXT, c BIGINT)", "groups");
    refused(
        "CREATE TABLE groups (k TEXT, c BIGINT) PARTITION BY HASH (k);
         CREATE TABLE one PARTITION OF groups FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE UNLOGGED TABLE two PARTITION OF groups FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "two",
    );
    place.clear();
    run(&folder, &[]).expect(0);
    place.execute("ALTER TABLE highwater_batches SET UNLOGGED");
    let told = run(&folder, &[]).expect(3).stderr;
    assert!(told.contains("table 'highwater_batches' is unlogged"), "{told}");
    place.execute("ALTER TABLE highwater_batches SET LOGGED");
    run(&folder, &[]).expect(0);
    // partitions that stay are taken
    place.clear();
    place.execute(
        "CREATE TABLE groups (k TEXT, c BIGINT) PARTITION BY HASH (k);
         CREATE TABLE one PARTITION OF groups FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    );
    crate::kills::start_over(&folder);
    run(&folder, &[]).expect(0);
    assert_eq!(place.ask("SELECT c FROM groups ORDER BY k"), ["1", "1"]);
}

#[test]
fn a_column_that_makes_two_keys_one_is_refused() {
    let Some(place) = schema("servers::refused::a_column_that_makes_two_keys_one") else { return };
    for (key, column, is_taken) in [
        ("n / 2.0", "NUMERIC(9, 0)", false),
        ("n / 2.0", "INT", false),
        ("n", "INT", true),
        ("n", "NUMERIC(9, 0)", true),
        ("ts", "TIMESTAMP(0)", false),
        ("ts", "TIMESTAMP", true),
        ("k", "VARCHAR(9)", false),
        ("k", "VARCHAR", true),
        ("k", "TEXT COLLATE nocase", false),
        ("k", "TEXT", true),
    ] {
        place.clear();
        place.execute("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)");
        place.execute(&format!("CREATE TABLE groups (k {column}, c BIGINT)"));
        let folder = grouped(&place, key);
        if is_taken {
            run(&folder, &[]).expect(0);
            assert_eq!(place.ask("SELECT count(*) FROM groups"), ["2"], "{key} {column}");
            continue;
        }
        for mut command in [folder.command(&["check", "job.sql", "--set", "INPUT=input"]), run_command(&folder, &[])] {
            let told = Running::start(&mut command).wait().expect(3).stderr;
            assert!(
                told.contains("different keys for one in its column 'k'") && told.contains("ALTER TABLE"),
                "{told}"
            );
        }
        assert!(!folder.at("checkpoint").exists(), "nothing was touched");
    }
}

#[test]
fn a_key_that_postgres_would_cut_stops_the_batch_before_its_commit() {
    let Some(place) = schema("servers::refused::a_key_that_postgres_would_cut") else { return };
    let folder = grouped(&place, "arrow_cast(n, 'Timestamp(Nanosecond, None)')");
    let told = run(&folder, &[]).expect(4).stderr;
    assert!(told.contains("has nanoseconds") && told.contains("date_trunc('microsecond', k)"), "{told}");
    assert_eq!(place.ask("SELECT count(*) FROM highwater_batches"), ["0"]);
    assert_eq!(folder.call(&["log", "checkpoint", "--json"]).expect(0).stdout.trim(), "");
    place.clear();
    let folder = grouped(&place, "date_trunc('microsecond', arrow_cast(n, 'Timestamp(Nanosecond, None)'))");
    run(&folder, &[]).expect(0);
    assert_eq!(place.ask("SELECT c FROM groups"), ["2"]);
}

/// Keys of more columns, and of longer values, than an index takes.
#[test]
fn wide_and_long_keys_are_replaced_like_others() {
    let Some(place) = schema("servers::refused::wide_and_long_keys") else { return };
    let columns: Vec<String> = (0..36).map(|at| format!("k{at}")).collect();
    let given: Vec<String> = columns.iter().map(|column| format!("concat(k, '-{column}') AS {column}")).collect();
    let folder = Folder::new(&format!(
        "CREATE TABLE t (k STRING) WITH (connector = 'files', path = '${{INPUT}}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE wide WITH ({0}, output_mode = 'update');
CREATE TABLE bytes WITH ({0}, output_mode = 'update');
INSERT INTO wide SELECT {1}, count(*) AS c FROM (SELECT {2} FROM t) GROUP BY {1};
INSERT INTO bytes SELECT arrow_cast(k, 'Binary') AS k, count(*) AS c FROM t GROUP BY arrow_cast(k, 'Binary');",
        place.options(),
        columns.join(", "),
        given.join(", ")
    ));
    // such a text cannot be made shorter
    let key = |seed| {
        let mut chance = crate::binary::Chance::new(seed);
        (0..400).map(|_| format!("{:016x}", chance.next())).collect::<String>()
    };
    for number in 0..3 {
        folder.input(number, format!("{{\"k\":\"{}\"}}\n{{\"k\":\"{}\"}}\n", key(1), key(2)).as_bytes());
    }
    run(&folder, &[]).expect(0);
    for table in ["wide", "bytes"] {
        assert_eq!(place.ask(&format!("SELECT c FROM {table}")), ["3", "3"], "{table}");
    }
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let Some(place) = schema("servers::refused::a_database_of_another_encoding") else { return };
    let name = format!("latin_{}", place.schema);
    place.execute(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"));
    let (server, _) = place.url.rsplit_once('/').expect("a database");
    let other = Place { url: format!("{server}/{name}"), schema: "public".to_owned() };
    let folder = grouped(&other, "k");
    let told = run(&folder, &[]).expect(3).stderr;
    assert!(told.contains("encoding LATIN1") && told.contains("UTF8"), "{told}");
    place.execute(&format!("DROP DATABASE {name}"));
}

/// A session that the server ends since nothing was asked for a while is a connection that is lost.
#[test]
fn a_session_that_the_server_ends_is_begun_again() {
    let Some(place) = schema("servers::refused::a_session_that_the_server_ends") else { return };
    let name = format!("idle_{}", place.schema);
    place.execute(&format!("CREATE DATABASE {name}"));
    place.execute(&format!("ALTER DATABASE {name} SET idle_session_timeout = '50ms'"));
    let (server, _) = place.url.rsplit_once('/').expect("a database");
    let other = Place { url: format!("{server}/{name}"), schema: "public".to_owned() };
    let folder = grouped(&other, "k");
    (1..6).for_each(|number| folder.input(number, b"{\"k\":\"a\",\"n\":1,\"ts\":1}\n"));
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input"];
    let slow = ["--interval", "200ms", "--max-batches", "6"];
    folder.call(&[&words[..], &slow].concat()).expect(0);
    assert_eq!(other.ask("SELECT c FROM groups WHERE k = 'a'"), ["6"]);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    place.execute(&format!("DROP DATABASE {name} WITH (FORCE)"));
}

/// What reads a whole table takes as long as it takes; what writes a batch does not.
#[test]
fn a_large_table_is_verified_and_rewound_whatever_a_statement_may_take() {
    let Some(place) = schema("servers::refused::a_large_table") else { return };
    let sink = place.options();
    let folder = Folder::new(&format!(
        "CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${{INPUT}}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE added WITH ({sink}, statement_timeout = '${{LIMIT:-60 seconds}}', output_mode = 'append');
INSERT INTO added SELECT k, n FROM t;"
    ));
    (0..3).for_each(|number| folder.input(number, format!("{{\"k\":\"a\",\"n\":{number}}}\n").as_bytes()));
    run(&folder, &[]).expect(0);
    place.execute("INSERT INTO added SELECT repeat('x', 100), i, 0 FROM generate_series(1, 600000) i");
    run(&folder, &["--set", "LIMIT=200 milliseconds"]).expect(0);
    let found = folder.call(&["verify", "checkpoint"]).expect(3);
    assert!(
        format!("{}{}", found.stdout, found.stderr).contains("it holds 600001 rows of batch 0"),
        "{}",
        found.stderr
    );
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    assert_eq!(place.ask("SELECT count(*) FROM added"), ["0"]);
}

#[test]
fn prefixes_that_overlap_are_refused() {
    let Some(keys) = Keys::shared("servers::refused::prefixes_that_overlap") else { return };
    let job = |prefix: &str| {
        Folder::new(&format!(
            "CREATE TABLE t (k STRING) WITH (connector = 'files', path = '${{INPUT}}', format = 'json');
CREATE TABLE s WITH (connector = 'redis', url = '{}', key_prefix = '{}-{prefix}', output_mode = 'update');
INSERT INTO s SELECT k, count(*) AS c FROM t GROUP BY k;",
            keys.url, keys.prefix
        ))
    };
    let first = job("clicks");
    run(&first, &[]).expect(0);
    for below in ["clicks:home", "clicks:keys", "clicks:"] {
        let other = job(below);
        let told = run(&other, &[]).expect(3).stderr;
        assert!(told.contains("overlap those of another sink") && told.contains("-clicks'"), "{told}");
        assert!(!other.at("checkpoint").exists(), "nothing was touched");
    }
    run(&job("clicks2"), &[]).expect(0);
    let below = job("views:home");
    run(&below, &[]).expect(0);
    let above = job("views");
    let told = run(&above, &[]).expect(3).stderr;
    assert!(told.contains("writes to") && told.contains("-views:home'"), "{told}");
    // given up, as the error says
    keys.ask::<()>(&["DEL", &format!("highwater:{}-views:home", keys.prefix)]);
    run(&above, &[]).expect(0);
    // a run that goes on has its own still
    first.input(0, b"{\"k\":\"a\"}\n");
    run(&first, &[]).expect(0);
    keys.clear();
}
