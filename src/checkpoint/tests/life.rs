//! The life of a checkpoint without accidents.

use super::*;
use crate::model::{ErrorKind, Generation};

#[test]
fn batches_survive_a_clean_stop_and_a_drop() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("c");
    let mut checkpoint = Checkpoint::create(&dir, genesis(), options(Faults::none())).unwrap();
    assert_eq!(checkpoint.recovery(), Recovery::PlanAnew);
    for _ in 0..3 {
        commit(&mut checkpoint, 100).unwrap();
    }
    checkpoint.mark_published().unwrap();
    checkpoint.close().unwrap();
    let mut checkpoint = open(&dir);
    assert_eq!(checkpoint.recovery(), Recovery::PlanAnew);
    assert_eq!(checkpoint.history().genesis(), &genesis());
    commit(&mut checkpoint, 300 << 10).unwrap();
    drop(checkpoint);
    let mut checkpoint = open(&dir);
    assert_eq!(checkpoint.recovery(), Recovery::PublishAgain { batch: BatchId(3) });
    assert!(checkpoint.permit().is_some());
    let state = state_at(&checkpoint, at(3)).unwrap();
    assert_eq!(state[..3], expected(2, 100));
    assert_eq!(state[3], delta(3, 0, 300 << 10));
    assert_eq!(checkpoint.history().offset("flows"), Some(3));
    assert_eq!(checkpoint.history().seen_files().len(), 4);
    checkpoint.intend(&plan(4)).unwrap();
    drop(checkpoint);
    let mut checkpoint = open(&dir);
    assert_eq!(checkpoint.recovery(), Recovery::RunAgain { plan: plan(4) });
    checkpoint.intend(&plan(4)).unwrap();
    checkpoint.withdraw().unwrap();
    checkpoint.close().unwrap();
    assert_eq!(open(&dir).recovery(), Recovery::PlanAnew);
}

#[test]
fn what_contradicts_the_log_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    assert!(checkpoint.commit(draft(plan(1), 0, 16)).is_err(), "not the next batch");
    let mut unread = draft(plan(0), 0, 16);
    unread.files[0].clear();
    assert!(checkpoint.commit(unread).is_err(), "did not read what it planned");
    checkpoint.intend(&plan(0)).unwrap();
    let mut other = plan(0);
    other.batch_time_us += 1;
    assert!(checkpoint.commit(draft(other, 0, 16)).is_err(), "planned otherwise");
    checkpoint.commit(draft(plan(0), 0, 16)).unwrap();
    assert_eq!(checkpoint.rewind(Some(BatchId(1)), false, 0).unwrap_err().kind(), ErrorKind::Refused);
    drop(checkpoint);
    let mut checkpoint = open(dir.path());
    checkpoint.rewind(None, false, 0).unwrap();
    assert!(checkpoint.permit().is_some(), "a rewind to the start must be told to the sinks, too");
    let mut other = plan(0);
    other.batch_time_us += 1;
    assert!(checkpoint.commit(draft(other, 0, 16)).is_err(), "a retracted plan is replayed as it was");
    checkpoint.commit(draft(plan(0), 1, 16)).unwrap();
}

