//! Rows as keys and what is kept under them, and a hash of them that reading them back gives again.

use std::collections::BTreeSet;

use datafusion::arrow::{
    array::{ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, SchemaRef},
    record_batch::RecordBatch,
};

use super::super::table::{float_key, hash, texts};
use crate::{
    job::Layout,
    model::{Error, Result},
};

/// What one row becomes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key without its prefix, or the member of a set.
    pub key: String,
    /// Columns that are not null, in the order of their names.
    pub fields: Vec<(String, String)>,
    /// `None`: it is in no sorted set.
    pub score: Option<f64>,
}

/// Rows as entries; `key`: the columns that tell them apart.
///
/// # Errors
/// Of kind `Data`, where two rows have one key; `Failed` where a type has no text.
pub(super) fn entries_of(batches: &[RecordBatch], key: &[usize], layout: &Layout) -> Result<Vec<Entry>> {
    if let Some(column) = float_key(batches, key, |value| value.is_nan() && value.is_sign_negative()) {
        return Err(Error::data(format!(
            "the group key '{column}' is a NaN with a sign, and as text there is one NaN"
        ))
        .because("two groups would have one key")
        .help(format!("group by CASE WHEN isnan({column}) THEN CAST('NaN' AS DOUBLE) ELSE {column} END")));
    }
    let mut entries = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let schema = batch.schema();
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| texts_of(column, field)).collect::<Result<Vec<_>>>()?;
        let scores = match layout {
            Layout::Hash => None,
            Layout::SortedSet { score } => Some(scores_of(batch, score)?),
        };
        for row in 0..batch.num_rows() {
            let parts: Vec<Option<&str>> = key.iter().map(|column| columns[*column][row].as_deref()).collect();
            let mut fields = Vec::new();
            for (field, texts) in schema.fields().iter().zip(&columns).filter(|_| scores.is_none()) {
                fields.extend(texts[row].as_ref().map(|text| (field.name().clone(), text.clone())));
            }
            fields.sort_unstable();
            // a score must be a number
            let score = scores.as_ref().and_then(|scores| scores[row]).filter(|score| !score.is_nan());
            entries.push(Entry { key: joined(&parts), fields, score });
        }
    }
    let keys: BTreeSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    match keys.len() == entries.len() {
        true => Ok(entries),
        false => Err(Error::data("two rows of a batch have the same key")
            .because("one of them would take the other's place in Redis")
            .help("group by what tells them apart")),
    }
}

/// Values as JSON has them, and those numbers that it has not: NaN, inf, -inf.
fn texts_of(column: &ArrayRef, field: &Field) -> Result<Vec<Option<String>>> {
    let mut texts = texts(column, field)?;
    if column.data_type().is_floating() {
        let broken = |why: String| Error::failed(format!("column '{}' is no number", field.name())).because(why);
        let numbers = cast(column, &DataType::Float64).map_err(|error| broken(error.to_string()))?;
        for (text, number) in texts.iter_mut().zip(numbers.as_primitive::<Float64Type>()) {
            if let Some(number) = number.filter(|number| !number.is_finite()) {
                *text = Some(number.to_string());
            }
        }
    }
    Ok(texts)
}

fn scores_of(batch: &RecordBatch, score: &str) -> Result<Vec<Option<f64>>> {
    let broken = |why: String| Error::failed(format!("column '{score}' is no score")).because(why);
    let column = batch.column_by_name(score).ok_or_else(|| broken("there is no such column".to_owned()))?;
    let numbers = cast(column, &DataType::Float64).map_err(|error| broken(error.to_string()))?;
    Ok(numbers.as_primitive::<Float64Type>().iter().collect())
}

