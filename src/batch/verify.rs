//! Verify: records, chain, state and sinks; with `--batch` also against the input, recomputed by plain DataFusion.

use std::path::Path;

use super::{
    expected::Input,
    restore, statics, verify_sinks,
    view::{Table, View, as_read_back, table},
};
use crate::{
    checkpoint::{self, Commit, PayloadKind, PayloadRef},
    job::SinkConnector,
    model::{BatchAddress, BatchId, Error, ErrorKind, Result},
    query::{BatchResult, JobQueries},
    source::verify_received,
    state,
};

/// What is verified beside the records.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// Recompute the newest result from the input, and compare.
    pub batch: bool,
    /// Do so at every batch.
    pub every: bool,
    pub threads: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// What is wrong; empty: all is well.
    pub findings: Vec<String>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
    /// Why results from some batch on could not be compared with the input, though that was asked for; `None`: they
    /// could, or it was not.
    pub not_compared: Option<Error>,
    pub batches_checked: u64,
    /// Results that were recomputed and compared.
    pub results_compared: u64,
}

/// Verifies a checkpoint; `progress` is told each batch that was checked.
///
/// # Errors
/// Where the checkpoint cannot be read at all.
pub fn verify(dir: &Path, options: &VerifyOptions, progress: &mut dyn FnMut(BatchId)) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    // what a crash left behind and a later start removes is no damage
    let (harmless, findings): (Vec<_>, Vec<_>) = checkpoint::verify(dir)?.into_iter().partition(|found| found.harmless);
    report.findings.extend(findings.iter().map(ToString::to_string));
    report.notes.extend(harmless.iter().map(ToString::to_string));
    let view = View::open(dir)?;
    report.notes.extend(view.warnings());
    received(&view, &mut report)?;
    verify_sinks::sinks(dir, &view, &mut report)?;
    // deltas fold without static tables: only what is compared needs them
    let mut walk = Walk::new(&view, JobQueries::plan(view.job())?);
    if options.batch {
        let (input, gone) = Input::read(&view, options.threads)?;
        walk.input = Some(input);
        walk.comparable_before = gone.as_ref().map(|(batch, _)| *batch);
        if walk.comparable_before != Some(BatchId::FIRST) {
            walk.queries = statics::plan(view.job(), options.threads, &mut |_| {})?;
        }
        report.not_compared = gone.map(|(_, error)| error);
    }
    let commits = view.reader.history().live().to_vec();
    let last = commits.last().map(|commit| commit.batch());
    for commit in &commits {
        walk.state(commit, &mut report)?;
        if options.batch && (options.every || Some(commit.batch()) == last) {
            walk.compare(commit.address(), &mut report)?;
        }
        report.batches_checked += 1;
        progress(commit.batch());
    }
    report.notes.extend(walk.notes);
    Ok(report)
}

/// Whether what was received is all there, as far as a batch may read it.
fn received(view: &View, report: &mut VerifyReport) -> Result<()> {
    let history = view.reader.history();
    for spec in &view.job().sources {
        let taken = history.seen_files().iter().filter(|seen| seen.source == spec.name);
        let taken = taken.map(|seen| (seen.batch, seen.file.path.as_path()));
        report.findings.extend(verify_received(spec, taken, history.horizon(), view.reader.is_running())?);
    }
    Ok(())
}

