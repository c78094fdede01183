//! A query's result, or what changed in it, as far as a screen may show it.

use datafusion::arrow::{datatypes::Schema, record_batch::RecordBatch};

use super::columns::{Column, columns};
use crate::{
    batch::{Diff, Table},
    model::{BatchAddress, BatchId, Result},
    ui::bars,
};

/// Rows of a result that are shown.
pub(super) const ROWS_MAX: usize = 500;

/// A query's result, as far as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub query: String,
    pub at: BatchAddress,
    /// The rows are what changed since this batch.
    pub since: Option<BatchAddress>,
    /// All rows, those that are not shown included.
    pub rows: usize,
    pub columns: Vec<Column>,
    /// Places of the columns, the most important first.
    pub importance: Vec<usize>,
    /// What the bars are of.
    pub by: String,
    /// As the page has them; empty where the rows have no label and number.
    pub bars: Vec<(String, f64)>,
}

impl Shown {
    /// The batch since which changes are shown.
    pub fn marked(&self) -> Option<BatchId> {
        self.since.map(|since| since.batch)
    }
}

/// A result, as far as it is shown.
pub(super) fn shown(table: &Table, at: BatchAddress) -> Result<Shown> {
    let bars = bars::of(table, ROWS_MAX);
    let (by, bars) = bars.map_or_else(Default::default, |bars| (bars.title, bars.bars));
    Ok(Shown {
        query: table.query.clone(),
        at,
        since: None,
        rows: table.rows.iter().map(RecordBatch::num_rows).sum(),
        columns: columns(&table.schema, &first(&table.rows))?,
        importance: by_importance(&table.schema, &table.keys, 1),
        by,
        bars,
    })
}

/// What changed between two batches, as far as it is shown.
pub(super) fn changed(diff: &Diff, since: BatchAddress, at: BatchAddress) -> Result<Shown> {
    let plain = |address: BatchAddress| BatchAddress { generation: None, ..address };
    let rows = diff.flat(plain(since), plain(at))?;
    let keys: Vec<usize> = (0..diff.table_to.keys.len()).collect();
    Ok(Shown {
        query: diff.table_to.query.clone(),
        at,
        since: Some(since),
        rows: rows.num_rows(),
        columns: columns(&rows.schema(), &first(std::slice::from_ref(&rows)))?,
        // a value before and after
        importance: by_importance(&rows.schema(), &keys, 2),
        by: String::new(),
        bars: Vec::new(),
    })
}

/// The first rows, as many as may be shown.
fn first(rows: &[RecordBatch]) -> Vec<RecordBatch> {
    let mut left = ROWS_MAX;
    let part = |batch: &RecordBatch| {
        let part = batch.slice(0, left.min(batch.num_rows()));
        left -= part.num_rows();
        part
    };
    rows.iter().map(part).collect()
}

/// The places of columns, the most important first: what tells rows apart, what is measured of them, all else.
fn by_importance(schema: &Schema, keys: &[usize], values: usize) -> Vec<usize> {
    let columns = schema.fields().len();
    let is_number = |column: &usize| schema.field(*column).data_type().is_numeric();
    let name = keys.last().copied().or_else(|| (0..columns).find(|column| !is_number(column)));
    let measures = (0..columns).filter(|column| !keys.contains(column) && is_number(column)).take(values);
    let mut places: Vec<usize> = name.into_iter().chain(measures).collect();
    let rest: Vec<usize> = (0..columns).filter(|column| !places.contains(column)).collect();
    places.extend(rest);
    places
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use datafusion::arrow::{
        array::{ArrayRef, Int64Array, StringArray},
        datatypes::{DataType, Field},
    };

    use super::*;
    use crate::{model::Generation, query::GroupChange};

    pub fn table() -> Table {
        let batch = RecordBatch::try_from_iter([
            ("device", Arc::new(StringArray::from(vec!["Comp\u{1b}1", "Comp2"])) as ArrayRef),
            ("count", Arc::new(Int64Array::from(vec![Some(2), Some(40)]))),
        ])
        .unwrap();
        Table { query: "counts".to_owned(), schema: batch.schema(), rows: vec![batch], keys: vec![0] }
    }

    #[test]
    fn what_tells_rows_apart_and_what_is_told_of_them_comes_first() {
        let schema = |kinds: &[DataType]| {
            let field = |kind: &DataType| Field::new(kind.to_string(), kind.clone(), true);
            Schema::new(kinds.iter().map(field).collect::<Vec<_>>())
        };
        let (text, number, day) = (DataType::Utf8, DataType::Int64, DataType::Date32);
        let windows = schema(&[day.clone(), text.clone(), number.clone(), number.clone()]);
        assert_eq!(by_importance(&windows, &[0, 1], 1), [1, 2, 0, 3], "a key of a day and a name: the name");
        assert_eq!(by_importance(&windows, &[1], 1), [1, 2, 0, 3], "a number before a time");
        assert_eq!(by_importance(&windows, &[1], 2), [1, 2, 3, 0]);
        assert_eq!(by_importance(&windows, &[], 1), [0, 2, 1, 3]);
        assert_eq!(by_importance(&schema(&[text, day]), &[1], 1), [1, 0]);
        assert_eq!(by_importance(&schema(&[number]), &[], 1), [0]);
        assert!(by_importance(&schema(&[]), &[], 1).is_empty());
    }

    #[test]
    fn what_changed_has_both_values() {
        let later = RecordBatch::try_from_iter([
            ("device", Arc::new(StringArray::from(vec!["Comp2", "Comp3"])) as ArrayRef),
            ("count", Arc::new(Int64Array::from(vec![Some(41), Some(1)]))),
        ])
        .unwrap();
        let table_from = table();
        let table_to = Table { rows: vec![later], ..table_from.clone() };
        let place = |row| Some((0, row));
        let changes = vec![GroupChange { from: place(1), to: place(0) }, GroupChange { from: None, to: place(1) }];
        let at = |batch| BatchAddress { batch: BatchId(batch), generation: Some(Generation(0)) };
        let shown = changed(&Diff { table_from, table_to, changes }, at(3), at(5)).unwrap();
        let names: Vec<&str> = shown.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!((names, shown.rows), (vec!["device", "count at 3", "count at 5"], 2));
        assert_eq!(shown.columns[1].cells, ["40", "NULL"]);
        assert_eq!((shown.marked(), shown.importance), (Some(BatchId(3)), vec![0, 1, 2]));
    }
}
