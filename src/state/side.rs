//! One side of a join of two streams: its rows by key, until no partner can come any more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
    row::{RowConverter, SortField},
};

use super::{columns::Columns, merge::with_rows};
use crate::model::{Error, Result};

type Key = Arc<[u8]>;

/// A row that waits for partners.
#[derive(Debug, Clone)]
struct Waiting {
    /// Number of its row among the columns.
    row: u32,
    /// When it is let go, microseconds; `i64::MAX`: never.
    until: i64,
    matched: bool,
    /// `None`: a key that is null meets nothing.
    key: Option<Key>,
}

/// Rows in the order in which they came, and where they are.
pub struct JoinSide {
    /// Columns of the rows, of their keys, then `until` and `matched`.
    schema: SchemaRef,
    columns_count: usize,
    key_count: usize,
    converter: RowConverter,
    rows: BTreeMap<u64, Waiting>,
    by_key: HashMap<Key, BTreeSet<u64>>,
    /// Of the keys of `by_key`: counted as they come and go, since every batch asks.
    key_bytes: usize,
    by_until: BTreeMap<i64, BTreeSet<u64>>,
    columns: Columns,
    free: Vec<u32>,
    numbers: u32,
    next: u64,
}

impl JoinSide {
    /// An empty side; of `fields` the last `keys` are the key.
    ///
    /// # Errors
    /// Of kind `Usage` where a key's type cannot be compared.
    pub fn new(fields: &[FieldRef], keys: usize) -> Result<JoinSide> {
        let key_fields = fields[fields.len() - keys..].iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(key_fields.collect())
            .map_err(|error| Error::usage("this type cannot be the key of a join").because(error.to_string()))?;
        let named =
            fields.iter().enumerate().map(|(at, field)| Field::new(format!("{at}"), field.data_type().clone(), true));
        let more = [Field::new("until", DataType::Int64, false), Field::new("matched", DataType::Boolean, false)];
        Ok(JoinSide {
            schema: Arc::new(Schema::new(named.chain(more).collect::<Vec<_>>())),
            columns_count: fields.len(),
            key_count: keys,
            converter,
            rows: BTreeMap::new(),
            by_key: HashMap::new(),
            key_bytes: 0,
            by_until: BTreeMap::new(),
            columns: Columns::new(fields),
            free: Vec::new(),
            numbers: 0,
            next: 0,
        })
    }

