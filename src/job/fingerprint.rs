//! What a job is to its checkpoint: the analysed plan and the state's schema, not the text.

use serde::{Deserialize, Serialize};

/// How a part of a query's identity may change between two runs on one checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Never: the state would be wrong (grouping keys, aggregates, state schema).
    Refused,
    /// With `run --accept-change`, which records it in the log (filters, projections).
    IfAccepted,
}

/// One comparable part of a query, for instance `grouping keys` = `dstdevice STRING`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityPart {
    /// What it is, in the operator's words.
    pub what: String,
    /// Its canonical text.
    pub value: String,
    pub change: Change,
}

/// A query's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryIdentity {
    pub query: String,
    /// Whether it keeps state.
    pub stateful: bool,
    pub parts: Vec<IdentityPart>,
}

/// A difference between what a checkpoint was made with and the job that wants to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub query: String,
    pub what: String,
    pub was: String,
    pub is: String,
    pub change: Change,
}
