//! What "equals the batch result" means, and what changed between two results.
//!
//! Equal to the bit for every column but those that add floats up: those are equal to [`FLOAT_TOLERANCE`], relative to
//! what was added up. Of a column that is approximate only the presence of a value is compared. Rows are compared as a
//! multiset, since a float that sorts a result may tip a tie.

use std::{cmp::Ordering, collections::BTreeMap};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Float64Type, SchemaRef},
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
    util::display::{ArrayFormatter, FormatOptions},
};

use super::closeness::Closeness;
use crate::model::{Error, Result};

/// Difference at which two sums of floats still count as equal, relative to the larger of the two and to what the same
/// aggregate makes of the absolute values: well above what a different order of addition of 10^6 values can give, well
/// below what a lost or doubled row gives that is a part of the sum at all.
pub const FLOAT_TOLERANCE: f64 = 1e-9;

/// How far from its place in the order of one side a row of the other is looked for: the sums that order rows which
/// have all else in common may change places by rounding.
const NEIGHBOURS: usize = 16;

/// A result to compare with.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub rows: &'a [RecordBatch],
    /// By column.
    pub closeness: &'a [Closeness],
    /// For each batch of `rows` and each column, how large what was added up is (64-bit floats), where it is known.
    pub sizes: &'a [Vec<Option<ArrayRef>>],
}

impl Expected<'_> {
    /// Every value must be the same.
    pub fn exact(rows: &[RecordBatch]) -> Expected<'_> {
        Expected { rows, closeness: &[], sizes: &[] }
    }
}

/// The first difference between two results, in words; `None`: they are equal.
///
/// # Errors
/// Of kind `Failed` where a type cannot be shown.
pub fn difference(ours: &[RecordBatch], expected: &Expected<'_>) -> Result<Option<String>> {
    let theirs = rows(expected.rows, expected.closeness, expected.sizes)?;
    let ours = rows(ours, expected.closeness, &[])?;
    let (extra, missing) = unmatched(&ours, &theirs);
    if ours.len() != theirs.len() {
        let row = extra.map(|row| format!("extra {row}")).or(missing.map(|row| format!("missing {row}")));
        return Ok(Some(format!(
            "{} rows where {} are expected: {}",
            ours.len(),
            theirs.len(),
            row.unwrap_or_default()
        )));
    }
    Ok(match (extra, missing) {
        (Some(extra), Some(missing)) => Some(format!("{extra} where {missing} is expected")),
        _ => None,
    })
}

/// The first row on each side that has no equal one on the other; both sides are sorted.
fn unmatched<'a>(ours: &'a [Row], theirs: &'a [Row]) -> (Option<&'a Row>, Option<&'a Row>) {
    let (mut extra, mut missing) = (None, None);
    let (mut our_at, mut their_at) = (0, 0);
    while our_at < ours.len() || their_at < theirs.len() {
        let next = match (ours.get(our_at), theirs.get(their_at)) {
            (Some(a), Some(b)) if b.exact < a.exact => b,
            (Some(a), _) => a,
            (None, Some(b)) => b,
            (None, None) => break,
        };
        let alike = |rows: &'a [Row], from: usize| {
            let length = rows[from..].partition_point(|row| row.exact == next.exact);
            &rows[from..from + length]
        };
        let (a, b) = (alike(ours, our_at), alike(theirs, their_at));
        let (only_a, only_b) = unmatched_alike(a, b);
        extra = extra.or(only_a);
        missing = missing.or(only_b);
        our_at += a.len();
        their_at += b.len();
    }
    (extra, missing)
}

