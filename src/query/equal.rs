//! What "equals the batch result" means, and what changed between two results.
//!
//! Equal to the bit for every type but floats, whose sums depend on the order of addition: those are equal to
//! [`FLOAT_TOLERANCE`], relative. Rows are compared as a multiset, since a float that sorts a result may tip a tie.

use std::collections::BTreeMap;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Float64Type, SchemaRef},
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
    util::display::{ArrayFormatter, FormatOptions},
};

use crate::model::{Error, Result};

/// Relative difference at which two floats still count as equal: well above what a different order of addition of
/// 10^9 values can give, well below what a lost or doubled row gives.
pub const FLOAT_TOLERANCE: f64 = 1e-9;

/// The first difference between two results, in words; `None`: they are equal.
///
/// # Errors
/// Of kind `Failed` where a type cannot be shown.
pub fn difference(ours: &[RecordBatch], theirs: &[RecordBatch]) -> Result<Option<String>> {
    let (ours, theirs) = (rows(ours)?, rows(theirs)?);
    if ours.len() != theirs.len() {
        let missing = theirs.iter().find(|row| !ours.iter().any(|other| other.same(row)));
        let extra = ours.iter().find(|row| !theirs.iter().any(|other| other.same(row)));
        let row = extra.map(|row| format!("extra {row}")).or(missing.map(|row| format!("missing {row}")));
        return Ok(Some(format!(
            "{} rows where {} are expected: {}",
            ours.len(),
            theirs.len(),
            row.unwrap_or_default()
        )));
    }
    Ok(ours.iter().zip(&theirs).find(|(a, b)| !a.same(b)).map(|(a, b)| format!("{a} where {b} is expected")))
}

/// A row: its exact columns as text, its float columns as numbers.
#[derive(Debug, PartialEq)]
struct Row {
    exact: Vec<Option<String>>,
    floats: Vec<Option<f64>>,
}

impl Row {
    fn same(&self, other: &Row) -> bool {
        self.exact == other.exact
            && self.floats.len() == other.floats.len()
            && self.floats.iter().zip(&other.floats).all(|(a, b)| close(*a, *b))
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exact = self.exact.iter().map(|value| value.clone().unwrap_or_else(|| "NULL".to_owned()));
        let floats = self.floats.iter().map(|value| value.map_or_else(|| "NULL".to_owned(), |value| value.to_string()));
        write!(f, "({})", exact.chain(floats).collect::<Vec<_>>().join(", "))
    }
}

fn close(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= FLOAT_TOLERANCE * a.abs().max(b.abs()).max(1.0)
        }
        _ => false,
    }
}

/// All rows, sorted: by the exact columns, then by the floats.
fn rows(batches: &[RecordBatch]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in batches {
        let (floats, exact): (Vec<&ArrayRef>, Vec<&ArrayRef>) =
            batch.columns().iter().partition(|column| column.data_type().is_floating());
        let exact = texts(&exact)?;
        let floats = numbers(&floats)?;
        for row in 0..batch.num_rows() {
            rows.push(Row {
                exact: exact.iter().map(|column| column[row].clone()).collect(),
                floats: floats.iter().map(|column| column[row]).collect(),
            });
        }
    }
    rows.sort_by(|a, b| {
        a.exact.cmp(&b.exact).then_with(|| {
            let key = |value: &Option<f64>| value.unwrap_or(f64::NEG_INFINITY);
            let pairs = a.floats.iter().zip(&b.floats);
            pairs
                .map(|(a, b)| key(a).total_cmp(&key(b)))
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        })
    });
    Ok(rows)
}

fn texts(columns: &[&ArrayRef]) -> Result<Vec<Vec<Option<String>>>> {
    let options = FormatOptions::default();
    columns
        .iter()
        .map(|column| {
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(|error| unshown(&error))?;
            Ok((0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string())).collect())
        })
        .collect()
}

