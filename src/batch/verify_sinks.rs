//! Whether the sinks show what the commits say.

use std::path::Path;

use super::{
    verify::{VerifyReport, begins},
    view::{View, published},
};
use crate::{
    model::{BatchId, ErrorKind, OutputMode, Result, StagedOutput},
    query::{JobQueries, Query},
    sink::{self, ConsoleTarget, Sink},
};

/// How often the sinks of a job that runs are looked at, or of one that was begun meanwhile: between a look at its log and one at
/// its sinks it goes on.
const LOOKS: u32 = 5;

/// Whether the sinks show what the commits say.
pub(super) fn sinks(dir: &Path, view: &View, report: &mut VerifyReport) -> Result<()> {
    let newest = |view: &View| view.reader.history().newest().map(|commit| commit.address());
    let (mut found, mut seen) = (look_at_sinks(view)?, newest(view));
    for _ in 1..LOOKS {
        if found.is_empty() {
            break;
        }
        let again = View::open(dir)?;
        if !again.reader.is_running() && newest(&again) == seen {
            break;
        }
        (found, seen) = (look_at_sinks(&again)?, newest(&again));
    }
    for finding in found {
        if finding.owed { &mut report.notes } else { &mut report.findings }.push(finding.text);
    }
    Ok(())
}

struct SinkFinding {
    text: String,
    /// The next start does what is missing.
    owed: bool,
}

fn look_at_sinks(view: &View) -> Result<Vec<SinkFinding>> {
    let queries = JobQueries::plan(view.job())?;
    let history = view.reader.history();
    let live = history.live();
    // What a fork begins with was published by the job that it is a fork of.
    let inherited = view.reader.genesis().forked_from.as_ref().map(|fork| fork.batch);
    let commits = &live[live.partition_point(|commit| Some(commit.batch()) <= inherited)..];
    let mut found = Vec::new();
    for (spec, query) in view.job().queries.iter().zip(&queries.queries) {
        let sink_spec = view.job().sink_of(spec);
        let sink = sink::make_sink(sink_spec, query.mode(), ConsoleTarget::nowhere);
        let late = sink::late_sink(sink_spec).map(|sink| (sink_spec.late_name(), sink));
        for (name, sink) in std::iter::once((spec.name.clone(), sink)).chain(late) {
            let of_sink = published(commits, &name);
            let mut findings = sink.verify(&of_sink)?;
            if findings.is_empty() && name == spec.name {
                findings.extend(lacks(view, query, sink.as_ref(), &of_sink)?);
            }
            // After a kill the newest batch may be published or not: what is wrong either way is wrong.
            let before = match commits.split_last() {
                Some((_, before)) if !history.settled() && !history.retracting() => {
                    Some(sink.verify(&published(before, &name))?)
                }
                _ => None,
            };
            for finding in findings {
                let owed = history.retracting() && !history.settled()
                    || before.as_ref().is_some_and(|before| !before.contains(&finding));
                let why = if owed { " (the next start of the job completes it)" } else { "" };
                found.push(SinkFinding { text: format!("sink '{name}': {finding}{why}"), owed });
            }
        }
    }
    Ok(found)
}

/// Update mode replaces rows, and a commit has a hash of its own rows only: what a table has of earlier batches, and after a
/// rewind of the newest, is held against the newest result. Where that says nothing of the table there is no finding: a part of
/// the log is gone, the query or its sink was another one once, or a result depends on more than the state.
fn lacks(view: &View, query: &Query, sink: &dyn Sink, published: &[(BatchId, StagedOutput)]) -> Result<Option<String>> {
    let history = view.reader.history();
    let depends_on_more = query.shape().batch_time || query.shows_statics() || query.window().is_some();
    let replaces = query.mode() == OutputMode::Update && !query.gives_out_for_good();
    // a job that runs replaces rows meanwhile
    if !replaces || depends_on_more || !history.settled() || view.reader.is_running() {
        return Ok(None);
    }
    let live = history.live();
    let (Some(newest), Some(first)) = (live.last(), begins(view, query.name(), &mut Vec::new())) else {
        return Ok(None);
    };
    let of_query = live.iter().filter(|commit| commit.batch() >= first).count();
    let has_first = published.first().is_some_and(|(batch, _)| *batch == first);
    let is_whole = has_first && published.len() == of_query && published.iter().all(|(_, one)| !one.name.is_empty());
    if !is_whole {
        return Ok(None);
    }
    match view.result(query.name(), newest.address()) {
        Ok(result) => sink.lacks(&result.rows),
        // a damaged state is found, and told, where all of it is folded
        Err(error) if error.kind() != ErrorKind::Failed => Ok(None),
        Err(error) => Err(error),
    }
}