/// As [`unmatched`], among rows whose exact columns are the same.
fn unmatched_alike<'a>(ours: &'a [Row], theirs: &'a [Row]) -> (Option<&'a Row>, Option<&'a Row>) {
    let mut taken = vec![false; theirs.len()];
    let mut extra = None;
    for (place, row) in ours.iter().enumerate() {
        let near = place.saturating_sub(NEIGHBOURS)..theirs.len().min(place + NEIGHBOURS + 1);
        let candidates = std::iter::once(place).filter(|place| *place < theirs.len()).chain(near);
        match candidates.into_iter().find(|other| !taken[*other] && row.is_close_to(&theirs[*other])) {
            Some(other) => taken[other] = true,
            None => extra = extra.or(Some(row)),
        }
    }
    let missing = taken.iter().position(|taken| !taken).map(|place| &theirs[place]);
    (extra, missing)
}

/// A row: its exact columns as text, its sums of floats as numbers.
#[derive(Debug, PartialEq)]
struct Row {
    exact: Vec<Option<String>>,
    floats: Vec<Option<f64>>,
    /// How large what was added up for each of `floats` is; 0 where it is not known.
    sizes: Vec<f64>,
}

impl Row {
    fn is_close_to(&self, expected: &Row) -> bool {
        let pairs = self.floats.iter().zip(&expected.floats).zip(&expected.sizes);
        pairs.into_iter().all(|((a, b), size)| close(*a, *b, *size))
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exact = self.exact.iter().map(|value| value.clone().unwrap_or_else(|| "NULL".to_owned()));
        let floats = self.floats.iter().map(|value| value.map_or_else(|| "NULL".to_owned(), |value| value.to_string()));
        write!(f, "({})", exact.chain(floats).collect::<Vec<_>>().join(", "))
    }
}

fn close(a: Option<f64>, b: Option<f64>, size: f64) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= FLOAT_TOLERANCE * a.abs().max(b.abs()).max(size)
        }
        _ => false,
    }
}

/// All rows, sorted: by the exact columns, then by the floats.
fn rows(batches: &[RecordBatch], closeness: &[Closeness], sizes: &[Vec<Option<ArrayRef>>]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let (mut exact, mut floats, mut of_floats) = (Vec::new(), Vec::new(), Vec::new());
        for (index, column) in batch.columns().iter().enumerate() {
            let is_float = column.data_type().is_floating();
            match closeness.get(index).copied().unwrap_or_default() {
                Closeness::Rounded if is_float => {
                    floats.push(numbers(column)?);
                    let size = sizes.get(number).and_then(|sizes| sizes[index].as_ref());
                    of_floats.push(size.map(numbers).transpose()?);
                }
                Closeness::Approximate => {
                    exact.push(
                        (0..column.len()).map(|row| column.is_valid(row).then(|| "(about)".to_owned())).collect(),
                    );
                }
                _ if is_float => exact.push(numbers(column)?.into_iter().map(|value| value.map(exact_text)).collect()),
                _ => exact.push(texts(column)?),
            }
        }
        for row in 0..batch.num_rows() {
            let size = |sizes: &Option<Vec<Option<f64>>>| {
                let known = sizes.as_ref().and_then(|sizes| sizes[row]);
                known.filter(|size| size.is_finite()).unwrap_or(0.0)
            };
            rows.push(Row {
                exact: exact.iter().map(|column: &Vec<Option<String>>| column[row].clone()).collect(),
                floats: floats.iter().map(|column| column[row]).collect(),
                sizes: of_floats.iter().map(size).collect(),
            });
        }
    }
    rows.sort_by(|a, b| a.exact.cmp(&b.exact).then_with(|| by_floats(a, b)));
    Ok(rows)
}

fn by_floats(a: &Row, b: &Row) -> Ordering {
    let key = |value: &Option<f64>| value.unwrap_or(f64::NEG_INFINITY);
    let pairs = a.floats.iter().zip(&b.floats);
    pairs.map(|(a, b)| key(a).total_cmp(&key(b))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// The same for all that SQL calls equal: one zero, one NaN.
fn exact_text(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { (value + 0.0).to_string() }
}

fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(|error| unshown(&error))?;
    Ok((0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string())).collect())
}