    /// The schema of deltas and snapshots.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.columns.memory_bytes() + self.key_bytes + self.by_key.len() * 64 + self.rows.len() * 128
    }

    /// What a batch's rows are in a delta; `keys` behind their columns, and when each is let go.
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

    /// Takes over the rows of a delta or of a snapshot, and says which they are from then on.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot compare a type.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<std::ops::Range<u64>> {
        let count = rows.num_rows();
        let first = self.next;
        let keys = self.keys(rows)?;
        let until = rows.column(self.columns_count).as_primitive::<Int64Type>();
        let matched = rows.column(self.columns_count + 1).as_boolean();
        let numbers: Vec<u32> = (0..count).map(|_| self.take_number()).collect();
        self.columns.write(&rows.columns()[..self.columns_count], &numbers)?;
        for (at, key) in keys.into_iter().enumerate() {
            let id = first + at as u64;
            if let Some(key) = &key {
                let ids = self.by_key.entry(key.clone()).or_default();
                self.key_bytes += if ids.is_empty() { key.len() } else { 0 };
                ids.insert(id);
            }
            self.by_until.entry(until.value(at)).or_default().insert(id);
            let waiting = Waiting { row: numbers[at], until: until.value(at), matched: matched.value(at), key };
            self.rows.insert(id, waiting);
        }
        self.next = first + count as u64;
        Ok(first..self.next)
    }

    /// The rows with the key of a row of the other side, in the order in which they came.
    pub fn partners(&self, key: &Option<Key>) -> impl Iterator<Item = u64> {
        key.as_ref().and_then(|key| self.by_key.get(key)).into_iter().flatten().copied()
    }

    /// The key of a row.
    pub fn key(&self, id: u64) -> Option<Key> {
        self.rows.get(&id).and_then(|waiting| waiting.key.clone())
    }

    /// Notes that a row met a partner; true: for the first time.
    pub fn meet(&mut self, id: u64) -> bool {
        self.rows.get_mut(&id).is_some_and(|waiting| !std::mem::replace(&mut waiting.matched, true))
    }

    /// The first `columns` columns of rows.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn gather(&self, ids: &[u64], columns: usize) -> Result<Vec<ArrayRef>> {
        let number = |id: &u64| {
            let waiting = self.rows.get(id);
            waiting.map(|waiting| waiting.row).ok_or_else(|| Error::failed("a row of a join was let go too early"))
        };
        let numbers = ids.iter().map(number).collect::<Result<Vec<u32>>>()?;
        let mut gathered = self.columns.gather(&numbers)?;
        gathered.truncate(columns);
        Ok(gathered)
    }

    /// The rows that are over at `watermark_us` and, of these, the ones that met no partner; they stay until [`JoinSide::remove`].
    pub fn over(&self, watermark_us: i64) -> (Vec<u64>, Vec<u64>) {
        // never means never
        let last = watermark_us.min(i64::MAX - 1);
        let over: BTreeSet<u64> = self.by_until.range(..=last).flat_map(|(_, ids)| ids.iter().copied()).collect();
        let alone = |id: &u64| self.rows.get(id).is_some_and(|waiting| !waiting.matched);
        let unmatched = over.iter().copied().filter(alone).collect();
        (over.into_iter().collect(), unmatched)
    }

    /// Lets go of rows.
    pub fn remove(&mut self, ids: &[u64]) {
        for id in ids {
            let Some(waiting) = self.rows.remove(id) else { continue };
            self.free.push(waiting.row);
            if let Some(ids) = self.by_until.get_mut(&waiting.until) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_until.remove(&waiting.until);
                }
            }
            if let Some(key) = waiting.key
                && let Some(ids) = self.by_key.get_mut(&key)
            {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_key.remove(&key);
                    self.key_bytes -= key.len();
                }
            }
        }
    }

    /// The state whole, in the order in which rows came.
    ///
    /// # Errors
    /// As [`JoinSide::gather`].
    pub fn whole(&self) -> Result<RecordBatch> {
        let ids: Vec<u64> = self.rows.keys().copied().collect();
        let mut columns = self.gather(&ids, self.columns_count)?;
        columns.push(Arc::new(Int64Array::from_iter_values(self.rows.values().map(|waiting| waiting.until))));
        columns.push(Arc::new(BooleanArray::from_iter(self.rows.values().map(|waiting| Some(waiting.matched)))));
        with_rows(&self.schema, columns, ids.len())
    }

    fn keys(&self, rows: &RecordBatch) -> Result<Vec<Option<Key>>> {
        let keys = &rows.columns()[self.key_columns()];
        let encoded = self.converter.convert_columns(keys).map_err(|error| failed(&error))?;
        let key = |row: usize| {
            let known = keys.iter().all(|key| key.is_valid(row));
            known.then(|| Key::from(encoded.row(row).as_ref()))
        };
        Ok((0..rows.num_rows()).map(key).collect())
    }

    fn key_columns(&self) -> std::ops::Range<usize> {
        self.columns_count - self.key_count..self.columns_count
    }

    fn take_number(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.numbers += 1;
            self.numbers - 1
        })
    }
}

fn failed(error: &ArrowError) -> Error {
    Error::failed("keys of a join could not be compared").because(error.to_string())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;

    use super::*;

    #[test]
    fn bytes_of_keys_are_those_of_the_rows_that_wait() {
        let key: FieldRef = Arc::new(Field::new("key", DataType::Utf8, true));
        let mut side = JoinSide::new(&[key], 1).unwrap();
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("longer"), Some("a"), None]));
        let delta = side.delta(&[keys], vec![1, 2, 3, 3]).unwrap();
        side.add(&delta).unwrap();
        let counted = |side: &JoinSide| side.by_key.keys().map(|key| key.len()).sum::<usize>();
        for watermark_us in 0..=3 {
            let (over, _) = side.over(watermark_us);
            side.remove(&over);
            assert_eq!(side.key_bytes, counted(&side), "at {watermark_us}");
        }
        assert_eq!((side.len(), side.key_bytes), (0, 0));
    }
}
