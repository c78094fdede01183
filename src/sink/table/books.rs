//! What a database has to do for [`super::TableSink`], and what is written down of a table.
//!
//! `highwater_tables` says which checkpoint a table belongs to, `highwater_batches` which batches are in it. Both are of the
//! same database, so that they change in the transaction that changes the table.

use std::collections::BTreeMap;

use datafusion::arrow::{
    datatypes::{DataType, SchemaRef},
    record_batch::RecordBatch,
};

use super::super::Columns;
use crate::model::{BatchId, Error, Place, Result};

/// By this column a rewind knows the rows of a batch. Not in complete mode, where all rows are of the newest.
pub(in crate::sink) const BATCH_COLUMN: &str = "highwater_batch";

/// What can go wrong inside of a transaction.
#[derive(Debug)]
pub(in crate::sink) enum Trouble<F> {
    Database(F),
    Ours(Error),
}

impl<F> From<Error> for Trouble<F> {
    fn from(error: Error) -> Trouble<F> {
        Trouble::Ours(error)
    }
}

pub(in crate::sink) type Tried<T, F> = std::result::Result<T, Trouble<F>>;

/// An open database.
pub(in crate::sink) trait Database: Sized + Send + 'static {
    /// As job files name it.
    const CONNECTOR: &'static str;
    /// As errors name it.
    const NAME: &'static str;
    /// What else a sink may be given: "another table or path".
    const ELSEWHERE: &'static str;
    /// How a sink comes back to the table that it had.
    const BACK: &'static str;

    /// Where it is.
    type Place: Send;
    /// Rows as they are written.
    type Rows: Send;
    /// What its driver fails with.
    type Failure;

    /// The place as it is shown.
    fn shown(place: &Self::Place) -> String;

    /// The place of an error.
    fn at(place: &Self::Place) -> Place;

    /// Opens the database, if there is one.
    ///
    /// # Errors
    /// Of kind `Failed`, where it cannot be opened.
    fn existing(place: &Self::Place) -> Result<Option<Self>>;

    /// As [`Database::existing`]; makes it where there is none, and that can be.
    fn made(place: &Self::Place) -> Result<Self>;

    /// What is still to be made before a table can be; `None`: nothing.
    fn to_be_made(_place: &Self::Place) -> Option<String> {
        None
    }

    /// Asks about a table, as it is at one moment.
    ///
    /// # Errors
    /// As `work` has it; of kind `Failed` where the database fails, with `what`.
    fn read<T>(
        &mut self,
        table: &str,
        what: &str,
        work: impl FnMut(&mut dyn Table<Self>) -> Tried<T, Self::Failure>,
    ) -> Result<T>;

    /// Changes the database: all of it, or nothing. `work` may be done again, where it is not known whether what it did the
    /// first time has stayed.
    ///
    /// # Errors
    /// As [`Database::read`].
    fn write<T>(
        &mut self,
        table: &str,
        what: &str,
        work: impl FnMut(&mut dyn Table<Self>) -> Tried<T, Self::Failure>,
    ) -> Result<T>;

    /// Rows as they are written.
    ///
    /// # Errors
    /// Of kind `Data`, naming the column, for a value that the database has no place for; `Failed` where a type has no text.
    fn rows_of(batches: &[RecordBatch]) -> Result<Self::Rows>;

    /// Checks that the database can tell rows apart by these columns; what only a table may do wrong is [`Table::check_key`]'s.
    ///
    /// # Errors
    /// Of kind `Data`, naming the column, where a value would become another group's.
    fn check_keys(_batches: &[RecordBatch], _key: &[usize]) -> Result<()> {
        Ok(())
    }

    /// Each row as bytes: two have the same if and only if they are equal; reading them back gives the same.
    fn encoded(rows: &Self::Rows) -> Vec<Vec<u8>>;

    /// The size and the hash of these, in whatever order.
    fn hash_of(rows: &Self::Rows) -> (u64, [u8; 32]);

    /// The type that a column of a new table gets.
    fn column_type(data_type: &DataType) -> String;

    /// Whether two names are one.
    fn is_same(one: &str, another: &str) -> bool;

    /// Why a column cannot have this name, if so.
    fn refuses_name(name: &str) -> Option<&'static str>;
}

/// One table, inside of one transaction.
pub(in crate::sink) trait Table<D: Database> {
    /// The table, if it is there.
    ///
    /// # Errors
    /// Of kind `Refused`, where the name is a view's.
    fn find(&mut self) -> Tried<Option<Found>, D::Failure>;

    /// Whether its columns, which are all there, can be given values of the query's types.
    ///
    /// # Errors
    /// Of kind `Refused`, naming the column.
    fn check_types(&mut self, found: &Found, schema: &SchemaRef) -> Tried<(), D::Failure>;

