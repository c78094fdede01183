//! Tests of the checkpoint as a whole; pure parts are tested beside their code.

mod crashes;
mod damage;
mod life;
mod model;
mod readers;
pub(in crate::checkpoint) mod simulated;
mod simulation;

use std::{num::NonZeroU64, path::Path};

use proptest::test_runner::Config as ProptestConfig;

use super::*;
use crate::{
    job::Settings,
    model::{
        BatchAddress, BatchId, BatchPlan, CrashPoint, Faults, FileRead, InputPath, PlannedFile, SourceInput,
        StagedOutput,
    },
};

/// All points that belong to the log; the batch loop has the others.
const LOG_POINTS: [CrashPoint; 12] = [
    CrashPoint::CheckpointBuilt,
    CrashPoint::CheckpointCreated,
    CrashPoint::OpenCopied,
    CrashPoint::OpenRenamed,
    CrashPoint::PayloadsWritten,
    CrashPoint::Applied,
    CrashPoint::Flushed,
    CrashPoint::SnapshotWritten,
    CrashPoint::SealWritten,
    CrashPoint::Sealed,
    CrashPoint::LiveReplaced,
    CrashPoint::Retiring,
];

/// Few cases unless `PROPTEST_CASES` says otherwise; a found case becomes a named test, not a file.
pub(super) fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() }
}

pub(super) fn options(faults: Faults) -> OpenOptions {
    OpenOptions { faults, settings: settings(None) }
}

pub(super) fn settings(retain: Option<u64>) -> Settings {
    Settings { retain_batches: retain.and_then(NonZeroU64::new), ..Settings::default() }
}

pub(super) fn genesis() -> Genesis {
    Genesis {
        checkpoint_id: "c0ffee".to_owned(),
        job_name: "flows".to_owned(),
        job_file: "flows.sql".to_owned(),
        template: "SELECT 1".to_owned(),
        roots: vec![("flows".to_owned(), "/data/flows".into())],
        created_us: 7,
        ..Genesis::default()
    }
}

pub(super) fn open(dir: &Path) -> Checkpoint {
    Checkpoint::open(dir, options(Faults::none())).unwrap()
}

pub(super) fn at(batch: u64) -> BatchAddress {
    BatchAddress { batch: BatchId(batch), generation: None }
}

/// One file per batch, and none in every fifth: its watermark moved.
pub(super) fn plan(batch: u64) -> BatchPlan {
    let end = batch - batch / 5;
    let takes = batch % 5 != 4;
    let file = PlannedFile {
        identity: InputPath(format!("f{batch}.json").into_bytes()),
        path: InputPath(format!("f{batch}.json").into_bytes()),
        size_bytes: batch,
        modified_ns: 1_000 + batch as i64,
    };
    let end = if takes { Some(end) } else { end.checked_sub(1) };
    let start = if takes { end.and_then(|end| end.checked_sub(1)) } else { end };
    let input =
        SourceInput { source: "flows".to_owned(), start, end, files: takes.then_some(file).into_iter().collect() };
    BatchPlan { batch: BatchId(batch), batch_time_us: 10 * batch as i64, watermark_us: None, inputs: vec![input] }
}

/// A delta that is recognised again: which batch, in which attempt, and how long.
pub(super) fn delta(batch: u64, attempt: u64, length: usize) -> Vec<u8> {
    let mut bytes = [batch.to_be_bytes(), attempt.to_be_bytes()].concat();
    bytes.extend((16..length).map(|i| (i as u64 * 31 + batch * 7) as u8));
    bytes
}

pub(super) fn draft(plan: BatchPlan, attempt: u64, length: usize) -> CommitDraft {
    let batch = plan.batch.0;
    let read =
        |file: &PlannedFile| FileRead { file: file.clone(), content_hash: u128::from(batch), rows: 10, bad_rows: 0 };
    CommitDraft {
        files: plan.inputs.iter().map(|input| input.files.iter().map(read).collect()).collect(),
        watermarks_us: plan.inputs.iter().map(|_| Some(batch as i64)).collect(),
        plan,
        run_id: "run".to_owned(),
        committed_at_us: batch as i64,
        payloads: vec![Payload {
            query: "counts".to_owned(),
            kind: PayloadKind::Delta,
            bytes: delta(batch, attempt, length),
        }],
        outputs: vec![StagedOutput {
            sink: "counts".to_owned(),
            name: format!("{batch}.json"),
            rows: 1,
            size_bytes: 2,
            hash: [3; 32],
        }],
        rows: 10,
        bad_rows: 0,
        state_rows: batch,
        progress: format!("{{\"batchId\":{batch}}}"),
        late_progress: None,
    }
}

pub(super) fn commit(checkpoint: &mut Checkpoint, length: usize) -> crate::model::Result<()> {
    let plan = next_plan(checkpoint);
    checkpoint.commit(draft(plan, 0, length)).map(drop)
}

/// The batch to come: a retracted plan to replay, or a new one.
pub(super) fn next_plan(checkpoint: &Checkpoint) -> BatchPlan {
    let history = checkpoint.history();
    history.pending().next().cloned().unwrap_or_else(|| plan(history.next_batch().0))
}

/// A "state" as these tests see it: the deltas that were merged into it, in order.
pub(super) fn merge(state: &mut Vec<Vec<u8>>, delta: Vec<u8>) {
    state.push(delta);
}

pub(super) fn encode_state(state: &[Vec<u8>]) -> Vec<Payload> {
    let mut bytes = Vec::new();
    for delta in state {
        bytes.extend((delta.len() as u64).to_be_bytes());
        bytes.extend(delta);
    }
    vec![Payload { query: "counts".to_owned(), kind: PayloadKind::State, bytes }]
}

pub(super) fn decode_state(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut state = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
        let (delta, rest) = rest.split_at(u64::from_be_bytes(*length) as usize);
        state.push(delta.to_vec());
        bytes = rest;
    }
    state
}

/// Follows restore steps, as the query does with real state.
pub(super) fn restore(
    steps: &RestoreSteps,
    read: impl Fn(&PayloadRef) -> crate::model::Result<Vec<u8>>,
) -> crate::model::Result<Vec<Vec<u8>>> {
    let mut state = Vec::new();
    for payload in steps.snapshot.iter().flatten() {
        state = decode_state(&read(payload)?);
    }
    for payload in steps.commits.iter().flat_map(|commit| &commit.payloads) {
        merge(&mut state, read(payload)?);
    }
    Ok(state)
}

pub(super) fn state_at(checkpoint: &Checkpoint, address: BatchAddress) -> crate::model::Result<Vec<Vec<u8>>> {
    restore(&checkpoint.restore_steps(address)?, |payload| checkpoint.read_payload(payload))
}

pub(super) fn snapshot(checkpoint: &mut Checkpoint) -> crate::model::Result<()> {
    let newest = checkpoint.history().newest().unwrap().address();
    let state = state_at(checkpoint, newest)?;
    checkpoint.snapshot(encode_state(&state))
}

/// What every batch of `0..=newest` contributed, first attempts only.
pub(super) fn expected(newest: u64, length: usize) -> Vec<Vec<u8>> {
    (0..=newest).map(|batch| delta(batch, 0, length)).collect()
}
