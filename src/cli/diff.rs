//! `highwater diff`: the groups that changed between two batches, with both values.

use std::{io::Write, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayRef, StructArray, UInt64Array, new_empty_array},
    buffer::NullBuffer,
    compute::{concat, interleave, take},
    datatypes::{DataType, Field, Fields, Schema, SchemaRef},
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};

use super::{
    args::{DiffArgs, OutputFormat},
    output::{with_query, write_rows},
    streams::{Failure, data},
};
use crate::{
    batch::{Diff, Table, View},
    model::{BatchAddress, Error, Result, error::printable},
};

pub fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let view = View::open(&args.checkpoint)?;
    let (from, to) = (view.resolve(Some(args.from))?, view.resolve(Some(args.to))?);
    let all = view.queries();
    let queries = args.query.as_ref().map_or_else(|| all.clone(), |query| vec![query.clone()]);
    let named = args.query.is_none() && all.len() > 1;
    let format = args.format.output;
    let mut out = data();
    for query in queries {
        let diff = view.diff(&query, from, to)?;
        let (mut schema, mut rows) = changes(&diff, format, args.from, args.to)?;
        if named && format == OutputFormat::Table {
            writeln!(out, "{}", printable(&query))?;
        } else if named {
            (schema, rows) = with_query(&query, &schema, &rows)?;
        }
        write_rows(&mut out, format, &schema, &rows)?;
    }
    Ok(out.flush()?)
}

/// The changes as rows: for JSON `key`, `from` and `to`; else the key's columns, then each other column twice.
fn changes(
    diff: &Diff,
    format: OutputFormat,
    from: BatchAddress,
    to: BatchAddress,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let rows = Changes::new(diff).and_then(|changes| match format {
        OutputFormat::Json => changes.nested(),
        OutputFormat::Table | OutputFormat::Csv => changes.flat(from, to),
    });
    let batch = rows.map_err(|cause| Error::failed("the changes cannot be printed").because(cause.to_string()))?;
    Ok((batch.schema(), vec![batch]))
}

/// The changed rows of both results, column by column.
struct Changes {
    keys: Vec<(Field, ArrayRef)>,
    /// The other columns before and after; null where the group was not there.
    values: Vec<(Field, ArrayRef, ArrayRef)>,
    /// Which groups were there before, and after.
    was: NullBuffer,
    is: NullBuffer,
}

impl Changes {
    fn new(diff: &Diff) -> Result<Changes, ArrowError> {
        let (from, to) = (Flat::new(&diff.table_from), Flat::new(&diff.table_to));
        let before: UInt64Array = diff.changes.iter().map(|change| from.row(change.from)).collect();
        let after: UInt64Array = diff.changes.iter().map(|change| to.row(change.to)).collect();
        let mut changes = Changes {
            keys: Vec::new(),
            values: Vec::new(),
            was: diff.changes.iter().map(|change| change.from.is_some()).collect(),
            is: diff.changes.iter().map(|change| change.to.is_some()).collect(),
        };
        // a key is the same on both sides: take it from where the group is
        let sides = diff.changes.iter().map(|change| match change.to {
            Some(_) => (1, to.row(change.to)),
            None => (0, from.row(change.from)),
        });
        let sides: Vec<(usize, usize)> = sides.map(|(side, row)| (side, row.map_or(0, |row| row as usize))).collect();
        let table = &diff.table_to;
        for key in &table.keys {
            let (old, new) = (from.column(&diff.table_from, *key)?, to.column(table, *key)?);
            changes.keys.push((nullable(table, *key), interleave(&[old.as_ref(), new.as_ref()], &sides)?));
        }
        for column in (0..table.schema.fields().len()).filter(|column| !table.keys.contains(column)) {
            let (old, new) = (from.column(&diff.table_from, column)?, to.column(table, column)?);
            changes.values.push((nullable(table, column), take(&old, &before, None)?, take(&new, &after, None)?));
        }
        Ok(changes)
    }

