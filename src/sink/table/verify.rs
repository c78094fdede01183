//! Whether a table holds what the commits say.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use datafusion::arrow::record_batch::RecordBatch;

use super::{
    TableSink,
    books::{Database, Found, Recorded, RowsByBatch, Table, Tried},
    values,
};
use crate::model::{BatchId, OutputMode, Result, StagedOutput};

/// What a table has.
struct Held {
    recorded: BTreeMap<u64, Recorded>,
    rows: RowsByBatch,
    /// Whether each row says of which batch it is.
    by_batch: bool,
    /// Whether rows of later batches replace earlier ones.
    replaces: bool,
    /// Whether rows can be compared, not only counted.
    comparable: bool,
}

impl<D: Database> TableSink<D> {
    /// One finding for each thing that is wrong.
    pub(super) fn findings(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        let published: Vec<_> = published.iter().filter(|(_, staged)| !staged.name.is_empty()).collect();
        let place = self.shown();
        let held = match self.look_at_rows()? {
            Some(Ok(held)) => held,
            Some(Err(column)) => return Ok(vec![format!("{place} has no column '{column}' any more")]),
            None if published.is_empty() => return Ok(Vec::new()),
            None => return Ok(vec![format!("{place}, which {} batches published to, is missing", published.len())]),
        };
        let mut found = strays(&held, &published);
        for (batch, staged) in &published {
            found.extend(self.wrong_of(&held, *batch, staged));
        }
        if self.mode == OutputMode::Complete {
            let newest = held.recorded.keys().next_back();
            let staged = published.iter().find(|(batch, _)| Some(&batch.0) == newest);
            found.extend(staged.and_then(|(batch, staged)| held.differs(None, *batch, staged)));
        }
        Ok(found.into_iter().map(|finding| format!("{place}: {finding}")).collect())
    }

    /// Says how many rows of a result are not in the table, if any is not.
    pub(super) fn lacking(&self, result: &[RecordBatch]) -> Result<Option<String>> {
        let Some(Ok(held)) = self.look_at_rows()?.filter(|held| held.as_ref().is_ok_and(|held| held.comparable)) else {
            return Ok(None);
        };
        let rows: HashSet<Vec<u8>> = held.rows.into_values().flatten().collect();
        let wanted = D::encoded(&D::rows_of(result)?);
        let lacking = wanted.iter().filter(|row| !rows.contains(*row)).count();
        let (count, place) = (wanted.len(), self.shown());
        Ok((lacking > 0).then(|| {
            format!("{place}: {lacking} of the {count} rows of the newest result are not in it, or were changed")
        }))
    }

    fn shown(&self) -> String {
        format!("table '{}' of {}", self.table, D::shown(&self.place))
    }

    /// What the table has, if it is there and somebody's; the error: a column that is gone.
    fn look_at_rows(&self) -> Result<Option<std::result::Result<Held, String>>> {
        let looked = self.look(|table| match table.find()? {
            Some(found) if table.owner()?.is_some() => self.held(table, &found).map(Some),
            _ => Ok(None),
        })?;
        Ok(looked.flatten())
    }

    /// All that is looked at; the error: a column that is gone.
    fn held(&self, table: &mut dyn Table<D>, found: &Found) -> Tried<std::result::Result<Held, String>, D::Failure> {
        let owner = table.owner()?;
        let replaces = owner.as_ref().is_some_and(|owner| owner.replaces);
        let columns = owner.and_then(|owner| owner.columns);
        if let Some(gone) = columns.as_ref().and_then(|columns| found.lacks(columns)) {
            return Ok(Err(gone.clone()));
        }
        let by_batch = self.mode != OutputMode::Complete && found.has_batch_column();
        let rows = table.rows_by_batch(columns.as_deref().unwrap_or_default(), by_batch)?;
        Ok(Ok(Held { recorded: table.recorded()?, rows, by_batch, replaces, comparable: columns.is_some() }))
    }

    /// What is wrong about one batch.
    fn wrong_of(&self, held: &Held, batch: BatchId, staged: &StagedOutput) -> Option<String> {
        match held.recorded.get(&batch.0) {
            None => return Some(format!("batch {batch} is not in it")),
            Some(recorded) if recorded.hash != staged.hash || recorded.rows != staged.rows => {
                return Some(format!("it has another batch {batch} than was committed"));
            }
            Some(_) if !held.by_batch => return None,
            Some(_) => {}
        }
        // where rows are replaced only the last batch must have all of its own, and has more where a rewind put some back; the
        // values of all of them are for `lacking`
        let is_last = held.last_with_rows() == Some(batch.0);
        match held.replaces && (!is_last || held.count(Some(batch.0)) > staged.rows) {
            true => None,
            false => held.differs(Some(batch.0), batch, staged),
        }
    }
}

impl Held {
    fn count(&self, batch: Option<u64>) -> u64 {
        self.rows.get(&batch).map_or(0, |rows| rows.len() as u64)
    }

    /// The newest batch that published rows, which no other can have replaced; `None`: where a rewind put rows back that say of
    /// themselves that they are of a later one.
    fn last_with_rows(&self) -> Option<u64> {
        let last = self.recorded.iter().rev().find(|(_, recorded)| recorded.rows > 0).map(|(batch, _)| *batch)?;
        let has_later = self.rows.keys().flatten().any(|batch| *batch > last);
        (!has_later).then_some(last)
    }

    /// Whether rows are not those that a batch published.
    fn differs(&self, rows: Option<u64>, batch: BatchId, staged: &StagedOutput) -> Option<String> {
        let count = self.count(rows);
        if count != staged.rows {
            return Some(format!("it holds {count} rows of batch {batch}, which published {}", staged.rows));
        }
        let rows = self.rows.get(&rows).cloned().unwrap_or_default();
        let same = !self.comparable || values::hash(rows).1 == staged.hash;
        (!same).then(|| format!("its rows of batch {batch} are not those that were published"))
    }
}

/// Batches that nobody committed, and rows of batches that are not recorded.
fn strays(held: &Held, published: &[&(BatchId, StagedOutput)]) -> Vec<String> {
    let known: BTreeSet<u64> = published.iter().map(|(batch, _)| batch.0).collect();
    // what is older was let go by retention
    let oldest = known.first().copied().unwrap_or(0);
    let uncommitted = held.recorded.keys().filter(|batch| **batch >= oldest && !known.contains(batch));
    let mut found: Vec<String> =
        uncommitted.map(|batch| format!("it has batch {batch}, which is no committed one")).collect();
    let unrecorded = held.rows.keys().flatten().filter(|batch| !held.recorded.contains_key(batch));
    found.extend(unrecorded.map(|batch| format!("it has rows of batch {batch}, which is not recorded")));
    found
}
