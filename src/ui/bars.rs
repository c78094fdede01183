//! What of a result is shown as bars: a number, by what tells the rows apart.

use std::{collections::HashSet, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Float64Type, Schema},
    record_batch::RecordBatch,
    row::{RowConverter, SortField},
};

use crate::{batch::Table, progress::numbers::grouped, sink::rows};

/// Rows that bars are chosen among: beyond that only the table is shown.
const ROWS_MAX: usize = 100_000;

/// Some rows of a result: the largest first or, where times are what they are told apart by, the newest.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars {
    pub title: String,
    /// A label and its number.
    pub bars: Vec<(String, f64)>,
}

/// A number as people read it: whole ones grouped, others with two digits, enormous ones as a power of ten.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        grouped(value as u64)
    } else if value.abs() < 1e12 {
        format!("{value:.2}")
    } else {
        format!("{value:.3e}")
    }
}

/// The bars of a result; `None`: it has no label and number, or too many rows.
pub fn of(table: &Table, bars_max: usize) -> Option<Bars> {
    let rows: usize = table.rows.iter().map(RecordBatch::num_rows).sum();
    if rows == 0 || rows > ROWS_MAX {
        return None;
    }
    let columns = Columns::of(table, rows)?;
    let newest = columns.moment.and_then(|column| newest_moment(table, column));
    let mut found = columns.found(table, newest.as_ref().map(|(at, _)| *at))?;
    found.sort_by(|a, b| b.order.total_cmp(&a.order).then(a.place.cmp(&b.place)));
    found.truncate(bars_max);
    let bar = |found: Found| {
        let (batch, row) = found.place;
        let one = table.rows[batch].slice(row, 1).project(&columns.labels).ok()?;
        let cells = rows::text_cells(&one).ok()?;
        Some((cells.iter().filter_map(|cell| cell.first()).cloned().collect::<Vec<_>>().join(" "), found.value))
    };
    let name = |column: usize| table.schema.field(column).name().as_str();
    let when = columns.moment.zip(newest).map(|(column, (_, text))| format!(", {} {text}", name(column)));
    let labels = columns.labels.iter().map(|label| name(*label)).collect::<Vec<_>>().join(", ");
    Some(Bars {
        title: format!("{} by {labels}{}", name(columns.number), when.unwrap_or_default()),
        bars: found.into_iter().map(bar).collect::<Option<_>>()?,
    })
}

/// Which columns the bars are made of.
#[derive(Debug, PartialEq, Eq)]
struct Columns {
    labels: Vec<usize>,
    number: usize,
    /// Of several moments only the newest is shown: each has the same labels.
    moment: Option<usize>,
    /// The label is a time, and orders the bars.
    by_time: bool,
}

impl Columns {
    fn of(table: &Table, rows: usize) -> Option<Columns> {
        let Table { schema, keys, .. } = table;
        let kind = |column: &usize| schema.field(*column).data_type();
        let is_time = |column: &usize| kind(column).is_temporal();
        // a group has its key as its name, whatever that is; else a text is one, or what else is no measure
        let named: Vec<usize> = if keys.is_empty() {
            unkeyed_label(schema, rows).into_iter().collect()
        } else {
            (0..schema.fields().len()).filter(|column| keys.contains(column)).collect()
        };
        let is_measure = |column: &usize| kind(column).is_numeric() && !named.contains(column);
        let number = (0..schema.fields().len()).find(is_measure)?;
        let lasting: Vec<usize> = named.iter().copied().filter(|column| !is_time(column)).collect();
        if lasting.is_empty() {
            let first = *named.first()?;
            return Some(Columns { labels: vec![first], number, moment: None, by_time: true });
        }
        let times: Vec<usize> = (0..schema.fields().len()).filter(is_time).collect();
        let moment = times.iter().copied().find(|column| keys.is_empty() || keys.contains(column));
        // the start of a window tells of a key that is not shown
        let moment = moment.or_else(|| times.first().copied().filter(|_| repeat(table, &lasting)));
        Some(Columns { labels: lasting, number, moment, by_time: false })
    }

