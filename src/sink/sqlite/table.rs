//! A table and its bookkeeping: what it is, whose it is, which batches are in it.
//!
//! `highwater_tables` says which checkpoint a table belongs to, `highwater_batches` which batches are in it. Both are of the
//! same database, so that they change in the transaction that changes the table.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::SchemaRef;
use rusqlite::{OptionalExtension, Transaction, params, params_from_iter, types::ValueRef};

use super::{
    database::Tried,
    values::{self, Row, column_type},
};
use crate::model::{BatchId, Error, Result};

/// By this column a rewind knows the rows of a batch. Not in complete mode, where all rows are of the newest.
pub(super) const BATCH_COLUMN: &str = "highwater_batch";

const BOOKS: &str = "
CREATE TABLE IF NOT EXISTS highwater_tables (
  name TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, checkpoint TEXT NOT NULL, sink TEXT NOT NULL,
  replaces INTEGER NOT NULL, columns TEXT);
CREATE TABLE IF NOT EXISTS highwater_batches (
  name TEXT NOT NULL COLLATE NOCASE, batch INTEGER NOT NULL, checkpoint TEXT NOT NULL, rows INTEGER NOT NULL,
  hash BLOB NOT NULL, PRIMARY KEY (name, batch)) WITHOUT ROWID;
";

/// Whose a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub checkpoint: String,
    pub sink: String,
    /// Whether rows of later batches replace earlier ones (update mode over groups).
    pub replaces: bool,
    /// The query's columns, of a table that Highwater made; `None`: the types are another's choice, and may change values.
    pub columns: Option<Vec<String>>,
}

/// What is recorded of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub rows: u64,
    pub hash: Vec<u8>,
}

/// A column of a table that is there.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    /// It must be given a value: `NOT NULL`, and nothing fills it.
    needed: bool,
    /// It cannot be given a value.
    generated: bool,
}

/// A table that is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    columns: Vec<Column>,
    pub has_rows: bool,
}

impl Found {
    pub fn has_batch_column(&self) -> bool {
        self.column(BATCH_COLUMN).is_some()
    }

    /// Which of these columns it does not have.
    pub fn lacks<'a>(&self, columns: &'a [String]) -> Option<&'a String> {
        columns.iter().find(|name| self.column(name).is_none())
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name) && !column.generated)
    }
}

/// Rows of a table, encoded, by the batch that they are of.
pub(super) type RowsByBatch = BTreeMap<Option<u64>, Vec<Vec<u8>>>;

/// A name in SQL text.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn number(batch: BatchId) -> i64 {
    i64::try_from(batch.0).unwrap_or(i64::MAX)
}

/// One table of a database, by its name; every method is a part of a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    pub name: &'a str,
}

