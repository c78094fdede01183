//! Each system call that changes something fails: once, or from then on, with an error of a failing disk, a full one,
//! or a limit on the size of files. The job stops soon and says why, tells nothing as done that is not, and goes on
//! to the same end once the fault is gone.

use std::collections::BTreeMap;

use super::{
    FILES, Kept, Kind, Subject, Target, acknowledged, choose, kill_in_the_middle, resumed,
    strace::{Call, Fault, Injection, Traced, inject, is_there, watch, watch_reading},
    targets,
};
use crate::{
    binary::{Folder, from_environment},
    kills::Outcome,
};

/// How many faults are tried unless the environment asks for another number.
const FAULTS: usize = 80;
/// The same, of the jobs beside that over files.
const FAULTS_MORE: usize = 20;

/// A failing job has left by then.
const SECONDS_MAX: u64 = 10;

const ERRORS: [(&str, &str); 3] =
    [("EIO", "Input/output error"), ("ENOSPC", "No space left on device"), ("EFBIG", "File too large")];

fn says(error: &str) -> &'static str {
    ERRORS.iter().find(|(name, _)| *name == error).map(|(_, text)| *text).expect("it is one of them")
}

/// Calls without which the job can do what it was asked to, by a part of their file's name. What such a run says of it.
const OPTIONAL: [(&str, &str); 2] =
    [("socket", "cannot be read from outside"), ("socket", "the socket for readers stays")];

/// In which words SQLite says it.
const SAYS_SQLITE: [&str; 3] = ["disk I/O error", "database or disk is full", "unable to open database file"];

/// SQLite fsyncs the folder of a new journal, and does not mind where that fails: what it does to the database without the
/// journal's name, it cannot take back after a power loss.
fn is_passed_over_by_sqlite(call: &Call, kind: Kind) -> bool {
    kind == Kind::Sqlite && call.file.ends_with("/output") && ["fsync", "openat"].contains(&&*call.name)
}

/// sled looks for its own snapshots in its folder, and does without those that a listing does not come to: it then reads more of
/// its log. A part of its log that it cannot read it takes for the end: the witness says that it is not, and the log is
/// read again from another copy.
fn is_passed_over_by_sled(call: &Call, said: &str) -> bool {
    let name = call.file.rsplit('/').next().unwrap_or_default();
    let reads_again = said.contains("could not be read whole as it is; it is read again");
    (call.name == "getdents64" && name.starts_with("live-")) || (call.name == "pread64" && name == "db" && reads_again)
}

/// Everything that can go wrong in this run.
fn cases(folder: &Folder, run: &Traced) -> Vec<(Target, Fault)> {
    let targets = targets(run, |call| call.is_of_job(folder), |_| true);
    let faults = |target: &Target| {
        let target = target.clone();
        ERRORS
            .iter()
            .flat_map(|(error, _)| [Fault::Error(error), Fault::Sticky(error)])
            .map(move |fault| (target.clone(), fault))
    };
    targets.iter().flat_map(faults).collect()
}

#[test]
fn every_system_call_that_fails_ends_the_job_with_a_reason() {
    fail_everywhere("every_system_call_that_fails_ends_the_job_with_a_reason", Kind::Files, false);
}

#[test]
fn every_system_call_that_fails_in_recovery_ends_the_job_with_a_reason() {
    fail_everywhere("every_system_call_that_fails_in_recovery_ends_the_job_with_a_reason", Kind::Files, true);
}

#[test]
fn every_system_call_that_fails_while_it_receives_ends_the_job_with_a_reason() {
    for recovering in [false, true] {
        fail_everywhere(
            "every_system_call_that_fails_while_it_receives_ends_the_job_with_a_reason",
            Kind::Stdin,
            recovering,
        );
    }
}

#[test]
fn every_system_call_that_reads_and_fails_ends_the_job_with_a_reason() {
    for (kind, recovering) in [(Kind::Files, false), (Kind::Files, true), (Kind::Stdin, true)] {
        fail_each("every_system_call_that_reads_and_fails_ends_the_job_with_a_reason", kind, recovering, watch_reading);
    }
}

#[test]
fn every_system_call_of_a_database_that_fails_ends_the_job_with_a_reason() {
    for recovering in [false, true] {
        fail_everywhere(
            "every_system_call_of_a_database_that_fails_ends_the_job_with_a_reason",
            Kind::Sqlite,
            recovering,
        );
    }
}

