//! A query's state at a batch: the newest snapshot before it, then each delta, by the very code that merged it live.

use datafusion::arrow::{compute::concat_batches, record_batch::RecordBatch};

use super::outputs::Rows;
use crate::{
    checkpoint::{Commit, PayloadKind, PayloadRef, RestoreSteps},
    model::{Error, Result, Watermarks},
    query::JobQueries,
    state,
};

/// Reads a payload of the checkpoint, verified.
pub(super) type ReadPayload<'a> = &'a dyn Fn(&PayloadRef) -> Result<Vec<u8>>;

/// Brings the queries' (empty) states to the last of `steps`.
pub(super) fn restore(queries: &mut JobQueries, steps: &RestoreSteps, read: ReadPayload<'_>) -> Result<()> {
    let snapshot: Vec<&PayloadRef> = steps.snapshot.iter().flatten().collect();
    for index in 0..queries.queries.len() {
        for (state, rows) in decode_states(queries, index, &snapshot, PayloadKind::State, read)?.iter().enumerate() {
            rows.iter().try_for_each(|rows| queries.queries[index].load(state, rows))?;
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
    queries.set_batch_time(commit.plan.batch_time_us);
    let executor = queries.executor();
    let watermarks = Watermarks { late_us: None, over_us: commit.plan.watermark_us };
    let payloads: Vec<&PayloadRef> = commit.payloads.iter().collect();
    let mut given = Vec::with_capacity(queries.queries.len());
    for index in 0..queries.queries.len() {
        let name = queries.queries[index].name().to_owned();
        let deltas = decode_states(queries, index, &payloads, PayloadKind::Delta, read)?;
        let deltas = deltas.iter().map(|delta| whole(delta)).collect::<Result<Vec<_>>>()?;
        let mut rows =
            queries.queries[index].replay(&executor, &deltas, (commit.batch(), watermarks), wanted(index))?;
        let kept = commit.payloads.iter().filter(|payload| payload.query == name && payload.kind == PayloadKind::Rows);
        for payload in kept.filter(|_| wanted(index)) {
            rows = Some(state::decode(queries.queries[index].output_schema(), &read(payload)?)?);
        }
        given.push(rows);
    }
    Ok(given)
}

/// A delta's rows; it is written as one batch.
fn whole(delta: &[RecordBatch]) -> Result<RecordBatch> {
    match delta {
        [one] => Ok(one.clone()),
        [] => Err(Error::refused("a batch's state in the checkpoint has no rows").because("it is damaged")),
        several => concat_batches(&several[0].schema(), several)
            .map_err(|error| Error::failed("state rows could not be put together").because(error.to_string())),
    }
}

/// The payloads of one kind that a query has, each decoded, in the order of its states; none where the query was not there
/// yet.
fn decode_states(
    queries: &JobQueries,
    index: usize,
    payloads: &[&PayloadRef],
    kind: PayloadKind,
    read: ReadPayload<'_>,
) -> Result<Vec<Vec<RecordBatch>>> {
    let query = &queries.queries[index];
    let own: Vec<&&PayloadRef> =
        payloads.iter().filter(|payload| payload.kind == kind && payload.query == query.name()).collect();
    let schemas = query.state_schemas();
    if own.is_empty() {
        return Ok(Vec::new());
    }
    if own.len() != schemas.len() {
        return Err(Error::refused(format!(
            "the checkpoint keeps {} states for query '{}', which has {} in this job",
            own.len(),
            query.name(),
            schemas.len()
        ))
        .help("run the job that the checkpoint was made for, or start a new checkpoint with --checkpoint DIR"));
    }
    schemas.iter().zip(own).map(|(schema, payload)| state::decode(schema, &read(payload)?)).collect()
}