/// The fold of all deltas, batch by batch, and the input beside it.
struct Walk<'a> {
    view: &'a View,
    queries: JobQueries,
    /// What recomputes results, and the input of each source.
    input: Option<Input>,
    /// The first batch whose input is gone.
    comparable_before: Option<BatchId>,
    begun: bool,
    notes: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(view: &'a View, queries: JobQueries) -> Walk<'a> {
        Walk { view, queries, input: None, comparable_before: None, begun: false, notes: Vec::new() }
    }

    /// Folds one more delta, and compares with the snapshot of this batch, if there is one.
    fn state(&mut self, commit: &Commit, report: &mut VerifyReport) -> Result<()> {
        let reader = &self.view.reader;
        let read = |payload: &_| reader.read_payload(payload);
        let steps = reader.restore_steps(commit.address())?;
        if self.begun {
            restore::apply(&mut self.queries, commit, &read, &|_| false)?;
        } else {
            restore::restore(&mut self.queries, &steps, &read)?;
            self.begun = true;
        }
        let Some(snapshot) = steps.snapshot.filter(|_| steps.commits.is_empty()) else { return Ok(()) };
        for query in &self.queries.queries {
            let is_own = |payload: &&PayloadRef| payload.kind == PayloadKind::State && payload.query == query.name();
            let states = query.state_schemas().into_iter().zip(query.whole_state()?);
            for (payload, (schema, whole)) in snapshot.iter().filter(is_own).zip(states) {
                // rows, not bytes: how they were compressed is no part of the state
                if state::decode(&schema, &reader.read_payload(payload)?)? != whole {
                    let (name, batch) = (query.name(), commit.batch());
                    report
                        .findings
                        .push(format!("the snapshot of query '{name}' at batch {batch} is not the fold of its deltas"));
                }
            }
        }
        Ok(())
    }

    /// Compares every query's result as of a batch with the batch result over the files up to it.
    fn compare(&mut self, at: BatchAddress, report: &mut VerifyReport) -> Result<()> {
        let Some(input) = &mut self.input else { return Ok(()) };
        if self.comparable_before.is_some_and(|gone| at.batch >= gone) {
            return Ok(());
        }
        let job = self.view.job();
        for index in 0..job.queries.len() {
            let Some(begins) = begins(self.view, &job.queries[index].name, &mut self.notes) else { continue };
            if at.batch < begins {
                continue;
            }
            let query = &self.queries.queries[index];
            if query.shape().batch_time {
                note(
                    &mut self.notes,
                    format!(
                        "query '{}' uses now(): its result depends on when each batch ran, so it has no batch result",
                        query.name()
                    ),
                );
                continue;
            }
            let mut expected = match input.expected(self.view, index, (begins, at.batch))? {
                Ok(expected) => expected,
                Err(why) => {
                    note(&mut self.notes, format!("query '{}' {why}: it has no batch result", query.name()));
                    continue;
                }
            };
            if tell_approximate(query.name(), &expected, &mut self.notes) {
                continue;
            }
            let connector = &job.sink_of(&job.queries[index]).connector;
            if query.gives_out_for_good() {
                expected.rows = as_read_back(&expected.schema, expected.rows, connector)?;
                if matches!(connector, SinkConnector::Files { .. }) {
                    expected.sizes.clear();
                }
            }
            let ours: Table = if query.gives_out_for_good() {
                match self.view.result(query.name(), at) {
                    Ok(table) => table,
                    // Rows that retention let go are no damage.
                    Err(error) if error.kind() == ErrorKind::Usage => {
                        note(&mut self.notes, format!("{}: {}", error.what(), error.why().unwrap_or_default()));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            } else {
                table(&self.queries, index, query.result(&self.queries.executor())?)
            };
            report.results_compared += 1;
            if let Some(difference) = expected.difference(&ours.rows)? {
                report.findings.push(format!(
                    "query '{}' at batch {} does not equal the batch result: {difference}",
                    query.name(),
                    at.batch
                ));
            }
        }
        Ok(())
    }
}

/// Notes what of a result is approximate; true: which rows there are, so that nothing can be compared.
fn tell_approximate(query: &str, expected: &BatchResult, notes: &mut Vec<String>) -> bool {
    if expected.rows_are_approximate {
        note(notes, format!("query '{query}' chooses its rows by an approximate value: it has no batch result"));
        return true;
    }
    for column in expected.approximate_columns() {
        note(
            notes,
            format!(
                "column '{column}' of query '{query}' is approximate, and depends on where batches end: that it has a value is compared, and not which"
            ),
        );
    }
    false
}

/// The first batch of a query; `None` where its filter was changed on the way, so that no batch result equals it.
pub(super) fn begins(view: &View, query: &str, notes: &mut Vec<String>) -> Option<BatchId> {
    let history = view.reader.history();
    let changed = history
        .accepted()
        .iter()
        .find(|accepted| accepted.differences.iter().any(|difference| difference.query == query));
    if let Some(accepted) = changed {
        note(
            notes,
            format!(
                "query '{query}' was changed at batch {} (--accept-change): it has no single batch result",
                accepted.from
            ),
        );
        return None;
    }
    if history.genesis().identities.iter().any(|identity| identity.query == query) {
        return Some(BatchId::FIRST);
    }
    let added =
        history.accepted().iter().find(|accepted| accepted.identities.iter().any(|identity| identity.query == query));
    Some(added.map_or(BatchId::FIRST, |accepted| accepted.from))
}

fn note(notes: &mut Vec<String>, text: String) {
    if !notes.contains(&text) {
        notes.push(text);
    }
}