fn numbers(columns: &[&ArrayRef]) -> Result<Vec<Vec<Option<f64>>>> {
    columns
        .iter()
        .map(|column| {
            let column = cast(column, &DataType::Float64).map_err(|error| unshown(&error))?;
            Ok(column.as_primitive::<Float64Type>().iter().collect())
        })
        .collect()
}

fn unshown(error: &datafusion::arrow::error::ArrowError) -> Error {
    Error::failed("results could not be compared").because(error.to_string())
}

/// A group before and after: indexes of rows of the two results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupChange {
    /// Batch and row of the earlier result; `None`: the group is new.
    pub from: Option<(usize, usize)>,
    /// Batch and row of the later result; `None`: the group is gone.
    pub to: Option<(usize, usize)>,
}

/// The groups whose row changed between two results, in order of their key's values: numbers as numbers, nulls first,
/// as a result has its groups that says no other order. `keys`: columns that identify a row.
///
/// # Errors
/// As [`difference`].
pub fn diff_groups(
    schema: &SchemaRef,
    keys: &[usize],
    from: &[RecordBatch],
    to: &[RecordBatch],
) -> Result<Vec<GroupChange>> {
    let order = KeyOrder::new(schema, keys, from, to)?;
    let mut changes = changed_groups(schema, keys, from, to)?;
    if let Some(order) = order {
        // stable: rows of one key stay in the order in which they are counted
        changes.sort_by(|a, b| order.key(a).cmp(&order.key(b)));
    }
    Ok(changes)
}

/// The keys of two results, comparable by value.
struct KeyOrder {
    from: Vec<Rows>,
    to: Vec<Rows>,
}

impl KeyOrder {
    /// `None` where there is no key, or one of a type that has no order.
    fn new(schema: &SchemaRef, keys: &[usize], from: &[RecordBatch], to: &[RecordBatch]) -> Result<Option<KeyOrder>> {
        let fields: Vec<SortField> =
            keys.iter().map(|key| SortField::new(schema.field(*key).data_type().clone())).collect();
        if keys.is_empty() || !RowConverter::supports_fields(&fields) {
            return Ok(None);
        }
        let converter = RowConverter::new(fields).map_err(|error| unshown(&error))?;
        let rows = |batch: &RecordBatch| {
            let columns: Vec<ArrayRef> = keys.iter().map(|key| ArrayRef::clone(batch.column(*key))).collect();
            converter.convert_columns(&columns).map_err(|error| unshown(&error))
        };
        let all = |batches: &[RecordBatch]| batches.iter().map(rows).collect::<Result<Vec<Rows>>>();
        Ok(Some(KeyOrder { from: all(from)?, to: all(to)? }))
    }

    /// The key of a group, from where the group is.
    fn key(&self, change: &GroupChange) -> Option<datafusion::arrow::row::Row<'_>> {
        match (change.to, change.from) {
            (Some((batch, row)), _) => Some(self.to[batch].row(row)),
            (None, Some((batch, row))) => Some(self.from[batch].row(row)),
            (None, None) => None,
        }
    }
}

fn changed_groups(
    schema: &SchemaRef,
    keys: &[usize],
    from: &[RecordBatch],
    to: &[RecordBatch],
) -> Result<Vec<GroupChange>> {
    let (from, to) = (by_key(schema, keys, from)?, by_key(schema, keys, to)?);
    let mut changes = BTreeMap::new();
    for (key, (place, row)) in &to {
        match from.get(key) {
            Some((_, before)) if before == row => {}
            before => {
                let from = before.map(|(before, _)| *before);
                changes.insert(key, GroupChange { from, to: Some(*place) });
            }
        }
    }
    let gone = from.iter().filter(|(key, _)| !to.contains_key(*key));
    changes.extend(gone.map(|(key, (place, _))| (key, GroupChange { from: Some(*place), to: None })));
    Ok(changes.into_values().collect())
}

type Keyed = BTreeMap<(Vec<Option<String>>, usize), ((usize, usize), Vec<Option<String>>)>;

