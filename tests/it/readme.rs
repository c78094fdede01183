//! The README's walk through, command by command as it stands, in a scratch copy.
//!
//! Three things differ: the binary under test is used in place of a build, the input is smaller, and the port is a free one.

use std::{fs, net::TcpListener, os::unix::fs::symlink, path::PathBuf, process::Command};

use crate::binary::{Running, copy_tree, executable};

/// The commands of the section, in order.
fn commands() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## A walk through").expect("the README has the section");
    let section = section.split("\n## ").next().expect("it has a text");
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("a block ends"));
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_walk_through_works_as_it_stands() {
    let commands = commands();
    assert!(commands.len() >= 12, "{commands:?}");
    assert!(commands[0].starts_with("cargo build --release"), "{}", commands[0]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    copy_tree(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("jobs"), &dir.path().join("jobs"));
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink(executable(), bin.join("highwater")).expect("a link");
    // each command must end well by itself (in a pipe, its first part too); the one that is killed has no say
    // whatever is still in the background at the end is ended
    let ended = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT";
    let mut script = format!("set -euo pipefail\n{ended}\nexport PATH={}:$PATH\n", bin.display());
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound").port().to_string();
    for command in &commands[1..] {
        let mut command = command.replace("--rows 10000", "--rows 1000").replace("9999", &port);
        if command.contains("kill -9") {
            // over so little input the job may have ended before
            command += " || echo 'too late'";
        }
        script += &format!("echo \"+ {}\" >&2\n{command}\n", command.replace(['"', '$', '`', '\\'], " "));
    }
    assert!(script.contains("--rows 1000") && script.contains("kill -9"), "{script}");
    fs::write(dir.path().join("walk.sh"), &script).expect("it can be written");
    let mut bash = Command::new("bash");
    bash.arg("walk.sh").current_dir(dir.path());
    for name in ["HIGHWATER_CRASH_AT", "RUST_LOG", "INPUT"] {
        bash.env_remove(name);
    }
    let ended = Running::start(&mut bash).wait();
    assert_eq!(ended.code(), Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("all good: 50 batches checked, 50 results compared"), "{}", ended.stdout);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
