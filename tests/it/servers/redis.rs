//! Keys of Redis: what is under them after every batch, rewind and kill, and what is done where Redis forgot.

use std::{process::Command, time::Duration};

use highwater::model::Faults;
use serde_json::Value;

use super::{
    NO_SERVER, Server, free_port, run_command,
    tables::{FILES, file, parsed, results, run, scratch, sound},
};
use crate::binary::{Chance, Ended, Folder, Running, from_environment, skip};

/// A key that is sometimes null, in three layouts.
const JOB: &str = "SET snapshot_batches = '3';
CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);
CREATE TABLE changes WITH (SINK, key_prefix = 'PREFIX-changes', output_mode = 'update');
CREATE TABLE whole WITH (SINK, key_prefix = 'PREFIX-whole', output_mode = 'complete');
CREATE TABLE ranks WITH (SINK, key_prefix = 'PREFIX-ranks', layout = 'sorted_set', score = 'm', output_mode = 'complete');
INSERT INTO changes SELECT k, n % 3 AS m, count(*) AS c, sum(n) AS n FROM t GROUP BY k, n % 3;
INSERT INTO whole SELECT k, max(n) AS m FROM t GROUP BY k HAVING max(n) % 7 <> 3;
INSERT INTO ranks SELECT k, max(n) AS m FROM t GROUP BY k ORDER BY m DESC LIMIT 3;";

const QUERIES: [&str; 3] = ["changes", "whole", "ranks"];

/// Keys of a prefix of their own in a server.
pub struct Keys {
    pub url: String,
    pub prefix: String,
}

impl Keys {
    pub fn shared(test: &str) -> Option<Keys> {
        let Ok(url) = std::env::var("HIGHWATER_REDIS_URL") else {
            skip(test, NO_SERVER);
            return None;
        };
        Some(Keys { url, prefix: format!("t{}-{}", std::process::id(), test.rsplit(':').next().unwrap_or(test)) })
    }

    pub fn job(&self) -> String {
        let sink = format!("connector = 'redis', url = '{}', retry_timeout = '3 seconds'", self.url);
        JOB.replace("SINK", &sink).replace("PREFIX", &self.prefix)
    }

    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url.as_str()).and_then(|client| client.get_connection()).expect("the server answers")
    }

    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// What is under the keys of each query, as rows of JSON.
    pub fn held(&self) -> Vec<Vec<Value>> {
        let hashes = |name: &str| {
            let keys: Vec<String> = self.ask(&["KEYS", &format!("{}-{name}:*", self.prefix)]);
            let row = |key: &String| {
                let fields: std::collections::BTreeMap<String, String> = self.ask(&["HGETALL", key]);
                let value = |(name, text): (String, String)| match text.parse::<f64>() {
                    Ok(number) if name != "k" => (name, Value::from(number)),
                    _ => (name, Value::from(text)),
                };
                let mut row: serde_json::Map<String, Value> = fields.into_iter().map(value).collect();
                row.entry("k").or_insert(Value::Null);
                Value::Object(row).to_string()
            };
            parsed(keys.iter().map(row))
        };
        let ranks: Vec<(String, f64)> =
            self.ask(&["ZRANGE", &format!("{}-ranks", self.prefix), "0", "-1", "WITHSCORES"]);
        let rank = |(key, m): &(String, f64)| {
            let key = if key == "\\N" { Value::Null } else { Value::from(key.as_str()) };
            serde_json::json!({"k": key, "m": m}).to_string()
        };
        vec![hashes("changes"), hashes("whole"), parsed(ranks.iter().map(rank))]
    }

    /// All keys of the prefix and what is written down of them, without the checkpoint's id.
    pub fn contents(&self) -> Vec<String> {
        let mut all: Vec<String> = self.held().into_iter().flatten().map(|row| row.to_string()).collect();
        for name in QUERIES {
            let book = format!("highwater:{}-{name}", self.prefix);
            let fields: Vec<Option<String>> = self.ask(&["HMGET", &book, "sink", "batch", "hash", "first"]);
            let keys: Vec<String> = self.ask(&["ZRANGE", &format!("{book}:keys"), "0", "-1", "WITHSCORES"]);
            all.extend([format!("{fields:?}"), format!("{keys:?}")]);
        }
        all
    }

    pub fn clear(&self) {
        let keys: Vec<String> = self.ask(&["KEYS", &format!("*{}-*", self.prefix)]);
        for key in keys {
            self.ask::<()>(&["DEL", &key]);
        }
    }
}

