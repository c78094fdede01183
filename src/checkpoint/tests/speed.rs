//! Bounds that would notice a lost order of magnitude; `--nocapture` prints the figures.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a measurement reads the clock and prints")]

use std::time::{Duration, Instant};

use super::*;

#[test]
fn commits_and_opening_stay_quick() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    let mut commits: Vec<Duration> = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        commit(&mut checkpoint, 4 << 10).unwrap();
        commits.push(start.elapsed());
    }
    commits.sort();
    let start = Instant::now();
    snapshot(&mut checkpoint).unwrap();
    let sealing = start.elapsed();
    for _ in 0..50 {
        commit(&mut checkpoint, 4 << 10).unwrap();
    }
    let close = Instant::now();
    checkpoint.close().unwrap();
    let close = close.elapsed();
    let start = Instant::now();
    let checkpoint = open(dir.path());
    let opening = start.elapsed();
    drop(checkpoint);
    let start = Instant::now();
    let after_crash = open(dir.path());
    let opening_after_a_crash = start.elapsed();
    drop(after_crash);
    let start = Instant::now();
    drop(Reader::open(dir.path()).unwrap());
    let reading = start.elapsed();
    eprintln!(
        "commit of 4 KiB: median {:?}, longest {:?}; snapshot and seal {sealing:?}; close {close:?}; open 50 commits {opening:?}, \
         after a crash {opening_after_a_crash:?}; read {reading:?}",
        commits[25], commits[49]
    );
    assert!(commits[25] < Duration::from_millis(100), "{:?}", commits[25]);
    assert!(opening < Duration::from_secs(2), "{opening:?}");
}
