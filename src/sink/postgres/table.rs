//! A table and its bookkeeping, in PostgreSQL's words.
//!
//! Rows come by `COPY` in its binary form. They go straight into a table whose columns have the types that they would be given
//! here; into any other, and wherever they take the place of others, by a temporary table of this transaction.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use super::{
    super::{
        Columns,
        table::{
            self, BATCH_COLUMN, Column, Found, Owner, Recorded, RowsByBatch, Trouble, columns_of, columns_text, number,
            quoted, unsigned,
        },
    },
    catalog::Catalog,
    connection::{Connection, Param},
    database::Database,
    failure::{Failure, Tried},
    keys,
    rows::{self, Rows},
    values::{column_type, type_name},
};
use crate::model::BatchId;

/// Rows on their way.
const STAGED: &str = "pg_temp.highwater_rows";
/// Those of them that a rewind puts back.
const BACK: &str = "pg_temp.highwater_back";

/// One table of a database, by its name, in a transaction.
pub(super) struct Table<'a> {
    pub connection: &'a Connection,
    pub name: &'a str,
    /// Whether the transaction writes.
    pub writes: bool,
}

impl Table<'_> {
    /// A name in the sink's schema, in SQL text.
    fn of_schema(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.connection.schema), quoted(name))
    }

    fn sql(&self) -> String {
        self.of_schema(self.name)
    }

    fn batches(&self) -> String {
        self.of_schema("highwater_batches")
    }

    fn catalog(&self) -> Catalog<'_> {
        Catalog { connection: self.connection, name: self.name }
    }

    /// `COPY` into these columns of a table; `batch`: what one more column of each row says.
    fn copy(&self, into: &str, columns: &[String], batch: Option<BatchId>, rows: &Rows) -> Tried<()> {
        let copy = format!("COPY {into} ({}) FROM STDIN (FORMAT binary)", columns.join(", "));
        let mut pieces = rows.copied(batch);
        self.connection.copy_in(&copy, |chunk, size| pieces.fill(chunk, size))
    }

    /// Puts rows into a temporary table of this transaction, in columns that are named by their number.
    fn stage(&self, schema: &SchemaRef, rows: &Rows) -> Tried<()> {
        let column = |(at, field): (usize, &_)| format!("c{at} {}", of_field(field));
        let columns: Vec<String> = schema.fields().iter().enumerate().map(column).collect();
        self.connection.batch(&format!("CREATE TEMPORARY TABLE {STAGED} ({}) ON COMMIT DROP", columns.join(", ")))?;
        let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
        self.copy(STAGED, &names, None, rows)
    }

    /// Adds rows of a temporary table.
    fn insert_from(&self, from: &str, names: &Names<'_>, batch: Option<BatchId>) -> Tried<()> {
        let of = batch.map(|batch| format!(", {}", number(batch))).unwrap_or_default();
        let (columns, values) = (names.columns(batch).join(", "), names.values().join(", "));
        let insert = format!("INSERT INTO {} ({columns}) SELECT {values}{of} FROM {from} s", self.sql());
        self.connection.execute(&insert, &[]).map(|_| ())
    }
}

/// The columns of the query, and those of the table that have their names.
struct Names<'a> {
    schema: &'a SchemaRef,
    found: Vec<Column>,
}

impl Names<'_> {
    fn of_table(&self, at: usize) -> Option<&Column> {
        self.found.iter().find(|column| column.name == *self.schema.field(at).name())
    }

    fn fits(&self, at: usize) -> bool {
        self.of_table(at).is_none_or(|column| column.of_type == type_name(self.schema.field(at).data_type()))
    }

    fn all_fit(&self) -> bool {
        (0..self.schema.fields().len()).all(|at| self.fits(at))
    }

    fn columns(&self, batch: Option<BatchId>) -> Vec<String> {
        let of_batch = batch.map(|_| BATCH_COLUMN.to_owned());
        self.schema.fields().iter().map(|field| quoted(field.name())).chain(of_batch).collect()
    }

    /// A value of the temporary table, as one of the table.
    fn value(&self, at: usize) -> String {
        match self.of_table(at) {
            Some(column) if !self.fits(at) => format!("s.c{at}::{}", column.of_type),
            _ => format!("s.c{at}"),
        }
    }

    fn values(&self) -> Vec<String> {
        (0..self.schema.fields().len()).map(|at| self.value(at)).collect()
    }

    fn same_key(&self, key: &[usize], null: &BTreeSet<usize>) -> String {
        keys::same_key(self.schema, key, null, |at| (self.value(at), self.fits(at)))
    }
}

fn of_field(field: &FieldRef) -> String {
    column_type(field.data_type())
}