    /// `{"key":{...},"from":{...}|null,"to":{...}|null}`
    fn nested(self) -> Result<RecordBatch, ArrowError> {
        let count = self.was.len();
        let object = |columns: Vec<(Field, ArrayRef)>, there: Option<NullBuffer>| -> Result<ArrayRef, ArrowError> {
            if columns.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(count, there)));
            }
            let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
            Ok(Arc::new(StructArray::try_new(Fields::from(fields), columns, there)?))
        };
        let mut before = Vec::new();
        let mut after = Vec::new();
        for (field, old, new) in self.values {
            before.push((field.clone(), old));
            after.push((field, new));
        }
        let (key, from, to) =
            (object(self.keys, None)?, object(before, Some(self.was))?, object(after, Some(self.is))?);
        RecordBatch::try_from_iter_with_nullable([("key", key, false), ("from", from, true), ("to", to, true)])
    }

    /// `dstdevice, count at 17, count at 20`
    fn flat(self, from: BatchAddress, to: BatchAddress) -> Result<RecordBatch, ArrowError> {
        let count = self.was.len();
        let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = self.keys.into_iter().unzip();
        for (field, old, new) in self.values {
            let name = field.name().clone();
            fields.push(field.clone().with_name(format!("{name} at {from}")));
            fields.push(field.with_name(format!("{name} at {to}")));
            columns.extend([old, new]);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }
}

fn nullable(table: &Table, column: usize) -> Field {
    table.schema.field(column).clone().with_nullable(true)
}

/// The batches of a result, seen as one.
struct Flat {
    /// Rows before each batch.
    offsets: Vec<u64>,
}

impl Flat {
    fn new(table: &Table) -> Flat {
        let counts = table.rows.iter().map(|batch| batch.num_rows() as u64);
        let offsets = counts.scan(0, |before, count| Some(std::mem::replace(before, *before + count))).collect();
        Flat { offsets }
    }

    fn row(&self, place: Option<(usize, usize)>) -> Option<u64> {
        place.map(|(batch, row)| self.offsets[batch] + row as u64)
    }

    fn column(&self, table: &Table, column: usize) -> Result<ArrayRef, ArrowError> {
        let data_type: &DataType = table.schema.field(column).data_type();
        let parts: Vec<&dyn Array> = table.rows.iter().map(|batch| batch.column(column).as_ref()).collect();
        if parts.is_empty() { Ok(new_empty_array(data_type)) } else { concat(&parts) }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;
    use crate::{model::BatchId, query::diff_groups};

    fn table(batches: &[&[(&str, i64)]], keys: &[usize]) -> Table {
        let batch = |rows: &&[(&str, i64)]| {
            let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
            let counts: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>());
            RecordBatch::try_from_iter_with_nullable([("dstdevice", names, true), ("count", counts, true)]).unwrap()
        };
        let rows: Vec<_> = batches.iter().map(batch).collect();
        let empty: &[(&str, i64)] = &[];
        Table { query: "counts".into(), schema: batch(&empty).schema(), rows, keys: keys.to_vec() }
    }

    fn printed(format: OutputFormat, table_from: Table, table_to: Table) -> String {
        let changes = diff_groups(&table_to.schema, &table_to.keys, &table_from.rows, &table_to.rows).unwrap();
        let diff = Diff { table_from, table_to, changes };
        let at = |batch| BatchAddress { batch: BatchId(batch), generation: None };
        let (schema, rows) = super::changes(&diff, format, at(17), at(20)).unwrap();
        let mut out = Vec::new();
        write_rows(&mut out, format, &schema, &rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_change_has_its_key_and_both_values() {
        let from = || table(&[&[("Gone", 1), ("Same", 2)], &[("More", 3)]], &[0]);
        let to = || table(&[&[("More", 4), ("New", 1)], &[("Same", 2)]], &[0]);
        assert_eq!(
            printed(OutputFormat::Json, from(), to()),
            r#"{"key":{"dstdevice":"Gone"},"from":{"count":1},"to":null}
{"key":{"dstdevice":"More"},"from":{"count":3},"to":{"count":4}}
{"key":{"dstdevice":"New"},"from":null,"to":{"count":1}}
"#
        );
        assert_eq!(
            printed(OutputFormat::Csv, from(), to()),
            "dstdevice,count at 17,count at 20\nGone,1,\nMore,3,4\nNew,,1\n"
        );
    }

    #[test]
    fn without_a_key_the_key_is_empty() {
        let printed = printed(OutputFormat::Json, table(&[], &[]), table(&[&[("A", 1)]], &[]));
        assert_eq!(printed, "{\"key\":{},\"from\":null,\"to\":{\"dstdevice\":\"A\",\"count\":1}}\n");
    }

    #[test]
    fn no_change_prints_no_line() {
        let same = || table(&[&[("A", 1)]], &[0]);
        assert_eq!(printed(OutputFormat::Json, same(), same()), "");
        assert_eq!(printed(OutputFormat::Csv, same(), same()), "dstdevice,count at 17,count at 20\n");
    }
}
