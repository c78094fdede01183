//! Whose a table is, what it must be like, and what is done where it cannot be written.

use std::fs;

use rusqlite::Connection;

use crate::binary::{Ended, Folder};

const JOB: &str = "
CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE added WITH (connector = 'sqlite', path = '${DB:-out.db}', output_mode = 'append');
INSERT INTO added SELECT k, n FROM t;
";

fn folder() -> Folder {
    let folder = Folder::new(JOB);
    (0..3).for_each(|number| folder.input(number, format!("{{\"k\":\"a\",\"n\":{number}}}\n").as_bytes()));
    folder
}

fn run(folder: &Folder, checkpoint: &str, more: &[&str]) -> Ended {
    let words = ["run", "job.sql", "--checkpoint", checkpoint, "--available-now", "--set", "INPUT=input"];
    folder.call(&[&words[..], more].concat())
}

fn lines(folder: &Folder, name: &str) -> String {
    highwater::sink::table_lines(&folder.at(name), "added").unwrap_or_else(|error| panic!("{error}")).join(" ")
}

fn execute(folder: &Folder, sql: &str) {
    Connection::open(folder.at("out.db")).and_then(|database| database.execute_batch(sql)).expect("SQL runs");
}

const ALL: &str = "[\"a\",0,0] [\"a\",1,1] [\"a\",2,2]";

