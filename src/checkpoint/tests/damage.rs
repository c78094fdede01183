//! Any file of a stopped checkpoint is flipped, cut, emptied, deleted or exchanged: found or harmless, never silently wrong.

use std::path::PathBuf;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use super::*;
use crate::model::ErrorKind;

const NEWEST: u64 = 11;

fn length(batch: u64) -> usize {
    if batch % 4 == 1 { 270 << 10 } else { 2000 }
}

/// Two sealed parts, a live one with four batches, files of every kind.
fn make(dir: &Path) {
    let mut checkpoint = Checkpoint::create(dir, genesis(), options(Faults::none())).unwrap();
    for batch in 0..=NEWEST {
        commit(&mut checkpoint, length(batch)).unwrap();
        if batch == 3 || batch == 7 {
            snapshot(&mut checkpoint).unwrap();
        }
    }
    checkpoint.mark_published().unwrap();
    checkpoint.close().unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

pub(super) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// What was done, in words.
fn damage(dir: &Path, random: &mut ChaCha8Rng) -> String {
    let files = files(dir);
    let pick = |random: &mut ChaCha8Rng, limit: usize| random.next_u64() as usize % limit.max(1);
    let path = files[pick(random, files.len())].clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let what = match pick(random, 6) {
        0 | 1 if !bytes.is_empty() => {
            let at = pick(random, bytes.len());
            bytes[at] ^= 1 << pick(random, 8);
            std::fs::write(&path, bytes).unwrap();
            format!("bit of byte {at} flipped")
        }
        2 => {
            let at = pick(random, bytes.len());
            bytes.truncate(at);
            std::fs::write(&path, bytes).unwrap();
            format!("cut to {at} bytes")
        }
        3 => {
            let at = pick(random, bytes.len());
            let end = bytes.len().min(at + 4096);
            bytes[at..end].fill(0);
            std::fs::write(&path, bytes).unwrap();
            format!("zeros from byte {at}")
        }
        4 => {
            let other = &files[pick(random, files.len())];
            std::fs::write(&path, std::fs::read(other).unwrap()).unwrap();
            format!("replaced by {}", other.strip_prefix(dir).unwrap().display())
        }
        _ => {
            std::fs::remove_file(&path).unwrap();
            "deleted".to_owned()
        }
    };
    format!("{}: {what}", path.strip_prefix(dir).unwrap().display())
}

fn expected_state(newest: u64) -> Vec<Vec<u8>> {
    (0..=newest).map(|batch| delta(batch, 0, length(batch))).collect()
}

/// Every state that can be had is right; the newest can be had, or its loss is reported.
fn check(dir: &Path, what: &str) {
    let findings = verify(dir);
    if let Ok(reader) = Reader::open(dir) {
        for commit in reader.history().live() {
            let steps = reader.restore_steps(commit.address());
            if let Ok(state) = steps.and_then(|steps| restore(&steps, |payload| reader.read_payload(payload))) {
                assert_eq!(state, expected_state(commit.batch().0), "{what}");
            }
        }
        let whole = reader.history().live().len() as u64 == NEWEST + 1;
        assert!(whole || findings.as_ref().is_ok_and(|findings| !findings.is_empty()), "{what}: lost and not found");
    }
    let mut checkpoint = match Checkpoint::open(dir, options(Faults::none())) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}");
            assert!(error.to_string().contains("help:"), "{what}: {error}");
            return;
        }
    };
    let newest = checkpoint.history().newest_batch().map(|batch| batch.0);
    assert!(
        newest == Some(NEWEST) || checkpoint.repaired().is_some(),
        "{what}: went back to {newest:?} without a word"
    );
    // Goes on from there; what was lost is simply done again.
    let restored = newest.map(|newest| state_at(&checkpoint, at(newest)));
    match restored {
        Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}"),
        restored => {
            let mut state = restored.transpose().unwrap().unwrap_or_default();
            assert_eq!(state.len() as u64, newest.map_or(0, |newest| newest + 1), "{what}");
            while checkpoint.history().next_batch().0 <= NEWEST {
                let batch = checkpoint.history().next_batch().0;
                commit(&mut checkpoint, length(batch)).unwrap();
                merge(&mut state, delta(batch, 0, length(batch)));
            }
            assert_eq!(state, expected_state(NEWEST), "{what}");
            checkpoint.mark_published().unwrap();
            drop(checkpoint);
            let checkpoint = open(dir);
            assert_eq!(checkpoint.repaired(), None, "{what}: repaired once and for all");
            assert_eq!(state_at(&checkpoint, at(NEWEST)).unwrap(), expected_state(NEWEST), "{what}");
        }
    }
}

