//! Changes while a job is at work: between listing and reading, while a file is read, and all the time.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Change, JOB, Moving, lines, set_modified};
use crate::{
    binary::{Chance, Running, from_environment},
    stream::stamp,
};

const FILES: usize = 30;

/// Starts a job, and stops it in its tracks once it has published `batches` of its files.
pub fn frozen(moving: &Moving, batches: usize) -> Running {
    let mut running = Running::start(&mut moving.folder.run_command(&["--available-now"]));
    let started = Instant::now();
    while moving.folder.published().len() < batches {
        assert!(running.is_running() && started.elapsed() < Duration::from_secs(30), "batch {batches} never came");
        std::thread::sleep(Duration::from_micros(500));
    }
    running.signal(libc::SIGSTOP);
    running
}

#[test]
fn what_changes_between_listing_and_reading_is_planned_again() {
    for change in Change::ALL {
        let moving = Moving::with_files(JOB, FILES);
        let running = frozen(&moving, 2);
        let there = moving.folder.published().len();
        assert!(there < FILES - 1, "{there} of {FILES} files were read before the job could be stopped");
        let last = moving.path(format!("{:04}.json", FILES - 1));
        change.apply(&moving, &last);
        running.signal(libc::SIGCONT);
        let ended = running.wait().expect(0);
        let gone = matches!(change, Change::Removed | Change::Link | Change::Pipe | Change::Socket | Change::Folder);
        assert_eq!(moving.read().len(), FILES - usize::from(gone), "{change:?}: {}", ended.stderr);
        let told = ended.stderr.contains("the batch is planned again: an input file");
        assert_eq!(told, change.reason().is_some(), "{change:?}: {}", ended.stderr);
        if matches!(change, Change::Link | Change::Pipe | Change::Socket) {
            assert!(ended.stderr.contains(&format!("{:04}.json is not read: ", FILES - 1)), "{}", ended.stderr);
        }
        moving.check();
    }
}

#[test]
fn a_large_file_that_changes_while_it_is_read_is_one_version_of_it() {
    let mut chance = Chance::new(from_environment("HIGHWATER_SEED").unwrap_or(11));
    let long = "f".repeat(1_000);
    for change in [Change::Appended, Change::Cut, Change::Replaced, Change::Removed, Change::Appended] {
        let moving = Moving::new(JOB);
        let path = moving.path("large.json");
        moving.write(&path, &lines(&long, 8_000));
        stamp(&path, 1);
        let mut running = Running::start(&mut moving.folder.run_command(&["--available-now"]));
        let moment = Duration::from_millis(20) + chance.moment(Duration::from_millis(120));
        std::thread::sleep(moment);
        if running.is_running() {
            running.signal(libc::SIGSTOP);
            change.apply(&moving, &path);
            running.signal(libc::SIGCONT);
        }
        let ended = running.wait().expect(0);
        let read = moving.read().len();
        assert!(read == 1 || change == Change::Removed, "{change:?} after {moment:?}: {}", ended.stderr);
        moving.check();
    }
}

#[test]
fn a_folder_that_goes_away_under_a_waiting_job_is_named() {
    let moving = Moving::with_files(JOB, 1);
    let running = Running::start(&mut moving.folder.run_command(&["--interval", "50ms"]));
    let started = Instant::now();
    while moving.folder.published().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30), "the first batch never came");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::rename(moving.folder.at("input"), moving.folder.at("elsewhere")).expect("renamed");
    let ended = running.wait().expect(1);
    let path = format!("--> {}", moving.folder.at("input").display());
    for part in ["error: cannot list an input folder", &path, "why: "] {
        assert!(ended.stderr.contains(part), "no '{part}' in: {}", ended.stderr);
    }
    let refused = moving.run().expect(2);
    assert!(refused.stderr.contains("help: "), "{}", refused.stderr);
    fs::rename(moving.folder.at("elsewhere"), moving.folder.at("input")).expect("renamed back");
    moving.numbered(1);
    moving.run().expect(0);
    assert_eq!(moving.read().len(), 2);
    moving.check();
}