#[test]
fn sealed_parts_keep_every_batch_addressable() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    for batch in 0..20 {
        commit(&mut checkpoint, 50).unwrap();
        if batch % 6 == 5 {
            snapshot(&mut checkpoint).unwrap();
        }
    }
    assert_eq!(checkpoint.history().live().len(), 3, "the writer keeps what is after the newest base, and that");
    for batch in 0..20 {
        assert_eq!(state_at(&checkpoint, at(batch)).unwrap(), expected(batch, 50), "batch {batch}");
    }
    checkpoint.close().unwrap();
    let checkpoint = open(dir.path());
    assert_eq!(checkpoint.history().seen_files().len(), 16);
    assert_eq!(checkpoint.restore_steps(at(19)).unwrap().commits.len(), 2);
    for batch in 0..20 {
        assert_eq!(state_at(&checkpoint, at(batch)).unwrap(), expected(batch, 50), "batch {batch}");
    }
    assert_eq!(state_at(&checkpoint, at(20)).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_rewind_replays_retracted_plans_and_keeps_both_pasts() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    for batch in 0..10 {
        commit(&mut checkpoint, 50).unwrap();
        if batch == 5 {
            snapshot(&mut checkpoint).unwrap();
        }
    }
    checkpoint.rewind(Some(BatchId(3)), false, 1).unwrap();
    assert_eq!(checkpoint.history().pending().cloned().collect::<Vec<_>>(), (4..10).map(plan).collect::<Vec<_>>());
    assert_eq!((checkpoint.history().offset("flows"), checkpoint.history().seen_files().len()), (Some(3), 4));
    drop(checkpoint);
    let mut checkpoint = open(dir.path());
    assert_eq!(checkpoint.recovery(), Recovery::RetractAgain { to: Some(BatchId(3)) });
    assert_eq!(checkpoint.history().generation(), Generation(2));
    for batch in 4..6 {
        checkpoint.commit(draft(plan(batch), 1, 50)).unwrap();
    }
    snapshot(&mut checkpoint).unwrap();
    checkpoint.rewind(Some(BatchId(4)), false, 2).unwrap();
    assert_eq!(checkpoint.history().pending().map(|plan| plan.batch.0).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    checkpoint.commit(draft(plan(5), 2, 50)).unwrap();
    let old = |batch, generation| BatchAddress { batch: BatchId(batch), generation: Some(Generation(generation)) };
    let attempts = |attempts: &[u64]| -> Vec<_> {
        attempts.iter().enumerate().map(|(batch, attempt)| delta(batch as u64, *attempt, 50)).collect()
    };
    assert_eq!(state_at(&checkpoint, at(5)).unwrap(), attempts(&[0, 0, 0, 0, 1, 2]));
    assert_eq!(state_at(&checkpoint, old(5, 2)).unwrap(), attempts(&[0, 0, 0, 0, 1, 1]));
    assert_eq!(state_at(&checkpoint, old(9, 1)).unwrap(), attempts(&[0; 10]));
    assert_eq!(state_at(&checkpoint, old(4, 1)).unwrap(), attempts(&[0; 5]));
    assert!(state_at(&checkpoint, old(6, 2)).is_err());
    checkpoint.rewind(Some(BatchId(2)), true, 3).unwrap();
    assert_eq!(checkpoint.history().pending().len(), 0);
    checkpoint.close().unwrap();
    let checkpoint = open(dir.path());
    assert_eq!((checkpoint.history().next_batch(), checkpoint.history().generation()), (BatchId(3), Generation(4)));
    assert_eq!(state_at(&checkpoint, at(2)).unwrap(), attempts(&[0; 3]));
}

#[test]
fn retention_drops_whole_parts_and_what_they_alone_name() {
    let dir = tempfile::tempdir().unwrap();
    let keep = OpenOptions { faults: Faults::none(), settings: settings(Some(4)) };
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), keep.clone()).unwrap();
    for batch in 0..24 {
        checkpoint.keep_bad_records(b"{}").unwrap();
        commit(&mut checkpoint, if batch % 2 == 0 { 300 << 10 } else { 50 }).unwrap();
        if batch % 5 == 4 {
            snapshot(&mut checkpoint).unwrap();
        }
    }
    assert_eq!(
        checkpoint.horizon().unwrap(),
        Some(BatchId(14)),
        "batches 16 to 19 were the newest when it was decided"
    );
    for batch in 14..24 {
        assert_eq!(state_at(&checkpoint, at(batch)).unwrap().len() as u64, batch + 1);
    }
    assert!(state_at(&checkpoint, at(13)).is_err());
    let error = checkpoint.rewind(Some(BatchId(13)), false, 0).unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("batch 14"), "{error}");
    let names = |folder: &str| std::fs::read_dir(dir.path().join(folder)).unwrap().count();
    assert_eq!(names("bad-records"), 10);
    assert_eq!(names("log"), 2, "one sealed part, one live");
    let snapshots_and_deltas = 2 + 4;
    assert_eq!(names("state"), snapshots_and_deltas + 4, "and the lists of files read, which are kept for ever");
    checkpoint.close().unwrap();
    let mut checkpoint = Checkpoint::open(dir.path(), keep).unwrap();
    assert_eq!(checkpoint.history().seen_files().len(), 20);
    checkpoint.rewind(Some(BatchId(14)), false, 0).unwrap();
    assert_eq!(names("bad-records"), 1);
    assert_eq!(state_at(&checkpoint, at(14)).unwrap().len(), 15);
    assert_eq!(checkpoint.history().seen_files().len(), 12);
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!Checkpoint::exists(dir.path()));
    assert!(!Checkpoint::exists(&dir.path().join("nowhere")));
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    assert!(Checkpoint::exists(dir.path()));
    let refused = |result: crate::model::Result<Checkpoint>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Refused);
    refused(Checkpoint::create(dir.path(), genesis(), options(Faults::none())));
    refused(Checkpoint::open(dir.path(), options(Faults::none())));
    refused(Checkpoint::open(&dir.path().join("nowhere"), options(Faults::none())));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was touched");
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    let error = Checkpoint::open(dir.path(), options(Faults::none())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(checkpoint);
    drop(open(dir.path()));
}
