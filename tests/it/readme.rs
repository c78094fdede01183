//! The README's walks through, command by command as they stand, in a scratch copy.
//!
//! What differs: the binary under test is used in place of a build, the input is smaller, the port is a free one, and a database is the
//! tests' own.

use std::{fs, net::TcpListener, os::unix::fs::symlink, path::PathBuf, process::Command};

use crate::{
    binary::{Ended, Running, copy_tree, executable},
    servers,
};

/// The commands of a section, in order.
fn commands(section: &str) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once(&format!("\n## {section}")).expect("the README has the section");
    let section = section.split("\n## ").next().expect("it has a text");
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("a block ends"));
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// Runs commands in a folder with the jobs: each must end well by itself (in a pipe, its first part too).
fn run(commands: &[String]) -> Ended {
    let dir = tempfile::tempdir().expect("a temporary folder");
    copy_tree(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("jobs"), &dir.path().join("jobs"));
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink(executable(), bin.join("highwater")).expect("a link");
    // whatever is still in the background at the end is ended, also where a command failed: a job that runs would wait for ever
    let at_end = "trap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT";
    let mut script = format!("set -euo pipefail\n{at_end}\nexport PATH={}:$PATH\n", bin.display());
    for command in commands {
        script += &format!("echo \"+ {}\" >&2\n{command}\n", command.replace(['"', '$', '`', '\\'], " "));
    }
    fs::write(dir.path().join("walk.sh"), &script).expect("it can be written");
    let mut bash = Command::new("bash");
    bash.arg("walk.sh").current_dir(dir.path());
    for name in ["HIGHWATER_CRASH_AT", "RUST_LOG", "INPUT"] {
        bash.env_remove(name);
    }
    let ended = Running::start(&mut bash).wait();
    assert_eq!(ended.code(), Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

#[test]
fn every_command_of_the_walk_through_works_as_it_stands() {
    let commands = commands("A walk through");
    assert!(commands.len() >= 12, "{commands:?}");
    assert!(commands[0].starts_with("cargo build --release"), "{}", commands[0]);
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound").port().to_string();
    let smaller = |command: &String| {
        let command = command.replace("--rows 10000", "--rows 1000").replace("9999", &port);
        // the one that is killed has no say: over so little input it may have ended before
        if command.contains("kill -9") { command + " || echo 'too late'" } else { command }
    };
    let commands: Vec<String> = commands[1..].iter().map(smaller).collect();
    assert!(commands.concat().contains("--rows 1000") && commands.concat().contains("kill -9"), "{commands:?}");
    let ended = run(&commands);
    assert!(ended.stdout.contains("all good: 50 batches checked, 50 results compared"), "{}", ended.stdout);
}

#[test]
fn every_command_of_the_live_table_works_as_it_stands() {
    let Some(place) = servers::schema("readme::every_command_of_the_live_table") else { return };
    let mut commands = commands("A live table in PostgreSQL");
    assert!(commands.len() >= 12 && commands[0].starts_with("export DATABASE_URL="), "{commands:?}");
    place.execute(&format!("CREATE DATABASE {}", place.schema));
    let (server, _) = place.url.rsplit_once('/').expect("a database");
    commands[0] = format!("export DATABASE_URL={server}/{}", place.schema);
    // on a busy machine the job is not yet there when the files are
    let asks = commands.iter().position(|command| command.starts_with("psql ")).expect("the table is looked at");
    let query = "psql \"$DATABASE_URL\" -qtc \"SELECT to_regclass('response_codes')\" | grep -q response_codes";
    commands.insert(asks, format!("for _ in $(seq 300); do if {query}; then break; fi; sleep 0.1; done"));
    let ended = run(&commands);
    // rows, and the newest batch of each of the four tables
    for part in ["all good: ", " 200 | ", "endpoints", "response_codes", "hourly", "failures"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
}