    /// The rows that have a value, each with what it is ordered by.
    fn found(&self, table: &Table, newest: Option<f64>) -> Option<Vec<Found>> {
        let mut found = Vec::new();
        for (batch, rows) in table.rows.iter().enumerate() {
            let values = cast(rows.column(self.number), &DataType::Float64).ok()?;
            let values = values.as_primitive::<Float64Type>();
            let times = match (self.by_time, self.moment) {
                (true, _) => Some(as_numbers(rows.column(self.labels[0]))?),
                (false, moment) => moment.and_then(|moment| as_numbers(rows.column(moment))),
            };
            let time_of = |row: usize| {
                let times = times.as_ref()?.as_primitive::<Float64Type>();
                times.is_valid(row).then(|| times.value(row))
            };
            for row in 0..rows.num_rows() {
                let is_shown = self.by_time || self.moment.is_none() || (newest.is_some() && time_of(row) == newest);
                if is_shown && values.is_valid(row) && values.value(row).is_finite() {
                    let value = values.value(row);
                    let order = if self.by_time { time_of(row).unwrap_or(f64::NEG_INFINITY) } else { value };
                    found.push(Found { order, value, place: (batch, row) });
                }
            }
        }
        Some(found)
    }
}

/// Whether the same labels come more than once, so that they alone do not tell the rows apart.
fn repeat(table: &Table, labels: &[usize]) -> bool {
    let field = |label: &usize| SortField::new(table.schema.field(*label).data_type().clone());
    let Ok(converter) = RowConverter::new(labels.iter().map(field).collect()) else { return false };
    let mut seen = HashSet::new();
    table.rows.iter().any(|batch| {
        let columns: Vec<ArrayRef> = labels.iter().map(|label| Arc::clone(batch.column(*label))).collect();
        converter.convert_columns(&columns).is_ok_and(|rows| !rows.iter().all(|row| seen.insert(row.owned())))
    })
}

/// A row, by its place.
struct Found {
    order: f64,
    value: f64,
    place: (usize, usize),
}

/// The label of rows that have no key: the first text, else the first column that need be no measure, where there are rows to be
/// told apart.
fn unkeyed_label(schema: &Schema, rows: usize) -> Option<usize> {
    let all = || schema.fields().iter().map(|field| field.data_type()).enumerate();
    let is_name = |kind: &DataType| kind.is_integer() || kind.is_temporal() || *kind == DataType::Boolean;
    let text = all().find(|(_, kind)| is_text(kind));
    text.or_else(|| all().find(|(_, kind)| rows > 1 && is_name(kind))).map(|(column, _)| column)
}

/// Text, however it is kept.
fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_text(values),
        DataType::RunEndEncoded(_, values) => is_text(values.data_type()),
        kind => matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}

/// A column of times as numbers, to be compared.
fn as_numbers(column: &ArrayRef) -> Option<ArrayRef> {
    let whole = cast(column, &DataType::Int64).or_else(|_| cast(column, &DataType::Int32)).ok()?;
    cast(&whole, &DataType::Float64).ok()
}