/// Rows by key; rows of the same key are told apart by counting them.
fn by_key(schema: &SchemaRef, keys: &[usize], batches: &[RecordBatch]) -> Result<Keyed> {
    let mut found = Keyed::new();
    for (number, batch) in batches.iter().enumerate() {
        let columns = texts(&batch.columns().iter().collect::<Vec<_>>())?;
        debug_assert_eq!(schema.fields().len(), columns.len());
        for row in 0..batch.num_rows() {
            let values: Vec<Option<String>> = columns.iter().map(|column| column[row].clone()).collect();
            let key: Vec<Option<String>> = keys.iter().map(|column| values[*column].clone()).collect();
            let mut count = 0;
            while found.contains_key(&(key.clone(), count)) {
                count += 1;
            }
            found.insert((key, count), ((number, row), values));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::{
        array::{Float64Array, Int64Array, StringArray},
        datatypes::{Field, Schema},
    };

    use super::*;

    fn batch(rows: &[(&str, i64, f64)]) -> Vec<RecordBatch> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("k", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("f", DataType::Float64, true),
        ]));
        let keys: StringArray = rows.iter().map(|row| Some(row.0)).collect();
        let counts: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
        let floats: Float64Array = rows.iter().map(|row| Some(row.2)).collect();
        vec![RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(counts), Arc::new(floats)]).unwrap()]
    }

    #[test]
    fn floats_may_differ_by_rounding_and_counts_by_nothing() {
        let a = batch(&[("a", 1, 0.1 + 0.2), ("b", 2, 1.0)]);
        assert_eq!(difference(&a, &batch(&[("b", 2, 1.0), ("a", 1, 0.3)])).unwrap(), None);
        let counted = difference(&a, &batch(&[("a", 2, 0.3), ("b", 2, 1.0)])).unwrap().unwrap();
        assert!(counted.contains("(a, 1, "), "{counted}");
        assert!(difference(&a, &batch(&[("a", 1, 0.3)])).unwrap().unwrap().contains("extra (b"));
        assert!(difference(&a, &batch(&[("a", 1, 0.3), ("b", 2, 1.000001)])).unwrap().is_some());
    }

    #[test]
    fn changed_new_and_lost_groups_are_found() {
        let (from, to) = (
            batch(&[("a", 1, 0.0), ("b", 1, 0.0), ("d", 1, 0.0)]),
            batch(&[("a", 1, 0.0), ("b", 2, 0.0), ("c", 1, 0.0)]),
        );
        let changes = diff_groups(&from[0].schema(), &[0], &from, &to).unwrap();
        let expected = [
            GroupChange { from: Some((0, 1)), to: Some((0, 1)) },
            GroupChange { from: None, to: Some((0, 2)) },
            GroupChange { from: Some((0, 2)), to: None },
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn changes_are_in_the_order_of_the_key_s_value() {
        let keyed = |keys: &[Option<i64>], value: i64| {
            let columns: [(&str, ArrayRef); 2] = [
                ("k", Arc::new(keys.iter().copied().collect::<Int64Array>())),
                ("v", Arc::new(Int64Array::from(vec![value; keys.len()]))),
            ];
            vec![RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()]
        };
        let from = keyed(&[Some(100), Some(9), Some(-1)], 1);
        let to = keyed(&[Some(10), None, Some(9), Some(-20)], 2);
        let changes = diff_groups(&from[0].schema(), &[0], &from, &to).unwrap();
        let places: Vec<_> = changes.iter().map(|change| (change.from, change.to)).collect();
        // null, -20, -1, 9, 10, 100
        let expected = [
            (None, Some((0, 1))),
            (None, Some((0, 3))),
            (Some((0, 2)), None),
            (Some((0, 1)), Some((0, 2))),
            (None, Some((0, 0))),
            (Some((0, 0)), None),
        ];
        assert_eq!(places, expected);
    }
}