/// A start looks at its input before it is asked for; a folder that cannot be listed then is none that is empty.
#[test]
fn a_folder_that_cannot_be_listed_early_is_told_in_its_turn() {
    if !is_there("a_folder_that_cannot_be_listed_early_is_told_in_its_turn") {
        return;
    }
    // as they are given to the call
    for (kind, listed) in [(Kind::Files, "input/"), (Kind::Stdin, "checkpoint/received/flows")] {
        let folder = Subject::new(kind);
        kill_in_the_middle(&folder);
        let files = vec![folder.at(listed).to_string_lossy().into_owned()];
        let injection = Injection { call: "openat".to_owned(), fault: Fault::Error("EIO"), nth: 1, files };
        let ended = inject(&folder, &injection).ended.expect(1);
        for part in ["error: cannot list", listed.trim_end_matches('/'), "Input/output error", "help: "] {
            assert!(ended.stderr.contains(part), "no '{part}' in {}", ended.stderr);
        }
        folder.run().expect(0);
    }
}

/// Where the disk does not take its last write, sled panics as a sealed part's database is closed.
#[test]
fn a_panic_inside_sled_is_one_line_and_an_error() {
    if !is_there("a_panic_inside_sled_is_one_line_and_an_error") {
        return;
    }
    let folder = Subject::new(Kind::Files);
    let data = folder.at("checkpoint/log/live-000001.g1/db").to_string_lossy().into_owned();
    let nth = watch(&folder).calls.iter().filter(|call| call.name == "fsync" && call.file == data).count();
    folder.start_over();
    let fault = Fault::Error("EIO");
    let ended = inject(&folder, &Injection { call: "fsync".to_owned(), fault, nth, files: vec![data] }).ended;
    let ended = ended.expect(1);
    let told: Vec<_> = ended.stderr.lines().filter(|line| line.contains("gave up at sled-")).collect();
    assert!(matches!(told[..], [line] if line.contains("Input/output error")), "{}", ended.stderr);
    for part in
        ["error: the log failed", "checkpoint/log/live-", "why: ", "Input/output error", "help: check that the disk"]
    {
        assert!(ended.stderr.contains(part), "no '{part}' in {}", ended.stderr);
    }
    folder.run().expect(0);
}

fn fail_everywhere(test: &str, kind: Kind, recovering: bool) {
    fail_each(test, kind, recovering, watch);
}

