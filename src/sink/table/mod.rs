//! A sink whose rows go to a table of a database: exactly once, since a batch's rows and its number become visible in one
//! transaction. What is of one database only is its [`Database`].
//!
//! Nothing is staged. After the commit the rows are written to the table, and in the same transaction the batch to
//! `highwater_batches` of the same database; a batch that is there already is left out. Rows for a second publishing come from
//! the checkpoint. Append adds rows, update replaces those of the same key, complete replaces all.
//!
//! A rewind takes rows back by the column `highwater_batch` of a table that was made here. In update mode a row that no later
//! batch touched stands as it is, and one that was touched is put back as the state at the batch has it: what the watermark has
//! closed since, and the state no longer holds, no later batch can have touched.

mod books;
mod refusals;
mod values;
mod verify;

use std::fmt;

use datafusion::arrow::record_batch::RecordBatch;

use super::{Before, Columns, Guarantee, Output, RowKey, Sink, rows};
use crate::{
    checkpoint::CommitPermit,
    job::RowFormat,
    model::{BatchId, Error, OutputMode, Place, Result, StagedOutput},
};
pub(super) use books::{
    BATCH_COLUMN, Column, Database, Found, Owner, Recorded, RowsByBatch, Table, Tried, Trouble, columns_of,
    columns_text, number, quoted, unsigned,
};
use refusals::NO_BATCHES;
pub(super) use values::{float_key, hash, texts};

/// A sink that writes to a table of a database.
pub(super) struct TableSink<D: Database> {
    name: String,
    place: D::Place,
    table: String,
    mode: OutputMode,
    claimed: Option<Claimed<D>>,
    /// The rows of the batch that is under way.
    staged: Option<(BatchId, D::Rows)>,
}

/// The table, once it is this checkpoint's.
struct Claimed<D> {
    database: D,
    checkpoint: String,
    /// The columns by which a row replaces another; `None`: rows are only added, or all are replaced.
    key: Option<Vec<usize>>,
    by_batch: bool,
    /// The newest batch that must be there, and the hash of its rows.
    newest: Option<(BatchId, Vec<u8>)>,
}

impl<D: Database> fmt::Debug for TableSink<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableSink").field("name", &self.name).field("table", &self.table).finish_non_exhaustive()
    }
}

impl<D: Database> TableSink<D> {
    /// Touches nothing yet; the database and the table may be missing.
    pub fn new(name: &str, place: D::Place, table: &str, mode: OutputMode) -> TableSink<D> {
        let (name, table) = (name.to_owned(), table.to_owned());
        TableSink { name, place, table, mode, claimed: None, staged: None }
    }

    /// Looks at the table without changing anything; `None`: there is no database.
    fn look<T>(&self, at: impl FnMut(&mut dyn Table<D>) -> Tried<T, D::Failure>) -> Result<Option<T>> {
        let Some(mut database) = D::existing(&self.place)? else { return Ok(None) };
        let what = format!("the database of '{}' cannot be read", self.name);
        database.read(&self.table, &what, at).map(Some)
    }

    /// Complete mode: a table of the newest result, in which no row is of a batch.
    fn is_whole(&self) -> bool {
        self.mode == OutputMode::Complete
    }

    /// Takes the table; whether its rows say of which batch they are.
    fn claim(
        &self,
        table: &mut dyn Table<D>,
        checkpoint_id: &str,
        before: &Before,
        columns: &Columns<'_>,
    ) -> Tried<bool, D::Failure> {
        let found = table.find()?;
        if let Some(found) = &found {
            self.check_columns(found, columns.schema)?;
            table.check_key(found, columns)?;
        }
        let by_batch = !self.is_whole() && found.as_ref().is_none_or(Found::has_batch_column);
        let names = || columns.schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        let (checkpoint, sink) = (checkpoint_id.to_owned(), self.name.clone());
        match (table.owner()?, &found) {
            (Some(owner), _) if !self.is_owned(&owner, checkpoint_id) => {
                return Err(self.owned_by(&owner, &format!("this one is '{sink}' of {checkpoint}")).into());
            }
            (Some(owner), _) => {
                self.check_all(table, before)?;
                let columns = owner.columns.as_ref().map(|_| names());
                if columns != owner.columns {
                    table.keep_owner(&Owner { columns, ..owner })?;
                }
                return Ok(by_batch);
            }
            (None, _) if before.resumes || before.newest.is_some() => return Err(self.not_the_place_before().into()),
            (None, Some(found)) => self.check_no_strangers(found)?,
            (None, None) => {
                let key = if let RowKey::Columns(key) = columns.key { key } else { &[] };
                table.make(columns.schema, key, by_batch)?;
            }
        }
        let columns_made = found.is_none().then(names);
        let replaces = matches!(columns.key, RowKey::Columns(_));
        table.claim(&Owner { checkpoint, sink, replaces, columns: columns_made })?;
        Ok(by_batch)
    }

