//! The SQLite sink: exactly once, since a batch's rows and its number become visible in one transaction.
//!
//! Nothing is staged. After the commit the rows are written to the table, and in the same transaction the batch to
//! `highwater_batches` of the same database; a batch that is there already is left out. Rows for a second publishing come from
//! the checkpoint. Append adds rows, update replaces those of the same key, complete replaces all.
//!
//! A rewind takes rows back by the column `highwater_batch` of a table that was made here. In update mode a row that no later
//! batch touched stands as it is, and one that was touched is put back as the state at the batch has it: what the watermark has
//! closed since, and the state no longer holds, no later batch can have touched.

mod database;
mod table;
mod values;
mod verify;

use std::path::{Path, PathBuf};

use datafusion::arrow::datatypes::SchemaRef;
use rusqlite::Transaction;

use super::{Columns, Guarantee, Output, RowKey, Sink, durable::create_folder, rows};
use crate::{
    checkpoint::CommitPermit,
    job::RowFormat,
    model::{BatchId, Error, OutputMode, Place, Result, StagedOutput},
};
use database::{Database, Tried};
use table::{BATCH_COLUMN, Found, Owner, Recorded, Table, quoted};
use values::{Row, hash_of, negative_zero, rows_of};

/// A sink that writes to a table of an SQLite database.
#[derive(Debug)]
pub struct SqliteSink {
    name: String,
    path: PathBuf,
    table: String,
    mode: OutputMode,
    claimed: Option<Claimed>,
    /// The rows of the batch that is under way.
    staged: Option<(BatchId, Vec<Row>)>,
}

/// The table, once it is this checkpoint's.
#[derive(Debug)]
struct Claimed {
    database: Database,
    checkpoint: String,
    /// The columns by which a row replaces another; `None`: rows are only added, or all are replaced.
    key: Option<Vec<usize>>,
    by_batch: bool,
}

/// All rows of a table as JSON arrays, sorted: for tests that compare two.
///
/// # Errors
/// Of kind `Failed`, where there is no such table, or it cannot be read.
pub fn table_lines(path: &Path, table: &str) -> Result<Vec<String>> {
    let Some(mut database) = Database::existing(path)? else {
        return Err(Error::failed("there is no such database").at(Place::Path(path.to_owned())));
    };
    database.read("a table cannot be read", |tx| Table { name: table }.lines(tx))
}

impl SqliteSink {
    /// Touches nothing yet; the database and the table may be missing.
    pub fn new(name: &str, path: &Path, table: &str, mode: OutputMode) -> SqliteSink {
        let (name, path, table) = (name.to_owned(), path.to_owned(), table.to_owned());
        SqliteSink { name, path, table, mode, claimed: None, staged: None }
    }

