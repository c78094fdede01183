//! A query's identity for its checkpoint: the analysed plan and the state's schema, not the text.

use std::collections::BTreeMap;

use datafusion::{
    arrow::datatypes::{Field, SchemaRef},
    common::tree_node::TreeNodeRecursion,
    logical_expr::{Expr, LogicalPlan},
};

use super::{
    cut::{Cut, CutKind, CutStage},
    operators::Stage,
};
use crate::{
    job::{
        JobSpec,
        fingerprint::{Change, IdentityPart, QueryIdentity},
    },
    model::{OutputMode, WatermarkPolicy},
};

/// What of the job beside a query's own text decides its results.
pub(super) struct Facts {
    /// How event times become a watermark.
    watermark: String,
    /// Static tables, each with what says which rows it has.
    statics: BTreeMap<String, Option<String>>,
    /// What the sink's options make of the query.
    options: Vec<(&'static str, String)>,
}

impl Facts {
    /// `statics`: what says which rows each static table has, as far as they were read.
    pub fn of(job: &JobSpec, sink: &crate::job::SinkSpec, statics: &[Option<String>]) -> Facts {
        let event_time = |source: &crate::job::SourceSpec| {
            let spec = source.event_time?;
            Some(format!("{}.{} - {} us", source.name, source.columns[spec.column].name, spec.delay_us))
        };
        let sources: Vec<String> = job.sources.iter().filter_map(event_time).collect();
        let policy = match job.settings.watermark_policy {
            WatermarkPolicy::Min => "min",
            WatermarkPolicy::Max => "max",
        };
        let mut options = Vec::new();
        if sink.dedup_within_watermark {
            options.push(("dedup_within_watermark", "true".to_owned()));
        }
        if let Some(window) = sink.batch_window {
            options.push(("window_batches", window.batches.to_string()));
            options.push(("slide_batches", window.slide.to_string()));
        }
        let names = job.statics.iter().map(|table| table.name.clone());
        Facts {
            watermark: format!("{policy} of {}", sources.join(", ")),
            statics: names.zip(statics.iter().cloned()).collect(),
            options,
        }
    }

    /// The static tables that a plan reads.
    fn statics_of<'a>(&'a self, plans: impl Iterator<Item = &'a LogicalPlan>) -> BTreeMap<&'a str, Option<&'a str>> {
        let mut found = BTreeMap::new();
        for plan in plans {
            let visited = plan.apply_with_subqueries(|node| {
                if let LogicalPlan::TableScan(scan) = node
                    && let Some((name, rows)) = self.statics.get_key_value(scan.table_name.table())
                {
                    found.insert(name.as_str(), rows.as_deref());
                }
                Ok(TreeNodeRecursion::Continue)
            });
            if let Err(error) = visited {
                tracing::debug!("a plan cannot be walked: {error}");
            }
        }
        found
    }

    pub fn reads_statics(&self, plan: &LogicalPlan) -> bool {
        !self.statics_of(std::iter::once(plan)).is_empty()
    }
}

/// The identity of a query that is cut like this.
pub(super) fn of(query: &str, mode: OutputMode, cut: &Cut, stages: &[Stage], facts: &Facts) -> QueryIdentity {
    let mut parts = Vec::new();
    for (stage, built) in cut.stages.iter().zip(stages) {
        parts.extend(of_stage(stage, built));
    }
    parts.push(part("output mode", mode.to_string(), Change::Refused));
    let plan = cut.last.display_indent().to_string();
    let stateful = stages.iter().any(|stage| stage.name().is_some());
    parts.push(part(if stateful { "result" } else { "filter and projection" }, plan, Change::IfAccepted));
    if stages.iter().any(Stage::is_bounded) {
        parts.push(part("watermark", facts.watermark.clone(), Change::Refused));
    }
    parts.extend(facts.options.iter().map(|(what, value)| part(what, value.clone(), Change::Refused)));
    let plans = cut.stages.iter().flat_map(|stage| &stage.inputs).chain([&cut.last]);
    for (name, rows) in facts.statics_of(plans) {
        // what was not read is not compared
        parts.extend(rows.map(|rows| part(&format!("static table '{name}'"), rows.to_owned(), Change::IfAccepted)));
    }
    QueryIdentity { query: query.to_owned(), stateful, parts }
}

fn of_stage(stage: &CutStage, built: &Stage) -> Vec<IdentityPart> {
    let list = |expressions: &[Expr]| {
        // whole: the name that an expression gives its column leaves casts out
        expressions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let schemas = built.state_schemas().iter().map(columns).collect::<Vec<_>>().join("; ");
    let plans = || stage.inputs.iter().map(|input| input.display_indent().to_string()).collect::<Vec<_>>().join("\n");
    match (&stage.kind, stage.inputs.first()) {
        (CutKind::Aggregate { .. }, Some(LogicalPlan::Aggregate(aggregate))) => vec![
            part("grouping keys", list(&aggregate.group_expr), Change::Refused),
            part("aggregates", list(&aggregate.aggr_expr), Change::Refused),
            part("state schema", schemas, Change::Refused),
            part("filter and projection", aggregate.input.display_indent().to_string(), Change::IfAccepted),
        ],
        (CutKind::Join(join), _) => {
            let on = join.join.on.iter().map(|(left, right)| format!("{left} = {right}")).collect::<Vec<_>>();
            let filter = join.join.filter.as_ref().map_or_else(String::new, |filter| format!(", {filter}"));
            let text = format!("{} join on {}{filter}", join.join.join_type, on.join(", "));
            vec![
                part("join", text, Change::Refused),
                part("state schema", schemas, Change::Refused),
                part("filter and projection", plans(), Change::IfAccepted),
            ]
        }
        (CutKind::FirstOfKey { columns, .. }, Some(LogicalPlan::Projection(projection))) => vec![
            part("keys of DISTINCT ON", list(&projection.expr[*columns..]), Change::Refused),
            part("state schema", schemas, Change::Refused),
            part("first row of each key", plans(), Change::IfAccepted),
        ],
        (CutKind::Limit { skip, fetch }, _) => vec![
            part("limit", format!("{fetch:?} after {skip}"), Change::Refused),
            part("filter and projection", plans(), Change::IfAccepted),
        ],
        (CutKind::OnTime { .. } | CutKind::Union | CutKind::Aggregate { .. } | CutKind::FirstOfKey { .. }, _) => {
            vec![part("filter and projection", plans(), Change::IfAccepted)]
        }
    }
}

fn part(what: &str, value: String, change: Change) -> IdentityPart {
    IdentityPart { what: what.to_owned(), value, change }
}

fn columns(schema: &SchemaRef) -> String {
    let column = |field: &std::sync::Arc<Field>| format!("{} {}", field.name(), field.data_type());
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}