    /// Checks that a table has what was published to it: of a run the newest batch, which the next follows; of a rewind each
    /// that is to stay, since they may be of another timeline.
    fn check_all(&self, table: &mut dyn Table<D>, before: &Before) -> Tried<(), D::Failure> {
        let Some(newest) = before.newest else { return Ok(()) };
        if let (true, Some(hash)) = (before.resumes, before.hash_of(newest)) {
            let recorded = table.recorded_of(newest)?;
            return self.check_has(table, newest, hash, recorded.as_ref());
        }
        let recorded = table.recorded()?;
        for (batch, hash) in before.batches.iter().filter(|(batch, _)| *batch <= newest) {
            self.check_has(table, *batch, hash, recorded.get(&batch.0))?;
        }
        Ok(())
    }

    fn check_has(
        &self,
        table: &mut dyn Table<D>,
        batch: BatchId,
        hash: &[u8],
        recorded: Option<&Recorded>,
    ) -> Tried<(), D::Failure> {
        match recorded {
            Some(recorded) if recorded.hash == hash => Ok(()),
            Some(_) => Err(self.other_rows(batch).at(D::at(&self.place)).into()),
            None => Err(self.lacks(batch, table.newest_before(batch)?).into()),
        }
    }

    fn is_owned(&self, owner: &Owner, checkpoint_id: &str) -> bool {
        owner.checkpoint == checkpoint_id && owner.sink == self.name
    }

    /// Why rows of single batches cannot be found in the table, if so.
    fn without_batches(&self, table: &mut dyn Table<D>) -> Tried<Option<&'static str>, D::Failure> {
        match table.find()? {
            Some(found) if !self.is_whole() && !found.has_batch_column() => Ok(Some(NO_BATCHES)),
            Some(_) if !self.is_whole() && table.has_rows_of_no_batch()? => {
                Ok(Some("it has rows from before it had the column highwater_batch"))
            }
            _ => Ok(None),
        }
    }

    fn convert(&self, output: &Output<'_>) -> Result<D::Rows> {
        let key = self.claimed.as_ref().and_then(|claimed| claimed.key.as_deref()).unwrap_or_default();
        if let Some(column) = float_key(output.rows, key, |value| value == 0.0 && value.is_sign_negative()) {
            return Err(self.takes_for_zero(&column, output.batch));
        }
        if let Some(column) = float_key(output.rows, key, |value| value.is_nan() && value.is_sign_negative()) {
            return Err(self.takes_for_nan(&column, output.batch));
        }
        D::check_keys(output.rows, key).map_err(|error| error.at_if_none(Place::Batch(output.batch)))?;
        D::rows_of(output.rows).map_err(|error| error.at_if_none(Place::Batch(output.batch)))
    }

    /// Does something with the claimed table.
    fn with_claimed<T>(&mut self, act: impl FnOnce(&Self, &mut Claimed<D>) -> Result<T>) -> Result<T> {
        let Some(mut claimed) = self.claimed.take() else {
            return Err(Error::failed(format!("'{}' is asked for a batch before it is open", self.name)));
        };
        let done = act(self, &mut claimed);
        self.claimed = Some(claimed);
        done
    }

    /// Writes a batch and its number, if they are not there.
    fn put(&self, table: &mut dyn Table<D>, to: &Target<'_>, batch: &Batch<'_, D>) -> Tried<(), D::Failure> {
        let Batch { staged, is_staged, output, rows } = batch;
        match table.owner()? {
            Some(owner) if self.is_owned(&owner, to.checkpoint) => {}
            Some(owner) => return Err(self.owned_by(&owner, "it was taken while this job ran").into()),
            None => return Err(self.not_the_place_before().into()),
        }
        match table.recorded_of(output.batch)? {
            Some(recorded) if recorded.hash == staged.hash => return Ok(()),
            None if *is_staged => {}
            _ => return Err(self.other_rows(output.batch).into()),
        }
        if let Some((before, hash)) = to.newest {
            let recorded = table.recorded_of(*before)?;
            self.check_has(table, *before, hash, recorded.as_ref())?;
        }
        let of_batch = to.by_batch.then_some(output.batch);
        match to.key {
            _ if self.is_whole() => {
                table.delete_all()?;
                table.insert(output.schema, None, rows)?;
            }
            Some(key) => table.replace(output.schema, key, of_batch, rows)?,
            None => table.insert(output.schema, of_batch, rows)?,
        }
        let recorded = Recorded { rows: staged.rows, hash: staged.hash.to_vec() };
        table.record(to.checkpoint, output.batch, &recorded)
    }
}

/// Where rows go.
struct Target<'a> {
    checkpoint: &'a str,
    key: Option<&'a [usize]>,
    by_batch: bool,
    /// What the batch comes after.
    newest: Option<&'a (BatchId, Vec<u8>)>,
}

/// What is published.
struct Batch<'a, D: Database> {
    staged: &'a StagedOutput,
    /// Whether the rows are those that were staged.
    is_staged: bool,
    output: &'a Output<'a>,
    rows: &'a D::Rows,
}