    /// Whether its columns keep apart the keys that the query keeps apart, where rows replace one another by them.
    ///
    /// # Errors
    /// Of kind `Refused`, naming the column.
    fn check_key(&mut self, found: &Found, columns: &Columns<'_>) -> Tried<(), D::Failure>;

    /// Who owns the table; `None`: nobody, or it is not there (any more). In a transaction that writes, it stays so until its end.
    fn owner(&mut self) -> Tried<Option<Owner>, D::Failure>;

    /// Makes the table; `key`: by which columns its rows are told apart, `by_batch`: whether each row says of which batch it is.
    fn make(&mut self, schema: &SchemaRef, key: &[usize], by_batch: bool) -> Tried<(), D::Failure>;

    /// Takes a table that nobody owns.
    fn claim(&mut self, owner: &Owner) -> Tried<(), D::Failure>;

    /// Writes down whose the table is.
    fn keep_owner(&mut self, owner: &Owner) -> Tried<(), D::Failure>;

    /// What is recorded of all batches in the table.
    fn recorded(&mut self) -> Tried<BTreeMap<u64, Recorded>, D::Failure>;

    /// What is recorded of one batch.
    fn recorded_of(&mut self, batch: BatchId) -> Tried<Option<Recorded>, D::Failure>;

    /// Records a batch.
    fn record(&mut self, checkpoint: &str, batch: BatchId, recorded: &Recorded) -> Tried<(), D::Failure>;

    /// Forgets batches after `keep` (`None`: all); whether there were any.
    fn forget_after(&mut self, keep: Option<BatchId>) -> Tried<bool, D::Failure>;

    /// The newest batch that is recorded.
    fn newest(&mut self) -> Tried<Option<BatchId>, D::Failure>;

    /// The newest batch that is recorded, of those before this one.
    fn newest_before(&mut self, batch: BatchId) -> Tried<Option<BatchId>, D::Failure> {
        let before = self.recorded()?.range(..batch.0).next_back().map(|(batch, _)| BatchId(*batch));
        Ok(before)
    }

    /// Adds rows; `batch`: what their column for it says, where there is one.
    fn insert(&mut self, schema: &SchemaRef, batch: Option<BatchId>, rows: &D::Rows) -> Tried<(), D::Failure>;

    /// As [`Table::insert`], in the place of the rows that have a key of one of these.
    fn replace(
        &mut self,
        schema: &SchemaRef,
        key: &[usize],
        batch: Option<BatchId>,
        rows: &D::Rows,
    ) -> Tried<(), D::Failure>;

    /// Removes the rows of batches after `keep` (`None`: all batches). Those of `rows` whose key one of them had are put in
    /// their place, as rows of the batch `newest`.
    fn put_back(
        &mut self,
        schema: &SchemaRef,
        key: &[usize],
        batches: (Option<BatchId>, BatchId),
        rows: &D::Rows,
    ) -> Tried<(), D::Failure>;

    /// Removes the rows of batches after `keep` (`None`: all batches).
    fn delete_after(&mut self, keep: Option<BatchId>) -> Tried<(), D::Failure>;

    fn delete_all(&mut self) -> Tried<(), D::Failure>;

    /// Whether rows are there of which no batch is known, since the column was added behind them.
    fn has_rows_of_no_batch(&mut self) -> Tried<bool, D::Failure>;

    /// All rows, encoded as [`Database::hash_of`] has them, as far as these columns go, by batch where the table says so
    /// (`by_batch`; `None`: all of them).
    fn rows_by_batch(&mut self, columns: &[String], by_batch: bool) -> Tried<RowsByBatch, D::Failure>;
}

/// Whose a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sink) struct Owner {
    pub checkpoint: String,
    pub sink: String,
    /// Whether rows of later batches replace earlier ones (update mode over groups).
    pub replaces: bool,
    /// The query's columns, of a table that Highwater made; `None`: the types are another's choice, and may change values.
    pub columns: Option<Vec<String>>,
}

/// An owner's columns as they are written down.
pub(in crate::sink) fn columns_text(owner: &Owner) -> Option<String> {
    owner.columns.as_ref().map(|columns| serde_json::Value::from(columns.clone()).to_string())
}

/// What [`columns_text`] wrote down of a table.
///
/// # Errors
/// Of kind `Refused`: taken for none, they would have verify count rows in place of comparing them.
pub(in crate::sink) fn columns_of(table: &str, text: Option<String>) -> Result<Option<Vec<String>>> {
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| {
        Error::refused(format!("the columns of table '{table}' are no list of names in highwater_tables"))
            .because(error.to_string())
            .help("put a sound copy of the database in its place")
    })
}

/// What is recorded of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sink) struct Recorded {
    pub rows: u64,
    pub hash: Vec<u8>,
}

/// A column of a table that is there.
#[derive(Debug, Clone)]
pub(in crate::sink) struct Column {
    pub name: String,
    /// As the database names it.
    pub of_type: String,
    /// It must be given a value: `NOT NULL`, and nothing fills it.
    pub needed: bool,
    /// It cannot be given a value.
    pub generated: bool,
}

/// A table that is there.
#[derive(Debug, Clone)]
pub(in crate::sink) struct Found {
    pub columns: Vec<Column>,
    pub has_rows: bool,
    /// [`Database::is_same`]
    pub is_same: fn(&str, &str) -> bool,
}

impl Found {
    pub fn has_batch_column(&self) -> bool {
        self.column(BATCH_COLUMN).is_some()
    }

    /// Which of these columns it does not have.
    pub fn lacks<'a>(&self, columns: &'a [String]) -> Option<&'a String> {
        columns.iter().find(|name| self.column(name).is_none())
    }

    /// A column that can be given a value.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| (self.is_same)(&column.name, name) && !column.generated)
    }
}

/// Rows of a table, encoded, by the batch that they are of.
pub(in crate::sink) type RowsByBatch = BTreeMap<Option<u64>, Vec<Vec<u8>>>;

/// A name in SQL text.
pub(in crate::sink) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A batch as a database has it.
pub(in crate::sink) fn number(batch: BatchId) -> i64 {
    i64::try_from(batch.0).unwrap_or(i64::MAX)
}

/// A count or a batch as a database has it.
pub(in crate::sink) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
