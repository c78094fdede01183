//! `highwater show`: a query's result as of any committed batch, or SQL over the results.

use std::io::Write;

use super::{
    args::ShowArgs,
    load,
    output::{write_rows, write_tables},
    streams::{Failure, data, say},
};
use crate::{
    batch::{Table, View},
    model::{BatchAddress, Error, ErrorKind, Result},
    query,
};

pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    let view = load::view(&args.checkpoint)?;
    let at = view.resolve(args.at)?;
    let mut out = data();
    let format = args.format.output;
    match (&args.sql, &args.query) {
        (Some(sql), _) => {
            let (schema, rows) = sql_over(&view, at, sql)?;
            write_rows(&mut out, format, &schema, &rows)?;
        }
        (None, Some(query)) => write_tables(&mut out, format, &[view.result(query, at)?], false)?,
        (None, None) => {
            let Results { tables, refused } = results(&view, at)?;
            for error in refused {
                say(&format!("note: {error}"));
            }
            write_tables(&mut out, format, &tables, view.queries().len() > 1)?;
        }
    }
    Ok(out.flush()?)
}

struct Results {
    tables: Vec<Table>,
    /// Why the results of other queries cannot be had.
    refused: Vec<Error>,
}

/// The results of all queries that can be asked.
///
/// # Errors
/// Where none can, why the first cannot; and anything else that went wrong.
fn results(view: &View, at: BatchAddress) -> Result<Results> {
    let mut results = Results { tables: Vec::new(), refused: Vec::new() };
    for query in view.queries() {
        match view.result(&query, at) {
            Ok(table) => results.tables.push(table),
            // a console, for instance, cannot be asked what it printed
            Err(error) if error.kind() == ErrorKind::Usage => results.refused.push(error),
            Err(error) => return Err(error),
        }
    }
    if results.tables.is_empty() && !results.refused.is_empty() {
        return Err(results.refused.swap_remove(0));
    }
    Ok(results)
}

type Rows = (datafusion::arrow::datatypes::SchemaRef, Vec<datafusion::arrow::record_batch::RecordBatch>);

fn sql_over(view: &View, at: BatchAddress, sql: &str) -> Result<Rows> {
    let Results { tables, refused } = results(view, at)?;
    let names: Vec<String> = tables.iter().map(|table| table.query.clone()).collect();
    let named = tables.into_iter().map(|table| (table.query, table.schema, table.rows)).collect();
    query::sql_over(sql, named).map_err(|error| match refused.first() {
        Some(missing) => error.help_if_none(format!("the tables are {}; {}", names.join(", "), missing.what())),
        None => error.help_if_none(format!("the tables are: {}", names.join(", "))),
    })
}
