//! Static tables are a part of what a job is: other rows are refused until they are taken over, and what was computed with
//! them says so where they are gone.

use std::fs;

use crate::binary::Folder;

const JOB: &str = "
CREATE TABLE events (k STRING, n BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE rooms (id STRING, room STRING) WITH (connector = 'files', path = 'rooms', format = 'json', static = 'true');
CREATE TABLE placed WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE named WITH (connector = 'memory', output_mode = 'complete');
INSERT INTO placed SELECT n, room FROM events JOIN rooms ON k = id;
INSERT INTO named SELECT room, c FROM (SELECT k, count(*) AS c FROM events GROUP BY k) JOIN rooms ON k = id;
";

const WORDS: [&str; 7] = ["run", "job.sql", "--checkpoint", "checkpoint", "--set", "INPUT=input", "--available-now"];

/// Two files of the static table, and one batch done.
fn folder() -> Folder {
    let folder = Folder::new(JOB);
    fs::create_dir(folder.at("rooms")).expect("a folder");
    fs::write(folder.at("rooms/1.json"), "{\"id\":\"a\",\"room\":\"hall\"}\n").expect("it is written");
    fs::write(folder.at("rooms/2.json"), "{\"id\":\"b\",\"room\":\"yard\"}\n").expect("it is written");
    folder.input(0, b"{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2}\n{\"k\":\"c\",\"n\":3}\n");
    folder.call(&WORDS).expect(0);
    folder
}

#[test]
fn other_rows_are_refused_until_they_are_accepted() {
    let folder = folder();
    // other times of modification are the same rows
    let bytes = fs::read(folder.at("rooms/1.json")).expect("it is there");
    fs::remove_file(folder.at("rooms/1.json")).expect("it can be removed");
    fs::write(folder.at("rooms/1.json"), bytes).expect("it is written");
    folder.call(&WORDS).expect(0);
    folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
    // the same bytes under another name may be another table: folders are columns
    fs::rename(folder.at("rooms/2.json"), folder.at("rooms/3.json")).expect("it is renamed");
    folder.call(&WORDS).expect(3);
    fs::rename(folder.at("rooms/3.json"), folder.at("rooms/2.json")).expect("it is renamed");
    fs::write(folder.at("rooms/1.json"), "{\"id\":\"a\",\"room\":\"attic\"}\n").expect("it is written");
    folder.input(1, b"{\"k\":\"a\",\"n\":4}\n");
    let refused = folder.call(&WORDS).expect(3);
    assert!(
        refused.stderr.contains("static table 'rooms'") && refused.stderr.contains("--accept-change"),
        "{}",
        refused.stderr
    );
    folder.call(&[&WORDS[..], &["--accept-change"]].concat()).expect(0);
    let shown = folder.call(&["show", "checkpoint", "--query", "placed", "--output", "json"]).expect(0);
    let expected = "{\"n\":1,\"room\":\"hall\"}\n{\"n\":2,\"room\":\"yard\"}\n{\"n\":4,\"room\":\"attic\"}\n";
    assert_eq!(shown.stdout, expected);
    // the first batch's result was computed with rows that are no more
    let gone = folder.call(&["show", "checkpoint", "--query", "named", "--at", "0", "--output", "json"]).expect(1);
    assert!(gone.stderr.contains("static table 'rooms'"), "{}", gone.stderr);
}

#[test]
fn a_static_table_that_is_gone_is_named_and_the_checkpoint_is_checked_all_the_same() {
    let folder = folder();
    fs::remove_dir_all(folder.at("rooms")).expect("it can be removed");
    let verified = folder.call(&["verify", "checkpoint"]).expect(0);
    assert!(verified.stdout.contains("all good: 1 batch checked"), "{}", verified.stdout);
    let compared = folder.call(&["verify", "checkpoint", "--batch"]).expect(2);
    assert!(compared.stderr.contains("rooms"), "{}", compared.stderr);
    let started = folder.call(&WORDS).expect(2);
    assert!(started.stderr.contains("rooms"), "{}", started.stderr);
}

/// A plan keeps the order of the job that made it; the job may have another one when the plan is replayed.
#[test]
fn a_replay_feeds_each_source_whatever_the_order_of_tables() {
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (k STRING) WITH (connector = 'files', path = '{name}', format = 'json', max_files_per_trigger = '1');\n"
        )
    };
    let rest = "CREATE TABLE of_one WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE of_two WITH (connector = 'memory', output_mode = 'append');
INSERT INTO of_one SELECT k FROM one;
INSERT INTO of_two SELECT k FROM two;
";
    let folder = Folder::new(&format!("{}{}{rest}", table("one"), table("two")));
    for source in ["one", "two"] {
        fs::create_dir(folder.at(source)).expect("a folder");
        for file in 0..3 {
            let path = folder.at(&format!("{source}/{file}.json"));
            fs::write(&path, format!("{{\"k\":\"{source}{file}\"}}\n")).expect("it is written");
            crate::stream::stamp(&path, file);
        }
    }
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--available-now"];
    folder.call(&words).expect(0);
    let before = folder.shown();
    folder.call(&["rewind", "checkpoint", "--to", "0"]).expect(0);
    fs::write(folder.at("job.sql"), format!("{}{}{rest}", table("two"), table("one"))).expect("it is written");
    folder.call(&words).expect(0);
    assert_eq!(folder.shown(), before);
}
