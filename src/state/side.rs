//! The rows of one side of a join of two streams, until no partner can come any more.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef},
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};

use super::{calendar::Calendar, columns::Columns, merge::with_rows};
use crate::model::{Error, Result};

/// No row, or no key.
const NONE: u32 = u32::MAX;

/// When a row came that is gone.
const GONE: u64 = u64::MAX;

/// Room for so many rows is never given back before the last of them is let go.
const SPARSE_MIN: usize = 4096;

/// A row that waits for partners.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Its place in the order in which rows came; [`GONE`]: nothing is kept here.
    came: u64,
    /// When it is let go, microseconds; `i64::MAX`: never.
    until: i64,
    /// [`NONE`]: a key that is null meets nothing.
    key: u32,
    /// The rows of the same key that came before and after it, or [`NONE`].
    before: u32,
    after: u32,
    matched: bool,
}

/// The rows of one key, in the order in which they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfKey {
    first: u32,
    last: u32,
}

impl OfKey {
    pub const EMPTY: OfKey = OfKey { first: NONE, last: NONE };

    pub fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

/// Rows that a side has just taken over.
#[derive(Debug)]
pub struct Taken {
    /// Each row's number, as long as it is kept.
    pub rows: Vec<u32>,
    /// Rows that were there already came before this.
    pub since: u64,
}

/// Rows, each with a number as long as it is kept.
pub(super) struct Side {
    /// Columns of the rows, of their keys, then `until` and `matched`.
    schema: SchemaRef,
    key_count: usize,
    converter: RowConverter,
    /// By number, as the columns are.
    waiting: Vec<Waiting>,
    columns: Columns,
    /// Numbers that no row has.
    free: Vec<u32>,
    /// Of all rows that are let go some time: when. Some are gone already.
    by_until: Calendar,
    next: u64,
}

impl Side {
    /// An empty side; of `fields` the last `key_count` are the key.
    ///
    /// # Errors
    /// Of kind `Usage` where a key's type cannot be compared.
    pub fn new(fields: &[FieldRef], key_count: usize) -> Result<Side> {
        let key_fields = fields[fields.len() - key_count..].iter();
        let converter = RowConverter::new(key_fields.map(|field| SortField::new(field.data_type().clone())).collect())
            .map_err(|error| Error::usage("this type cannot be the key of a join").because(error.to_string()))?;
        let named =
            fields.iter().enumerate().map(|(at, field)| Field::new(format!("{at}"), field.data_type().clone(), true));
        let more = [Field::new("until", DataType::Int64, false), Field::new("matched", DataType::Boolean, false)];
        Ok(Side {
            schema: Arc::new(Schema::new(named.chain(more).collect::<Vec<_>>())),
            key_count,
            converter,
            waiting: Vec::new(),
            columns: Columns::new(fields),
            free: Vec::new(),
            by_until: Calendar::default(),
            next: 0,
        })
    }

    /// A side of the same kind without rows.
    ///
    /// # Errors
    /// As [`Side::new`].
    pub fn emptied(&self) -> Result<Side> {
        Side::new(&self.schema.fields()[..self.columns_count()], self.key_count)
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn len(&self) -> usize {
        self.waiting.len() - self.free.len()
    }

    /// Whether there is room for far more rows than there are.
    pub fn is_sparse(&self) -> bool {
        self.waiting.len() > SPARSE_MIN.max(4 * self.len())
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        let lists = size_of_val(self.waiting.as_slice()) + size_of_val(self.free.as_slice());
        self.columns.memory_bytes() + lists + self.by_until.memory_bytes()
    }

    /// What a batch's rows are in a delta; keys behind their columns, and when each is let go.
    ///
    /// # Errors
    /// Of kind `Failed` where the columns are not those of this side.
    pub fn delta(&self, columns: &[ArrayRef], until: Vec<i64>) -> Result<RecordBatch> {
        let rows = until.len();
        let mut columns = columns.to_vec();
        columns.push(Arc::new(Int64Array::from(until)));
        columns.push(Arc::new(BooleanArray::from(vec![false; rows])));
        with_rows(&self.schema, columns, rows)
    }

    /// The keys of the rows of a delta or of a snapshot, and which rows have one.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot compare a type.
    pub fn keys(&self, rows: &RecordBatch) -> Result<(Rows, Vec<u32>)> {
        let columns = self.columns_count();
        let keys = &rows.columns()[columns - self.key_count..columns];
        let encoded = self.converter.convert_columns(keys);
        let encoded = encoded
            .map_err(|error| Error::failed("keys of a join could not be compared").because(error.to_string()))?;
        let known = |row: &u32| keys.iter().all(|key| key.is_valid(*row as usize));
        Ok((encoded, (0..rows.num_rows() as u32).filter(known).collect()))
    }

    /// Takes over the rows of a delta or of a snapshot; none has a key yet.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn take_over(&mut self, rows: &RecordBatch) -> Result<Taken> {
        let columns = self.columns_count();
        let until = rows.column(columns).as_primitive::<Int64Type>();
        let matched = rows.column(columns + 1).as_boolean();
        let mut taken = Taken { rows: Vec::with_capacity(rows.num_rows()), since: self.next };
        for (until, matched) in until.values().iter().zip(matched.values()) {
            let (came, until) = (self.next, *until);
            self.next += 1;
            let row = Waiting { came, until, key: NONE, before: NONE, after: NONE, matched };
            let number = match self.free.pop() {
                Some(number) => {
                    self.waiting[number as usize] = row;
                    number
                }
                None => {
                    self.waiting.push(row);
                    self.waiting.len() as u32 - 1
                }
            };
            if until < i64::MAX {
                self.by_until.insert(until, number);
            }
            taken.rows.push(number);
        }
        self.columns.write(&rows.columns()[..columns], &taken.rows)?;
        Ok(taken)
    }

