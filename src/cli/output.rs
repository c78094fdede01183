//! Results on stdout: a table, JSON lines or CSV.

use std::{io::Write, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};

use super::{args::OutputFormat, streams::Failure};
use crate::{
    batch::Table,
    job::RowFormat,
    model::{Error, Result, error::printable},
    sink::rows,
};

/// The column that tells the queries of a job apart.
const QUERY: &str = "query";

/// Prints results. `named`: there may be several, so each row (a table: its heading) says its query.
pub fn write_tables(out: &mut impl Write, format: OutputFormat, tables: &[Table], named: bool) -> Result<(), Failure> {
    for (index, table) in tables.iter().enumerate() {
        if format == OutputFormat::Table && named {
            let gap = if index > 0 { "\n" } else { "" };
            writeln!(out, "{gap}{}", printable(&table.query))?;
        }
        if format != OutputFormat::Table && named {
            let (schema, rows) = with_query(&table.query, &table.schema, &table.rows)?;
            write_rows(out, format, &schema, &rows)?;
        } else {
            write_rows(out, format, &table.schema, &table.rows)?;
        }
    }
    Ok(())
}

/// Prints rows.
pub fn write_rows(
    out: &mut impl Write,
    format: OutputFormat,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<(), Failure> {
    let bytes = match format {
        OutputFormat::Table => rows::table(schema, batches)?.into_bytes(),
        OutputFormat::Json => rows::to_bytes(RowFormat::Json, schema, batches)?,
        OutputFormat::Csv => rows::to_bytes(RowFormat::Csv, schema, batches)?,
    };
    Ok(out.write_all(&bytes)?)
}

/// Puts the query's name in front of each row.
///
/// # Errors
/// Of kind `Usage`, where the query has a column of that name.
pub fn with_query(query: &str, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    if schema.fields().iter().any(|field| field.name() == QUERY) {
        return Err(Error::usage(format!("the rows of '{query}' cannot say their query"))
            .because(format!("they have a column '{QUERY}' of their own"))
            .help(format!("ask for it alone: --query {query}")));
    }
    let name = Arc::new(Field::new(QUERY, DataType::Utf8, false));
    let fields = std::iter::once(name).chain(schema.fields().iter().cloned());
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let named = |batch: &RecordBatch| {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(query, batch.num_rows())));
        let columns = std::iter::once(names).chain(batch.columns().iter().cloned());
        RecordBatch::try_new(Arc::clone(&schema), columns.collect())
    };
    let batches: Result<Vec<_>, _> = batches.iter().map(named).collect();
    let batches = batches.map_err(|cause| Error::failed("rows cannot be printed").because(cause.to_string()))?;
    Ok((schema, batches))
}

/// A table for people, of text cells.
///
/// # Errors
/// Of kind `Failed`; none is expected.
pub fn text_table(header: &[&str], lines: &[Vec<String>]) -> Result<String> {
    let fields: Vec<Field> = header.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let column = |index: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(lines.iter().map(|line| line[index].as_str())))
    };
    let batch = RecordBatch::try_new(Arc::clone(&schema), (0..header.len()).map(column).collect())
        .map_err(|cause| Error::failed("a table cannot be printed").because(cause.to_string()))?;
    rows::table(&schema, &[batch])
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;

    use super::*;

    fn table(query: &str) -> Table {
        let batch = RecordBatch::try_from_iter([
            ("dstdevice", Arc::new(StringArray::from(vec!["Comp1", "Comp2"])) as ArrayRef),
            ("count", Arc::new(Int64Array::from(vec![2, 1]))),
        ])
        .unwrap();
        Table { query: query.to_owned(), schema: batch.schema(), rows: vec![batch], keys: vec![0] }
    }

    fn printed(format: OutputFormat, tables: &[Table], named: bool) -> String {
        let mut out = Vec::new();
        write_tables(&mut out, format, tables, named).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_query_prints_its_columns_in_their_order() {
        let tables = [table("counts")];
        assert_eq!(
            printed(OutputFormat::Json, &tables, false),
            "{\"dstdevice\":\"Comp1\",\"count\":2}\n{\"dstdevice\":\"Comp2\",\"count\":1}\n"
        );
        assert_eq!(printed(OutputFormat::Csv, &tables, false), "dstdevice,count\nComp1,2\nComp2,1\n");
        assert!(printed(OutputFormat::Table, &tables, false).starts_with("+-----------+-------+\n| dstdevice"));
    }

    #[test]
    fn several_queries_say_their_name() {
        let tables = [table("a"), table("b")];
        let lines = printed(OutputFormat::Json, &tables, true);
        assert_eq!(lines.lines().next(), Some(r#"{"query":"a","dstdevice":"Comp1","count":2}"#));
        assert_eq!(lines.lines().last(), Some(r#"{"query":"b","dstdevice":"Comp2","count":1}"#));
        assert!(printed(OutputFormat::Csv, &tables, true).starts_with("query,dstdevice,count\na,Comp1,2\n"));
        let text = printed(OutputFormat::Table, &tables, true);
        assert!(text.starts_with("a\n+--") && text.contains("+\n\nb\n+--"), "{text}");
    }

    #[test]
    fn a_column_named_query_needs_its_query_named() {
        let batch = RecordBatch::try_from_iter([(QUERY, Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let table = Table { query: "q".into(), schema: batch.schema(), rows: vec![batch], keys: Vec::new() };
        let Err(Failure::Error(error)) = write_tables(&mut Vec::new(), OutputFormat::Json, &[table], true) else {
            panic!("it is refused")
        };
        assert!(error.to_string().contains("--query q"), "{error}");
    }

    #[test]
    fn a_text_table_has_a_header_without_lines_too() {
        assert_eq!(text_table(&["batch", "rows"], &[]).unwrap().lines().count(), 4);
        let text = text_table(&["batch", "rows"], &[vec!["0".into(), "10,000".into()]]).unwrap();
        assert!(text.contains("| 0     | 10,000 |"), "{text}");
    }
}
