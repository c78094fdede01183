//! A table and its bookkeeping, in SQLite's words.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::SchemaRef;
use rusqlite::{OptionalExtension, Transaction, params, params_from_iter, types::ValueRef};

use super::{
    super::{
        Columns, RowKey,
        table::{
            self, BATCH_COLUMN, Column, Found, Owner, Recorded, RowsByBatch, columns_of, columns_text, number, quoted,
            unsigned,
        },
    },
    database::{Database, Tried},
    values::{self, Row, column_type},
};
use crate::model::{BatchId, Error};

const BOOKS: &str = "
CREATE TABLE IF NOT EXISTS highwater_tables (
  name TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, checkpoint TEXT NOT NULL, sink TEXT NOT NULL,
  replaces INTEGER NOT NULL, columns TEXT);
CREATE TABLE IF NOT EXISTS highwater_batches (
  name TEXT NOT NULL COLLATE NOCASE, batch INTEGER NOT NULL, checkpoint TEXT NOT NULL, rows INTEGER NOT NULL,
  hash BLOB NOT NULL, PRIMARY KEY (name, batch)) WITHOUT ROWID;
";

/// One table of a database, by its name, in a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    pub name: &'a str,
    pub tx: &'a Transaction<'a>,
}

impl Table<'_> {
    fn sql(&self) -> String {
        quoted(self.name)
    }

    /// Adds rows; `batch`: what their column for it says, where there is one.
    fn add(&self, schema: &SchemaRef, batch: Option<BatchId>, rows: &[Row]) -> Tried<()> {
        let mut columns: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
        let mut places: Vec<String> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
        if let Some(batch) = batch {
            columns.push(BATCH_COLUMN.to_owned());
            places.push(number(batch).to_string());
        }
        let insert = format!("INSERT INTO {} ({}) VALUES ({})", self.sql(), columns.join(", "), places.join(", "));
        let mut insert = self.tx.prepare(&insert)?;
        for row in rows {
            insert.execute(params_from_iter(row))?;
        }
        Ok(())
    }

    /// Removes the rows that have a key of one of these.
    fn delete_keys(&self, schema: &SchemaRef, key: &[usize], rows: &[Row]) -> Tried<()> {
        let mut delete = self.tx.prepare(&format!("DELETE FROM {} WHERE {}", self.sql(), same_key(schema, key)))?;
        for row in rows {
            delete.execute(params_from_iter(key.iter().map(|column| &row[*column])))?;
        }
        Ok(())
    }

    /// Of these rows those whose key is in the table, there with a row of a batch after `keep`.
    fn changed_after(
        &self,
        (schema, key): (&SchemaRef, &[usize]),
        keep: Option<BatchId>,
        rows: &[Row],
    ) -> Tried<Vec<Row>> {
        let (same, after) = (same_key(schema, key), keep.map_or(-1, number));
        let changed = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {same} AND {BATCH_COLUMN} > {after})", self.sql());
        let mut changed = self.tx.prepare(&changed)?;
        let mut found = Vec::new();
        for row in rows {
            let key = params_from_iter(key.iter().map(|column| &row[*column]));
            if changed.query_row(key, |answer| answer.get(0))? {
                found.push(row.clone());
            }
        }
        Ok(found)
    }

    /// All rows as JSON arrays, sorted.
    pub fn lines(&self) -> Tried<Vec<String>> {
        let mut select = self.tx.prepare(&format!("SELECT * FROM {}", self.sql()))?;
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

impl table::Table<Database> for Table<'_> {
    fn find(&mut self) -> Tried<Option<Found>> {
        let kind = "SELECT type FROM sqlite_master WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')";
        let kind: Option<String> = self.tx.query_row(kind, [self.name], |row| row.get(0)).optional()?;
        match kind.as_deref() {
            None => return Ok(None),
            Some("table") => {}
            Some(_) => {
                return Err(Error::refused(format!("'{}' is a view, and no table", self.name))
                    .help("give the sink another table")
                    .into());
            }
        }
        let columns = "SELECT name, type, \"notnull\" <> 0 AND dflt_value IS NULL AND hidden = 0
            AND NOT (pk > 0 AND upper(type) = 'INTEGER'), hidden <> 0 FROM pragma_table_xinfo(?1)";
        let mut columns = self.tx.prepare(columns)?;
        let column = |row: &rusqlite::Row<'_>| {
            Ok(Column { name: row.get(0)?, of_type: row.get(1)?, needed: row.get(2)?, generated: row.get(3)? })
        };
        let columns = columns.query_map([self.name], column)?.collect::<rusqlite::Result<Vec<_>>>()?;
        let has_rows = format!("SELECT EXISTS (SELECT 1 FROM {})", self.sql());
        let has_rows = self.tx.query_row(&has_rows, (), |row| row.get(0))?;
        let is_same = <Database as table::Database>::is_same;
        Ok(Some(Found { columns, has_rows, is_same }))
    }

    fn check_types(&mut self, _found: &Found, _schema: &SchemaRef) -> Tried<()> {
        // a column takes what it is given, whatever its type
        Ok(())
    }

    fn check_key(&mut self, found: &Found, columns: &Columns<'_>) -> Tried<()> {
        let RowKey::Columns(key) = columns.key else { return Ok(()) };
        for field in key.iter().map(|at| columns.schema.field(*at)) {
            let column = found.column(field.name()).filter(|column| makes_numbers(&column.of_type));
            if let (Some(column), "TEXT") = (column, column_type(field.data_type())) {
                let (name, of_type) = (field.name(), &column.of_type);
                return Err(Error::refused(format!(
                    "table '{}' would take different keys for one in its column '{name}'",
                    self.name
                ))
                .because(format!(
                    "it is {of_type}, which makes '1' and '01' the same number: one group would replace another"
                ))
                .help("give the column the type TEXT; or give the sink another table, which is made")
                .into());
            }
        }
        Ok(())
    }

    fn make(&mut self, schema: &SchemaRef, key: &[usize], by_batch: bool) -> Tried<()> {
        let column = |name: &str, data_type| format!("{} {}", quoted(name), column_type(data_type));
        let mut columns: Vec<String> =
            schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect();
        if by_batch {
            columns.push(format!("{BATCH_COLUMN} INTEGER NOT NULL"));
        }
        self.tx.execute_batch(&format!("CREATE TABLE {} ({})", self.sql(), columns.join(", ")))?;
        if !key.is_empty() {
            // an index and no primary key: a key may be null, and two nulls are two keys to a primary key's index, but one group
            let index = quoted(&format!("highwater_key_{}", self.name));
            let key: Vec<String> = key.iter().map(|column| quoted(schema.field(*column).name())).collect();
            self.tx.execute_batch(&format!("CREATE UNIQUE INDEX {index} ON {} ({})", self.sql(), key.join(", ")))?;
        }
        Ok(())
    }

    fn owner(&mut self) -> Tried<Option<Owner>> {
        let mut books = Table { name: "highwater_tables", tx: self.tx };
        if books.find()?.is_none() || self.find()?.is_none() {
            return Ok(None);
        }
        let owner = "SELECT checkpoint, sink, columns, replaces FROM highwater_tables WHERE name = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let owner = Owner { checkpoint: row.get(0)?, sink: row.get(1)?, replaces: row.get(3)?, columns: None };
            Ok((owner, row.get::<_, Option<String>>(2)?))
        };
        let Some((owner, columns)) = self.tx.query_row(owner, [self.name], read).optional()? else { return Ok(None) };
        let columns = columns_of(self.name, columns)?;
        Ok(Some(Owner { columns, ..owner }))
    }

    fn claim(&mut self, owner: &Owner) -> Tried<()> {
        self.tx.execute_batch(BOOKS)?;
        // of a table of this name that was dropped
        self.tx.execute("DELETE FROM highwater_batches WHERE name = ?1", [self.name])?;
        self.keep_owner(owner)
    }

    fn keep_owner(&mut self, owner: &Owner) -> Tried<()> {
        let (Owner { checkpoint, sink, replaces, .. }, columns) = (owner, columns_text(owner));
        let keep = "INSERT OR REPLACE INTO highwater_tables (name, checkpoint, sink, replaces, columns)
            VALUES (?1, ?2, ?3, ?4, ?5)";
        self.tx.execute(keep, params![self.name, checkpoint, sink, replaces, columns])?;
        Ok(())
    }

    fn recorded(&mut self) -> Tried<BTreeMap<u64, Recorded>> {
        let mut batches = self.tx.prepare("SELECT batch, rows, hash FROM highwater_batches WHERE name = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok((unsigned(row.get(0)?), Recorded { rows: unsigned(row.get(1)?), hash: row.get(2)? }))
        };
        Ok(batches.query_map([self.name], read)?.collect::<rusqlite::Result<_>>()?)
    }

    fn recorded_of(&mut self, batch: BatchId) -> Tried<Option<Recorded>> {
        let find = "SELECT rows, hash FROM highwater_batches WHERE name = ?1 AND batch = ?2";
        let read = |row: &rusqlite::Row<'_>| Ok(Recorded { rows: unsigned(row.get(0)?), hash: row.get(1)? });
        Ok(self.tx.query_row(find, params![self.name, number(batch)], read).optional()?)
    }

    fn record(&mut self, checkpoint: &str, batch: BatchId, recorded: &Recorded) -> Tried<()> {
        let record = "INSERT INTO highwater_batches (name, batch, checkpoint, rows, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
        let rows = i64::try_from(recorded.rows).unwrap_or(i64::MAX);
        self.tx.execute(record, params![self.name, number(batch), checkpoint, rows, recorded.hash])?;
        Ok(())
    }

    fn forget_after(&mut self, keep: Option<BatchId>) -> Tried<bool> {
        let forget = "DELETE FROM highwater_batches WHERE name = ?1 AND batch > ?2";
        Ok(self.tx.execute(forget, params![self.name, keep.map_or(-1, number)])? > 0)
    }

    fn newest(&mut self) -> Tried<Option<BatchId>> {
        let newest = "SELECT max(batch) FROM highwater_batches WHERE name = ?1";
        let newest: Option<i64> = self.tx.query_row(newest, [self.name], |row| row.get(0))?;
        Ok(newest.map(|batch| BatchId(unsigned(batch))))
    }

    fn insert(&mut self, schema: &SchemaRef, batch: Option<BatchId>, rows: &Vec<Row>) -> Tried<()> {
        self.add(schema, batch, rows)
    }

    fn replace(&mut self, schema: &SchemaRef, key: &[usize], batch: Option<BatchId>, rows: &Vec<Row>) -> Tried<()> {
        self.delete_keys(schema, key, rows)?;
        self.add(schema, batch, rows)
    }

    fn put_back(
        &mut self,
        schema: &SchemaRef,
        key: &[usize],
        (keep, newest): (Option<BatchId>, BatchId),
        rows: &Vec<Row>,
    ) -> Tried<()> {
        let back = self.changed_after((schema, key), keep, rows)?;
        self.delete_after(keep)?;
        self.add(schema, Some(newest), &back)
    }

    fn delete_after(&mut self, keep: Option<BatchId>) -> Tried<()> {
        let delete = format!("DELETE FROM {} WHERE {BATCH_COLUMN} > ?1", self.sql());
        self.tx.execute(&delete, [keep.map_or(-1, number)])?;
        Ok(())
    }

    fn delete_all(&mut self) -> Tried<()> {
        self.tx.execute(&format!("DELETE FROM {}", self.sql()), ())?;
        Ok(())
    }

    fn has_rows_of_no_batch(&mut self) -> Tried<bool> {
        let found = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {BATCH_COLUMN} IS NULL)", self.sql());
        Ok(self.tx.query_row(&found, (), |row| row.get(0))?)
    }

    fn rows_by_batch(&mut self, columns: &[String], by_batch: bool) -> Tried<RowsByBatch> {
        let batch = if by_batch { BATCH_COLUMN } else { "NULL" };
        let names = columns.iter().map(|name| format!(", {}", quoted(name))).collect::<String>();
        let mut select = self.tx.prepare(&format!("SELECT {batch}{names} FROM {}", self.sql()))?;
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
}