fn numbers(column: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let column = cast(column, &DataType::Float64).map_err(|error| unshown(&error))?;
    Ok(column.as_primitive::<Float64Type>().iter().collect())
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
    let (mut from, to) = (by_key(schema, keys, from)?, by_key(schema, keys, to)?);
    let mut changes = BTreeMap::new();
    for (key, after) in to {
        let before = from.remove(&key).unwrap_or_default();
        changes.insert(key, changed(before, after));
    }
    changes.extend(from.into_iter().map(|(key, before)| (key, changed(before, Vec::new()))));
    Ok(changes.into_values().flatten().collect())
}

/// What changed among the rows of one key.
fn changed(before: Vec<KeyedRow>, after: Vec<KeyedRow>) -> Vec<GroupChange> {
    if let ([before], [after]) = (before.as_slice(), after.as_slice()) {
        let change = GroupChange { from: Some(before.place), to: Some(after.place) };
        return if before.values == after.values { Vec::new() } else { vec![change] };
    }
    // As multisets: how often each row is there, and where.
    let mut gone: BTreeMap<Vec<Option<String>>, Vec<(usize, usize)>> = BTreeMap::new();
    for row in before.into_iter().rev() {
        gone.entry(row.values).or_default().push(row.place);
    }
    let came = |row: KeyedRow| match gone.get_mut(&row.values).and_then(Vec::pop) {
        Some(_) => None,
        None => Some(GroupChange { from: None, to: Some(row.place) }),
    };
    let came: Vec<GroupChange> = after.into_iter().filter_map(came).collect();
    let mut gone: Vec<(usize, usize)> = gone.into_values().flatten().collect();
    gone.sort_unstable();
    gone.into_iter().map(|place| GroupChange { from: Some(place), to: None }).chain(came).collect()
}

/// A row, and where it is.
#[derive(Debug)]
struct KeyedRow {
    place: (usize, usize),
    values: Vec<Option<String>>,
}

