//! Which keys were met, until the watermark lets go of them.

use std::sync::Arc;

use datafusion::arrow::{
    array::{ArrayRef, AsArray, Int64Array, UInt32Array},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};

use super::{calendar::Calendar, key_table::KeyTable, keyed::taken, merge::with_rows};
use crate::model::{Error, Result};

/// Keys, each with the time at which it is let go (microseconds; `i64::MAX`: never).
pub struct SeenKeys {
    /// The keys' columns, then `until`.
    schema: SchemaRef,
    converter: RowConverter,
    keys: KeyTable,
    /// Of all keys: when each is let go.
    by_time: Calendar,
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
        let (keys, by_time) = (KeyTable::default(), Calendar::default());
        Ok(SeenKeys { schema: Arc::new(schema), converter, keys, by_time })
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
        self.keys.memory_bytes() + self.by_time.memory_bytes()
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
        // never means never
        if watermark_us == i64::MAX {
            return 0;
        }
        let gone = self.by_time.take_until(watermark_us);
        self.keys.remove(&gone);
        gone.len()
    }

    /// The state whole, by time, then in the order in which keys came.
    ///
    /// # Errors
    /// As [`SeenKeys::first_rows`].
    pub fn whole(&self) -> Result<RecordBatch> {
        let parser = self.converter.parser();
        let keys = self.by_time.iter().map(|(_, number)| parser.parse(self.keys.get(number)));
        let mut columns = self.converter.convert_rows(keys).map_err(|error| failed(&error))?;
        columns.push(Arc::new(Int64Array::from_iter_values(self.by_time.iter().map(|(until, _)| until))));
        with_rows(&self.schema, columns, self.len())
    }

    /// Takes over the keys that are new, and gives their rows.
    fn take_over(&mut self, keys: &Rows, until: &[i64]) -> Vec<u32> {
        let numbers = self.keys.intern(until.len(), |row| keys.row(row).data());
        let mut first = Vec::new();
        for (row, (number, until)) in numbers.into_iter().zip(until).enumerate() {
            if let (number, true) = number {
                self.by_time.insert(*until, number);
                first.push(row as u32);
            }
        }
        first
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
