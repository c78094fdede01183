//! A query's identity for its checkpoint: the analysed plan and the state's schema, not the text.

use datafusion::{arrow::datatypes::SchemaRef, logical_expr::LogicalPlan};

use super::incremental::Cut;
use crate::{
    job::fingerprint::{Change, IdentityPart, QueryIdentity},
    model::OutputMode,
    state::Merger,
};

pub(super) fn stateful(query: &str, mode: OutputMode, cut: &Cut, merger: &Merger) -> QueryIdentity {
    let LogicalPlan::Aggregate(aggregate) = &cut.aggregate else { unreachable!("a plan is cut at an aggregate") };
    let list = |expressions: &[datafusion::logical_expr::Expr]| {
        // whole: the name that an expression gives its column leaves casts out
        expressions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let parts = vec![
        part("grouping keys", list(&aggregate.group_expr), Change::Refused),
        part("aggregates", list(&aggregate.aggr_expr), Change::Refused),
        part("state schema", columns(merger.state_schema()), Change::Refused),
        part("output mode", mode.to_string(), Change::Refused),
        part("filter and projection", aggregate.input.display_indent().to_string(), Change::IfAccepted),
        part("result", cut.upper.display_indent().to_string(), Change::IfAccepted),
    ];
    QueryIdentity { query: query.to_owned(), stateful: true, parts }
}

pub(super) fn stateless(query: &str, mode: OutputMode, plan: &LogicalPlan) -> QueryIdentity {
    let parts = vec![
        part("output mode", mode.to_string(), Change::Refused),
        part("filter and projection", plan.display_indent().to_string(), Change::IfAccepted),
    ];
    QueryIdentity { query: query.to_owned(), stateful: false, parts }
}

fn part(what: &str, value: String, change: Change) -> IdentityPart {
    IdentityPart { what: what.to_owned(), value, change }
}

fn columns(schema: &SchemaRef) -> String {
    let column =
        |field: &std::sync::Arc<datafusion::arrow::datatypes::Field>| format!("{} {}", field.name(), field.data_type());
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}
