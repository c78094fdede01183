//! What a secret stands for is in nothing that is kept, logged or said.

use super::{Place, free_port, schema};
use crate::binary::{Ended, Folder, Running};

const PASSWORD: &str = "sesame9%opens";

fn sink(place: &Place, server: &str) -> String {
    let schema = &place.schema;
    format!(
        "CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${{INPUT}}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE added WITH (connector = 'postgres', {server}, schema = '{schema}', output_mode = 'append', retry_timeout = '200 milliseconds');
INSERT INTO added SELECT k, n FROM t;"
    )
}

fn call(folder: &Folder, words: &[&str], secrets: &[(&str, &str)]) -> Ended {
    let mut command = folder.command(words);
    command.env("RUST_LOG", "trace").envs(secrets.iter().copied());
    Running::start(&mut command).wait()
}

/// Nothing that was said, nor a file of the checkpoint, has one of these.
fn is_silent(folder: &Folder, ended: &Ended, secrets: &[&str]) {
    let kept = crate::trace::files(&folder.at("checkpoint"));
    for secret in secrets {
        for (said, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} on {said}: {line:?}");
        }
        let holds = |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        let file = kept.iter().find(|(_, bytes)| holds(bytes)).map(|(name, _)| name);
        assert!(file.is_none(), "{secret} in {file:?}");
    }
}

const RUN: [&str; 9] =
    ["run", "job.sql", "--checkpoint", "checkpoint", "--available-now", "--set", "INPUT=input", "--progress", "json"];

#[test]
fn no_secret_is_kept_logged_or_said() {
    let Some(place) = schema("servers::secrets::no_secret_is_kept") else { return };
    let user = format!("keeper_{}", place.schema);
    place.execute(&format!(
        "CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'; GRANT CREATE, USAGE ON SCHEMA {} TO {user}",
        place.schema
    ));
    let (_, address) = place.url.split_once('@').expect("a user");
    let (server, database) = address.split_once('/').expect("a database");
    let (host, port) = server.split_once(':').expect("a port");
    let url = format!("postgres://{user}:sesame9%25opens@{server}/{database}");
    let nowhere = free_port().to_string();
    let folder = Folder::new(&sink(&place, "url = '${env:DB_URL}'"));
    folder.input(0, b"{\"k\":\"a\",\"n\":1}\n");
    let secrets = [PASSWORD, "sesame9", &user];
    let known = [("DB_URL", url.as_str())];
    for (words, code) in [
        (&["check", "job.sql", "--set", "INPUT=input"][..], 0),
        (&RUN[..], 0),
        (&["show", "checkpoint"], 0),
        (&["log", "checkpoint", "--json"], 0),
        (&["verify", "checkpoint", "--batch"], 0),
        (&["rewind", "checkpoint", "--to", "0", "--dry-run"], 0),
    ] {
        let ended = call(&folder, words, &known).expect(code);
        is_silent(&folder, &ended, &secrets);
        if words.contains(&"json") {
            assert!(ended.stderr.contains("postgres[${env:DB_URL}, added]"), "{}", ended.stderr);
        }
    }
    assert_eq!(place.ask("SELECT n FROM added"), ["1"]);
    // reading needs none of it, and what does says so
    folder.call(&["show", "checkpoint"]).expect(0);
    let told = folder.call(&["verify", "checkpoint"]).expect(2).stderr;
    assert!(told.contains("DB_URL"), "{told}");
    // what the driver says of who, where and what it could not reach
    folder.input(1, b"{\"k\":\"a\",\"n\":2}\n");
    for (wrong, code) in [
        (format!("postgres://{user}:sesame9@{host}:{nowhere}/{database}"), 1),
        (format!("postgres://{user}:sesame9@{server}/base_{user}"), 1),
        (format!("postgres://no_{user}:sesame9@{server}/{database}"), 1),
        (format!("postgres://{user}:sesame9@no.{user}.invalid/{database}"), 1),
        (format!("postgres://{user}:sesame9@{server}/{database}?sslmode=require"), 1),
        (format!("postgres://{user}:sesame9@{server}/{database}?sslmode=sesame9"), 2),
        (format!("{user} sesame9"), 2),
        (format!("mysql://{user}:sesame9@{server}/{database}"), 2),
    ] {
        let ended = call(&folder, &RUN, &[("DB_URL", &wrong)]).expect(code);
        is_silent(&folder, &ended, &["sesame9", &user]);
        assert!(ended.stderr.contains("help:"), "{}", ended.stderr);
    }
    // part by part
    let parts = format!(
        "host = '{host}', port = '{port}', user = '${{env:DB_USER}}', password = '${{env:DB_PASSWORD}}', dbname = '{database}', table = 'parts'"
    );
    let apart = Folder::new(&sink(&place, &parts));
    apart.input(0, b"{\"k\":\"a\",\"n\":1}\n");
    let ended = call(&apart, &RUN, &[("DB_USER", &user), ("DB_PASSWORD", PASSWORD)]).expect(0);
    is_silent(&apart, &ended, &secrets);
}

#[test]
fn a_password_that_stands_in_the_job_is_refused_and_not_shown() {
    let place = Place { url: String::new(), schema: "public".to_owned() };
    for server in [
        "url = 'postgres://a:sesame9@localhost/x'",
        "host = 'localhost', user = 'a', password = 'sesame9'",
        "host = 'localhost', user = 'a', password = '${PASSWORD}'",
        "url = '${URL}'",
    ] {
        let folder = Folder::new(&sink(&place, server));
        let values = [("PASSWORD", "sesame9"), ("URL", "postgres://a:sesame9@localhost/x")];
        let ended = call(&folder, &["check", "job.sql", "--set", "INPUT=input"], &values).expect(2);
        assert!(ended.stderr.contains("a password of the sink 'added' stands in the job"), "{}", ended.stderr);
        is_silent(&folder, &ended, &["sesame9"]);
    }
}
