//! Which keys were met, until the watermark lets go of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use datafusion::arrow::{
    array::{ArrayRef, AsArray, Int64Array, UInt32Array},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
    row::{RowConverter, SortField},
};

use super::{keyed::taken, merge::with_rows};
use crate::model::{Error, Result};

type Key = Arc<[u8]>;

/// Keys, each with the time at which it is let go (microseconds; `i64::MAX`: never).
pub struct SeenKeys {
    /// The keys' columns, then `until`.
    schema: SchemaRef,
    converter: RowConverter,
    until: HashMap<Key, i64>,
    /// Of the keys of `until`: counted as they come and go, since every batch asks.
    key_bytes: usize,
    /// The keys of each time, in the order in which they came.
    by_time: BTreeMap<i64, Vec<Key>>,
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
        let (schema, until, by_time) = (Arc::new(schema), HashMap::new(), BTreeMap::new());
        Ok(SeenKeys { schema, converter, until, key_bytes: 0, by_time })
    }

    /// The schema of deltas and snapshots.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.until.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.key_bytes + self.until.len() * 80
    }

    /// Takes over the keys that are new, and says which rows they came with; `until`: when each row's key is let go.
    /// Also gives the delta.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot compare a type.
    pub fn first_rows(&mut self, keys: &[ArrayRef], until: &[i64]) -> Result<(UInt32Array, RecordBatch)> {
        let rows = self.converter.convert_columns(keys).map_err(|error| failed(&error))?;
        let mut first = Vec::new();
        for (row, until) in until.iter().enumerate() {
            let key = rows.row(row);
            if !self.until.contains_key(key.as_ref()) {
                self.insert(key.as_ref().into(), *until);
                first.push(row as u32);
            }
        }
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
        for (row, until) in until.as_primitive::<Int64Type>().values().iter().enumerate() {
            self.insert(keys.row(row).as_ref().into(), *until);
        }
        Ok(())
    }

    /// Lets go of the keys whose time has come, and says how many there were.
    pub fn evict(&mut self, watermark_us: i64) -> usize {
        let kept = match watermark_us.checked_add(1) {
            Some(after) => self.by_time.split_off(&after),
            None => return 0,
        };
        let gone = std::mem::replace(&mut self.by_time, kept);
        let before = self.until.len();
        for key in gone.into_values().flatten() {
            if self.until.remove(&key).is_some() {
                self.key_bytes -= key.len();
            }
        }
        before - self.until.len()
    }

    /// The state whole, by time, then in the order in which keys came.
    ///
    /// # Errors
    /// As [`SeenKeys::first_rows`].
    pub fn whole(&self) -> Result<RecordBatch> {
        let parser = self.converter.parser();
        let keys = self.by_time.values().flatten().map(|key| parser.parse(key));
        let mut columns = self.converter.convert_rows(keys).map_err(|error| failed(&error))?;
        let until = self.by_time.iter().flat_map(|(until, keys)| std::iter::repeat_n(*until, keys.len()));
        columns.push(Arc::new(Int64Array::from_iter_values(until)));
        with_rows(&self.schema, columns, self.until.len())
    }

    fn insert(&mut self, key: Key, until: i64) {
        if self.until.insert(key.clone(), until).is_none() {
            self.key_bytes += key.len();
            self.by_time.entry(until).or_default().push(key);
        }
    }
}

fn failed(error: &ArrowError) -> Error {
    Error::failed("keys could not be compared").because(error.to_string())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;

    use super::*;

    #[test]
    fn keys_that_are_let_go_take_no_memory() {
        let field: FieldRef = Arc::new(Field::new("key", DataType::Utf8, true));
        let mut seen = SeenKeys::new(&[field]).unwrap();
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "longer than the others", "a", "c"]));
        seen.first_rows(&[keys], &[1, 2, 3, 3]).unwrap();
        let counted = |seen: &SeenKeys| seen.until.keys().map(|key| key.len() + 80).sum::<usize>();
        assert_eq!(seen.memory_bytes(), counted(&seen));
        assert_eq!(seen.evict(2), 2);
        assert_eq!((seen.len(), seen.memory_bytes()), (1, counted(&seen)));
        assert_eq!(seen.evict(3), 1);
        assert_eq!(seen.memory_bytes(), 0);
    }
}
