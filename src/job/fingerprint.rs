//! What a job is to its checkpoint: the analysed plan and the state's schema, not the text.

use serde::{Deserialize, Serialize};

use crate::model::{Error, Result};

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

/// How the job differs from the one that a checkpoint was made with; what is refused comes first, else in the order
/// of `old`. A query that is new is no difference.
pub fn differences(old: &[QueryIdentity], new: &[QueryIdentity]) -> Vec<Difference> {
    let mut differences: Vec<Difference> = old
        .iter()
        .flat_map(|was| match new.iter().find(|is| is.query == was.query) {
            Some(is) => changed_parts(was, is),
            None => vec![removed(was)],
        })
        .collect();
    differences.sort_by_key(|difference| difference.change == Change::IfAccepted);
    differences
}

/// A query that is gone takes its state with it, if it has any.
fn removed(was: &QueryIdentity) -> Difference {
    Difference {
        query: was.query.clone(),
        what: "query".to_owned(),
        was: "in the job".to_owned(),
        is: "removed".to_owned(),
        change: if was.stateful { Change::Refused } else { Change::IfAccepted },
    }
}

fn changed_parts(was: &QueryIdentity, is: &QueryIdentity) -> Vec<Difference> {
    let mut names: Vec<&str> = was.parts.iter().chain(&is.parts).map(|part| part.what.as_str()).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let mut differences: Vec<Difference> = Vec::new();
    for name in names {
        let (before, after) = (parts_named(was, name), parts_named(is, name));
        for place in 0..before.len().max(after.len()) {
            let pair = [before.get(place), after.get(place)];
            let [was_value, is_value] = pair.map(|part| part.map_or("none", |part| part.value.as_str()));
            if was_value == is_value {
                continue;
            }
            let refused = pair.into_iter().flatten().any(|part| part.change == Change::Refused);
            differences.push(Difference {
                query: was.query.clone(),
                what: name.to_owned(),
                was: was_value.to_owned(),
                is: is_value.to_owned(),
                change: if refused { Change::Refused } else { Change::IfAccepted },
            });
        }
    }
    if differences.is_empty() && was.stateful != is.stateful {
        let state = |stateful: bool| if stateful { "kept" } else { "none" }.to_owned();
        differences.push(Difference {
            query: was.query.clone(),
            what: "state".to_owned(),
            was: state(was.stateful),
            is: state(is.stateful),
            change: Change::Refused,
        });
    }
    differences
}

fn parts_named<'a>(identity: &'a QueryIdentity, name: &str) -> Vec<&'a IdentityPart> {
    identity.parts.iter().filter(|part| part.what == name).collect()
}

/// Refuses differences that may not be, or that may only be accepted and are not.
///
/// # Errors
/// Of kind `Refused`, naming the query, what it was and what it is.
pub fn refuse(differences: &[Difference], accept_change: bool) -> Result<()> {
    let stands = |difference: &&Difference| difference.change == Change::Refused || !accept_change;
    let standing: Vec<&Difference> = differences.iter().filter(stands).collect();
    let Some(first) = standing.first() else { return Ok(()) };
    let same_query = standing.iter().filter(|difference| difference.query == first.query);
    let why: Vec<String> = same_query
        .map(|difference| format!("{}: was {}, is {}", difference.what, difference.was, difference.is))
        .collect();
    let new_checkpoint = "start a new checkpoint with --checkpoint DIR";
    Err(Error::refused(format!("query '{}' is not the one that this checkpoint was made with", first.query))
        .because(why.join("; "))
        .help(match first.change {
            Change::Refused => format!("change the query back, or {new_checkpoint}"),
            Change::IfAccepted => format!("run with --accept-change to go on from here, or {new_checkpoint}"),
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(query: &str, parts: &[(&str, &str, Change)]) -> QueryIdentity {
        let part = |(what, value, change): &(&str, &str, Change)| IdentityPart {
            what: (*what).to_owned(),
            value: (*value).to_owned(),
            change: *change,
        };
        QueryIdentity { query: query.to_owned(), stateful: true, parts: parts.iter().map(part).collect() }
    }

    fn counts(keys: &str, filter: Option<&str>) -> QueryIdentity {
        let mut parts = vec![("grouping keys", keys, Change::Refused)];
        parts.extend(filter.map(|filter| ("filter", filter, Change::IfAccepted)));
        identity("counts", &parts)
    }

    #[test]
    fn an_unchanged_job_and_an_added_query_are_no_difference() {
        let old = [counts("a", Some("x"))];
        assert_eq!(differences(&old, &[identity("new", &[]), counts("a", Some("x"))]), []);
        assert!(refuse(&[], false).is_ok());
    }

    #[test]
    fn a_changed_filter_is_refused_until_it_is_accepted() {
        let found = differences(&[counts("a", Some("x > 1"))], &[counts("a", None)]);
        assert_eq!(
            refuse(&found, false).unwrap_err().to_string(),
            "query 'counts' is not the one that this checkpoint was made with\n  why: filter: was x > 1, is none\n  \
             help: run with --accept-change to go on from here, or start a new checkpoint with --checkpoint DIR"
        );
        assert!(refuse(&found, true).is_ok());
    }

    #[test]
    fn what_state_depends_on_is_refused_first_and_always() {
        let stateless = QueryIdentity { stateful: false, ..identity("plain", &[]) };
        let old = [counts("a", Some("x")), stateless.clone(), identity("gone", &[])];
        let found = differences(&old, &[counts("b", Some("y"))]);
        let list: Vec<(&str, &str, Change)> =
            found.iter().map(|found| (found.query.as_str(), found.what.as_str(), found.change)).collect();
        assert_eq!(
            list,
            [
                ("counts", "grouping keys", Change::Refused),
                ("gone", "query", Change::Refused),
                ("counts", "filter", Change::IfAccepted),
                ("plain", "query", Change::IfAccepted),
            ]
        );
        let error = refuse(&found, true).unwrap_err();
        assert_eq!(error.kind(), crate::model::ErrorKind::Refused);
        assert_eq!(
            error.to_string(),
            "query 'counts' is not the one that this checkpoint was made with\n  why: grouping keys: was a, is b\n  \
             help: change the query back, or start a new checkpoint with --checkpoint DIR"
        );
        let now_stateful = QueryIdentity { stateful: true, ..stateless.clone() };
        assert_eq!(differences(&[stateless], &[now_stateful])[0].change, Change::Refused);
    }
}