    fn table(&self) -> Table<'_> {
        Table { name: &self.table }
    }

    /// Looks at the database without changing it; `None`: there is none.
    fn look<T>(&self, at: impl FnOnce(&Transaction<'_>) -> Tried<T>) -> Result<Option<T>> {
        let Some(mut database) = Database::existing(&self.path)? else { return Ok(None) };
        database.read(&format!("the database of '{}' cannot be read", self.name), at).map(Some)
    }

    /// Complete mode: a table of the newest result, in which no row is of a batch.
    fn is_whole(&self) -> bool {
        self.mode == OutputMode::Complete
    }

    /// Takes the table; whether its rows say of which batch they are.
    fn claim(&self, tx: &Transaction<'_>, checkpoint_id: &str, resumes: bool, columns: &Columns<'_>) -> Tried<bool> {
        let table = self.table();
        let found = table.find(tx)?;
        if let Some(found) = &found {
            table.check_columns(found, columns.schema)?;
        }
        let by_batch = !self.is_whole() && found.as_ref().is_none_or(Found::has_batch_column);
        let names = || columns.schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        let (checkpoint, sink) = (checkpoint_id.to_owned(), self.name.clone());
        match (table.owner(tx)?, &found) {
            (Some(owner), _) if owner.checkpoint != checkpoint_id || owner.sink != self.name => {
                return Err(self.owned_by(&owner, &format!("this one is '{sink}' of {checkpoint}")).into());
            }
            (Some(owner), _) => {
                let columns = owner.columns.as_ref().map(|_| names());
                if columns != owner.columns {
                    table.keep_owner(tx, &Owner { columns, ..owner })?;
                }
                return Ok(by_batch);
            }
            (None, _) if resumes => return Err(self.not_the_place_before().into()),
            (None, Some(found)) => self.check_no_strangers(found)?,
            (None, None) => {
                let key = if let RowKey::Columns(key) = columns.key { key } else { &[] };
                table.make(tx, columns.schema, key, by_batch)?;
            }
        }
        let columns_made = found.is_none().then(names);
        let replaces = matches!(columns.key, RowKey::Columns(_));
        table.claim(tx, &Owner { checkpoint, sink, replaces, columns: columns_made })?;
        Ok(by_batch)
    }

    fn owned_by(&self, owner: &Owner, we: &str) -> Error {
        let Owner { checkpoint, sink, .. } = owner;
        Error::refused(format!("table '{}' belongs to another checkpoint or sink", self.table))
            .at(Place::Path(self.path.clone()))
            .because(format!("sink '{sink}' of checkpoint {checkpoint} writes here, {we}"))
            .help(format!(
                "give the sink another table or path; or, if its rows are no longer needed: DROP TABLE {}",
                quoted(&self.table)
            ))
    }

    /// Rows in a table that no checkpoint owns.
    fn check_no_strangers(&self, found: &Found) -> Result<()> {
        if !found.has_rows {
            return Ok(());
        }
        Err(Error::refused(format!("'{}' would write among rows that are not its own", self.name))
            .at(Place::Path(self.path.clone()))
            .because(format!("table '{}' has rows, and belongs to no checkpoint", self.table))
            .help(format!(
                "give the sink another table or path; or, if they are no longer needed: DELETE FROM {}",
                quoted(&self.table)
            )))
    }

    fn not_the_place_before(&self) -> Error {
        Error::refused(format!("'{}' has published to another table than this one", self.name))
            .at(Place::Path(self.path.clone()))
            .because(format!("table '{}' here has nothing that this checkpoint published", self.table))
            .help(
                "set path and table back, or move the database to the new path; to publish elsewhere from some batch on, \
                 `highwater fork` with --set; if the output was removed for good, `highwater rewind --to start` and run again",
            )
    }

    /// Why rows of single batches cannot be found in the table, if so.
    fn without_batches(&self, tx: &Transaction<'_>) -> Tried<Option<&'static str>> {
        let table = self.table();
        match table.find(tx)? {
            Some(found) if !self.is_whole() && !found.has_batch_column() => Ok(Some(NO_BATCHES)),
            Some(_) if !self.is_whole() && table.has_rows_of_no_batch(tx)? => {
                Ok(Some("it has rows from before it had the column highwater_batch"))
            }
            _ => Ok(None),
        }
    }

    fn convert(&self, output: &Output<'_>) -> Result<Vec<Row>> {
        let key = self.claimed.as_ref().and_then(|claimed| claimed.key.as_deref()).unwrap_or_default();
        if let Some(column) = negative_zero(output.rows, key) {
            return Err(Error::data(format!("the group key '{column}' is -0.0, which SQLite takes for 0.0"))
                .at(Place::Batch(output.batch))
                .because("rows of two groups would replace one another")
                .help(format!("group by {column} + 0.0, which makes them one group")));
        }
        rows_of(output.rows)
    }
}

impl Sink for SqliteSink {
    fn description(&self) -> String {
        format!("sqlite[{}, {}]", self.path.display(), self.table)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn stages_outside(&self) -> bool {
        false
    }

    fn accepts(&self, columns: &Columns<'_>) -> Result<()> {
        check_names(columns.schema)?;
        rows::check(RowFormat::Json, columns.schema)?;
        if columns.key == RowKey::Hidden {
            return Err(Error::usage(format!("'{}' cannot tell which row of its table a group is", self.name))
                .because("update mode replaces rows by the group key, and not all of it is among the columns")
                .help("select every column of the GROUP BY as it is (of a window `window` itself), or set output_mode = 'complete'"));
        }
        let found = self.look(|tx| self.table().find(tx))?.flatten();
        found.map_or(Ok(()), |found| self.table().check_columns(&found, columns.schema))
    }

    fn notes(&self) -> Result<Vec<String>> {
        let why = self.look(|tx| self.without_batches(tx))?.flatten();
        Ok(why.map(|why| format!("a rewind would be refused: table '{}': {why}", self.table)).into_iter().collect())
    }

    fn check_free(&self) -> Result<()> {
        let found = self.look(|tx| Ok((self.table().owner(tx)?, self.table().find(tx)?)))?;
        match found {
            Some((Some(owner), _)) => Err(self.owned_by(&owner, "this one is still to be made")),
            Some((None, Some(found))) => self.check_no_strangers(&found),
            _ => Ok(()),
        }
    }

    fn open(&mut self, checkpoint_id: &str, resumes: bool, columns: &Columns<'_>) -> Result<()> {
        if resumes && self.look(|tx| self.table().owner(tx))?.flatten().is_none() {
            return Err(self.not_the_place_before());
        }
        create_folder(self.path.parent().unwrap_or(Path::new("")))?;
        let mut database = Database::made(&self.path)?;
        let what = format!("'{}' cannot take its table", self.name);
        let by_batch = database.write(&what, |tx| self.claim(tx, checkpoint_id, resumes, columns))?;
        let key = match columns.key {
            RowKey::Columns(key) => Some(key.to_vec()),
            RowKey::None | RowKey::Hidden => None,
        };
        self.claimed = Some(Claimed { database, checkpoint: checkpoint_id.to_owned(), key, by_batch });
        Ok(())
    }

    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput> {
        let rows = self.convert(output)?;
        let (size_bytes, hash) = hash_of(&rows);
        self.staged = Some((output.batch, rows));
        let (sink, name) = (self.name.clone(), self.table.clone());
        Ok(StagedOutput { sink, name, rows: output.row_count(), size_bytes, hash })
    }

    fn publish(&mut self, _permit: &CommitPermit, staged: &StagedOutput, output: &Output<'_>) -> Result<()> {
        if staged.name.is_empty() {
            // committed while the job had another sink here
            return Ok(());
        }
        let batch = output.batch;
        let rows = match self.staged.take() {
            Some((under_way, rows)) if under_way == batch => rows,
            _ => self.convert(output)?,
        };
        let is_staged = hash_of(&rows).1 == staged.hash;
        let whole = self.is_whole();
        let SqliteSink { name: sink, table, claimed, .. } = self;
        let (table, what) =
            (Table { name: table }, format!("batch {batch} cannot be written to the table of '{sink}'"));
        let Claimed { database, checkpoint, key, by_batch } = claimed.as_mut().ok_or_else(|| not_open(sink))?;
        database.write(&what, |tx| {
            match table.recorded_of(tx, batch)? {
                Some(recorded) if recorded.hash == staged.hash => return Ok(()),
                None if is_staged => {}
                _ => return Err(other_rows(sink, batch).into()),
            }
            if whole {
                table.delete_all(tx)?;
            } else if let Some(key) = key {
                table.delete_keys(tx, output.schema, key, &rows)?;
            }
            table.insert(tx, output.schema, by_batch.then_some(batch), &rows)?;
            let recorded = Recorded { rows: staged.rows, hash: staged.hash.to_vec() };
            table.record(tx, checkpoint, batch, &recorded)
        })
    }

    fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }

    fn can_retract(&self) -> Result<()> {
        match self.look(|tx| self.without_batches(tx))?.flatten() {
            None => Ok(()),
            Some(why) => Err(cannot_take_back(&self.name, &self.table, why).at(Place::Path(self.path.clone()))),
        }
    }

    fn retract(&mut self, _permit: &CommitPermit, keep: Option<BatchId>, latest: Option<&Output<'_>>) -> Result<()> {
        let whole = self.is_whole();
        let rows = latest.map(|output| rows_of(output.rows)).transpose()?.unwrap_or_default();
        let SqliteSink { name: sink, table, claimed, .. } = self;
        let (table, what) = (Table { name: table }, format!("rows of '{sink}' cannot be taken back"));
        let Claimed { database, key, by_batch, .. } = claimed.as_mut().ok_or_else(|| not_open(sink))?;
        database.write(&what, |tx| {
            if !table.forget_after(tx, keep)? {
                return Ok(());
            }
            if !whole && !*by_batch {
                return Err(cannot_take_back(sink, table.name, NO_BATCHES).into());
            }
            // where none is left the table has had nothing yet, whatever the state holds
            let newest = table.newest(tx)?;
            let back = match (latest, newest, key) {
                (Some(_), Some(_), _) if whole => rows,
                (Some(output), Some(_), Some(key)) => table.changed_after(tx, (output.schema, key), keep, rows)?,
                _ => Vec::new(),
            };
            if whole {
                table.delete_all(tx)?
            } else {
                table.delete_after(tx, keep)?
            }
            match latest {
                Some(output) => table.insert(tx, output.schema, newest.filter(|_| !whole), &back),
                None => Ok(()),
            }
        })
    }

    fn verify(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        self.findings(published)
    }

    fn read_back(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>> {
        Err(Error::usage(format!("rows of '{}' are not read back from its table", self.name))
            .help("read them from the checkpoint: highwater show"))
    }
}

/// Why a table's rows cannot be taken back by their batch.
const NO_BATCHES: &str =
    "the sink did not make it, and it has no column highwater_batch, which says of which batch a row is";

fn not_open(sink: &str) -> Error {
    Error::failed(format!("'{sink}' is asked for a batch before it is open"))
}

fn other_rows(sink: &str, batch: BatchId) -> Error {
    Error::refused(format!("'{sink}' would publish other rows than were committed"))
        .because(format!("batch {batch} gave other rows this time, or the database has another batch of this number"))
        .help("put checkpoint and database back as they were together, or rewind to the batch before")
}

fn cannot_take_back(sink: &str, table: &str, why: &str) -> Error {
    Error::refused(format!("rows of '{sink}' cannot be taken back from table '{table}'"))
        .because(why)
        .help("go on without a rewind; a table that the sink makes itself, under a name that is free, can be rewound")
}

/// What SQLite would take for one column, or the sink for its own.
fn check_names(schema: &SchemaRef) -> Result<()> {
    for (at, field) in schema.fields().iter().enumerate() {
        let name = field.name();
        let same = |other: &str| other.eq_ignore_ascii_case(name);
        let why = if same(BATCH_COLUMN) {
            "the sink itself has a column of this name, for the batch that a row is of"
        } else if schema.fields()[..at].iter().any(|before| same(before.name())) {
            "SQLite takes names that differ in case only for the same"
        } else {
            continue;
        };
        let error = Error::usage(format!("a table of SQLite cannot have the column '{name}' of the query"));
        return Err(error.because(why).help("give it another name: SELECT ... AS name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
