//! What of a job does not change while it runs, for whoever shows it: sources, queries, sinks and their promises.

use super::{check, engine::Engine, view::View};
use crate::{
    job::QuerySpec,
    model::OutputMode,
    sink::{self, ConsoleTarget, Guarantee},
};

/// A job's parts, and what leads where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFacts {
    /// In the order of the job.
    pub sources: Vec<SourceFacts>,
    /// In the order of the job file.
    pub queries: Vec<QueryFacts>,
}

/// A source of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    pub name: String,
    /// As progress names it.
    pub description: String,
    /// Whether it is no folder of files: what waits of it are segments of its receive log.
    pub is_received: bool,
    /// How far its watermark stays behind its newest event, microseconds; `None`: it has none.
    pub watermark_delay_us: Option<i64>,
}

/// A query of a job, and where its rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFacts {
    pub name: String,
    /// Names of the sources that it reads.
    pub sources: Vec<String>,
    pub mode: OutputMode,
    /// The sink's description, as progress has it.
    pub sink: String,
    pub guarantee: Guarantee,
    /// How large its state can get, in words; `none` where it has none.
    pub state: String,
}

impl JobFacts {
    /// What batches take, in one word for all sources.
    pub fn unit(&self) -> &'static str {
        unit(self.sources.iter().map(|source| source.is_received))
    }
}

/// `are_received`: of each source whether it is no folder of files.
fn unit(are_received: impl Iterator<Item = bool>) -> &'static str {
    let (received, files): (Vec<bool>, Vec<bool>) = are_received.partition(|is_received| *is_received);
    match (received.is_empty(), files.is_empty()) {
        (true, _) => "file",
        (_, true) => "segment",
        _ => "file or segment",
    }
}

/// Where a query's rows go, and what is promised of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkFacts {
    pub query: String,
    /// The sink's description, as progress has it.
    pub sink: String,
    pub guarantee: Guarantee,
}

impl View {
    /// What batches take, in one word for all sources.
    pub fn unit(&self) -> &'static str {
        unit(self.job.sources.iter().map(|source| source.received.is_some()))
    }

    /// The sinks of the job as the checkpoint keeps it, in the order of its queries. None is opened.
    pub fn sinks(&self) -> Vec<SinkFacts> {
        let facts = |spec: &QuerySpec| {
            // neither its description nor its promise depends on the mode
            let sink = sink::make_sink(self.job.sink_of(spec), OutputMode::Append, ConsoleTarget::nowhere);
            SinkFacts { query: spec.name.clone(), sink: sink.description(), guarantee: sink.guarantee() }
        };
        self.job.queries.iter().map(facts).collect()
    }
}

impl Engine {
    /// The parts of the job that is open.
    pub fn facts(&self) -> JobFacts {
        let sources = self.job.sources.iter().zip(&self.inputs.inputs).map(|(spec, input)| SourceFacts {
            name: spec.name.clone(),
            description: input.description.clone(),
            is_received: spec.received.is_some(),
            watermark_delay_us: spec.event_time.map(|event_time| event_time.delay_us),
        });
        let queries = self.queries.queries.iter().enumerate().map(|(index, query)| QueryFacts {
            name: query.name().to_owned(),
            sources: query.sources().iter().map(|source| self.job.sources[*source].name.clone()).collect(),
            mode: query.mode(),
            sink: self.outputs.sink_of(index).description(),
            guarantee: self.outputs.sink_of(index).guarantee(),
            state: check::state(query),
        });
        JobFacts { sources: sources.collect(), queries: queries.collect() }
    }
}
