//! `highwater diff`: the groups that changed between two batches, with both values.

use std::io::Write;

use datafusion::arrow::{datatypes::SchemaRef, record_batch::RecordBatch};

use super::{
    args::{DiffArgs, OutputFormat},
    load,
    output::{with_query, write_rows},
    streams::{Failure, data},
};
use crate::{
    batch::Diff,
    model::{BatchAddress, Result, error::printable},
};

pub fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let view = load::view(&args.checkpoint)?;
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
    let batch = match format {
        OutputFormat::Json => diff.nested()?,
        OutputFormat::Table | OutputFormat::Csv => diff.flat(from, to)?,
    };
    Ok((batch.schema(), vec![batch]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::{batch::Table, model::BatchId, query::diff_groups};

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