#[test]
fn a_table_is_one_checkpoints_and_a_fork_has_its_own() {
    let folder = folder();
    let check = || folder.call(&["check", "job.sql", "--set", "INPUT=input"]).expect(0).stdout;
    assert!(!check().contains("would be refused"));
    run(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(lines(&folder, "out.db"), ALL);
    let told = check();
    assert!(told.contains("a new checkpoint would be refused: table 'added' belongs to another checkpoint"), "{told}");
    let refused = run(&folder, "another", &[]).expect(3);
    assert!(refused.stderr.contains("belongs to another checkpoint"), "{}", refused.stderr);
    assert!(!folder.at("another").exists(), "a refusal makes nothing");
    let elsewhere = run(&folder, "checkpoint", &["--set", "DB=else.db"]).expect(3);
    assert!(elsewhere.stderr.contains("has published to another table"), "{}", elsewhere.stderr);
    assert!(!folder.at("else.db").exists());
    let fork = |more: &[&str]| folder.call(&[&["fork", "checkpoint", "--at", "1", "fork"][..], more].concat());
    let shared = fork(&[]).expect(3);
    assert!(shared.stderr.contains("its table is 'added'"), "{}", shared.stderr);
    fork(&["--set", "DB=fork.db"]).expect(0);
    run(&folder, "fork", &["--set", "DB=fork.db"]).expect(0);
    assert_eq!(lines(&folder, "fork.db"), "[\"a\",2,2]", "what came before the fork is in the first table");
    folder.call(&["verify", "fork", "--batch"]).expect(0);
    assert_eq!(folder.call(&["show", "fork", "--output", "csv"]).expect(0).lines().len(), 4, "a header and three rows");
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

#[test]
fn the_start_of_a_window_tells_its_row_from_others() {
    let folder = Folder::new(
        "CREATE TABLE t (k STRING, at TIMESTAMP) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
         CREATE TABLE added WITH (connector = 'sqlite', path = 'out.db', output_mode = 'update');
         INSERT INTO added SELECT window.start AS start, k, count(*) AS c FROM t GROUP BY window(at, '5 minutes', '1 minute'), k
           HAVING window.start >= TIMESTAMP '2026-01-01T00:04:00';",
    );
    for (number, minute) in [4, 4, 5].into_iter().enumerate() {
        folder.input(number, format!("{{\"k\":\"a\",\"at\":\"2026-01-01T00:0{minute}:30\"}}\n").as_bytes());
    }
    run(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(lines(&folder, "out.db"), "[\"2026-01-01T00:04:00\",\"a\",3,2] [\"2026-01-01T00:05:00\",\"a\",1,2]");
    let words = ["diff", "checkpoint", "--from", "1", "--to", "2", "--output", "csv"];
    let changed = "start,k,c at 1,c at 2\n2026-01-01T00:04:00,a,2,3\n2026-01-01T00:05:00,a,,1\n";
    assert_eq!(folder.call(&words).expect(0).stdout, changed);
    folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
}

#[test]
fn a_folder_that_is_still_to_be_made_is_told_before() {
    let folder = folder();
    let check = |database: &str| {
        let words = ["check", "job.sql", "--set", "INPUT=input", "--set", &format!("DB={database}")];
        folder.call(&words).expect(0).stdout
    };
    assert!(!check("out.db").contains("is not there"));
    let told = check("there/is/none/out.db");
    assert!(told.contains("folder there/is/none is not there: the first run makes it"), "{told}");
    assert!(!folder.at("there").exists(), "a check makes nothing");
    run(&folder, "checkpoint", &["--set", "DB=there/is/none/out.db"]).expect(0);
    assert_eq!(lines(&folder, "there/is/none/out.db"), ALL);
}

#[test]
fn a_table_of_the_users_own_must_have_the_columns_and_may_lack_the_batch() {
    let folder = folder();
    execute(&folder, "CREATE TABLE added (k TEXT)");
    for words in
        [&["check", "job.sql", "--set", "INPUT=input"][..], &["run", "job.sql", "--set", "INPUT=input", "--once"]]
    {
        let refused = folder.call(words).expect(3);
        assert!(
            refused.stderr.contains("has no column 'n'") && refused.stderr.contains("ALTER TABLE"),
            "{}",
            refused.stderr
        );
    }
    assert!(!folder.at("checkpoints").exists(), "nothing was touched");
    execute(&folder, "ALTER TABLE added ADD COLUMN n INTEGER");
    let checked = folder.call(&["check", "job.sql", "--set", "INPUT=input"]).expect(0);
    assert!(
        checked.stdout.contains("exactly once") && checked.stdout.contains("a rewind would be refused"),
        "{}",
        checked.stdout
    );
    run(&folder, "checkpoint", &[]).expect(0);
    for more in [&["--dry-run"][..], &[]] {
        let refused = folder.call(&[&["rewind", "checkpoint", "--to", "1"], more].concat()).expect(3);
        assert!(refused.stderr.contains("highwater_batch"), "{}", refused.stderr);
    }
    assert_eq!(lines(&folder, "out.db"), "[\"a\",0] [\"a\",1] [\"a\",2]");
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    assert_eq!(folder.call(&["log", "checkpoint", "--json"]).expect(0).json().len(), 3, "no rewind is in the log");
}

#[test]
fn what_holds_the_database_is_told_and_the_next_run_goes_on() {
    let folder = folder();
    run(&folder, "checkpoint", &["--max-batches", "1"]).expect(0);
    let holder = Connection::open(folder.at("out.db")).expect("it opens");
    // readers are let in, and so is the start; what is written waits
    holder.execute_batch("BEGIN; SELECT * FROM added").expect("a lock");
    let mut select = holder.prepare("SELECT * FROM added").expect("a reader");
    let mut rows = select.query(()).expect("a reader");
    rows.next().expect("a row");
    let locked = run(&folder, "checkpoint", &[]).expect(1);
    assert!(
        locked.stderr.contains("batch 1 cannot be written") && locked.stderr.contains("kept it locked"),
        "{}",
        locked.stderr
    );
    drop(rows);
    drop(select);
    drop(holder);
    run(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(lines(&folder, "out.db"), ALL);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

#[test]
fn a_damaged_database_is_an_error_and_no_panic() {
    let folder = folder();
    run(&folder, "checkpoint", &["--max-batches", "2"]).expect(0);
    let whole = fs::read(folder.at("out.db")).expect("it is there");
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("no database", |bytes| bytes[..100].fill(b'x')),
        ("pages overwritten", |bytes| bytes[100..].fill(0xff)),
        ("cut off", |bytes| bytes.truncate(5000)),
        ("schema overwritten", |bytes| bytes[2000..4096].fill(0)),
    ];
    for (name, damage) in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        folder.write("out.db", &bytes);
        let ran = run(&folder, "checkpoint", &[]);
        assert!(matches!(ran.code(), Some(1 | 3)), "{name}: {}\n{}", ran.status, ran.stderr);
        assert!(ran.stderr.contains("out.db"), "{name}: {}", ran.stderr);
        let verified = folder.call(&["verify", "checkpoint"]);
        assert!(matches!(verified.code(), Some(1 | 3)), "{name}: {}\n{}", verified.status, verified.stderr);
        let journal = folder.at("out.db-journal");
        if journal.exists() {
            fs::remove_file(journal).expect("it goes");
        }
    }
    folder.write("out.db", &whole);
    run(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(lines(&folder, "out.db"), ALL);
}

/// A table that is gone is found, and refused, since what was in it cannot be written again from where the job is.
#[test]
fn a_table_that_was_dropped_is_refused_until_a_rewind_to_the_start() {
    let folder = folder();
    run(&folder, "checkpoint", &["--max-batches", "2"]).expect(0);
    execute(&folder, "DROP TABLE added");
    let verified = folder.call(&["verify", "checkpoint"]).expect(3);
    assert!(format!("{}{}", verified.stdout, verified.stderr).contains("is missing"), "{}", verified.stdout);
    run(&folder, "checkpoint", &[]).expect(3);
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    run(&folder, "checkpoint", &[]).expect(0);
    assert_eq!(lines(&folder, "out.db"), ALL);
}

#[test]
fn update_mode_wants_the_whole_key() {
    let folder = folder();
    for select in [
        "count(*) AS c FROM t GROUP BY k",
        "upper(k) AS u, count(*) AS c FROM t GROUP BY k",
        "k, count(*) AS c FROM t GROUP BY ROLLUP (k)",
    ] {
        let job = JOB.replace("'append'", "'update'").replace("k, n FROM t", select);
        folder.write("job.sql", job.as_bytes());
        let refused = folder.call(&["check", "job.sql", "--set", "INPUT=input"]).expect(2);
        assert!(refused.stderr.contains("cannot tell which row"), "{select}: {}", refused.stderr);
    }
    let shared = JOB.replace("INSERT INTO added", "CREATE TABLE b WITH (connector = 'sqlite', path = './out.db', table = 'ADDED');\nINSERT INTO b SELECT k FROM t;\nINSERT INTO added");
    folder.write("job.sql", shared.as_bytes());
    let refused = folder.call(&["check", "job.sql", "--set", "INPUT=input"]).expect(2);
    assert!(refused.stderr.contains("write to the same table"), "{}", refused.stderr);
}

/// After a rewind a table of update mode has rows of the newest batch that others published: each is held against the result.
#[test]
fn a_changed_row_is_found_whichever_batch_it_is_of() {
    let job =
        JOB.replace("'append'", "'update'").replace("SELECT k, n FROM t", "SELECT k, count(*) AS n FROM t GROUP BY k");
    let folder = Folder::new(&job);
    // x is in the first and the last file, c0 to c3 in one each
    for number in 0..4 {
        let x = if number % 3 == 0 { "{\"k\":\"x\"}\n" } else { "" };
        folder.input(number, format!("{{\"k\":\"a\"}}\n{{\"k\":\"c{number}\"}}\n{x}").as_bytes());
    }
    run(&folder, "checkpoint", &[]).expect(0);
    let verify = || folder.call(&["verify", "checkpoint"]);
    let changed = |sql: &str, back: &str| {
        execute(&folder, sql);
        let found = verify().expect(3);
        assert!(
            found.stdout.contains("1 of the ") && found.stdout.contains("not in it, or were changed"),
            "{}",
            found.stdout
        );
        execute(&folder, back);
        verify().expect(0);
    };
    changed("UPDATE added SET n = 9 WHERE k = 'c1'", "UPDATE added SET n = 1 WHERE k = 'c1'");
    folder.call(&["rewind", "checkpoint", "--to", "2"]).expect(0);
    verify().expect(0);
    changed("UPDATE added SET n = 9 WHERE k = 'a'", "UPDATE added SET n = 3 WHERE k = 'a'");
    changed("UPDATE added SET n = 9 WHERE k = 'x'", "UPDATE added SET n = 1 WHERE k = 'x'");
    run(&folder, "checkpoint", &[]).expect(0);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    // a fork's table has what came after it, and that is all right
    folder.call(&["fork", "checkpoint", "--at", "1", "fork", "--set", "DB=fork.db"]).expect(0);
    run(&folder, "fork", &["--set", "DB=fork.db"]).expect(0);
    folder.call(&["verify", "fork", "--batch"]).expect(0);
}