impl<D: Database> Sink for TableSink<D> {
    fn description(&self) -> String {
        format!("{}[{}, {}]", D::CONNECTOR, D::shown(&self.place), self.table)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn stages_outside(&self) -> bool {
        false
    }

    fn accepts(&self, columns: &Columns<'_>) -> Result<()> {
        refusals::check_names::<D>(columns.schema)?;
        rows::check(RowFormat::Json, columns.schema)?;
        if columns.key == RowKey::Hidden {
            return Err(Error::usage(format!("'{}' cannot tell which row of its table a group is", self.name))
                .because("update mode replaces rows by the group key, and not all of it is among the columns")
                .help("select every column of the GROUP BY as it is (of a window `window` or `window.start`), or set output_mode = 'complete'"));
        }
        let fits = |table: &mut dyn Table<D>| {
            let Some(found) = table.find()? else { return Ok(()) };
            self.check_columns(&found, columns.schema)?;
            table.check_types(&found, columns.schema)?;
            table.check_key(&found, columns)
        };
        self.look(fits).map(|_| ())
    }

    fn notes(&self) -> Result<Vec<String>> {
        let why = self.look(|table| self.without_batches(table))?.flatten();
        let refused = why.map(|why| format!("a rewind would be refused: table '{}': {why}", self.table));
        Ok(D::to_be_made(&self.place).into_iter().chain(refused).collect())
    }

    fn check_free(&self) -> Result<()> {
        match self.look(|table| Ok((table.owner()?, table.find()?)))? {
            Some((Some(owner), _)) => Err(self.owned_by(&owner, "this one is still to be made")),
            Some((None, Some(found))) => self.check_no_strangers(&found),
            _ => Ok(()),
        }
    }

    fn open(&mut self, checkpoint_id: &str, before: &Before, columns: &Columns<'_>) -> Result<()> {
        if before.resumes && self.look(|table| table.owner())?.flatten().is_none() {
            return Err(self.not_the_place_before());
        }
        let mut database = D::made(&self.place)?;
        let what = format!("'{}' cannot take its table", self.name);
        let by_batch = database.write(&self.table, &what, |table| self.claim(table, checkpoint_id, before, columns))?;
        let key = match columns.key {
            RowKey::Columns(key) => Some(key.to_vec()),
            RowKey::None | RowKey::All(_) | RowKey::Hidden => None,
        };
        let newest = before.newest.and_then(|newest| Some((newest, before.hash_of(newest)?.to_vec())));
        self.claimed = Some(Claimed { database, checkpoint: checkpoint_id.to_owned(), key, by_batch, newest });
        Ok(())
    }

    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput> {
        let rows = self.convert(output)?;
        let (size_bytes, hash) = D::hash_of(&rows);
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
        let is_staged = D::hash_of(&rows).1 == staged.hash;
        let published = Batch { staged, is_staged, output, rows: &rows };
        self.with_claimed(|sink, Claimed { database, checkpoint, key, by_batch, newest }| {
            let what = format!("batch {batch} cannot be written to the table of '{}'", sink.name);
            let to = Target { checkpoint, key: key.as_deref(), by_batch: *by_batch, newest: newest.as_ref() };
            database.write(&sink.table, &what, |table| sink.put(table, &to, &published))?;
            *newest = Some((batch, staged.hash.to_vec()));
            Ok(())
        })
    }

    fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }

    fn can_retract(&self) -> Result<()> {
        match self.look(|table| self.without_batches(table))?.flatten() {
            None => Ok(()),
            Some(why) => Err(self.cannot_take_back(why).at(D::at(&self.place))),
        }
    }

    fn retract(&mut self, _permit: &CommitPermit, keep: Option<BatchId>, latest: Option<&Output<'_>>) -> Result<()> {
        let rows = latest.map(|output| D::rows_of(output.rows)).transpose()?;
        self.with_claimed(|sink, Claimed { database, key, by_batch, .. }| {
            let (what, whole) = (format!("rows of '{}' cannot be taken back", sink.name), sink.is_whole());
            database.write(&sink.table, &what, |table| {
                if !table.forget_after(keep)? {
                    return Ok(());
                }
                if !whole && !*by_batch {
                    return Err(sink.cannot_take_back(NO_BATCHES).into());
                }
                // where none is left the table has had nothing yet, whatever the state holds
                match (latest.zip(rows.as_ref()), table.newest()?, key.as_deref()) {
                    (Some((output, rows)), Some(_), _) if whole => {
                        table.delete_all()?;
                        table.insert(output.schema, None, rows)
                    }
                    _ if whole => table.delete_all(),
                    (Some((output, rows)), Some(newest), Some(key)) => {
                        table.put_back(output.schema, key, (keep, newest), rows)
                    }
                    _ => table.delete_after(keep),
                }
            })
        })
    }

    fn verify(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        self.findings(published)
    }

    fn lacks(&self, result: &[RecordBatch]) -> Result<Option<String>> {
        self.lacking(result)
    }

    fn read_back(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>> {
        Err(Error::usage(format!("rows of '{}' are not read back from its table", self.name))
            .help("read them from the checkpoint: highwater show"))
    }
}
