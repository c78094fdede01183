//! `check` and `explain`: what a job would do, without touching anything.

use super::{engine::MakeSink, input::Inputs, outputs};
use crate::{
    job::JobSpec,
    model::{OutputMode, Result},
    query::{JobQueries, Query},
    sink::Guarantee,
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
/// Of kind `Usage`, as `run` would give it.
pub fn check(job: &JobSpec, make_sink: MakeSink<'_>) -> Result<Vec<QueryCheck>> {
    let queries = JobQueries::plan(job)?;
    outputs::check_sinks(job, &queries, make_sink, false)?;
    let inputs = Inputs::open(job, &queries, 1)?;
    let mut checks = Vec::with_capacity(job.queries.len());
    for (spec, query) in job.queries.iter().zip(&queries.queries) {
        let sink = make_sink(job.sink_of(spec), query.mode())?;
        let input = inputs.find(&job.sources[query.source()].name)?;
        let files = input.source.list()?.files.len();
        let mut notes = vec![format!("source '{}': {files} files in {}", input.name, input.source.root().display())];
        if query.shape().batch_time {
            notes.push("now() is the batch's time, stored in its plan".to_owned());
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

fn incremental(query: &Query) -> String {
    match (query.shape().stateful, query.mode()) {
        (false, _) => "each batch by itself: filters and expressions over its rows".to_owned(),
        (true, OutputMode::Complete) => {
            "partial aggregation of each batch, merged into the groups it touches; the whole result is evaluated when it is given out".to_owned()
        }
        (true, _) => "partial aggregation of each batch, merged into the groups it touches; only those are evaluated".to_owned(),
    }
}

fn state(query: &Query) -> String {
    if !query.shape().stateful {
        return "none".to_owned();
    }
    let groups = match query.key_count() {
        0 => "one row".to_owned(),
        _ => "one row per group, for ever (no watermark bounds it)".to_owned(),
    };
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
        let source = &job.sources[query.source()];
        let columns: Vec<&str> =
            queries.needed_columns(query.source()).iter().map(|column| source.columns[*column].name.as_str()).collect();
        text += &format!("query {} ({} mode)\n", query.name(), query.mode());
        text += &format!("  reads of '{}' (one pass for all queries): {}\n", source.name, columns.join(", "));
        for (title, plan) in query.describe() {
            text += &format!("  {title}:\n");
            for line in plan.lines() {
                text += &format!("    {line}\n");
            }
        }
    }
    Ok(text)
}