/// One of the things that writers do, each in one system call, so that every state is known.
fn move_something(moving: &Moving, chance: &mut Chance, number: usize) {
    let names: Vec<PathBuf> = fs::read_dir(moving.folder.at("input"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let new = || moving.path(format!("{number:05}.json"));
    let whole = |path: &Path, bytes: &[u8]| {
        let hidden = moving.path(format!(".{number}.part"));
        moving.write(&hidden, bytes);
        fs::rename(&hidden, path).expect("renamed into place");
    };
    let some = |chance: &mut Chance| names[chance.below(names.len())].clone();
    let text = lines(&format!("f{number}"), 1 + chance.below(30));
    match chance.below(if names.len() < 4 { 2 } else { 9 }) {
        0 | 1 => whole(&new(), &text),
        2 => {
            let path = some(chance);
            let before = fs::read(&path).expect("a file");
            moving.knows(&[&before[..], &text].concat());
            fs::File::options().append(true).open(&path).and_then(|mut file| file.write_all(&text)).expect("it grows");
        }
        3 => {
            let path = some(chance);
            let before = fs::read(&path).expect("a file");
            let cut = before.len() / 3;
            moving.knows(&before[..cut]);
            fs::File::options().write(true).open(&path).and_then(|file| file.set_len(cut as u64)).expect("cut");
        }
        4 => whole(&some(chance), &text),
        5 => fs::remove_file(some(chance)).expect("removed"),
        6 => fs::rename(some(chance), new()).expect("renamed"),
        7 => {
            let path = some(chance);
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a file");
            set_modified(&path, modified - Duration::from_secs(10));
        }
        _ => {
            let path = some(chance);
            fs::remove_file(&path).expect("removed");
            [Change::Pipe, Change::Link, Change::Folder][chance.below(3)].put(&path, &moving.path("00000.json"));
        }
    }
}

#[test]
fn however_files_move_under_a_job_that_is_killed_the_log_names_what_was_read() {
    let seed = from_environment("HIGHWATER_SEED").unwrap_or(5);
    let moves = usize::try_from(from_environment("HIGHWATER_MOVES").unwrap_or(60)).expect("a number");
    println!("HIGHWATER_SEED={seed} HIGHWATER_MOVES={moves} cargo test --test it moving_input");
    let mut chance = Chance::new(seed);
    let moving = Moving::with_files(JOB, 6);
    let (mut moved, mut kills, mut errors) = (0, 0, 0);
    while moved < moves {
        let mut running = Running::start(&mut moving.folder.run_command(&["--interval", "10ms"]));
        let started = Instant::now();
        let longest = Duration::from_millis(100) + chance.moment(Duration::from_millis(900));
        while running.is_running() && started.elapsed() < longest {
            std::thread::sleep(chance.moment(Duration::from_millis(60)));
            move_something(&moving, &mut chance, 100 + moved);
            moved += 1;
        }
        let ended = running.kill_after(Duration::ZERO).sober();
        kills += usize::from(ended.was_killed());
        if !ended.was_killed() {
            errors += 1;
            settle(&moving, &ended);
        }
    }
    let ended = moving.run();
    if ended.code() != Some(0) {
        settle(&moving, &ended);
        moving.run().expect(0);
    }
    println!("{moved} moves, {kills} kills, {errors} clear errors, {} files read", moving.read().len());
    assert!(kills > 0 && moving.read().len() > 6);
    moving.check();
}

/// A plan whose file is no longer there is dropped as the error says; it is the only error there may be.
#[track_caller]
fn settle(moving: &Moving, ended: &crate::binary::Ended) {
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    for part in ["error: an input file", "--> ", "why: ", "help: "] {
        assert!(ended.stderr.contains(part), "no '{part}' in: {}", ended.stderr);
    }
    let (_, advice) = ended.stderr.split_once(" --to ").unwrap_or_else(|| panic!("no way out in: {}", ended.stderr));
    let (newest, _) = advice.split_once(" --replan`").unwrap_or_else(|| panic!("no way out in: {}", ended.stderr));
    moving.folder.call(&["rewind", "checkpoint", "--to", newest, "--replan"]).expect(0);
}
