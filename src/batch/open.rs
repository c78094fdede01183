//! Whether a job may use a checkpoint: the same queries over the same state, and all that was committed at hand.

use std::path::Path;

use super::{input::Inputs, view::make_absolute};
use crate::{
    checkpoint::{Checkpoint, OpenOptions},
    job::{JobSpec, SinkConnector, SinkSpec, fingerprint},
    model::Result,
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
    make_absolute(job, &checkpoint.history().genesis().roots.iter().cloned().collect());
    let mut inputs = Inputs::open(job, queries)?;
    inputs.remember(checkpoint.history());
    if loss == Loss::Replay {
        refuse_loss(job, &checkpoint, &inputs)?;
    }
    let (identities, history) = (queries.identities(), checkpoint.history());
    let text_changed = history.template() != job.template || history.variables() != &job.variables;
    if text_changed || history.identities() != identities.as_slice() {
        checkpoint.accept(differences, identities, (job.template.clone(), job.variables.clone()))?;
    }
    Ok((checkpoint, inputs))
}

/// Each lost batch took at least one file: with fewer files waiting, something cannot be read again. What a lost rewind
/// took back at a sink is published again by rewinding again only.
fn refuse_loss(job: &JobSpec, checkpoint: &Checkpoint, inputs: &Inputs) -> Result<()> {
    let Some(repair) = checkpoint.repaired() else { return Ok(()) };
    let outside = |sink: &SinkSpec| matches!(sink.connector, SinkConnector::Files { .. });
    if repair.rewind_lost && job.sinks.iter().any(outside) {
        return Err(repair.refuse_lost_rewind(checkpoint.dir()));
    }
    let next = |newest: Option<crate::model::BatchId>| newest.map_or(0, |batch| batch.0 + 1);
    let lost = next(repair.acknowledged).saturating_sub(next(repair.newest));
    let replayed = checkpoint.history().pending().count() as u64 + u64::from(checkpoint.history().intent().is_some());
    if lost > replayed && inputs.files_not_committed()? < lost - replayed {
        return Err(repair.refuse(checkpoint.dir()));
    }
    Ok(())
}
