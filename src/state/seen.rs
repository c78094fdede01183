//! Which keys were met, until the watermark lets go of them.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, AsArray, Int64Array, UInt32Array},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};

use super::{key_table::KeyTable, keyed::taken, merge::with_rows};
use crate::model::{Error, Result};

/// No key.
const NONE: u32 = u32::MAX;

/// Keys, each with the time at which it is let go (microseconds; `i64::MAX`: never).
pub struct SeenKeys {
    /// The keys' columns, then `until`.
    schema: SchemaRef,
    converter: RowConverter,
    keys: KeyTable,
    /// By number of a key: the one of the same time that came next, or [`NONE`].
    next: Vec<u32>,
    by_time: BTreeMap<i64, OfTime>,
}

/// The keys of a time, in the order in which they came: a list through their numbers.
#[derive(Debug, Clone, Copy)]
struct OfTime {
    first: u32,
    last: u32,
}

impl SeenKeys {
    /// An empty state over keys of these types.
    ///
    /// # Errors
    /// Of kind `Usage` where a key's type cannot be compared.
    pub fn new(keys: &[FieldRef]) -> Result<SeenKeys> {
        let fields = keys.iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields)
            .map_err(|error| Error::usage("this type cannot be the key of DISTINCT ON").because(error.to_string()))?;
        let columns =
            keys.iter().enumerate().map(|(at, key)| Field::new(format!("key{at}"), key.data_type().clone(), true));
        let schema = Schema::new(columns.chain([Field::new("until", DataType::Int64, false)]).collect::<Vec<_>>());
        let (keys, next, by_time) = (KeyTable::default(), Vec::new(), BTreeMap::new());
        Ok(SeenKeys { schema: Arc::new(schema), converter, keys, next, by_time })
    }

    /// The schema of deltas and snapshots.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        // of a tree, a node is a good half full
        self.keys.memory_bytes() + size_of_val(self.next.as_slice()) + self.by_time.len() * 32
    }

    /// Takes over the keys that are new, and says which rows they came with; `until`: when each row's key is let go.
    /// Also gives the delta.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot compare a type.
    pub fn first_rows(&mut self, keys: &[ArrayRef], until: &[i64]) -> Result<(UInt32Array, RecordBatch)> {
        let rows = self.converter.convert_columns(keys).map_err(|error| failed(&error))?;
        let first = self.take_over(&rows, until);
        let times: Vec<i64> = first.iter().map(|row| until[*row as usize]).collect();
        let first = UInt32Array::from(first);
        let mut columns = taken(keys, &first)?;
        columns.push(Arc::new(Int64Array::from(times)));
        let delta = with_rows(&self.schema, columns, first.len())?;
        Ok((first, delta))
    }

    /// Takes over the keys of a delta or of a snapshot.
    ///
    /// # Errors
    /// As [`SeenKeys::first_rows`].
    pub fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        let (until, keys) = rows.columns().split_last().ok_or_else(|| Error::failed("a state has no columns"))?;
        let keys = self.converter.convert_columns(keys).map_err(|error| failed(&error))?;
        self.take_over(&keys, until.as_primitive::<Int64Type>().values());
        Ok(())
    }

    /// Lets go of the keys whose time has come, and says how many there were.
    pub fn evict(&mut self, watermark_us: i64) -> usize {
        let kept = match watermark_us.checked_add(1) {
            Some(after) => self.by_time.split_off(&after),
            None => return 0,
        };
        let over = std::mem::replace(&mut self.by_time, kept);
        let gone: Vec<u32> = over.values().flat_map(|of_time| self.of_time(*of_time)).collect();
        self.keys.remove(&gone);
        if self.is_empty() {
            self.next = Vec::new();
        }
        gone.len()
    }

    /// The state whole, by time, then in the order in which keys came.
    ///
    /// # Errors
    /// As [`SeenKeys::first_rows`].
    pub fn whole(&self) -> Result<RecordBatch> {
        let parser = self.converter.parser();
        let numbers = self.by_time.values().flat_map(|of_time| self.of_time(*of_time));
        let keys = numbers.map(|number| parser.parse(self.keys.get(number)));
        let mut columns = self.converter.convert_rows(keys).map_err(|error| failed(&error))?;
        let until = self.by_time.iter().flat_map(|(until, of_time)| self.of_time(*of_time).map(|_| *until));
        columns.push(Arc::new(Int64Array::from_iter_values(until)));
        with_rows(&self.schema, columns, self.len())
    }

    /// Takes over the keys that are new, and gives their rows.
    fn take_over(&mut self, keys: &Rows, until: &[i64]) -> Vec<u32> {
        let numbers = self.keys.intern(until.len(), |row| keys.row(row).data());
        let mut first = Vec::new();
        for (row, (number, until)) in numbers.into_iter().zip(until).enumerate() {
            if let (number, true) = number {
                self.append(number, *until);
                first.push(row as u32);
            }
        }
        first
    }

    fn append(&mut self, number: u32, until: i64) {
        if self.next.len() <= number as usize {
            self.next.resize(number as usize + 1, NONE);
        }
        self.next[number as usize] = NONE;
        let of_time = self.by_time.entry(until).or_insert(OfTime { first: number, last: number });
        if of_time.last != number {
            self.next[of_time.last as usize] = number;
            of_time.last = number;
        }
    }

    fn of_time(&self, OfTime { first, .. }: OfTime) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(first), |number| Some(self.next[*number as usize]).filter(|next| *next != NONE))
    }
}