impl Table<'_> {
    fn sql(&self) -> String {
        quoted(self.name)
    }

    /// The table, if it is there.
    ///
    /// # Errors
    /// Of kind `Refused`, where the name is a view's.
    pub fn find(&self, tx: &Transaction<'_>) -> Tried<Option<Found>> {
        let kind = "SELECT type FROM sqlite_master WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')";
        let kind: Option<String> = tx.query_row(kind, [self.name], |row| row.get(0)).optional()?;
        match kind.as_deref() {
            None => return Ok(None),
            Some("table") => {}
            Some(_) => {
                return Err(Error::refused(format!("'{}' is a view, and no table", self.name))
                    .help("give the sink another table")
                    .into());
            }
        }
        let columns = "SELECT name, \"notnull\" <> 0 AND dflt_value IS NULL AND hidden = 0
            AND NOT (pk > 0 AND upper(type) = 'INTEGER'), hidden <> 0 FROM pragma_table_xinfo(?1)";
        let mut columns = tx.prepare(columns)?;
        let column =
            |row: &rusqlite::Row<'_>| Ok(Column { name: row.get(0)?, needed: row.get(1)?, generated: row.get(2)? });
        let columns = columns.query_map([self.name], column)?.collect::<rusqlite::Result<Vec<_>>>()?;
        let has_rows = format!("SELECT EXISTS (SELECT 1 FROM {})", self.sql());
        let has_rows = tx.query_row(&has_rows, (), |row| row.get(0))?;
        Ok(Some(Found { columns, has_rows }))
    }

    /// Whether a table that is there can take rows of these columns.
    ///
    /// # Errors
    /// Of kind `Refused`, naming the column that is missing, or that nothing fills.
    pub fn check_columns(&self, found: &Found, schema: &SchemaRef) -> Result<()> {
        for field in schema.fields() {
            if found.column(field.name()).is_none() {
                let (table, column) = (self.sql(), quoted(field.name()));
                let of_type = column_type(field.data_type());
                return Err(Error::refused(format!("table '{}' has no column '{}'", self.name, field.name()))
                    .because("the query gives it, and a table that is there already is not changed")
                    .help(format!(
                        "ALTER TABLE {table} ADD COLUMN {column} {of_type}; or give the sink another table, which is made"
                    )));
            }
        }
        let is_ours = |column: &Column| {
            column.name.eq_ignore_ascii_case(BATCH_COLUMN)
                || schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(&column.name))
        };
        match found.columns.iter().find(|column| column.needed && !is_ours(column)) {
            None => Ok(()),
            Some(column) => Err(Error::refused(format!("table '{}' needs a column '{}'", self.name, column.name))
                .because("it is NOT NULL without a default, and the query does not give it")
                .help("give the column a default, select it in the query, or give the sink another table")),
        }
    }

    /// Makes the table; `key`: by which columns its rows are told apart, `by_batch`: whether each row says of which batch it is.
    pub fn make(&self, tx: &Transaction<'_>, schema: &SchemaRef, key: &[usize], by_batch: bool) -> Tried<()> {
        let column = |name: &str, data_type| format!("{} {}", quoted(name), column_type(data_type));
        let mut columns: Vec<String> =
            schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect();
        if by_batch {
            columns.push(format!("{BATCH_COLUMN} INTEGER NOT NULL"));
        }
        tx.execute_batch(&format!("CREATE TABLE {} ({})", self.sql(), columns.join(", ")))?;
        if !key.is_empty() {
            // an index and no primary key: a key may be null, and two nulls are two keys to a primary key's index, but one group
            let index = quoted(&format!("highwater_key_{}", self.name));
            let key: Vec<String> = key.iter().map(|column| quoted(schema.field(*column).name())).collect();
            tx.execute_batch(&format!("CREATE UNIQUE INDEX {index} ON {} ({})", self.sql(), key.join(", ")))?;
        }
        Ok(())
    }

    /// Who owns the table; `None`: nobody, or it is not there (any more).
    pub fn owner(&self, tx: &Transaction<'_>) -> Tried<Option<Owner>> {
        let books = Table { name: "highwater_tables" };
        if books.find(tx)?.is_none() || self.find(tx)?.is_none() {
            return Ok(None);
        }
        let owner = "SELECT checkpoint, sink, columns, replaces FROM highwater_tables WHERE name = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let owner = Owner { checkpoint: row.get(0)?, sink: row.get(1)?, replaces: row.get(3)?, columns: None };
            Ok((owner, row.get::<_, Option<String>>(2)?))
        };
        let Some((owner, columns)) = tx.query_row(owner, [self.name], read).optional()? else { return Ok(None) };
        // taken for none, they would have verify count rows in place of comparing them
        let columns = columns.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| {
            Error::refused(format!("the columns of table '{}' are no list of names in highwater_tables", self.name))
                .because(error.to_string())
                .help("put a sound copy of the database in its place")
        })?;
        Ok(Some(Owner { columns, ..owner }))
    }

    /// Takes a table that nobody owns.
    pub fn claim(&self, tx: &Transaction<'_>, owner: &Owner) -> Tried<()> {
        tx.execute_batch(BOOKS)?;
        // of a table of this name that was dropped
        tx.execute("DELETE FROM highwater_batches WHERE name = ?1", [self.name])?;
        self.keep_owner(tx, owner)
    }

    /// Writes down whose the table is.
    pub fn keep_owner(&self, tx: &Transaction<'_>, owner: &Owner) -> Tried<()> {
        let Owner { checkpoint, sink, replaces, columns } = owner;
        let columns = columns.as_ref().map(|columns| serde_json::Value::from(columns.clone()).to_string());
        let keep = "INSERT OR REPLACE INTO highwater_tables (name, checkpoint, sink, replaces, columns)
            VALUES (?1, ?2, ?3, ?4, ?5)";
        tx.execute(keep, params![self.name, checkpoint, sink, replaces, columns])?;
        Ok(())
    }

    /// What is recorded of all batches in the table.
    pub fn recorded(&self, tx: &Transaction<'_>) -> Tried<BTreeMap<u64, Recorded>> {
        let mut batches = tx.prepare("SELECT batch, rows, hash FROM highwater_batches WHERE name = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok((unsigned(row.get(0)?), Recorded { rows: unsigned(row.get(1)?), hash: row.get(2)? }))
        };
        Ok(batches.query_map([self.name], read)?.collect::<rusqlite::Result<_>>()?)
    }

    /// What is recorded of one batch.
    pub fn recorded_of(&self, tx: &Transaction<'_>, batch: BatchId) -> Tried<Option<Recorded>> {
        let find = "SELECT rows, hash FROM highwater_batches WHERE name = ?1 AND batch = ?2";
        let read = |row: &rusqlite::Row<'_>| Ok(Recorded { rows: unsigned(row.get(0)?), hash: row.get(1)? });
        Ok(tx.query_row(find, params![self.name, number(batch)], read).optional()?)
    }

    /// Records a batch.
    pub fn record(&self, tx: &Transaction<'_>, checkpoint: &str, batch: BatchId, recorded: &Recorded) -> Tried<()> {
        let record = "INSERT INTO highwater_batches (name, batch, checkpoint, rows, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
        let rows = i64::try_from(recorded.rows).unwrap_or(i64::MAX);
        tx.execute(record, params![self.name, number(batch), checkpoint, rows, recorded.hash])?;
        Ok(())
    }

    /// Forgets batches after `keep` (`None`: all); whether there were any.
    pub fn forget_after(&self, tx: &Transaction<'_>, keep: Option<BatchId>) -> Tried<bool> {
        let forget = "DELETE FROM highwater_batches WHERE name = ?1 AND batch > ?2";
        Ok(tx.execute(forget, params![self.name, keep.map_or(-1, number)])? > 0)
    }

    /// The newest batch that is recorded.
    pub fn newest(&self, tx: &Transaction<'_>) -> Tried<Option<BatchId>> {
        let newest = "SELECT max(batch) FROM highwater_batches WHERE name = ?1";
        let newest: Option<i64> = tx.query_row(newest, [self.name], |row| row.get(0))?;
        Ok(newest.map(|batch| BatchId(unsigned(batch))))
    }

    /// Adds rows; `batch`: what their column for it says, where there is one.
    pub fn insert(&self, tx: &Transaction<'_>, schema: &SchemaRef, batch: Option<BatchId>, rows: &[Row]) -> Tried<()> {
        let mut columns: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
        let mut places: Vec<String> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
        if let Some(batch) = batch {
            columns.push(BATCH_COLUMN.to_owned());
            places.push(number(batch).to_string());
        }
        let insert = format!("INSERT INTO {} ({}) VALUES ({})", self.sql(), columns.join(", "), places.join(", "));
        let mut insert = tx.prepare(&insert)?;
        for row in rows {
            insert.execute(params_from_iter(row))?;
        }
        Ok(())
    }

    /// Removes the rows that have a key of one of these.
    pub fn delete_keys(&self, tx: &Transaction<'_>, schema: &SchemaRef, key: &[usize], rows: &[Row]) -> Tried<()> {
        let mut delete = tx.prepare(&format!("DELETE FROM {} WHERE {}", self.sql(), same_key(schema, key)))?;
        for row in rows {
            delete.execute(params_from_iter(key.iter().map(|column| &row[*column])))?;
        }
        Ok(())
    }

    /// Of these rows those whose key is in the table, there with a row of a batch after `keep`.
    pub fn changed_after(
        &self,
        tx: &Transaction<'_>,
        (schema, key): (&SchemaRef, &[usize]),
        keep: Option<BatchId>,
        rows: Vec<Row>,
    ) -> Tried<Vec<Row>> {
        let (same, after) = (same_key(schema, key), keep.map_or(-1, number));
        let changed = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {same} AND {BATCH_COLUMN} > {after})", self.sql());
        let mut changed = tx.prepare(&changed)?;
        let mut found = Vec::new();
        for row in rows {
            let key = params_from_iter(key.iter().map(|column| &row[*column]));
            if changed.query_row(key, |answer| answer.get(0))? {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// Removes the rows of batches after `keep` (`None`: all batches).
    pub fn delete_after(&self, tx: &Transaction<'_>, keep: Option<BatchId>) -> Tried<()> {
        let delete = format!("DELETE FROM {} WHERE {BATCH_COLUMN} > ?1", self.sql());
        tx.execute(&delete, [keep.map_or(-1, number)])?;
        Ok(())
    }

    pub fn delete_all(&self, tx: &Transaction<'_>) -> Tried<()> {
        tx.execute(&format!("DELETE FROM {}", self.sql()), ())?;
        Ok(())
    }

    /// Whether rows are there of which no batch is known, since the column was added behind them.
    pub fn has_rows_of_no_batch(&self, tx: &Transaction<'_>) -> Tried<bool> {
        let found = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {BATCH_COLUMN} IS NULL)", self.sql());
        Ok(tx.query_row(&found, (), |row| row.get(0))?)
    }

    /// All rows, encoded ([`values::encoded`]) as far as these columns go, by batch where the table says so (`by_batch`; `None`:
    /// all of them).
    pub fn rows_by_batch(&self, tx: &Transaction<'_>, columns: &[String], by_batch: bool) -> Tried<RowsByBatch> {
        let batch = if by_batch { BATCH_COLUMN } else { "NULL" };
        let names = columns.iter().map(|name| format!(", {}", quoted(name))).collect::<String>();
        let mut select = tx.prepare(&format!("SELECT {batch}{names} FROM {}", self.sql()))?;
        let mut found = RowsByBatch::new();
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            let mut cells: Vec<ValueRef<'_>> = Vec::with_capacity(columns.len());
            for column in 1..=columns.len() {
                cells.push(row.get_ref(column)?);
            }
            let batch = row.get::<_, Option<i64>>(0)?.map(unsigned);
            found.entry(batch).or_default().push(values::encoded(cells.into_iter()));
        }
        Ok(found)
    }

    /// All rows as JSON arrays, sorted.
    pub fn lines(&self, tx: &Transaction<'_>) -> Tried<Vec<String>> {
        let mut select = tx.prepare(&format!("SELECT * FROM {}", self.sql()))?;
        let width = select.column_count();
        let mut lines = Vec::new();
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            let cells = (0..width).map(|column| Ok(cell(row.get_ref(column)?)));
            lines.push(serde_json::Value::Array(cells.collect::<rusqlite::Result<_>>()?).to_string());
        }
        lines.sort_unstable();
        Ok(lines)
    }
}

fn cell(value: ValueRef<'_>) -> serde_json::Value {
    match value {
        ValueRef::Null => serde_json::Value::Null,
        ValueRef::Integer(value) => value.into(),
        ValueRef::Real(value) => value.into(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into(),
    }
}

/// That a row has the key that is bound. `IS`, since a null is a key like another, and an index serves it too.
fn same_key(schema: &SchemaRef, key: &[usize]) -> String {
    let same = |(place, column): (usize, &usize)| format!("{} IS ?{}", quoted(schema.field(*column).name()), place + 1);
    let terms: Vec<String> = key.iter().enumerate().map(same).collect();
    if terms.is_empty() { "true".to_owned() } else { terms.join(" AND ") }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
