//! Faults at system calls of the real binary, made with strace: killed before each call that changes something, and
//! each such call failing. A job of three batches does all that commits do.
//!
//! `HIGHWATER_SYSCALLS=all` tries every case, `HIGHWATER_SYSCALLS=1000` a choice of so many; `HIGHWATER_SEED` says which.
//! `HIGHWATER_PART=1/2` takes every other one of these, so that two processes can share them.

mod errors;
mod kill;
mod space;
mod strace;
mod tracer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use strace::{Call, Traced};

use crate::{
    binary::{Chance, Ended, Folder, Running, copy_tree},
    kills,
};

/// Batches, too: each takes one file.
const FILES: usize = 3;

/// A table in the checkpoint and two sinks of files, so that plans are made durable first; a snapshot in the middle.
const JOB: &str = concat!(
    "
SET snapshot_batches = '2';
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
CREATE TABLE ports WITH (connector = 'files', path = '${OUTPUT}', format = 'csv', output_mode = 'complete');
INSERT INTO counts SELECT device, count(*) AS count FROM flows WHERE port IN ('80', '443') GROUP BY device ORDER BY count DESC;
INSERT INTO traffic SELECT device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY device;
INSERT INTO ports SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
",
    operators!()
);

/// The job over three small files: the second one's delta is too large to be kept inside the log, the third has bad
/// records.
fn scratch() -> Folder {
    let folder = Folder::new(JOB);
    let mut chance = Chance::new(11);
    for file in 0..FILES {
        let mut text = String::new();
        for row in 0..if file == 1 { 200 } else { 12 } {
            let device = match file {
                1 => format!("{row}-{}", kills::long_name(&mut chance)),
                _ => format!("Comp{}", chance.below(5)),
            };
            let (port, bytes) = (["80", "443", "22"][chance.below(3)], chance.below(100_000));
            text += &format!("{{\"device\": \"{device}\", \"port\": \"{port}\", \"bytes\": {bytes}}}\n");
        }
        if file == 2 {
            text += "{\"device\": \"cut\nnull\n";
        }
        folder.input(file, text.as_bytes());
    }
    folder
}

/// Files that another run made, kept to begin from again and again.
struct Kept(tempfile::TempDir);

impl Kept {
    fn of(folder: &Folder) -> Kept {
        let dir = tempfile::tempdir().expect("a temporary folder");
        copy_tree(folder.path(), dir.path());
        Kept(dir)
    }

    fn restore(&self, folder: &Folder) {
        for (from, remove) in [(folder.path(), true), (self.0.path(), false)] {
            for entry in fs::read_dir(from).expect("it can be listed") {
                let path = entry.expect("it can be listed").path();
                let name = path.file_name().expect("it has a name");
                if !path.is_dir() || name == "input" {
                    continue;
                }
                if remove {
                    fs::remove_dir_all(&path).expect("a scratch folder can be removed");
                } else {
                    copy_tree(&path, &folder.at(&name.to_string_lossy()));
                }
            }
        }
    }
}

/// Kills the job when its second batch is committed and not yet published: the next start has something to recover.
fn kill_in_the_middle(folder: &Folder) {
    kills::start_over(folder);
    let mut middle = folder.run_command(&["--available-now"]);
    assert!(Running::start(middle.env("HIGHWATER_CRASH_AT", "committed:2")).wait().was_killed());
}

/// A call to be disturbed: the nth of its kind that any one thread makes, which is how strace counts, or the nth on one
/// file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    call: String,
    file: Option<String>,
    nth: usize,
}

/// The calls of a run that are `wanted`, as targets by thread and by file: numbered among those that are `counted`.
fn targets(run: &Traced, counted: impl Fn(&Call) -> bool, wanted: impl Fn(&Call) -> bool) -> Vec<Target> {
    let mut by_thread = BTreeMap::<(&str, &str), usize>::new();
    let mut by_file = BTreeMap::<(&str, &str, &str), usize>::new();
    let mut all = BTreeSet::new();
    for call in run.calls.iter().filter(|call| counted(call)) {
        let mut add = |file: Option<&str>, count: &mut usize| {
            *count += 1;
            if wanted(call) {
                all.insert(Target { call: call.name.clone(), file: file.map(str::to_owned), nth: *count });
            }
        };
        add(None, by_thread.entry((&call.name, &call.thread)).or_default());
        if !call.has_name_of_the_moment() {
            add(Some(&call.file), by_file.entry((&call.name, &call.file, &call.thread)).or_default());
        }
    }
    all.into_iter().collect()
}

/// Whether everything is to be tried, however long it takes.
fn wants_all() -> bool {
    std::env::var_os("HIGHWATER_SYSCALLS").is_some_and(|text| text == "all")
}

/// What of many cases is tried: those that the environment asks for, else `by_default`. A choice of them has some of
/// each `kind`; all of them come kind by turns, so that a campaign that is stopped has seen each.
fn choose<T, K: Ord>(mut cases: Vec<T>, by_default: usize, seed: u64, kind: impl Fn(&T) -> K) -> Vec<T> {
    let wanted = match std::env::var("HIGHWATER_SYSCALLS").as_deref() {
        Err(_) => by_default,
        Ok("all") => usize::MAX,
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("HIGHWATER_SYSCALLS={text} is neither `all` nor a number")),
    };
    let mut chance = Chance::new(seed);
    for at in (1..cases.len()).rev() {
        cases.swap(at, chance.below(at + 1));
    }
    // round by round: the first of each kind, the second of each, ...
    let mut turns = BTreeMap::<K, usize>::new();
    let mut ranked: Vec<(usize, T)> = Vec::new();
    for case in cases {
        let turn = turns.entry(kind(&case)).or_default();
        *turn += 1;
        ranked.push((*turn, case));
    }
    ranked.sort_by_key(|(turn, _)| *turn);
    let chosen = ranked.into_iter().take(wanted.max(turns.len())).map(|(_, case)| case);
    let (part, parts) = part();
    chosen.enumerate().filter(|(number, _)| number % parts == part).map(|(_, case)| case).collect()
}

/// Which part of how many this process does: 0 of 1, unless the environment says otherwise.
fn part() -> (usize, usize) {
    let Ok(text) = std::env::var("HIGHWATER_PART") else { return (0, 1) };
    let numbers = text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    let wanted = numbers.filter(|(part, parts): &(usize, usize)| *part >= 1 && part <= parts);
    let (part, parts) = wanted.unwrap_or_else(|| panic!("HIGHWATER_PART={text} is not like 1/2"));
    (part - 1, parts)
}

/// The newest batch that a run said was done.
fn acknowledged(ended: &Ended) -> Option<usize> {
    let said = ended.stderr.lines().filter_map(|line| line.strip_prefix("batch ")?.split(' ').next()?.parse().ok());
    said.max()
}

/// The newest batch that a run found in the log when it began.
fn resumed(ended: &Ended) -> Option<usize> {
    ended.stderr.lines().find_map(|line| {
        let rest = line
            .strip_prefix("resuming after batch ")
            .or_else(|| line.strip_prefix("nothing new: the newest is batch "))?;
        rest.split([',', ' ']).next()?.parse().ok()
    })
}
