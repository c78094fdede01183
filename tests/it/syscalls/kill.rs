//! Killed at every system call that changes something, and killed again at one of the recovery's.

use std::{collections::BTreeMap, fs};

use super::{
    Kept, Kind, Subject, Target, acknowledged, choose, kill_in_the_middle, resumed,
    strace::{Call, Fault, Injection, Traced, inject, is_there, kill_directly, watch},
    targets, tracer, wants_all,
};
use crate::{
    binary::{Chance, Ended, Folder, from_environment},
    kills::Outcome,
};

/// By strace where it has to count by file.
fn kill(subject: &Subject, target: &Target) -> Ended {
    match tracer::number_of(&target.call) {
        Some(number) if target.file.is_none() => kill_directly(subject, number, target.nth),
        _ => kill_by_strace(subject, target),
    }
}

fn kill_by_strace(subject: &Subject, target: &Target) -> Ended {
    let files = target.file.iter().cloned().collect();
    inject(subject, &Injection { call: target.call.clone(), fault: Fault::Kill, nth: target.nth, files }).ended
}

/// What an undisturbed run leaves, names that nobody may see included.
struct Expected {
    outcome: Outcome,
    names: BTreeMap<String, usize>,
}

impl Expected {
    fn of(subject: &Subject) -> Expected {
        Expected { outcome: Outcome::of(subject), names: names(subject) }
    }

    /// Runs the job to its end; then all must be as if nothing had happened.
    #[track_caller]
    fn must_follow(&self, subject: &Subject, killed: &Ended, story: &str) {
        let ended = subject.run();
        assert_eq!(ended.code(), Some(0), "{story}: {}", ended.stderr);
        assert!(resumed(&ended) >= acknowledged(killed), "{story}: lost after {}: {}", killed.stderr, ended.stderr);
        Outcome::of(subject).must_be(&self.outcome, story);
        assert_eq!(names(subject), self.names, "{story}: what is left behind");
    }
}