pub fn folder(keys: &Keys, files: usize) -> Folder {
    let folder = Folder::new(&keys.job());
    (0..files).for_each(|number| folder.input(number, file(number).as_bytes()));
    folder
}

#[test]
fn keys_are_the_batch_result_after_every_batch_and_after_a_rewind_to_every_batch() {
    let Some(keys) = Keys::shared("servers::redis::keys_are_the_batch_result") else { return };
    let scratch = scratch(&keys.job());
    let mut after = Vec::new();
    for batch in 0..FILES {
        run(&scratch, Some(1));
        after.push(keys.held());
        assert_eq!(after[batch], results(&scratch, &QUERIES), "after batch {batch}");
    }
    sound(&scratch);
    assert!(after.iter().any(|after| after[1].iter().any(|row| row["k"].is_null())), "a key is null");
    let rewind = |to| scratch.rewind(to, false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
    for to in (0..FILES - 1).rev() {
        rewind(Some(to as u64));
        assert_eq!(keys.held(), after[to], "rewound to {to}");
        sound(&scratch);
        run(&scratch, None);
        assert_eq!(keys.held(), after[FILES - 1], "rewound to {to}, and to the end");
    }
    rewind(None);
    assert_eq!(keys.held(), vec![Vec::<Value>::new(); 3], "rewound to the start");
    run(&scratch, None);
    assert_eq!(keys.held(), after[FILES - 1]);
    sound(&scratch);
}

#[test]
fn killed_wherever_it_is_each_key_is_as_it_should_be() {
    let Some(keys) = Keys::shared("servers::redis::killed_wherever_it_is") else { return };
    let folder = folder(&keys, FILES);
    super::run(&folder, &[]).expect(0);
    let expected = keys.contents();
    let start_over = || {
        crate::kills::start_over(&folder);
        keys.clear();
    };
    for (point, nth) in [("staged", 5), ("committed", 2), ("published-first", 3), ("published", 1), ("sealed", 1)] {
        start_over();
        let mut command = run_command(&folder, &[]);
        let killed = Running::start(command.env("HIGHWATER_CRASH_AT", format!("{point}:{nth}")));
        assert!(killed.wait().was_killed(), "{point}");
        folder.call(&["verify", "checkpoint"]).expect(0);
        super::run(&folder, &[]).expect(0);
        assert_eq!(keys.contents(), expected, "{point}");
    }
    for point in ["rewound", "retracted-first", "retracted"] {
        let mut command = folder.command(&["rewind", "checkpoint", "--to", "4"]);
        assert!(Running::start(command.env("HIGHWATER_CRASH_AT", point)).wait().was_killed(), "{point}");
        super::run(&folder, &[]).expect(0);
        assert_eq!(keys.contents(), expected, "{point}");
    }
    start_over();
    let mut chance = Chance::new(3);
    for _ in 0..from_environment("HIGHWATER_KILLS").unwrap_or(10) {
        let mut command = run_command(&folder, &[]);
        Running::start(&mut command).kill_after(chance.moment(Duration::from_millis(300)));
    }
    super::run(&folder, &[]).expect(0);
    assert_eq!(keys.contents(), expected);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    let tested = folder.call(&["crash-test", "job.sql", "--set", "INPUT=input", "--kills", "3"]).expect(0);
    assert!(tested.stdout.contains("the same after 3 kills"), "{}", tested.stdout);
    assert_eq!(keys.contents(), expected, "a crash test leaves the server alone");
}

#[test]
fn keys_are_one_checkpoints_and_a_fork_has_its_own() {
    let Some(keys) = Keys::shared("servers::redis::keys_are_one_checkpoints") else { return };
    let folder = folder(&keys, 3);
    let job = keys
        .job()
        .replace("-ranks'", "-ranks${MORE:-}'")
        .replace("-whole'", "-whole${MORE:-}'")
        .replace("-changes'", "-changes${MORE:-}'");
    folder.write("job.sql", job.as_bytes());
    super::run(&folder, &[]).expect(0);
    let run = |checkpoint: &str, more: &[&str]| -> Ended {
        let words = ["run", "job.sql", "--checkpoint", checkpoint, "--available-now", "--set", "INPUT=input"];
        folder.call(&[&words[..], more].concat())
    };
    let refused = run("another", &[]).expect(3);
    assert!(refused.stderr.contains("belong to another checkpoint"), "{}", refused.stderr);
    assert!(!folder.at("another").exists(), "a refusal makes nothing");
    let elsewhere = run("checkpoint", &["--set", "MORE=x"]).expect(3);
    assert!(elsewhere.stderr.contains("has published to another place"), "{}", elsewhere.stderr);
    let fork = |more: &[&str]| folder.call(&[&["fork", "checkpoint", "--at", "1", "fork"][..], more].concat());
    assert!(fork(&[]).expect(3).stderr.contains("both checkpoints would write sink"));
    fork(&["--set", "MORE=x"]).expect(0);
    run("fork", &["--set", "MORE=x"]).expect(0);
    folder.call(&["verify", "fork", "--batch"]).expect(0);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    // what is wrong is found
    let some: Vec<String> = keys.ask(&["KEYS", &format!("{}-whole:*", keys.prefix)]);
    keys.ask::<()>(&["DEL", &some[0]]);
    let verified = folder.call(&["verify", "checkpoint"]).expect(3);
    assert!(
        verified.stdout.contains("is not what was published") || verified.stderr.contains("is not what was published"),
        "{}",
        verified.stdout
    );
    // a stranger's key in the place
    keys.clear();
    keys.ask::<()>(&["SET", &format!("{}-ranks", keys.prefix), "mine"]);
    let told = run("third", &[]).expect(3).stderr;
    assert!(told.contains("not its own"), "{told}");
    let checked = folder.call(&["check", "job.sql", "--set", "INPUT=input"]).expect(0).stdout;
    assert!(checked.contains("a new checkpoint would be refused: 'ranks' would write among keys"), "{checked}");
    keys.clear();
}

#[test]
fn what_redis_cannot_hold_is_refused_before_anything_is_touched() {
    let Some(keys) = Keys::shared("servers::redis::what_redis_cannot_hold") else { return };
    let folder = folder(&keys, 1);
    let refused = |from: &str, to: &str| {
        let job = keys.job();
        assert!(job.contains(from), "{from}");
        folder.write("job.sql", job.replace(from, to).as_bytes());
        folder.call(&["check", "job.sql", "--set", "INPUT=input"]).expect(2).stderr
    };
    let told = refused(
        "INSERT INTO whole SELECT k, max(n) AS m FROM t GROUP BY k HAVING max(n) % 7 <> 3",
        "INSERT INTO whole SELECT max(n) AS m FROM t GROUP BY k",
    );
    assert!(told.contains("under which key"), "{told}");
    let told = refused("score = 'm'", "score = 'k'");
    assert!(told.contains("holds no numbers"), "{told}");
    let told = refused(
        "layout = 'sorted_set', score = 'm', output_mode = 'complete'",
        "score = 'm', output_mode = 'complete'",
    );
    assert!(told.contains("no sorted set"), "{told}");
    let told = refused("-ranks'", "-whole:below'");
    assert!(told.contains("write to the same"), "{told}");
    let append = "CREATE TABLE a WITH (connector = 'redis', url = 'redis://127.0.0.1/0', output_mode = 'append');\nINSERT INTO a SELECT k FROM t;";
    let told = refused("INSERT INTO ranks", &format!("{append}\nINSERT INTO ranks"));
    assert!(told.contains("cannot take rows that are appended"), "{told}");
    let told = refused(&format!("'{}'", keys.url), "'redis://:sesame9@127.0.0.1/0'");
    assert!(told.contains("a password of the sink") && !told.contains("sesame9"), "{told}");
    assert!(keys.ask::<Vec<String>>(&["KEYS", &format!("*{}-*", keys.prefix)]).is_empty());
}

/// A server that is this test's own; it fsyncs each change (`always`), or forgets what came since its start.
pub fn own(test: &str, append_only: bool, password: Option<&str>) -> Option<(Server, Keys)> {
    if std::env::var_os("HIGHWATER_REDIS_URL").is_none() {
        skip(test, NO_SERVER);
        return None;
    }
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let (data, port_text) = (folder.path().to_string_lossy().into_owned(), port.to_string());
    let append_only = if append_only { "yes" } else { "no" };
    let mut command: Vec<&str> = vec!["redis-server", "--bind", "127.0.0.1", "--port", &port_text, "--dir", &data];
    command.extend(["--save", "", "--appendonly", append_only, "--appendfsync", "always"]);
    command.extend(password.into_iter().flat_map(|password| ["--requirepass", password]));
    let command = command.into_iter().map(str::to_owned).collect();
    let server = Server::start(command, port, folder);
    Some((server, Keys { url: format!("redis://127.0.0.1:{port}/0"), prefix: "p".to_owned() }))
}

#[test]
fn a_server_that_is_killed_in_the_middle_is_waited_for_and_down_it_stops_the_batch() {
    let test = "servers::redis::a_server_that_is_killed";
    let Some((mut server, keys)) = own(test, true, None) else { return };
    let folder = folder(&keys, 60);
    let job = keys.job().replace("'3 seconds'", "'20 seconds'");
    folder.write("job.sql", job.as_bytes());
    let mut running = Running::start(&mut run_command(&folder, &[]));
    let mut kills = 0;
    while running.is_running() && kills < 4 {
        // soon: a fast machine is through with the job in a quarter of a second
        std::thread::sleep(Duration::from_millis(60));
        server.kill();
        std::thread::sleep(Duration::from_millis(100));
        server.start_again();
        kills += 1;
    }
    let ended = running.wait_within(Duration::from_secs(120)).expect(0);
    assert!(kills > 0 && ended.stderr.contains("tried again in"), "{kills} kills: {}", ended.stderr);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    let held = keys.contents();
    crate::kills::start_over(&folder);
    keys.clear();
    folder.write("job.sql", keys.job().replace("'3 seconds'", "'200 milliseconds'").as_bytes());
    super::run(&folder, &["--max-batches", "2"]).expect(0);
    server.kill();
    let told = super::run(&folder, &[]).expect(1).stderr;
    assert!(told.contains("start the server"), "{told}");
    server.start_again();
    super::run(&folder, &[]).expect(0);
    assert_eq!(keys.contents(), held);
}

/// Redis forgets all since its last dump: the sink notices, says how to go on, and that way leads to the same keys.
#[test]
fn what_redis_forgot_is_noticed_and_written_again() {
    let test = "servers::redis::what_redis_forgot";
    let Some((mut server, keys)) = own(test, false, None) else { return };
    let folder = folder(&keys, FILES);
    super::run(&folder, &[]).expect(0);
    let expected = keys.contents();
    crate::kills::start_over(&folder);
    keys.clear();
    let batches = |count: &str| super::run(&folder, &["--max-batches", count]);
    batches("3").expect(0);
    keys.ask::<()>(&["SAVE"]);
    batches("2").expect(0);
    server.kill();
    server.start_again();
    let verified = folder.call(&["verify", "checkpoint"]).expect(3);
    assert!(
        verified.stdout.contains("the newest batch there is 2, and not 4")
            || verified.stderr.contains("the newest batch there is 2"),
        "{}",
        verified.stdout
    );
    let told = super::run(&folder, &[]).expect(3).stderr;
    assert!(told.contains("rewind CHECKPOINT --to 2"), "{told}");
    folder.call(&["rewind", "checkpoint", "--to", "2"]).expect(0);
    super::run(&folder, &[]).expect(0);
    assert_eq!(keys.contents(), expected);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    // all of it
    keys.ask::<()>(&["FLUSHALL"]);
    let told = super::run(&folder, &[]).expect(3).stderr;
    assert!(told.contains("rewind --to start"), "{told}");
    folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    super::run(&folder, &[]).expect(0);
    assert_eq!(keys.contents(), expected);
}

#[test]
fn a_password_of_redis_is_in_nothing_that_is_kept_or_said() {
    let test = "servers::redis::a_password_of_redis";
    let Some((_server, keys)) = own(test, true, Some("sesame9")) else { return };
    let job = keys
        .job()
        .replace(&format!("'{}'", keys.url), "'${env:CACHE_URL}'")
        .replace("'3 seconds'", "'200 milliseconds'");
    let folder = Folder::new(&job);
    folder.input(0, file(0).as_bytes());
    let host = keys.url.trim_start_matches("redis://").to_owned();
    let nowhere = format!("127.0.0.1:{}/0", free_port());
    for (url, code) in [
        (format!("redis://:wrong_sesame9@{host}"), 1),
        (format!("redis://:sesame9@{nowhere}"), 1),
        (format!("redis://:sesame9@{host}x"), 2),
        (format!("rediss://:sesame9@{host}"), 1),
        (format!("redis://:sesame9@{host}"), 0),
    ] {
        let mut command: Command = run_command(&folder, &["--progress", "json"]);
        let ended = Running::start(command.env("RUST_LOG", "trace").env("CACHE_URL", &url)).wait().expect(code);
        let kept = crate::trace::files(&folder.at("checkpoint"));
        let in_files = kept.values().any(|bytes| String::from_utf8_lossy(bytes).contains("sesame9"));
        assert!(
            !in_files && !ended.stdout.contains("sesame9") && !ended.stderr.contains("sesame9"),
            "{url}: {}",
            ended.stderr
        );
    }
}
