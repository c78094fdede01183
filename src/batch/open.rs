//! Whether a job may use a checkpoint: the same queries over the same state, and all that was committed at hand.

use std::path::Path;

use datafusion::arrow::datatypes::{FieldRef, SchemaRef};

use super::{
    input::Inputs,
    outputs::keeps_rows,
    view::{kept_job, make_absolute},
};
use crate::{
    checkpoint::{Checkpoint, History, OpenOptions, PayloadKind},
    job::{JobSpec, fingerprint},
    model::{Error, Result},
    query::JobQueries,
};

/// What to do about batches that a damaged log lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// They are read again: refuse where their input is gone.
    Replay,
    /// The operator has decided (a rewind).
    Accept,
}

/// Opens the checkpoint for this job, whose paths become those that the checkpoint was made with.
///
/// # Errors
/// Of kind `Refused`: it is another job's, or lost batches cannot be read again; nothing is written then.
pub(super) fn reopen(
    job: &mut JobSpec,
    queries: &JobQueries,
    (dir, options): (&Path, OpenOptions),
    accept_change: bool,
    loss: Loss,
) -> Result<(Checkpoint, Inputs)> {
    let mut checkpoint = Checkpoint::open(dir, options)?;
    let differences = fingerprint::differences(checkpoint.history().identities(), &queries.identities());
    fingerprint::refuse(&differences, accept_change)?;
    if !differences.is_empty() {
        refuse_other_columns(job, queries, checkpoint.history())?;
    }
    make_absolute(job, &checkpoint.history().genesis().roots.iter().cloned().collect());
    let mut inputs = Inputs::open(job, queries)?;
    inputs.remember(checkpoint.history());
    if loss == Loss::Replay {
        refuse_loss(&checkpoint, &inputs)?;
    }
    let (identities, history) = (queries.identities(), checkpoint.history());
    let text_changed = history.template() != job.template || history.variables() != &job.variables;
    if text_changed || history.identities() != identities.as_slice() {
        checkpoint.accept(differences, identities, (job.template.clone(), job.variables.clone()))?;
    }
    Ok((checkpoint, inputs))
}

/// A changed projection may be accepted, but not where the checkpoint keeps rows of the old one: `show` and a second
/// printing after a crash could give them no place in a table of the new columns.
fn refuse_other_columns(job: &JobSpec, queries: &JobQueries, history: &History) -> Result<()> {
    let kept = kept_job(history)?;
    let before = JobQueries::plan(&kept)?;
    for (spec, query) in kept.queries.iter().zip(&before.queries) {
        let Some(now) = queries.queries.iter().find(|now| now.name() == query.name()) else { continue };
        let (was, is) = (query.output_schema(), now.output_schema());
        let mut commits = history.live().iter().chain(history.retracted());
        let kept_any = commits.any(|commit| {
            commit.payloads.iter().any(|payload| payload.query == query.name() && payload.kind == PayloadKind::Rows)
        });
        if kept_any && keeps_rows(&kept, spec, query) && was.fields() != is.fields() {
            let place = job.query(query.name()).map(|spec| job.place(spec.sql_at));
            let error = Error::refused(format!("query '{}' has other columns than its checkpoint keeps", query.name()))
                .because(format!("it keeps the rows that were given out: they have {}, not {}", columns(was), columns(is)))
                .help("change the columns back, give the changed query a sink of another name, or start a new checkpoint with --checkpoint DIR");
            return Err(place.into_iter().fold(error, Error::at));
        }
    }
    Ok(())
}

fn columns(schema: &SchemaRef) -> String {
    let column = |field: &FieldRef| {
        let null = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("{} {}{null}", field.name(), field.data_type())
    };
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

/// Each lost batch took at least one file: with fewer files waiting, something cannot be read again.
fn refuse_loss(checkpoint: &Checkpoint, inputs: &Inputs) -> Result<()> {
    let Some(repair) = checkpoint.repaired() else { return Ok(()) };
    let next = |newest: Option<crate::model::BatchId>| newest.map_or(0, |batch| batch.0 + 1);
    let lost = next(repair.acknowledged).saturating_sub(next(repair.newest));
    let replayed = checkpoint.history().pending().count() as u64 + u64::from(checkpoint.history().intent().is_some());
    if lost > replayed && inputs.files_not_committed()? < lost - replayed {
        return Err(repair.refuse(checkpoint.dir()));
    }
    Ok(())
}
