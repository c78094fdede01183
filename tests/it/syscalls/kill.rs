//! Killed at every system call that changes something, and killed again at one of the recovery's.

use std::collections::BTreeMap;

use super::{
    Target, acknowledged, choose, resumed, scratch,
    strace::{Call, Fault, Injection, Traced, inject, is_there, watch},
    targets,
};
use crate::{
    binary::{Chance, Ended, Folder, copy_tree, from_environment},
    kills::{Outcome, start_over},
};

/// How many first kills are tried unless the environment asks for another number.
const KILLS: usize = 160;

fn kill(folder: &Folder, target: &Target) -> Traced {
    let files = target.file.iter().cloned().collect();
    inject(folder, &Injection { call: target.call.clone(), fault: Fault::Kill, nth: target.nth, files })
}

/// What an undisturbed run leaves, names that nobody may see included.
struct Expected {
    outcome: Outcome,
    names: BTreeMap<String, usize>,
}

impl Expected {
    fn of(folder: &Folder) -> Expected {
        Expected { outcome: Outcome::of(folder), names: names(folder) }
    }

    /// Runs the job to its end; then all must be as if nothing had happened.
    #[track_caller]
    fn must_follow(&self, folder: &Folder, killed: &Ended, story: &str) {
        let ended = folder.run();
        assert_eq!(ended.code(), Some(0), "{story}: {}", ended.stderr);
        assert!(resumed(&ended) >= acknowledged(killed), "{story}: lost after {}: {}", killed.stderr, ended.stderr);
        Outcome::of(folder).must_be(&self.outcome, story);
        assert_eq!(names(folder), self.names, "{story}: what is left behind");
    }
}

/// Everything in the folder, by path and how often. After a restart the generation of the live log is another one, and
/// so may be the numbers of the records that files belong to.
fn names(folder: &Folder) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    let mut open = vec![folder.path().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            let name = path.strip_prefix(folder.path()).expect("it is in there").to_string_lossy().into_owned();
            if name.starts_with("checkpoint/log/live-") {
                // several generations, where the last run had nothing to write
                names.insert(name.split('.').next().expect("a first part").to_owned(), 1);
                continue;
            }
            let name = match name.split_once("state/") {
                Some((_, file)) => {
                    format!("checkpoint/state/*{}", file.trim_start_matches(|c: char| c.is_ascii_digit()))
                }
                None => name,
            };
            *names.entry(name).or_default() += 1;
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    names
}

/// What ran to its end under strace although a kill was asked for: it did not come so far.
#[track_caller]
fn must_have_ended_well(run: &Traced, story: &str) {
    assert_eq!(run.ended.code(), Some(0), "{story}: {}", run.ended.stderr);
}

#[test]
fn killed_at_every_system_call_and_again_in_recovery() {
    const TEST: &str = "killed_at_every_system_call_and_again_in_recovery";
    if !is_there(TEST) {
        return;
    }
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(3);
    let folder = scratch();
    let run = watch(&folder);
    must_have_ended_well(&run, "an undisturbed run");
    let expected = Expected::of(&folder);
    let all = targets(&run, Call::changes);
    let count = all.len();
    let chosen = choose(all, KILLS, seed, |target| target.call.clone());
    let exhaustive = chosen.len() == count;
    let mut chance = Chance::new(seed);
    let (mut kills, mut seconds, mut by_call) = (0, 0, BTreeMap::<String, usize>::new());
    for target in &chosen {
        let story = format!("HIGHWATER_SEED={seed} {target:?}");
        start_over(&folder);
        let first = kill(&folder, target);
        if !first.ended.was_killed() {
            must_have_ended_well(&first, &story);
            continue;
        }
        kills += 1;
        *by_call.entry(target.call.clone()).or_default() += 1;
        let left = tempfile::tempdir().expect("a temporary folder");
        copy_tree(folder.path(), left.path());
        expected.must_follow(&folder, &first.ended, &story);
        // the calls that recovery makes follow from what was left
        restore(left.path(), &folder);
        let recovery = watch(&folder);
        must_have_ended_well(&recovery, &story);
        let mut again = targets(&recovery, Call::changes);
        if !exhaustive {
            again = vec![again.swap_remove(chance.below(again.len()))];
        }
        for target in again {
            let story = format!("{story}, then {target:?}");
            restore(left.path(), &folder);
            let second = kill(&folder, &target);
            if !second.ended.was_killed() {
                must_have_ended_well(&second, &story);
                continue;
            }
            seconds += 1;
            let told = if acknowledged(&second.ended).is_some() { &second.ended } else { &first.ended };
            expected.must_follow(&folder, told, &story);
        }
    }
    assert!(kills * 10 >= chosen.len() * 8, "{kills} of {} runs were killed only", chosen.len());
    eprintln!("{kills} kills at {} of {count} calls, {seconds} more in recovery: {by_call:?}", chosen.len());
}

fn restore(from: &std::path::Path, folder: &Folder) {
    for entry in std::fs::read_dir(folder.path()).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().expect("it has a name");
        if path.is_dir() && name != "input" {
            std::fs::remove_dir_all(&path).expect("a scratch folder can be removed");
        }
    }
    for entry in std::fs::read_dir(from).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().expect("it has a name");
        if path.is_dir() && name != "input" {
            copy_tree(&path, &folder.path().join(name));
        }
    }
}