/// The newest time of a column, as a number and as text.
fn newest_moment(table: &Table, column: usize) -> Option<(f64, String)> {
    let mut newest: Option<(f64, String)> = None;
    for batch in &table.rows {
        let numbers = as_numbers(batch.column(column))?;
        let numbers = numbers.as_primitive::<Float64Type>();
        let row = (0..numbers.len())
            .filter(|row| numbers.is_valid(*row))
            .max_by(|a, b| numbers.value(*a).total_cmp(&numbers.value(*b)));
        let Some(row) = row else { continue };
        if newest.as_ref().is_none_or(|(at, _)| numbers.value(row) > *at) {
            let text = rows::text_cells(&batch.slice(row, 1)).ok()?.get(column)?.first()?.clone();
            newest = Some((numbers.value(row), text));
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{
            BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int64Array, LargeStringArray,
            StringArray, StringViewArray, TimestampMicrosecondArray,
        },
        datatypes::Int32Type,
    };

    use super::*;

    fn table(columns: Vec<(&str, ArrayRef)>, keys: Vec<usize>) -> Table {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        Table { query: "q".into(), schema: batch.schema(), rows: vec![batch], keys }
    }

    fn counts() -> ArrayRef {
        Arc::new(Int64Array::from(vec![Some(2), Some(40), None]))
    }

    fn labels(table: &Table) -> Vec<String> {
        of(table, 9).unwrap().bars.into_iter().map(|(label, _)| label).collect()
    }

    #[test]
    fn a_number_is_short_however_large_it_is() {
        let texts = [0.0, 1_234_567.0, 1e15, -3.0, 2.5, 1e300, -1e12].map(number);
        assert_eq!(texts, ["0", "1,234,567", "1.000e15", "-3.00", "2.50", "1.000e300", "-1.000e12"]);
    }

    #[test]
    fn whatever_a_label_is_it_is_one() {
        let texts = vec!["few", "many", "none"];
        let dictionary: DictionaryArray<Int32Type> = texts.iter().copied().collect();
        let kinds: [(ArrayRef, [&str; 2]); 7] = [
            (Arc::new(StringArray::from(texts.clone())), ["many", "few"]),
            (Arc::new(LargeStringArray::from(texts.clone())), ["many", "few"]),
            (Arc::new(StringViewArray::from(texts)), ["many", "few"]),
            (Arc::new(dictionary), ["many", "few"]),
            (Arc::new(Int64Array::from(vec![80, 443, 7])), ["443", "80"]),
            (Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), ["NULL", "true"]),
            (Arc::new(Date32Array::from(vec![0, 1, 2])), ["1970-01-02", "1970-01-01"]),
        ];
        for (label, expected) in kinds {
            let kind = label.data_type().clone();
            for keys in [vec![0], vec![]] {
                let table = table(vec![("label", Arc::clone(&label)), ("count", counts())], keys);
                assert_eq!(labels(&table), expected, "{kind}");
                assert_eq!(of(&table, 9).unwrap().title, "count by label");
            }
        }
    }

    #[test]
    fn times_as_labels_are_in_their_own_order() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![2, 0, 1]));
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 9.0, 3.0]));
        let table = table(vec![("day", days), ("mean", numbers)], vec![0]);
        assert_eq!(labels(&table), ["1970-01-03", "1970-01-02", "1970-01-01"]);
    }

    #[test]
    fn of_several_moments_the_newest_and_a_key_of_several_columns_whole() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 30_000_000, 30_000_000]));
        let ports: ArrayRef = Arc::new(Int64Array::from(vec![80, 80, 443]));
        let hosts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let sums: ArrayRef =
            Arc::new(Decimal128Array::from(vec![900, 100, 700]).with_precision_and_scale(9, 2).unwrap());
        let columns = vec![("opens", times), ("port", ports), ("host", hosts), ("sum", sums)];
        let bars = of(&table(columns, vec![0, 1, 2]), 9).unwrap();
        assert_eq!(bars.title, "sum by port, host, opens 1970-01-01T00:00:30");
        assert_eq!(bars.bars, [("443 c".to_owned(), 7.0), ("80 b".to_owned(), 1.0)]);
    }

    #[test]
    fn a_time_beside_the_key_is_a_moment_only_where_the_key_does_not_tell_rows_apart() {
        let with_tags = |tags: [&str; 3]| {
            let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 30_000_000, 30_000_000]));
            let tags: ArrayRef = Arc::new(StringArray::from(tags.to_vec()));
            let numbers: ArrayRef = Arc::new(Int64Array::from(vec![9, 1, 7]));
            of(&table(vec![("at", times), ("tag", tags), ("count", numbers)], vec![1]), 9).unwrap()
        };
        let windows = with_tags(["a", "a", "b"]);
        assert_eq!(windows.title, "count by tag, at 1970-01-01T00:00:30");
        assert_eq!(windows.bars, [("b".to_owned(), 7.0), ("a".to_owned(), 1.0)]);
        let last_seen = with_tags(["a", "b", "c"]);
        assert_eq!((last_seen.title.as_str(), last_seen.bars.len()), ("count by tag", 3));
    }

    #[test]
    fn without_a_label_or_a_number_there_are_none() {
        let one = |column: ArrayRef, keys| of(&table(vec![("x", column)], keys), 9);
        assert_eq!(one(counts(), vec![]), None, "a number by nothing");
        assert_eq!(one(counts(), vec![0]), None, "a key of a number");
        assert_eq!(one(Arc::new(StringArray::from(vec!["a"])), vec![0]), None);
        let empty = table(vec![("x", Arc::new(StringArray::from(Vec::<&str>::new())) as ArrayRef)], vec![0]);
        assert_eq!(of(&empty, 9), None);
        let one: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        assert_eq!(of(&table(vec![("n", Arc::clone(&one)), ("sum", one)], vec![]), 9), None, "one row of measures");
    }

    #[test]
    fn so_many_bars_and_labels_that_can_be_printed() {
        let evil: ArrayRef = Arc::new(StringArray::from(vec!["a\u{1b}[2J", "b", "c"]));
        let bars = of(&table(vec![("label", evil), ("count", counts())], vec![0]), 2).unwrap().bars;
        assert_eq!(bars, [("b".to_owned(), 40.0), ("a\\u{1b}[2J".to_owned(), 2.0)]);
        let one: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        assert_eq!(of(&table(vec![("label", one), ("count", counts())], vec![0]), 1).unwrap().bars.len(), 1);
    }
}