fn by_key(
    schema: &SchemaRef,
    keys: &[usize],
    batches: &[RecordBatch],
) -> Result<BTreeMap<Vec<Option<String>>, Vec<KeyedRow>>> {
    let mut found: BTreeMap<_, Vec<KeyedRow>> = BTreeMap::new();
    for (number, batch) in batches.iter().enumerate() {
        let columns = batch.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
        debug_assert_eq!(schema.fields().len(), columns.len());
        for row in 0..batch.num_rows() {
            let values: Vec<Option<String>> = columns.iter().map(|column| column[row].clone()).collect();
            let key: Vec<Option<String>> = keys.iter().map(|column| values[*column].clone()).collect();
            found.entry(key).or_default().push(KeyedRow { place: (number, row), values });
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

    const SUM: [Closeness; 3] = [Closeness::Exact, Closeness::Exact, Closeness::Rounded];

    /// Compares, `size` being that of every sum.
    fn compared(ours: &[RecordBatch], theirs: &[RecordBatch], closeness: &[Closeness], size: f64) -> Option<String> {
        let of = |batch: &RecordBatch| -> Vec<Option<ArrayRef>> {
            vec![None, None, Some(Arc::new(Float64Array::from(vec![size; batch.num_rows()])))]
        };
        let sizes: Vec<_> = theirs.iter().map(of).collect();
        difference(ours, &Expected { rows: theirs, closeness, sizes: &sizes }).unwrap()
    }

    #[test]
    fn floats_may_differ_by_rounding_and_counts_by_nothing() {
        let a = batch(&[("a", 1, 0.1 + 0.2), ("b", 2, 1.0)]);
        let sums = |theirs: &[(&str, i64, f64)]| compared(&a, &batch(theirs), &SUM, 0.0);
        assert_eq!(sums(&[("b", 2, 1.0), ("a", 1, 0.3)]), None);
        assert_eq!(
            sums(&[("a", 2, 0.3), ("b", 2, 1.0)]).unwrap(),
            "(a, 1, 0.30000000000000004) where (a, 2, 0.3) is expected"
        );
        assert!(sums(&[("a", 1, 0.3)]).unwrap().contains("extra (b"));
        assert!(sums(&[("a", 1, 0.3), ("b", 2, 1.0), ("c", 1, 1.0)]).unwrap().contains("missing (c"));
        assert!(sums(&[("a", 1, 0.3), ("b", 2, 1.000_001)]).is_some());
        assert!(compared(&a, &batch(&[("a", 1, 0.3), ("b", 2, 1.0)]), &[Closeness::Exact; 3], 0.0).is_some());
    }

    /// The tolerance was absolute below 1: of sums around 1e-12 nothing could be lost.
    #[test]
    fn small_sums_are_compared_by_their_own_size_and_cancelled_ones_by_what_was_added() {
        let (small, half) = (batch(&[("a", 1, 2e-12)]), batch(&[("a", 1, 1e-12)]));
        assert!(compared(&small, &half, &SUM, 2e-12).is_some());
        assert_eq!(compared(&small, &batch(&[("a", 1, 2e-12 + 1e-27)]), &SUM, 2e-12), None);
        let cancelled = 1e6 + 0.1 - 1e6 - 0.1;
        assert_ne!(cancelled, 0.0);
        assert_eq!(compared(&batch(&[("a", 1, cancelled)]), &batch(&[("a", 1, 0.0)]), &SUM, 2e6), None);
    }

    #[test]
    fn of_an_approximate_column_only_the_presence_counts() {
        let about = [Closeness::Exact, Closeness::Exact, Closeness::Approximate];
        assert_eq!(compared(&batch(&[("a", 1, 5.0)]), &batch(&[("a", 1, 9.0)]), &about, 0.0), None);
        assert!(compared(&batch(&[("a", 1, 5.0)]), &batch(&[("a", 2, 9.0)]), &about, 0.0).is_some());
    }

    /// Rows that have all but sums in common may be sorted otherwise on both sides, by rounding.
    #[test]
    fn neighbours_may_change_places() {
        let third = 1.0 / 3.0;
        let (a, b) = ([("", 1, 0.3), ("", 1, third)], [("", 1, third), ("", 1, 0.1 + 0.2)]);
        assert_eq!(compared(&batch(&a), &batch(&b), &SUM, 0.0), None);
        assert!(compared(&batch(&a), &batch(&[b[0], b[0]]), &SUM, 0.0).is_some());
    }

    /// A count that is off by one was searched for in quadratic time, and so were keys that repeat.
    #[test]
    fn large_results_are_compared_in_time() {
        let names: Vec<String> = (0..200_000).map(|number| format!("{number:06}")).collect();
        let rows: Vec<(&str, i64, f64)> = names.iter().map(|name| (name.as_str(), 1, 1.0)).collect();
        let (all, less) = (batch(&rows), batch(&rows[1..]));
        assert!(compared(&less, &all, &SUM, 0.0).unwrap().contains("missing (000000"));
        let same_key = batch(&rows.iter().map(|row| ("", 1, row.0.parse().unwrap())).collect::<Vec<_>>());
        assert_eq!(diff_groups(&same_key[0].schema(), &[0], &same_key, &same_key).unwrap(), []);
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

    /// They were paired by position, so that both values were those of unrelated groups.
    #[test]
    fn rows_of_the_same_key_come_and_go() {
        let from = batch(&[("a", 1, 0.0), ("a", 2, 0.0), ("a", 2, 0.0)]);
        let to = batch(&[("a", 2, 0.0), ("a", 3, 0.0), ("a", 1, 0.0)]);
        let changes = diff_groups(&from[0].schema(), &[0], &from, &to).unwrap();
        let expected = [GroupChange { from: Some((0, 2)), to: None }, GroupChange { from: None, to: Some((0, 1)) }];
        assert_eq!(changes, expected);
    }
}
