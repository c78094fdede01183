//! A crash at each of the log's own points, at every time that the point is reached.

use super::*;
use crate::model::{CrashPoint, Error, ErrorKind, Generation, crash::Crash};

/// Every third delta is a file; a snapshot every fourth batch; one rewind; one intent left open.
fn length(batch: u64) -> usize {
    if batch % 3 == 2 { 300 << 10 } else { 5000 }
}

/// Goes on until batch 12 of generation 2; may be called again and again after crashes.
fn run(dir: &Path, faults: &Faults, acknowledged: &mut Option<BatchAddress>) -> Result<(), Error> {
    let options = OpenOptions { faults: faults.clone(), settings: settings(Some(6)) };
    let mut checkpoint = match Checkpoint::exists(dir)? {
        true => Checkpoint::open(dir, options)?,
        false => Checkpoint::create(dir, genesis(), options)?,
    };
    assert_eq!(checkpoint.repaired(), None, "a crash is no damage");
    check_acknowledged(&checkpoint, *acknowledged);
    loop {
        let (newest, generation) = (checkpoint.history().newest_batch(), checkpoint.history().generation());
        if newest == Some(BatchId(9)) && generation == Generation(1) {
            checkpoint.rewind(Some(BatchId(6)), false, 0)?;
            *acknowledged = None;
            continue;
        }
        if newest == Some(BatchId(12)) {
            checkpoint.mark_published()?;
            return checkpoint.close();
        }
        let plan = match checkpoint.recovery() {
            Recovery::RunAgain { plan } if Some(&plan) == checkpoint.history().intent() => plan,
            _ => next_plan(&checkpoint),
        };
        checkpoint.intend(&plan)?;
        let batch = plan.batch;
        checkpoint.commit(draft(plan, 0, length(batch.0)))?;
        *acknowledged = Some(BatchAddress { batch, generation: Some(generation) });
        if batch.0 % 4 == 3 {
            snapshot(&mut checkpoint)?;
        }
    }
}

fn check_acknowledged(checkpoint: &Checkpoint, acknowledged: Option<BatchAddress>) {
    if let Some(address) = acknowledged {
        checkpoint.find(address).expect("what was acknowledged is there");
    }
    if let Some(newest) = checkpoint.history().newest() {
        let state = state_at(checkpoint, newest.address()).unwrap();
        assert_eq!(state, expected_state(newest.batch().0));
    }
}

fn expected_state(newest: u64) -> Vec<Vec<u8>> {
    (0..=newest).map(|batch| delta(batch, 0, length(batch))).collect()
}

#[test]
fn a_crash_at_any_point_loses_nothing_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let straight = dir.path().join("straight");
    let watching = Faults::watching();
    run(&straight, &watching, &mut None).unwrap();
    assert_eq!(verify(&straight).unwrap(), []);
    let reached = watching.reached();
    for point in LOG_POINTS {
        let opens = matches!(point, CrashPoint::OpenCopied | CrashPoint::OpenRenamed);
        let times = reached.iter().find(|(reached, _)| *reached == point).map_or(0, |(_, times)| *times);
        assert!(times > 0 || opens, "{point} is never reached");
        for nth in 1..=times.max(1) {
            let crashed = dir.path().join(format!("{point}-{nth}"));
            let mut acknowledged = None;
            if opens {
                // Something to open, left by another crash.
                run(&crashed, &Faults::armed(CrashPoint::Applied, 9, Crash::Error), &mut acknowledged).unwrap_err();
            }
            let faults = Faults::armed(point, nth, Crash::Error);
            let error = run(&crashed, &faults, &mut acknowledged).expect_err("armed");
            assert_eq!(error.kind(), ErrorKind::Crashed, "{point} {nth}: {error}");
            run(&crashed, &Faults::none(), &mut acknowledged).unwrap_or_else(|error| panic!("{point} {nth}: {error}"));
            let checkpoint = open(&crashed);
            assert_eq!(state_at(&checkpoint, at(12)).unwrap(), expected_state(12), "{point} {nth}");
            checkpoint.close().unwrap();
            assert_eq!(verify(&crashed).unwrap(), [], "{point} {nth}: nothing is left over, nothing is missing");
        }
    }
}

#[test]
fn a_crash_while_recovering_from_a_crash_loses_nothing() {
    for second in [CrashPoint::OpenCopied, CrashPoint::OpenRenamed, CrashPoint::Applied, CrashPoint::Flushed] {
        for first in [
            CrashPoint::Applied,
            CrashPoint::Flushed,
            CrashPoint::Sealed,
            CrashPoint::LiveReplaced,
            CrashPoint::SnapshotWritten,
        ] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("c");
            let mut acknowledged = None;
            run(&dir, &Faults::armed(first, 2, Crash::Error), &mut acknowledged).unwrap_err();
            for _ in 0..3 {
                run(&dir, &Faults::armed(second, 1, Crash::Error), &mut acknowledged).unwrap_err();
            }
            run(&dir, &Faults::none(), &mut acknowledged).unwrap_or_else(|error| panic!("{first} {second}: {error}"));
        }
    }
}