impl table::Table<Database> for Table<'_> {
    fn find(&mut self) -> Tried<Option<Found>> {
        let catalog = self.catalog();
        catalog.check_lasting(&self.sql())?;
        if !catalog.is_there()? {
            return Ok(None);
        }
        let columns = catalog.columns()?;
        let has_rows = self.connection.query(&format!("SELECT EXISTS (SELECT FROM {})", self.sql()), &[])?;
        let has_rows = has_rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false);
        Ok(Some(Found { columns, has_rows, is_same: <Database as table::Database>::is_same }))
    }

    fn check_types(&mut self, found: &Found, schema: &SchemaRef) -> Tried<()> {
        self.catalog().check_types(found, schema)
    }

    fn check_key(&mut self, _found: &Found, columns: &Columns<'_>) -> Tried<()> {
        self.catalog().check_key(columns)
    }

    fn owner(&mut self) -> Tried<Option<Owner>> {
        let there = "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL";
        let tables = self.of_schema("highwater_tables");
        let there = self.connection.query(there, &[text(&tables), text(&self.sql())])?;
        if !there.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
            return Ok(None);
        }
        // the lock keeps another writer out, also one that this job took for dead
        let lock = if self.writes { " FOR UPDATE" } else { "" };
        let owner = format!("SELECT checkpoint, sink, replaces, columns FROM {tables} WHERE name = $1{lock}");
        let owners = self.connection.query(&owner, &[text(&self.name)])?;
        let Some(row) = owners.first() else { return Ok(None) };
        let columns = columns_of(self.name, row.try_get(3)?)?;
        Ok(Some(Owner { checkpoint: row.try_get(0)?, sink: row.try_get(1)?, replaces: row.try_get(2)?, columns }))
    }

    fn make(&mut self, schema: &SchemaRef, key: &[usize], by_batch: bool) -> Tried<()> {
        let column = |field: &FieldRef| format!("{} {}", quoted(field.name()), of_field(field));
        let mut columns: Vec<String> = schema.fields().iter().map(column).collect();
        if by_batch {
            columns.push(format!("{BATCH_COLUMN} BIGINT NOT NULL"));
        }
        self.connection.batch(&format!("CREATE TABLE {} ({})", self.sql(), columns.join(", ")))?;
        if !key.is_empty() {
            let key = keys::index_parts(schema, key);
            self.connection.batch(&format!("CREATE INDEX ON {} ({})", self.sql(), key.join(", ")))?;
        }
        Ok(())
    }

    fn claim(&mut self, owner: &Owner) -> Tried<()> {
        let (tables, batches) = (self.of_schema("highwater_tables"), self.batches());
        // sinks of two jobs may make them at once, which `IF NOT EXISTS` does not see
        let lock = format!("highwater {}", self.connection.schema);
        let lock_them = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text";
        self.connection.query(lock_them, &[text(&lock)])?;
        self.connection.batch(&format!(
            "CREATE TABLE IF NOT EXISTS {tables} (name TEXT PRIMARY KEY, checkpoint TEXT NOT NULL, sink TEXT NOT NULL,
               replaces BOOLEAN NOT NULL, columns TEXT);
             CREATE TABLE IF NOT EXISTS {batches} (name TEXT NOT NULL, batch BIGINT NOT NULL, checkpoint TEXT NOT NULL,
               rows BIGINT NOT NULL, hash BYTEA NOT NULL, PRIMARY KEY (name, batch))"
        ))?;
        // of a table of this name that was dropped
        self.connection.execute(&format!("DELETE FROM {batches} WHERE name = $1"), &[text(&self.name)])?;
        self.keep_owner(owner)
    }

    fn keep_owner(&mut self, owner: &Owner) -> Tried<()> {
        let keep = format!(
            "INSERT INTO {} (name, checkpoint, sink, replaces, columns) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (name) DO UPDATE SET checkpoint = $2, sink = $3, replaces = $4, columns = $5",
            self.of_schema("highwater_tables")
        );
        let (Owner { checkpoint, sink, replaces, .. }, columns) = (owner, columns_text(owner));
        let replaces: Param<'_> = (replaces, Type::BOOL);
        let values = [text(&self.name), text(checkpoint), text(sink), replaces, text(&columns)];
        self.connection.execute(&keep, &values).map(|_| ())
    }

    fn recorded(&mut self) -> Tried<BTreeMap<u64, Recorded>> {
        let batches = format!("SELECT rows, hash, batch FROM {} WHERE name = $1", self.batches());
        let rows = self.connection.query(&batches, &[text(&self.name)])?;
        rows.iter().map(|row| Ok((unsigned(row.try_get(2)?), recorded(row)?))).collect()
    }

    fn recorded_of(&mut self, batch: BatchId) -> Tried<Option<Recorded>> {
        let find = format!("SELECT rows, hash FROM {} WHERE name = $1 AND batch = $2", self.batches());
        let rows = self.connection.query(&find, &[text(&self.name), int(&number(batch))])?;
        rows.first().map(recorded).transpose()
    }

    fn record(&mut self, checkpoint: &str, batch: BatchId, recorded: &Recorded) -> Tried<()> {
        let record =
            format!("INSERT INTO {} (name, checkpoint, batch, rows, hash) VALUES ($1, $2, $3, $4, $5)", self.batches());
        let (batch, rows) = (number(batch), i64::try_from(recorded.rows).unwrap_or(i64::MAX));
        let hash: Param<'_> = (&recorded.hash, Type::BYTEA);
        let values = [text(&self.name), text(&checkpoint), int(&batch), int(&rows), hash];
        self.connection.execute(&record, &values).map(|_| ())
    }

    fn forget_after(&mut self, keep: Option<BatchId>) -> Tried<bool> {
        let forget = format!("DELETE FROM {} WHERE name = $1 AND batch > $2", self.batches());
        let keep = keep.map_or(-1, number);
        Ok(self.connection.execute(&forget, &[text(&self.name), int(&keep)])? > 0)
    }

    fn newest(&mut self) -> Tried<Option<BatchId>> {
        let newest = format!("SELECT max(batch) FROM {} WHERE name = $1", self.batches());
        let rows = self.connection.query(&newest, &[text(&self.name)])?;
        let newest: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(newest.map(|batch| BatchId(unsigned(batch))))
    }

    fn insert(&mut self, schema: &SchemaRef, batch: Option<BatchId>, rows: &Rows) -> Tried<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let names = Names { schema, found: self.catalog().columns()? };
        if names.all_fit() {
            return self.copy(&self.sql(), &names.columns(batch), batch, rows);
        }
        self.stage(schema, rows)?;
        self.insert_from(STAGED, &names, batch)
    }

    fn replace(&mut self, schema: &SchemaRef, key: &[usize], batch: Option<BatchId>, rows: &Rows) -> Tried<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let names = Names { schema, found: self.catalog().columns()? };
        self.stage(schema, rows)?;
        for null in rows.nulls_of(key) {
            let same = names.same_key(key, &null);
            self.connection.execute(&format!("DELETE FROM {} t USING {STAGED} s WHERE {same}", self.sql()), &[])?;
        }
        self.insert_from(STAGED, &names, batch)
    }

    fn put_back(
        &mut self,
        schema: &SchemaRef,
        key: &[usize],
        (keep, newest): (Option<BatchId>, BatchId),
        rows: &Rows,
    ) -> Tried<()> {
        self.connection.take_time()?;
        let names = Names { schema, found: self.catalog().columns()? };
        let after = keep.map_or(-1, number);
        let changed = |null: BTreeSet<usize>| {
            let (table, same) = (self.sql(), names.same_key(key, &null));
            format!(
                "SELECT s.* FROM {STAGED} s WHERE EXISTS (SELECT FROM {table} t WHERE {same} AND t.{BATCH_COLUMN} > {after})"
            )
        };
        let changed: Vec<String> = rows.nulls_of(key).into_iter().map(changed).collect();
        if changed.is_empty() {
            return self.delete_after(keep);
        }
        self.stage(schema, rows)?;
        let back = changed.join(" UNION ALL ");
        self.connection.batch(&format!("CREATE TEMPORARY TABLE {BACK} ON COMMIT DROP AS {back}"))?;
        self.delete_after(keep)?;
        self.insert_from(BACK, &names, Some(newest))
    }

    fn delete_after(&mut self, keep: Option<BatchId>) -> Tried<()> {
        self.connection.take_time()?;
        let delete = format!("DELETE FROM {} WHERE {BATCH_COLUMN} > $1", self.sql());
        self.connection.execute(&delete, &[int(&keep.map_or(-1, number))]).map(|_| ())
    }

    fn delete_all(&mut self) -> Tried<()> {
        self.connection.execute(&format!("DELETE FROM {}", self.sql()), &[]).map(|_| ())
    }

    fn has_rows_of_no_batch(&mut self) -> Tried<bool> {
        self.connection.take_time()?;
        let found = format!("SELECT EXISTS (SELECT FROM {} WHERE {BATCH_COLUMN} IS NULL)", self.sql());
        let rows = self.connection.query(&found, &[])?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
    }

    fn rows_by_batch(&mut self, columns: &[String], by_batch: bool) -> Tried<RowsByBatch> {
        self.connection.take_time()?;
        let batch = if by_batch { format!("{BATCH_COLUMN}::bigint") } else { "NULL::bigint".to_owned() };
        let names = columns.iter().map(|name| format!(", {}", quoted(name))).collect::<String>();
        let copy = format!("COPY (SELECT {batch}{names} FROM {}) TO STDOUT (FORMAT binary)", self.sql());
        Ok(rows::by_batch(&self.connection.copy_out(&copy)?)?)
    }
}

pub(super) fn text(value: &(dyn ToSql + Sync)) -> Param<'_> {
    (value, Type::TEXT)
}

fn int(value: &i64) -> Param<'_> {
    (value, Type::INT8)
}

fn recorded(row: &Row) -> Result<Recorded, Trouble<Failure>> {
    Ok(Recorded { rows: unsigned(row.try_get(0)?), hash: row.try_get(1)? })
}
