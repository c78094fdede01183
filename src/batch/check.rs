//! `check` and `explain`: what a job would do, without touching anything.

use std::num::NonZeroU64;

use super::{engine::MakeSink, input::Inputs, outputs, statics};
use crate::{
    job::{CleanSource, JobSpec, SourceSpec},
    model::{BatchWindow, ErrorKind, OutputMode, Result},
    query::{JobQueries, Kept, Query},
    sink::{self, Guarantee, Sink},
    source::check_received,
};

/// What `check` says of one query.
#[derive(Debug, Clone)]
pub struct QueryCheck {
    pub name: String,
    /// The sink's description.
    pub sink: String,
    pub mode: OutputMode,
    pub guarantee: Guarantee,
    /// What of it is incremental.
    pub incremental: String,
    /// How large its state can get.
    pub state: String,
    pub notes: Vec<String>,
}

/// Parses, plans, and probes the sources; writes nothing.
///
/// # Errors
/// Of kind `Usage`, as `run` would give it; `Failed` where the place of a sink cannot be looked at.
pub fn check(job: &JobSpec, make_sink: MakeSink<'_>) -> Result<Vec<QueryCheck>> {
    let mut read = Vec::new();
    let queries = statics::plan(job, 1, &mut |notice| read.push(notice))?;
    outputs::check_sinks(job, &queries, make_sink, false)?;
    let inputs = Inputs::open(job, &queries, 1)?;
    let mut checks = Vec::with_capacity(job.queries.len());
    for (spec, query) in job.queries.iter().zip(&queries.queries) {
        let sink = make_sink(job.sink_of(spec), query.mode())?;
        let mut notes = Vec::new();
        for source in query.sources() {
            let input = inputs.find(&job.sources[*source].name)?;
            if let Some(received) = &job.sources[*source].received {
                check_received(received)
                    .map_err(|error| error.at_if_none(job.place(job.sources[*source].files.path_at)))?;
                notes.push(format!("source '{}': {}: {}", input.name, input.description, received.guarantee()));
                continue;
            }
            let files = input.source.list()?.files.len();
            notes.push(format!("source '{}': {files} files in {}", input.name, input.source.root().display()));
            notes.extend(clears_away(&job.sources[*source], job.settings.retain_batches));
        }
        notes.extend(read.iter().cloned());
        if query.shape().batch_time {
            notes.push("now() is the batch's time, stored in its plan".to_owned());
        }
        notes.extend(sink.notes()?);
        notes.extend(why_taken(sink.as_ref())?);
        if let Some(late) = sink::late_sink(job.sink_of(spec)) {
            notes.push(format!("late rows go to {}, exactly once", late.description()));
            notes.extend(why_taken(late.as_ref())?);
        }
        checks.push(QueryCheck {
            name: query.name().to_owned(),
            sink: sink.description(),
            mode: query.mode(),
            guarantee: sink.guarantee(),
            incremental: incremental(query),
            state: state(query),
            notes,
        });
    }
    Ok(checks)
}

/// What becomes of a source's files.
fn clears_away(source: &SourceSpec, retained: Option<NonZeroU64>) -> Option<String> {
    let (name, retained) = (&source.name, retained?);
    let what = match source.files.clean_source.as_ref()? {
        CleanSource::Delete => "deleted".to_owned(),
        CleanSource::Archive(folder) => format!("moved to {}", folder.display()),
    };
    Some(format!("source '{name}': files are {what} once none of the last {retained} batches can need them"))
}

/// Why a checkpoint that is still to be made could not publish here; one that did so before goes on.
fn why_taken(sink: &dyn Sink) -> Result<Option<String>> {
    match sink.check_free() {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Refused => {
            let why = error.why().map_or_else(String::new, |why| format!(": {why}"));
            Ok(Some(format!("a new checkpoint would be refused: {}{why}", error.what())))
        }
        Err(error) => Err(error),
    }
}

fn incremental(query: &Query) -> String {
    if let Some(window) = query.window() {
        let when = match window.slide.get() {
            1 => "each batch".to_owned(),
            slide => format!("every {slide} batches"),
        };
        let of = of_the_last(window);
        return format!(
            "partial aggregation of each batch; after {when} those {of} are merged, and nothing is taken out again"
        );
    }
    let shape = query.shape();
    match (shape.stateful, query.mode()) {
        (false, _) => "each batch by itself: filters and expressions over its rows".to_owned(),
        _ if !shape.aggregates && shape.joins_streams => {
            "each batch's rows are matched with those that are kept of the other stream; only new pairs are given out".to_owned()
        }
        _ if !shape.aggregates => "each batch's keys are looked up among those that are kept; only new ones are given out".to_owned(),
        (true, OutputMode::Complete) => {
            "partial aggregation of each batch, merged into the groups it touches; the whole result is evaluated when it is given out".to_owned()
        }
        (true, _) => "partial aggregation of each batch, merged into the groups it touches; only those are evaluated".to_owned(),
    }
}

/// Which batches a window has, in words.
fn of_the_last(window: BatchWindow) -> String {
    match window.batches.get() {
        1 => "of the last batch".to_owned(),
        batches => format!("of the last {batches} batches"),
    }
}

/// How large a query's state can get.
pub(super) fn state(query: &Query) -> String {
    if !query.shape().stateful {
        return "none".to_owned();
    }
    if let Some(window) = query.window() {
        let rows = if query.key_count() == Some(0) { "one row per batch" } else { "one row per group and batch" };
        return grows(format!("{rows}, {}", of_the_last(window)), query);
    }
    let kept = query.kept().map(|kept| match kept {
        Kept { rows, bounded: None } => rows.to_owned(),
        Kept { rows, bounded: Some(true) } => format!("{rows}, until the watermark closes it"),
        Kept { rows, bounded: Some(false) } => format!("{rows}, for ever (no watermark bounds it)"),
    });
    grows(kept.collect::<Vec<_>>().join("; "), query)
}

fn grows(groups: String, query: &Query) -> String {
    match query.shape().growing.as_slice() {
        [] => groups,
        growing => format!("{groups}; grows with the values in each group: {}", growing.join(", ")),
    }
}

/// The streaming plan of every query, as text.
///
/// # Errors
/// Of kind `Usage`, as `run` would give it.
pub fn explain(job: &JobSpec) -> Result<String> {
    let queries = JobQueries::plan(job)?;
    let mut text = String::new();
    for query in &queries.queries {
        text += &format!("query {} ({} mode)\n", query.name(), query.mode());
        for index in query.sources() {
            let source = &job.sources[*index];
            let names = queries.needed_columns(*index).iter().map(|column| source.columns[*column].name.as_str());
            let columns = names.collect::<Vec<_>>().join(", ");
            text += &format!("  reads of '{}' (one pass for all queries): {columns}\n", source.name);
        }
        for (title, plan) in query.describe() {
            text += &format!("  {title}:\n");
            for line in plan.lines() {
                text += &format!("    {line}\n");
            }
        }
    }
    Ok(text)
}