/// Everything in the folder, by path and how often. After a restart the generation of the live log is another one, and
/// so may be the numbers of the records that files belong to.
fn names(folder: &Folder) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    let mut open = vec![folder.path().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("it can be listed") {
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
fn must_have_ended_well(ended: &Ended, story: &str) {
    assert_eq!(ended.code(), Some(0), "{story}: {}", ended.stderr);
}

/// What was tried, and how often it came to a kill.
#[derive(Debug, Default)]
struct Counts {
    first: BTreeMap<String, usize>,
    second: usize,
}

/// What a run is killed at, and what it must come to all the same.
struct Campaign {
    subject: Subject,
    expected: Expected,
    /// What a start after a kill in the middle calls.
    recovery: Vec<Target>,
    seed: u64,
}

impl Campaign {
    fn new(subject: Subject, seed: u64) -> Campaign {
        let expected = Expected::of(&subject);
        kill_in_the_middle(&subject);
        subject.give_nothing();
        let recovery = targets(&watched(&subject), |_| true, Call::changes);
        Campaign { subject, expected, recovery, seed }
    }

    /// Kills at a target, and once more where the next start comes to some target of its own.
    fn kill_twice(&self, target: &Target, again: &Target, counts: &mut Counts) {
        let story = format!("HIGHWATER_SEED={} {target:?}, then {again:?}", self.seed);
        self.subject.start_over();
        let first = kill(&self.subject, target);
        if !first.was_killed() {
            return must_have_ended_well(&first, &story);
        }
        *counts.first.entry(target.call.clone()).or_default() += 1;
        self.kill_again(&first, again, counts, &story);
    }

    /// Whoever sends does not know what was received: in recovery nothing is sent.
    fn kill_again(&self, before: &Ended, again: &Target, counts: &mut Counts, story: &str) {
        self.subject.give_nothing();
        let second = kill(&self.subject, again);
        if second.was_killed() {
            counts.second += 1;
        } else {
            must_have_ended_well(&second, story);
        }
        let told = if acknowledged(&second).is_some() { &second } else { before };
        self.expected.must_follow(&self.subject, told, story);
    }

    /// Kills at a target, and then at every call that the next start makes.
    fn kill_all_ways(&self, target: &Target, counts: &mut Counts) {
        let story = format!("{target:?}");
        self.subject.start_over();
        let first = kill(&self.subject, target);
        if !first.was_killed() {
            return must_have_ended_well(&first, &story);
        }
        *counts.first.entry(target.call.clone()).or_default() += 1;
        self.subject.give_nothing();
        let left = Kept::of(&self.subject);
        self.expected.must_follow(&self.subject, &first, &story);
        left.restore(&self.subject);
        for again in
            targets(&watched(&self.subject), |_| true, Call::changes).iter().filter(|again| again.file.is_none())
        {
            left.restore(&self.subject);
            self.kill_again(&first, again, counts, &format!("{story}, then {again:?}"));
        }
        let first: usize = counts.first.values().sum();
        eprintln!("{story}: {first} first kills so far, {} second ones", counts.second);
    }
}

/// Runs the job to its end and tells its calls.
#[track_caller]
fn watched(subject: &Subject) -> Traced {
    let run = watch(subject);
    must_have_ended_well(&run.ended, "an undisturbed run");
    run
}

#[test]
fn killed_at_every_system_call_and_again_in_recovery() {
    kill_everywhere("killed_at_every_system_call_and_again_in_recovery", Kind::Files, usize::MAX);
}

#[test]
fn killed_at_every_system_call_while_it_receives() {
    kill_everywhere("killed_at_every_system_call_while_it_receives", Kind::Stdin, KILLS);
}

#[test]
fn killed_at_every_system_call_of_a_database() {
    kill_everywhere("killed_at_every_system_call_of_a_database", Kind::Sqlite, KILLS);
}

/// How many calls of the other jobs are tried unless the environment asks for another number.
const KILLS: usize = 24;

fn kill_everywhere(test: &str, kind: Kind, by_default: usize) {
    if !is_there(test) {
        return;
    }
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(3);
    let subject = Subject::new(kind);
    let mut all = targets(&watched(&subject), |_| true, Call::changes);
    let campaign = Campaign::new(subject, seed);
    let mut counts = Counts::default();
    if std::env::var("HIGHWATER_SYSCALLS").is_err() {
        // as strace counts; a number, or all, takes each file's calls as well
        all.retain(|target| target.file.is_none());
    }
    let count = all.len();
    let chosen = choose(all, by_default.min(count), seed, |target| target.call.clone());
    let mut chance = Chance::new(seed);
    for target in &chosen {
        // what strace counts file by file are the same calls again
        if wants_all() && target.file.is_none() {
            campaign.kill_all_ways(target, &mut counts);
        } else {
            let again = &campaign.recovery[chance.below(campaign.recovery.len())];
            campaign.kill_twice(target, again, &mut counts);
        }
    }
    let kills: usize = counts.first.values().sum();
    eprintln!("{test}: {kills} kills at {} of {count} calls, and in recovery: {counts:?}", chosen.len());
    assert!(kills * 10 >= chosen.len() * 8, "{kills} of {} runs were killed only", chosen.len());
    // a recovery that has less to do than another does not come to every call
    assert!(counts.second * 4 >= kills, "{} of {kills} recoveries were killed only", counts.second);
}

/// The quick way kills where strace does: the same names are left, and others than a call earlier.
#[test]
fn both_ways_kill_at_the_same_call() {
    if !is_there("both_ways_kill_at_the_same_call") {
        return;
    }
    let subject = Subject::new(Kind::Files);
    // a name for each, and nothing that another thread does meanwhile shows in the names
    let call = "rename";
    let mut before = None;
    for nth in 2..6 {
        let target = Target { call: call.to_owned(), file: None, nth };
        let left = [false, true].map(|directly| {
            subject.start_over();
            let ended = match tracer::number_of(call) {
                Some(number) if directly => kill_directly(&subject, number, nth),
                _ => kill_by_strace(&subject, &target),
            };
            assert!(ended.was_killed(), "{target:?}: {}", ended.stderr);
            (acknowledged(&ended), names(&subject))
        });
        let [by_strace, directly] = left;
        assert_eq!(by_strace, directly, "{target:?}");
        assert_ne!(before.replace(by_strace), Some(directly), "{target:?}: nothing happened since the one before");
    }
}