/// The parts of a key as one text, which no other key has: a null is `\N`, a backslash is two, and where there are several parts
/// they are separated by colons, of which those inside have a backslash before them.
pub(super) fn joined(parts: &[Option<&str>]) -> String {
    let part = |part: &Option<&str>| match part {
        None => "\\N".to_owned(),
        Some(text) if parts.len() == 1 => text.replace('\\', "\\\\"),
        Some(text) => text.replace('\\', "\\\\").replace(':', "\\:"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(":")
}

/// The size and the hash of entries, in whatever order.
pub(super) fn hash_of(entries: &[Entry]) -> (u64, [u8; 32]) {
    hash(entries.iter().map(encoded).collect())
}

fn encoded(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sized = |text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    sized(&entry.key);
    for (name, value) in &entry.fields {
        sized(name);
        sized(value);
    }
    // Redis has one zero
    bytes.extend(entry.score.iter().flat_map(|score| (score + 0.0).to_le_bytes()));
    bytes
}

/// Whether the layout has a place for rows of these columns.
///
/// # Errors
/// Of kind `Usage`, naming the column and a way out.
pub(super) fn check_layout(sink: &str, schema: &SchemaRef, key: &[usize], layout: &Layout) -> Result<()> {
    let Layout::SortedSet { score } = layout else { return Ok(()) };
    let Some((at, field)) = schema.column_with_name(score) else {
        return Err(Error::usage(format!(
            "the score of '{sink}' is a column '{score}', which the query does not give"
        ))
        .help("let score name a column of numbers that the query selects"));
    };
    if !field.data_type().is_numeric() {
        return Err(Error::usage(format!("the score of '{sink}' is a column '{score}', which holds no numbers"))
            .because(format!("it is {}", field.data_type()))
            .help("let score name a column of numbers, or cast it to DOUBLE"));
    }
    match (0..schema.fields().len()).find(|column| *column != at && !key.contains(column)) {
        None => Ok(()),
        Some(other) => {
            let name = schema.field(other).name();
            Err(Error::usage(format!("a sorted set has no place for the column '{name}' of '{sink}'"))
                .because("it holds keys and their scores")
                .help("select the group key and the score only, or set layout = 'hash'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;
    use crate::model::ErrorKind;

    fn rows() -> RecordBatch {
        let keys = Arc::new(StringArray::from(vec![Some("a"), None])) as ArrayRef;
        let counts = Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef;
        RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("c", counts, true)]).unwrap()
    }

    #[test]
    fn rows_become_hashes_or_members() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let hashes = entries_of(&[rows()], &[0], &Layout::Hash).unwrap();
        assert_eq!((hashes[0].key.as_str(), hashes[0].score), ("a", None));
        assert_eq!(hashes[0].fields, [field("c", "1"), field("k", "a")]);
        assert_eq!((hashes[1].key.as_str(), hashes[1].fields.len()), ("\\N", 0));
        let members = entries_of(&[rows()], &[0], &Layout::SortedSet { score: "c".to_owned() }).unwrap();
        assert_eq!((members[0].score, members[0].fields.len(), members[1].score), (Some(1.0), 0, None));
        let error = entries_of(&[rows(), rows()], &[0], &Layout::Hash).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
    }

    #[test]
    fn no_two_keys_are_one_text() {
        assert_eq!(joined(&[Some("a:b")]), "a:b");
        assert_eq!(joined(&[]), "");
        let keys = [
            joined(&[Some("a:b"), Some("c")]),
            joined(&[Some("a"), Some("b:c")]),
            joined(&[Some("a\\"), Some("b:c")]),
            joined(&[Some("\\N"), None]),
            joined(&[None, Some("\\N")]),
            joined(&[Some(""), Some("")]),
        ];
        assert_eq!(BTreeSet::from(keys.clone()).len(), keys.len(), "{keys:?}");
        assert_ne!(joined(&[None]), joined(&[Some("\\N")]));
    }

    #[test]
    fn numbers_that_json_has_not_are_told_apart() {
        let numbers = [Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY), None, Some(0.5)];
        let column = |numbers: Vec<Option<f64>>| Arc::new(Float64Array::from(numbers)) as ArrayRef;
        let batch = |numbers| RecordBatch::try_from_iter_with_nullable([("k", column(numbers), true)]).unwrap();
        let entries = entries_of(&[batch(numbers.to_vec())], &[0], &Layout::Hash).unwrap();
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["NaN", "inf", "-inf", "\\N", "0.5"]);
        assert_eq!(entries[1].fields, [("k".to_owned(), "inf".to_owned())]);
        let error = entries_of(&[batch(vec![Some(-f64::NAN)])], &[0], &Layout::Hash).unwrap_err();
        assert!(error.what().contains("one NaN"), "{error}");
    }

    #[test]
    fn a_hash_is_of_the_entries_and_not_of_their_order() {
        let mut entries = entries_of(&[rows()], &[0], &Layout::Hash).unwrap();
        let before = hash_of(&entries);
        entries.reverse();
        assert_eq!(hash_of(&entries), before);
        entries[0].score = Some(0.0);
        let zero = hash_of(&entries);
        entries[0].score = Some(-0.0);
        assert_eq!(hash_of(&entries), zero);
        assert_ne!(zero, before);
    }

    #[test]
    fn a_sorted_set_holds_keys_and_scores_only() {
        let check = |key: &[usize], score: &str| {
            check_layout("s", rows().schema_ref(), key, &Layout::SortedSet { score: score.to_owned() })
        };
        check(&[0], "c").unwrap();
        for (key, score, what) in [(&[0][..], "x", "does not give"), (&[1], "k", "no numbers"), (&[], "c", "'k'")] {
            let error = check(key, score).unwrap_err();
            assert!(error.what().contains(what), "{error}");
        }
        let scores = Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("c", scores)]).unwrap();
        let scores = scores_of(&batch, "c").unwrap();
        assert!(scores[0].unwrap().is_nan() && scores[1] == Some(f64::INFINITY));
    }
}