fn cell(value: ValueRef<'_>) -> serde_json::Value {
    match value {
        ValueRef::Null => serde_json::Value::Null,
        ValueRef::Integer(value) => value.into(),
        ValueRef::Real(value) => value.into(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into(),
    }
}

/// Whether a column of this declared type makes numbers of texts that look like one, by SQLite's rules of affinity.
fn makes_numbers(of_type: &str) -> bool {
    let (of_type, has) =
        (of_type.to_ascii_uppercase(), |parts: &[&str], text: &str| parts.iter().any(|part| text.contains(part)));
    has(&["INT"], &of_type) || !of_type.is_empty() && !has(&["CHAR", "CLOB", "TEXT", "BLOB"], &of_type)
}

/// That a row has the key that is bound. `IS`, since a null is a key like another, and an index serves it too; byte by byte, since
/// a column of a user's table may take `a` and `A` for the same, which are two groups.
fn same_key(schema: &SchemaRef, key: &[usize]) -> String {
    let same = |(place, column): (usize, &usize)| {
        format!("{} IS ?{} COLLATE BINARY", quoted(schema.field(*column).name()), place + 1)
    };
    let terms: Vec<String> = key.iter().enumerate().map(same).collect();
    if terms.is_empty() { "true".to_owned() } else { terms.join(" AND ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_make_numbers_of_texts_are_known() {
        assert!(["INTEGER", "bigint", "REAL", "NUMERIC", "DATE", "CHARINT"].iter().all(|name| makes_numbers(name)));
        assert!(["", "TEXT", "varchar(9)", "BLOB", "CLOB"].iter().all(|name| !makes_numbers(name)));
    }
}
