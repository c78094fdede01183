//! Whether a job may use a checkpoint: the same queries over the same state.

use crate::{
    checkpoint::Checkpoint,
    job::{JobSpec, fingerprint},
    model::Result,
    query::JobQueries,
};

/// Compares the job with what the checkpoint was made for, and records changes that are harmless or accepted.
///
/// # Errors
/// Of kind `Refused`, naming the query and the difference; nothing is written then.
pub(super) fn same_job(checkpoint: &mut Checkpoint, job: &JobSpec, queries: &JobQueries, accept: bool) -> Result<()> {
    let identities = queries.identities();
    let differences = fingerprint::differences(checkpoint.history().identities(), &identities);
    fingerprint::refuse(&differences, accept)?;
    let text_changed =
        checkpoint.history().template() != job.template || checkpoint.history().variables() != &job.variables;
    let queries_changed = checkpoint.history().identities() != identities.as_slice();
    if text_changed || queries_changed {
        checkpoint.accept(differences, identities, (job.template.clone(), job.variables.clone()))?;
    }
    Ok(())
}