#[test]
fn damage_is_found_or_harmless() {
    let scratch = tempfile::tempdir().unwrap();
    let original = scratch.path().join("original");
    make(&original);
    for seed in 0..u64::from(cases(200).cases) {
        let dir = scratch.path().join("damaged");
        copy_tree(&original, &dir);
        let what = format!("seed {seed}, {}", damage(&dir, &mut ChaCha8Rng::seed_from_u64(seed)));
        check(&dir, &what);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Builds a checkpoint, damages one file in one way, and returns what opening says.
fn after(change: impl Fn(&Path)) -> (tempfile::TempDir, crate::model::Result<Checkpoint>) {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    change(dir.path());
    let opened = Checkpoint::open(dir.path(), options(Faults::none()));
    (dir, opened)
}

fn live(dir: &Path) -> PathBuf {
    let lives = std::fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path());
    lives.filter(|path| path.is_dir()).max().unwrap()
}

#[test]
fn a_lost_live_log_goes_on_from_the_sealed_part_before_it() {
    let (_dir, opened) = after(|dir| std::fs::remove_dir_all(live(dir)).unwrap());
    let checkpoint = opened.unwrap();
    assert_eq!(checkpoint.history().newest_batch(), Some(BatchId(7)));
    let repair = checkpoint.repaired().unwrap();
    assert_eq!((repair.newest, repair.acknowledged), (Some(BatchId(7)), Some(BatchId(NEWEST))));
    assert_eq!(repair.refuse(checkpoint.dir()).kind(), ErrorKind::Refused);
}

#[test]
fn an_old_copy_of_the_live_log_is_told_from_a_short_one() {
    let dir = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    commit(&mut checkpoint, 20).unwrap();
    checkpoint.close().unwrap();
    copy_tree(&dir.path().join("log"), kept.path());
    let mut checkpoint = open(dir.path());
    commit(&mut checkpoint, 20).unwrap();
    checkpoint.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy_tree(kept.path(), &dir.path().join("log"));
    assert!(!verify(dir.path()).unwrap().is_empty());
    for _ in 0..2 {
        let checkpoint = open(dir.path());
        assert_eq!(checkpoint.repaired().unwrap().acknowledged, Some(BatchId(1)), "as long as nothing was written");
        checkpoint.close().unwrap();
    }
    let mut checkpoint = open(dir.path());
    commit(&mut checkpoint, 30).unwrap();
    drop(checkpoint);
    assert_eq!(open(dir.path()).repaired(), None);
    assert_eq!(verify(dir.path()).unwrap(), []);
}

#[test]
fn a_log_exchanged_for_another_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, length) in [(&dir, 20), (&other, 30)] {
        let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
        commit(&mut checkpoint, length).unwrap();
        checkpoint.close().unwrap();
    }
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy_tree(&other.path().join("log"), &dir.path().join("log"));
    let error = Checkpoint::open(dir.path(), options(Faults::none())).unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("witness"), "{error}");
}

#[test]
fn a_missing_delta_file_costs_its_batch_and_those_after_it_only() {
    let (_dir, opened) = after(|dir| {
        let mut deltas = files(&dir.join("state"));
        deltas.retain(|path| path.extension().is_some_and(|extension| extension == "delta"));
        std::fs::remove_file(deltas.last().unwrap()).unwrap();
    });
    let checkpoint = opened.unwrap();
    assert_eq!(checkpoint.history().newest_batch(), Some(BatchId(8)));
    assert_eq!(state_at(&checkpoint, at(8)).unwrap(), expected_state(8));
}