fn fail_each(test: &str, kind: Kind, recovering: bool, watch: fn(&Subject) -> Traced) {
    if !is_there(test) {
        return;
    }
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(5);
    let folder = Subject::new(kind);
    folder.run().expect(0);
    let expected = Outcome::of(&folder);
    folder.start_over();
    if recovering {
        kill_in_the_middle(&folder);
    }
    let before = Kept::of(&folder);
    let run = watch(&folder);
    assert_eq!(run.ended.code(), Some(0), "{}", run.ended.stderr);
    let mut files: Vec<String> =
        run.calls.iter().filter(|call| call.is_of_job(&folder)).map(|call| call.file.clone()).collect();
    files.sort();
    files.dedup();
    let all = cases(&folder, &run);
    let count = all.len();
    let wanted = if kind == Kind::Files { FAULTS } else { FAULTS_MORE };
    let by_fault = (kind == Kind::Files).then_some(());
    let chosen = choose(all, wanted, seed, |(target, fault)| (target.call.clone(), by_fault.map(|()| *fault)));
    let tried = chosen.len();
    let (mut failed, mut survived, mut wrong) = (BTreeMap::<String, usize>::new(), 0, Vec::new());
    for (target, fault) in chosen {
        let files = target.file.as_ref().map_or_else(|| files.clone(), |file| vec![file.clone()]);
        let injection = Injection { call: target.call.clone(), fault, nth: target.nth, files };
        before.restore(&folder);
        let run = inject(&folder, &injection);
        let mut findings = check(&folder, &run, fault);
        if run.ended.code() == Some(0) {
            survived += usize::from(run.calls.iter().any(|call| call.injected));
        } else {
            *failed.entry(target.call.clone()).or_default() += 1;
        }
        let again = folder.run();
        if again.code() != Some(0) {
            findings.push(format!("it does not go on: {}", again.stderr));
        } else {
            if resumed(&again) < acknowledged(&run.ended) {
                findings.push(format!("acknowledged batches are lost: {}", again.stderr));
            }
            Outcome::of(&folder).must_be(&expected, &format!("HIGHWATER_SEED={seed} {injection} {target:?}"));
        }
        if !findings.is_empty() {
            let hit: Vec<_> = run.calls.iter().filter(|call| call.injected).take(2).map(|call| &call.line).collect();
            wrong.push(format!("{injection} {:?}: {findings:#?} at {hit:#?}\n{}", target.file, run.ended.stderr));
        }
    }
    eprintln!("{test}: {tried} of {count} faults: {survived} survived, these stopped the job: {failed:?}");
    assert!(wrong.is_empty(), "HIGHWATER_SEED={seed}: {} of {tried}\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong about how a run took its fault.
fn check(folder: &Subject, run: &Traced, fault: Fault) -> Vec<String> {
    let mut findings = Vec::new();
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            findings.push(what.to_owned());
        }
    };
    let said = &run.ended.stderr;
    demand(run.ended.took.as_secs() < SECONDS_MAX, &format!("it took {:?}", run.ended.took));
    demand(!said.contains("panicked at") && !said.contains("Os { code"), "the inside shows");
    let Some(first) = run.calls.iter().find(|call| call.injected) else {
        demand(run.ended.code() == Some(0), "it failed undisturbed");
        return findings;
    };
    if run.ended.code() == Some(0) {
        let optional = OPTIONAL.iter().any(|(file, says)| first.file.contains(file) && said.contains(says))
            || is_passed_over_by_sqlite(first, folder.kind)
            || is_passed_over_by_sled(first, said);
        demand(optional, "it went on as if nothing had happened");
        demand(acknowledged(&run.ended) == Some(FILES - 1), "it did not do all");
        return findings;
    }
    demand([Some(1), Some(3)].contains(&run.ended.code()), &format!("{}", run.ended.status));
    let (Fault::Error(error) | Fault::Sticky(error)) = fault else { unreachable!("kills are elsewhere") };
    for part in ["error: ", "help: "] {
        demand(said.contains(part), &format!("no '{part}'"));
    }
    // sled waits for ever for some writes that failed in a thread of its own, and keeps the reason
    let mut injected = run.calls.iter().filter(|call| call.injected);
    let hung = injected.any(|call| call.file.ends_with("/db")) && said.contains("takes too long");
    let of_database = |call: &Call| call.file.contains("/output/out.db") || call.file.ends_with("/output");
    let by_sqlite = folder.kind == Kind::Sqlite
        && run.calls.iter().any(|call| call.injected && of_database(call))
        && SAYS_SQLITE.iter().any(|text| said.contains(text));
    demand(hung || by_sqlite || said.contains(says(error)), &format!("no '{}'", says(error)));
    let named = run.calls.iter().filter(|call| call.injected).any(|call| names(said, call, folder));
    demand(named, "it does not name the file");
    if first.name.contains("sync") && !first.file.contains("witness") {
        demand(!told_after(run), "a batch was acknowledged after a failed fsync");
    }
    findings
}

/// Whether a message names the file of a call, the one that it is renamed to, or the folder that it is in.
fn names(said: &str, call: &Call, folder: &Folder) -> bool {
    let here = folder.path().to_string_lossy();
    let given = call.line.split('"').skip(1).step_by(2).chain([&*call.file]);
    let relative = given.map(|file| file.strip_prefix(&*here).unwrap_or(file).trim_matches('/'));
    let mut files =
        relative.filter(|file| file.starts_with("checkpoint") || file.starts_with(".check") || file.contains("put"));
    // a part of the log that is being built is called what it will be
    let has = |parent: &str| said.contains(parent.trim_end_matches(".tmp"));
    files.any(|file| said.contains(file) || file.rsplit_once('/').is_some_and(|(parent, _)| has(parent)))
}

/// Whether a batch was told as done after the first injected error.
fn told_after(run: &Traced) -> bool {
    let told = |call: &Call| call.name == "write" && call.line.contains("\"batch ");
    run.calls.iter().skip_while(|call| !call.injected).any(told)
}
