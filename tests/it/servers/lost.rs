//! Servers that lost what they had confirmed: it is noticed before anything is built upon it, and the way that is named leads
//! to the same tables and keys.

use super::{
    Place,
    redis::{Keys, folder, own},
    run, run_command, schema,
    tables::{self, FILES, TABLES, file},
};
use crate::binary::{Folder, Running};

fn refused(folder: &Folder, words: &[&str], what: &[&str]) {
    let told = folder.call(words).expect(3).stderr;
    for what in what {
        assert!(told.contains(what), "{what}: {told}");
    }
}

fn refused_run(folder: &Folder, what: &[&str]) {
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--available-now", "--set", "INPUT=input"];
    refused(folder, &words, what);
}

/// What a run leaves that nothing happens to.
fn undisturbed(folder: &Folder, keys: &Keys) -> Vec<String> {
    run(folder, &[]).expect(0);
    let expected = keys.contents();
    crate::kills::start_over(folder);
    keys.clear();
    expected
}

#[test]
fn redis_that_goes_back_to_before_the_first_batch_is_refused() {
    let Some((mut server, keys)) = own("servers::lost::redis_that_goes_back", false, None) else { return };
    let folder = folder(&keys, FILES);
    let expected = undisturbed(&folder, &keys);
    // taken, and nothing written yet
    let mut command = run_command(&folder, &[]);
    assert!(Running::start(command.env("HIGHWATER_CRASH_AT", "planned")).wait().was_killed());
    keys.ask::<()>(&["SAVE"]);
    run(&folder, &["--max-batches", "3"]).expect(0);
    server.kill();
    server.start_again();
    refused_run(&folder, &["it has no batch any more", "rewind CHECKPOINT --to start"]);
    refused(&folder, &["rewind", "checkpoint", "--to", "1"], &["it has no batch any more", "--to start"]);
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    run(&folder, &[]).expect(0);
    assert_eq!(keys.contents(), expected);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

#[test]
fn redis_that_was_flushed_is_not_taken_for_one_that_has_the_batches_before() {
    let Some((_server, keys)) = own("servers::lost::redis_that_was_flushed", true, None) else { return };
    let folder = folder(&keys, FILES);
    let expected = undisturbed(&folder, &keys);
    run(&folder, &[]).expect(0);
    keys.ask::<()>(&["FLUSHALL"]);
    let log = folder.canonical_log();
    // there is no batch to be written, and still
    refused_run(&folder, &["rewind --to start"]);
    refused(&folder, &["rewind", "checkpoint", "--to", "5"], &["rewind --to start"]);
    assert_eq!(folder.canonical_log(), log, "nothing is written down before the server was asked");
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    // the rewind is written down, and the server forgets before it is told
    run(&folder, &[]).expect(0);
    let mut command = folder.command(&["rewind", "checkpoint", "--to", "5"]);
    let killed = Running::start(command.env("HIGHWATER_CRASH_AT", "rewound"));
    assert!(killed.wait().was_killed());
    keys.ask::<()>(&["FLUSHALL"]);
    refused_run(&folder, &["rewind --to start"]);
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    run(&folder, &[]).expect(0);
    assert_eq!(keys.contents(), expected);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

/// A whole result can be written again at any batch.
#[test]
fn whole_results_that_redis_lost_come_back_with_a_rewind() {
    let Some((_server, keys)) = own("servers::lost::whole_results", true, None) else { return };
    let folder = folder(&keys, FILES);
    let without = |job: &str, name: &str| {
        let lines = job.lines().filter(|line| !line.contains(&format!(" {name} ")));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    folder.write("job.sql", without(&keys.job(), "changes").as_bytes());
    run(&folder, &["--max-batches", "2"]).expect(0);
    let second = keys.held();
    run(&folder, &[]).expect(0);
    let end = keys.held();
    assert_ne!(second, end);
    keys.ask::<()>(&["FLUSHALL"]);
    folder.call(&["rewind", "checkpoint", "--to", "1"]).expect(0);
    assert_eq!(keys.held(), second);
    folder.call(&["verify", "checkpoint"]).expect(0);
    run(&folder, &[]).expect(0);
    assert_eq!(keys.held(), end);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

/// Redis comes back from a dump of before a rewind: its newest batch has a number that the checkpoint knows, and is another.
#[test]
fn redis_of_another_timeline_is_refused() {
    let Some((mut server, keys)) = own("servers::lost::redis_of_another_timeline", false, None) else { return };
    let folder = folder(&keys, FILES);
    run(&folder, &["--max-batches", "5"]).expect(0);
    keys.ask::<()>(&["SAVE"]);
    folder.call(&["rewind", "checkpoint", "--to", "1", "--replan"]).expect(0);
    folder.write("job.sql", keys.job().replace("max_files_per_trigger = 1", "max_files_per_trigger = 2").as_bytes());
    run(&folder, &[]).expect(0);
    let expected = keys.held();
    server.kill();
    server.start_again();
    refused_run(&folder, &["its newest batch is 4"]);
    refused(&folder, &["rewind", "checkpoint", "--to", "4"], &["has another batch 4", "--to start"]);
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    run(&folder, &[]).expect(0);
    assert_eq!(keys.held(), expected);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
}

/// A database that was put back from a backup, or a standby that took over, lacks the newest batches.
#[test]
fn a_database_that_lacks_batches_is_refused() {
    let Some(place) = schema("servers::lost::a_database_that_lacks_batches") else { return };
    let folder = Folder::new(&tables::job(&place.options()));
    (0..6).for_each(|number| folder.input(number, file(number).as_bytes()));
    let contents = |place: &Place| place.contents(&TABLES.map(|(_, table)| table));
    run(&folder, &[]).expect(0);
    let expected = contents(&place);
    for more in [true, false] {
        crate::kills::start_over(&folder);
        place.clear();
        run(&folder, &["--max-batches", "3"]).expect(0);
        let backup = format!("backup_{}", place.schema);
        place.execute(&format!("DROP SCHEMA IF EXISTS {backup} CASCADE; CREATE SCHEMA {backup}"));
        let tables = ["added", "changes", "\"the whole\"", "highwater_batches"];
        for table in tables {
            place.execute(&format!("CREATE TABLE {backup}.{table} AS TABLE {table}"));
        }
        let batches = if more { "5" } else { "2" };
        run(&folder, &["--max-batches", batches]).expect(0);
        for table in tables {
            place.execute(&format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM {backup}.{table}"));
        }
        place.execute(&format!("DROP SCHEMA {backup} CASCADE"));
        let newest = if more { "lacks batch 5" } else { "lacks batch 4" };
        refused_run(&folder, &[newest, "rewind CHECKPOINT --to 2"]);
        refused(&folder, &["rewind", "checkpoint", "--to", "3"], &["lacks batch 3", "--to 2"]);
        folder.call(&["rewind", "checkpoint", "--to", "2"]).expect(0);
        run(&folder, &[]).expect(0);
        assert_eq!(contents(&place), expected);
        folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    }
    // all of it: a rewind into the middle would begin an empty table there
    place.clear();
    refused_run(&folder, &["has published to another table"]);
    refused(&folder, &["rewind", "checkpoint", "--to", "3"], &["has published to another table", "--to start"]);
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    run(&folder, &[]).expect(0);
    assert_eq!(contents(&place), expected);
}