    /// Gives a row its key, behind the others that have it.
    pub fn link(&mut self, row: u32, key: u32, of_key: &mut OfKey) {
        let before = std::mem::replace(&mut of_key.last, row);
        match self.waiting.get_mut(before as usize) {
            Some(before) => before.after = row,
            None => of_key.first = row,
        }
        let row = &mut self.waiting[row as usize];
        (row.key, row.before) = (key, before);
    }

    /// Takes a row from among those of its key.
    pub fn unlink(&mut self, row: u32, of_key: &mut OfKey) {
        let Waiting { before, after, .. } = self.waiting[row as usize];
        match self.waiting.get_mut(before as usize) {
            Some(before) => before.after = after,
            None => of_key.first = after,
        }
        match self.waiting.get_mut(after as usize) {
            Some(after) => after.before = before,
            None => of_key.last = before,
        }
    }

    /// The number of a row's key; `None`: its key is null.
    pub fn key(&self, row: u32) -> Option<u32> {
        Some(self.waiting[row as usize].key).filter(|key| *key != NONE)
    }

    /// The rows of a key, in the order in which they came.
    pub fn of_key(&self, of_key: &OfKey) -> impl Iterator<Item = u32> {
        let row = |row: u32| Some(row).filter(|row| *row != NONE);
        std::iter::successors(row(of_key.first), move |before| row(self.waiting[*before as usize].after))
    }

    /// Whether a row came before these.
    pub fn came_before(&self, row: u32, taken: &Taken) -> bool {
        self.waiting[row as usize].came < taken.since
    }

    /// Notes that a row met a partner; true: for the first time.
    pub fn meet(&mut self, row: u32) -> bool {
        !std::mem::replace(&mut self.waiting[row as usize].matched, true)
    }

    /// The first `columns` columns of rows.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn gather(&self, rows: &[u32], columns: usize) -> Result<Vec<ArrayRef>> {
        let mut gathered = self.columns.gather(rows)?;
        gathered.truncate(columns);
        Ok(gathered)
    }

    /// The rows that are over at `watermark_us` and, of these, the ones that met no partner; both in the order in which
    /// they came. No one asks for them again: they must be let go.
    pub fn over(&mut self, watermark_us: i64) -> (Vec<u32>, Vec<u32>) {
        // never means never
        let last = watermark_us.min(i64::MAX - 1);
        let taken = self.by_until.take_until(last);
        let is_over = |row: &u32| {
            let waiting = &self.waiting[*row as usize];
            waiting.came != GONE && waiting.until <= last
        };
        let mut over: Vec<u32> = taken.into_iter().filter(is_over).collect();
        over.sort_unstable_by_key(|row| self.waiting[*row as usize].came);
        // a number that was let go, and is used again, may be there twice
        over.dedup();
        let alone = over.iter().copied().filter(|row| !self.waiting[*row as usize].matched).collect();
        (over, alone)
    }

    /// Lets go of rows, each of which is there and not among those of its key any more.
    pub fn let_go(&mut self, rows: &[u32]) {
        for row in rows {
            let came = std::mem::replace(&mut self.waiting[*row as usize].came, GONE);
            assert!(came != GONE, "a row that is let go is there");
        }
        self.free.extend(rows);
        if self.len() == 0 {
            (self.waiting, self.free, self.by_until) = Default::default();
            self.columns = Columns::new(&self.schema.fields()[..self.columns_count()]);
        } else if self.by_until.len() > 2 * self.len() + 1024 {
            // most were let go before their time
            self.by_until = Calendar::default();
            for (row, waiting) in self.waiting.iter().enumerate() {
                if waiting.came != GONE && waiting.until < i64::MAX {
                    self.by_until.insert(waiting.until, row as u32);
                }
            }
        }
    }

    /// The rows whole, in the order in which they came.
    ///
    /// # Errors
    /// As [`Side::gather`].
    pub fn whole(&self) -> Result<RecordBatch> {
        let there = self.waiting.iter().zip(0..).filter(|(waiting, _)| waiting.came != GONE);
        let mut ordered: Vec<(u64, u32)> = there.map(|(waiting, row)| (waiting.came, row)).collect();
        ordered.sort_unstable();
        let rows: Vec<u32> = ordered.into_iter().map(|(_, row)| row).collect();
        let waiting = || rows.iter().map(|row| &self.waiting[*row as usize]);
        let mut columns = self.columns.gather(&rows)?;
        columns.push(Arc::new(Int64Array::from_iter_values(waiting().map(|waiting| waiting.until))));
        columns.push(Arc::new(BooleanArray::from_iter(waiting().map(|waiting| Some(waiting.matched)))));
        with_rows(&self.schema, columns, rows.len())
    }

    fn columns_count(&self) -> usize {
        self.schema.fields().len() - 2
    }
}
