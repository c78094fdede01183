//! Whether a job may use a checkpoint: the same queries over the same state, and all that was committed at hand.

use std::path::Path;

use datafusion::arrow::datatypes::{FieldRef, SchemaRef};

use super::{
    engine::Engine,
    input::Inputs,
    kept_job::{kept_job, make_absolute, roots_of_same_texts},
    outputs::keeps_rows,
    statics,
};
use crate::{
    checkpoint::{Checkpoint, History, OpenOptions, PayloadKind},
    job::{
        JobSpec, SinkSpec, SourceSpec,
        fingerprint::{self, Difference},
    },
    model::{BatchId, Error, Place, Result},
    query::JobQueries,
};

/// What to do about batches that a damaged log lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// They are read again: refuse where their input is gone.
    Replay,
    /// The operator has decided (a rewind to this batch; `None`: to before the first).
    Accept { to: Option<BatchId> },
}

/// Opens the checkpoint for this job, whose paths become those that the checkpoint was made with; also returns how the
/// job's queries differ from what the checkpoint knows, all of it acceptable.
///
/// # Errors
/// Of kind `Refused`: it is another job's, reads another folder, or lost batches cannot be read again; nothing is
/// written then.
pub(super) fn reopen(
    job: &mut JobSpec,
    queries: &mut JobQueries,
    (dir, options): (&Path, OpenOptions),
    (accept_change, loss): (bool, Loss),
    threads: usize,
    notice: &mut dyn FnMut(String),
) -> Result<(Checkpoint, Inputs, Vec<Difference>)> {
    let checkpoint = Checkpoint::open(dir, options)?;
    let same = roots_of_same_texts(job, checkpoint.history())?;
    make_absolute(job, &same);
    if !job.statics.is_empty() {
        *queries = statics::plan(job, threads, notice)?;
    }
    let differences = fingerprint::differences(checkpoint.history().identities(), &queries.identities());
    fingerprint::refuse(&differences, accept_change)?;
    if !differences.is_empty() {
        refuse_other_columns(job, queries, checkpoint.history())?;
    }
    let mut inputs = Inputs::open(job, queries, threads)?;
    inputs.remember(checkpoint.history());
    if loss == Loss::Replay {
        refuse_homeless(job, checkpoint.history())?;
        refuse_other_kinds(job, checkpoint.history())?;
        refuse_loss(job, queries, &checkpoint, &inputs)?;
        if !accept_change {
            refuse_other_input(job, &checkpoint, &inputs)?;
        }
        inputs.look_ahead();
    }
    Ok((checkpoint, inputs, differences))
}

impl Engine {
    /// Keeps the job as it is from now on, if it is not as the checkpoint has it.
    pub(super) fn accept(&mut self, differences: Vec<Difference>) -> Result<()> {
        let (identities, history) = (self.queries.identities(), self.checkpoint.history());
        let text_changed = history.template() != self.job.template || history.variables() != &self.job.variables;
        if text_changed || history.identities() != identities.as_slice() {
            let text = (self.job.template.clone(), self.job.variables.clone());
            self.checkpoint.accept(differences, identities, text)?;
        }
        Ok(())
    }
}

/// A source's folder may move, its files with it. One that has none of the files that were read is another one, and its
/// files of the same names would be taken for those that were read.
fn refuse_other_input(job: &JobSpec, checkpoint: &Checkpoint, inputs: &Inputs) -> Result<()> {
    let kept = kept_job(checkpoint.history())?;
    for (source, input) in job.sources.iter().zip(&inputs.inputs) {
        // As it was run last: a move that was accepted once is no news.
        if source.received.is_some() {
            continue;
        }
        let before = kept.source(&input.name).map(|before| &before.files.path);
        let Some(before) = before.filter(|before| **before != source.files.path) else { continue };
        if input.seen.is_empty() || input.seen.holds_any(&input.source.list()?) {
            continue;
        }
        return Err(Error::refused(format!("source '{}' would read another folder than before", input.name))
            .at(Place::Path(source.files.path.clone().into()))
            .because(format!(
                "the checkpoint has read files of {before} ({} so far), and none of them is here as it was",
                input.seen.len()
            ))
            .help(
                "set the path back, or give the job a checkpoint of its own with --checkpoint DIR; if the folder was moved \
                 and what was read is gone from it, run with --accept-change",
            ));
    }
    Ok(())
}

/// Files that were read, and segments that were received, are not to be taken for each other.
fn refuse_other_kinds(job: &JobSpec, history: &History) -> Result<()> {
    let connector = |spec: &SourceSpec| spec.received.as_ref().map_or("files", |received| received.connector());
    let kept = kept_job(history)?;
    let pairs = job.sources.iter().filter_map(|source| Some((source, kept.source(&source.name)?)));
    match pairs.into_iter().find(|(source, before)| before.received.is_some() != source.received.is_some()) {
        None => Ok(()),
        Some((source, before)) => Err(Error::refused(format!("source '{}' is another one than before", source.name))
            .at(job.place(source.at))
            .because(format!(
                "the checkpoint was made with connector '{}', not '{}'",
                connector(before),
                connector(source)
            ))
            .help("set the connector back, or give the job a checkpoint of its own with --checkpoint DIR")),
    }
}

/// The checkpoint keeps what relative paths meant when it was made. A folder that was added since would be another one for each
/// directory that a command is called from.
fn refuse_homeless(job: &JobSpec, history: &History) -> Result<()> {
    let roots = &history.genesis().roots;
    for sink in &job.sinks {
        for place in sink.places() {
            if place.path.is_relative() && !roots.iter().any(|(name, _)| *name == place.name) {
                let noun = place.kind.noun();
                return Err(Error::refused(format!(
                    "the {noun} of '{}' is relative, and newer than the checkpoint",
                    place.name
                ))
                .at(job.place(sink.at))
                .because(format!(
                    "'{}' would be another {noun} wherever rewind or verify are called",
                    place.path.display()
                ))
                .help("give what is added to a checkpoint an absolute path"));
            }
        }
    }
    Ok(())
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

/// Each lost batch took at least one file: with fewer files waiting, something cannot be read again. What a lost rewind
/// took back at a sink is published again by rewinding again only.
fn refuse_loss(job: &JobSpec, queries: &JobQueries, checkpoint: &Checkpoint, inputs: &Inputs) -> Result<()> {
    let Some(repair) = checkpoint.repaired() else { return Ok(()) };
    let outside = |sink: &SinkSpec| !sink.places().is_empty() || sink.connector.is_server();
    if repair.rewind_lost && job.sinks.iter().any(outside) {
        return Err(repair.refuse_lost_rewind(checkpoint.dir()));
    }
    let next = |newest: Option<BatchId>| newest.map_or(0, |batch| batch.0 + 1);
    let lost = next(repair.acknowledged).saturating_sub(next(repair.newest));
    let replayed = checkpoint.history().pending().count() as u64 + u64::from(checkpoint.history().intent().is_some());
    // at least every other batch took a file: one without data follows one that raised the watermark
    let with_files = |batches: u64| if queries.are_bounded() { batches / 2 } else { batches };
    if lost > replayed && inputs.files_not_committed()? < with_files(lost - replayed) {
        return Err(repair.refuse(checkpoint.dir()));
    }
    Ok(())
}