#[test]
fn a_damaged_snapshot_is_replaced_by_older_ones_and_deltas() {
    let (_dir, opened) = after(|dir| {
        for path in
            files(&dir.join("state")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "snapshot"))
        {
            std::fs::write(path, "nonsense").unwrap();
        }
    });
    assert_eq!(state_at(&opened.unwrap(), at(NEWEST)).unwrap(), expected_state(NEWEST));
}

#[test]
fn a_half_written_index_of_sled_does_not_stop_recovery() {
    let (_dir, opened) = after(|dir| {
        std::fs::write(live(dir).join("snap.0000000000001234.generating"), "half").unwrap();
        std::fs::write(live(dir).join("conf"), "torn").unwrap();
    });
    let checkpoint = opened.unwrap();
    assert_eq!((checkpoint.history().newest_batch(), checkpoint.repaired()), (Some(BatchId(NEWEST)), None));
}

#[test]
fn a_live_log_with_the_records_of_an_older_part_counts_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    for batch in 0..5 {
        commit(&mut checkpoint, 20).unwrap();
        if batch == 2 {
            checkpoint.close().unwrap();
            copy_tree(&live(dir.path()), kept.path());
            checkpoint = open(dir.path());
            snapshot(&mut checkpoint).unwrap();
        }
    }
    checkpoint.close().unwrap();
    let newer = live(dir.path());
    std::fs::remove_dir_all(&newer).unwrap();
    copy_tree(kept.path(), &newer);
    assert!(!verify(dir.path()).unwrap().is_empty());
    let checkpoint = open(dir.path());
    assert_eq!(checkpoint.history().newest_batch(), Some(BatchId(2)));
    assert_eq!(checkpoint.repaired().unwrap().acknowledged, Some(BatchId(4)));
}

#[test]
fn a_lost_rewind_is_told_from_lost_batches() {
    let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    for _ in 0..4 {
        commit(&mut checkpoint, 20).unwrap();
    }
    checkpoint.close().unwrap();
    copy_tree(&dir.path().join("log"), kept.path());
    for (rewind, lost) in [(false, false), (true, true)] {
        let mut checkpoint = open(dir.path());
        if rewind {
            checkpoint.rewind(Some(BatchId(1)), false, 0).unwrap();
        }
        for _ in 0..2 {
            commit(&mut checkpoint, 20).unwrap();
        }
        checkpoint.close().unwrap();
        std::fs::remove_dir_all(dir.path().join("log")).unwrap();
        copy_tree(kept.path(), &dir.path().join("log"));
        let checkpoint = open(dir.path());
        let repair = checkpoint.repaired().unwrap();
        assert_eq!((repair.newest, repair.rewind_lost), (Some(BatchId(3)), lost));
        let error = repair.refuse_lost_rewind(checkpoint.dir());
        assert!(error.to_string().contains("highwater rewind"), "{error}");
        checkpoint.close().unwrap();
    }
}

/// A kill between sealing and removing what was sealed, and then a bad sector.
#[test]
fn a_damaged_seal_whose_original_is_there_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::armed(crate::model::CrashPoint::Sealed, 1, crate::model::crash::Crash::Error);
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(faults)).unwrap();
    for _ in 0..3 {
        commit(&mut checkpoint, 20).unwrap();
    }
    snapshot(&mut checkpoint).unwrap_err();
    drop(checkpoint);
    let part = dir.path().join("log/part-000001.log");
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.history().newest().map(|commit| commit.batch()), Some(BatchId(2)));
    assert_eq!(open(dir.path()).history().newest_batch(), Some(BatchId(2)));
}

#[test]
fn verify_finds_a_log_that_was_exchanged_for_another() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, length) in [(&dir, 20), (&other, 30)] {
        let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
        commit(&mut checkpoint, length).unwrap();
        checkpoint.close().unwrap();
    }
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy_tree(&other.path().join("log"), &dir.path().join("log"));
    let findings = verify(dir.path()).unwrap();
    assert!(findings.iter().any(|finding| finding.what.contains("witness")), "{findings:?}");
}
