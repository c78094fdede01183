//! The SQLite sink: a table of a database in one file.

mod database;
mod table;
mod values;

use std::path::Path;

use super::table::{Database as _, TableSink};
use crate::model::{Error, Place, Result};
use database::Database;

/// A sink that writes to a table of an SQLite database.
pub(super) type SqliteSink = TableSink<Database>;

/// All rows of a table as JSON arrays, sorted: for tests that compare two.
///
/// # Errors
/// Of kind `Failed`, where there is no such table, or it cannot be read.
pub fn table_lines(path: &Path, table: &str) -> Result<Vec<String>> {
    let Some(mut database) = Database::existing(&path.to_owned())? else {
        return Err(Error::failed("there is no such database").at(Place::Path(path.to_owned())));
    };
    database.ask("a table cannot be read", |tx| table::Table { name: table, tx }.lines())
}

#[cfg(test)]
mod tests;
