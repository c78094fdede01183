//! A query's state at a batch: the newest snapshot before it, then each delta, by the very code that merged it live.

use datafusion::arrow::record_batch::RecordBatch;

use super::outputs::Rows;
use crate::{
    checkpoint::{Commit, PayloadKind, PayloadRef, RestoreSteps},
    model::{Error, Result},
    query::JobQueries,
    state,
};

/// Reads a payload of the checkpoint, verified.
pub(super) type ReadPayload<'a> = &'a dyn Fn(&PayloadRef) -> Result<Vec<u8>>;

/// Brings the queries' (empty) states to the last of `steps`.
pub(super) fn restore(queries: &mut JobQueries, steps: &RestoreSteps, read: ReadPayload<'_>) -> Result<()> {
    for payload in steps.snapshot.iter().flatten() {
        for rows in decode_state(queries, payload, PayloadKind::State, read)? {
            load(queries, &payload.query, &rows)?;
        }
    }
    for commit in &steps.commits {
        apply(queries, commit, read, &|_| false)?;
    }
    Ok(())
}

/// Merges one batch's deltas; for the queries that are `wanted`, what the batch gave out is computed again.
pub(super) fn apply(
    queries: &mut JobQueries,
    commit: &Commit,
    read: ReadPayload<'_>,
    wanted: &dyn Fn(usize) -> bool,
) -> Result<Vec<Rows>> {
    let executor = queries.executor();
    let mut given = Vec::with_capacity(queries.queries.len());
    for index in 0..queries.queries.len() {
        let name = queries.queries[index].name().to_owned();
        let mut rows = None;
        for payload in commit.payloads.iter().filter(|payload| payload.query == name) {
            match payload.kind {
                PayloadKind::Delta => {
                    for delta in decode_state(queries, payload, PayloadKind::Delta, read)? {
                        let output = queries.queries[index].replay(&executor, &delta, wanted(index))?;
                        rows = output.or(rows);
                    }
                }
                PayloadKind::Rows if wanted(index) => {
                    rows = Some(state::decode(queries.queries[index].output_schema(), &read(payload)?)?);
                }
                _ => {}
            }
        }
        given.push(rows);
    }
    Ok(given)
}

fn load(queries: &mut JobQueries, name: &str, rows: &RecordBatch) -> Result<()> {
    match queries.queries.iter_mut().find(|query| query.name() == name) {
        Some(query) => query.load(rows),
        None => Ok(()),
    }
}

/// A state payload's batches; none where its query is no longer in the job.
fn decode_state(
    queries: &JobQueries,
    payload: &PayloadRef,
    kind: PayloadKind,
    read: ReadPayload<'_>,
) -> Result<Vec<RecordBatch>> {
    if payload.kind != kind {
        return Ok(Vec::new());
    }
    let Some(query) = queries.queries.iter().find(|query| query.name() == payload.query) else { return Ok(Vec::new()) };
    let schema = query.state_schema().ok_or_else(|| {
        Error::refused(format!("the checkpoint keeps state for query '{}', which has none in this job", payload.query))
            .help("run the job that the checkpoint was made for, or start a new checkpoint with --checkpoint DIR")
    })?;
    state::decode(schema, &read(payload)?)
}
