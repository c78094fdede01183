//! Faults at system calls of the real binary, made with strace: killed before each call that changes something, and
//! each such call failing. Jobs of three batches do all that commits do: over files, over the standard input, and with
//! tables of SQLite.
//!
//! `HIGHWATER_SYSCALLS=all` tries every case, `HIGHWATER_SYSCALLS=1000` a choice of so many; `HIGHWATER_SEED` says which.
//! `HIGHWATER_PART=1/2` takes every other one of these, so that two processes can share them.

mod errors;
mod kill;
mod space;
mod strace;
pub mod subject;
mod tracer;

use std::collections::{BTreeMap, BTreeSet};

use strace::{Call, Traced};
use subject::{Kept, Kind, Subject};

use crate::binary::{Chance, Ended, Running};

/// Batches, too: each takes one file, or piece.
const FILES: usize = 3;

/// Kills the job when its second batch is committed and not yet published: the next start has something to recover.
fn kill_in_the_middle(subject: &Subject) {
    subject.start_over();
    let mut middle = subject.run_command(&["--available-now"]);
    middle.env("HIGHWATER_CRASH_AT", "committed:2");
    assert!(Running::start_given(&mut middle, subject.input()).wait().was_killed());
    subject.look_for_the_rest();
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