fn failed(error: &ArrowError) -> Error {
    Error::failed("keys could not be compared").because(error.to_string())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;
    use proptest::prelude::*;

    use super::*;

    /// A few keys and times, so that they meet again.
    type Row = (Option<u8>, i64);

    fn empty() -> SeenKeys {
        let field: FieldRef = Arc::new(Field::new("key", DataType::Utf8, true));
        SeenKeys::new(&[field]).unwrap()
    }

    fn column(rows: &[Row]) -> ArrayRef {
        let text = |key: u8| format!("{}{key}", "long".repeat(usize::from(key % 5) * 9));
        Arc::new(StringArray::from_iter(rows.iter().map(|(key, _)| key.map(text))))
    }

    fn times(rows: &[Row]) -> Vec<i64> {
        rows.iter().map(|(_, until)| *until).collect()
    }

    fn state(seen: &SeenKeys, rows: &[Row]) -> RecordBatch {
        with_rows(seen.schema(), vec![column(rows), Arc::new(Int64Array::from(times(rows)))], rows.len()).unwrap()
    }

    #[test]
    fn keys_that_are_let_go_take_no_memory() {
        let mut seen = empty();
        let kept: Vec<Row> = (0..200).map(|key| (Some(key), 5)).collect();
        seen.load(&state(&seen, &kept)).unwrap();
        let before = seen.memory_bytes();
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..2000).map(|key| format!("another {key}"))));
        seen.first_rows(&[keys], &[3; 2000]).unwrap();
        assert!(seen.memory_bytes() > before + 2000 * "another 1".len());
        assert_eq!((seen.evict(4), seen.len()), (2000, 200));
        assert_eq!(seen.evict(5), 200);
        assert_eq!(seen.memory_bytes(), 0);
    }

    proptest! {
        #[test]
        fn keys_are_known_until_they_are_let_go(
            batches in prop::collection::vec((prop::collection::vec((prop::option::weighted(0.9, 0..60_u8), prop_oneof![6 => 0..40_i64, 1 => Just(i64::MAX)]), 0..30), prop_oneof![8 => 0..40_i64, 1 => Just(i64::MAX)], any::<bool>()), 1..20),
        ) {
            let (mut seen, mut model) = (empty(), Vec::<Row>::new());
            for (rows, watermark_us, reload) in batches {
                let mut first = Vec::new();
                for (at, row) in rows.iter().enumerate() {
                    if !model.iter().any(|(key, _)| *key == row.0) {
                        model.push(*row);
                        first.push(at as u32);
                    }
                }
                let fresh: Vec<Row> = first.iter().map(|at| rows[*at as usize]).collect();
                let (found, delta) = seen.first_rows(&[column(&rows)], &times(&rows)).unwrap();
                prop_assert_eq!(found.values().to_vec(), first);
                prop_assert_eq!(delta, state(&seen, &fresh));
                let before = model.len();
                // never means never
                model.retain(|(_, until)| *until > watermark_us || watermark_us == i64::MAX);
                prop_assert_eq!(seen.evict(watermark_us), before - model.len());
                let mut whole = model.clone();
                whole.sort_by_key(|(_, until)| *until);
                prop_assert_eq!(seen.whole().unwrap(), state(&seen, &whole));
                prop_assert_eq!((seen.len(), seen.memory_bytes() == 0), (model.len(), model.is_empty()));
                if reload {
                    let whole = seen.whole().unwrap();
                    seen = empty();
                    seen.load(&whole).unwrap();
                    prop_assert_eq!(seen.whole().unwrap(), whole);
                }
            }
        }
    }
}
