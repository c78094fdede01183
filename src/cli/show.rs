//! `highwater show`: a query's result as of any committed batch, or SQL over the results.

use std::io::Write;

use super::{
    args::ShowArgs,
    load,
    output::{write_rows, write_tables},
    streams::{Failure, data, say},
};
use crate::batch::Results;

pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    let view = load::view(&args.checkpoint)?;
    let at = view.resolve(args.at)?;
    let mut out = data();
    let format = args.format.output;
    match (&args.sql, &args.query) {
        (Some(sql), _) => {
            let (schema, rows) = view.sql(at, sql)?;
            write_rows(&mut out, format, &schema, &rows)?;
        }
        (None, Some(query)) => write_tables(&mut out, format, &[view.result(query, at)?], false)?,
        (None, None) => {
            let Results { tables, refused } = view.results(at)?;
            for error in refused {
                say(&format!("note: {error}"));
            }
            write_tables(&mut out, format, &tables, view.queries().len() > 1)?;
        }
    }
    Ok(out.flush()?)
}
