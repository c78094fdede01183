//! The state of one stateful operator: rows by group key.

use std::hash::BuildHasher;

use datafusion::arrow::{
    array::{ArrayRef, UInt32Array},
    compute::take,
    datatypes::SchemaRef,
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::{
    arenas::Arenas,
    merge::{Merger, with_rows},
};
use crate::model::{Error, Result};

/// Groups that a delta touched.
#[derive(Debug)]
pub struct Touched {
    /// Their state after the merge, one row each, ordered by key.
    pub state: RecordBatch,
    /// For each row of `state`: whether the group is new.
    pub new: Vec<bool>,
}

/// Group keys, and for each key its partial aggregates.
pub struct KeyedState {
    keys: RowConverter,
    key_count: usize,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Row-encoded keys of all groups, one behind the other; group `g` ends at `key_ends[g]`.
    key_bytes: Vec<u8>,
    key_ends: Vec<u64>,
    arenas: Arenas,
    schema: SchemaRef,
}

impl KeyedState {
    /// An empty state; the first `key_count` columns of `schema` are the key.
    ///
    /// # Errors
    /// Of kind `Usage` where a key's type cannot be compared.
    pub fn new(schema: &SchemaRef, key_count: usize) -> Result<KeyedState> {
        let fields =
            schema.fields()[..key_count].iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let keys = RowConverter::new(fields)
            .map_err(|error| Error::usage("this type cannot be a grouping key").because(error.to_string()))?;
        Ok(KeyedState {
            keys,
            key_count,
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            key_bytes: Vec::new(),
            key_ends: Vec::new(),
            arenas: Arenas::new(schema.clone()),
            schema: schema.clone(),
        })
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.key_ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.key_ends.is_empty()
    }

    /// Bytes that the state holds in memory.
    pub fn memory_bytes(&self) -> usize {
        self.arenas.memory_bytes() + self.key_bytes.len() + self.key_ends.len() * 8 + self.index.allocation_size()
    }

    /// A delta with its rows ordered by key, which is the form that is committed: the same rows give the same bytes
    /// however the aggregation visited its groups.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot reorder a type.
    pub fn ordered(&self, delta: &RecordBatch) -> Result<RecordBatch> {
        let Some(rows) = self.rows(delta)? else { return Ok(delta.clone()) };
        let mut order: Vec<u32> = (0..delta.num_rows() as u32).collect();
        if order.is_sorted_by_key(|row| rows.row(*row as usize)) {
            return Ok(delta.clone());
        }
        order.sort_by_key(|row| rows.row(*row as usize));
        let order = UInt32Array::from(order);
        let columns: std::result::Result<Vec<ArrayRef>, _> =
            delta.columns().iter().map(|column| take(column, &order, None)).collect();
        with_rows(&self.schema, columns.map_err(|error| failed(&error))?, delta.num_rows())
    }

    /// Merges an ordered delta: old state first, then the delta, for the groups that it touches.
    ///
    /// # Errors
    /// As [`Merger::merge`].
    pub fn merge(&mut self, merger: &Merger, delta: &RecordBatch) -> Result<Touched> {
        let known = self.len() as u32;
        let row_groups = self.intern(delta)?;
        // Delta rows are ordered by key, so rows of one group are neighbours: each run is one touched group.
        let mut groups: Vec<u32> = Vec::with_capacity(row_groups.len());
        let mut first_rows: Vec<u32> = Vec::with_capacity(row_groups.len());
        let mut delta_groups = Vec::with_capacity(row_groups.len());
        for (row, group) in row_groups.iter().enumerate() {
            if groups.last() != Some(group) {
                groups.push(*group);
                first_rows.push(row as u32);
            }
            delta_groups.push(groups.len() - 1);
        }
        let (old_groups, places): (Vec<u32>, Vec<usize>) = groups
            .iter()
            .enumerate()
            .filter(|(_, group)| **group < known)
            .map(|(place, group)| (*group, place))
            .unzip();
        let old = if old_groups.is_empty() { None } else { Some(self.arenas.gather(&old_groups)?) };
        let first_rows = UInt32Array::from(first_rows);
        let keys: std::result::Result<Vec<ArrayRef>, _> =
            delta.columns()[..self.key_count].iter().map(|column| take(column, &first_rows, None)).collect();
        let state = merger.merge(
            keys.map_err(|error| failed(&error))?,
            groups.len(),
            old.as_ref().map(|old| (old, places.as_slice())),
            (delta, &delta_groups),
        )?;
        let new = groups.iter().map(|group| *group >= known).collect();
        self.arenas.push(state.clone(), groups)?;
        Ok(Touched { state, new })
    }

    /// Takes over the rows of a snapshot; only into an empty state.
    ///
    /// # Errors
    /// Of kind `Refused` where a key stands twice, which no snapshot of ours has.
    pub fn load(&mut self, snapshot: &RecordBatch) -> Result<()> {
        let known = self.len();
        let groups = self.intern(snapshot)?;
        if self.len() != known + snapshot.num_rows() {
            return Err(Error::refused("a snapshot holds the same group twice").because("it is damaged"));
        }
        self.arenas.push(snapshot.clone(), groups)
    }

    /// The whole state, in the order in which its groups were first seen.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn whole(&self) -> Result<RecordBatch> {
        let groups: Vec<u32> = (0..self.len() as u32).collect();
        self.arenas.gather(&groups)
    }

    /// The group of each row; unknown keys become groups, in row order.
    fn intern(&mut self, batch: &RecordBatch) -> Result<Vec<u32>> {
        let Some(rows) = self.rows(batch)? else {
            // A global aggregate has one group, and a row converter over no columns yields no rows.
            if self.is_empty() && batch.num_rows() > 0 {
                self.key_ends.push(0);
            }
            return Ok(vec![0; batch.num_rows()]);
        };
        let mut groups = Vec::with_capacity(rows.num_rows());
        for row in rows.iter() {
            groups.push(self.group_of(row.as_ref()));
        }
        Ok(groups)
    }

    fn group_of(&mut self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        let (bytes, ends, hasher) = (&self.key_bytes, &self.key_ends, &self.hasher);
        if let Some(group) = self.index.find(hash, |group| key_at(bytes, ends, *group) == key) {
            return *group;
        }
        let group = ends.len() as u32;
        self.index.insert_unique(hash, group, |group| hasher.hash_one(key_at(bytes, ends, *group)));
        self.key_bytes.extend_from_slice(key);
        self.key_ends.push(self.key_bytes.len() as u64);
        group
    }

    /// Row-encoded keys, comparable as bytes; `None` for a global aggregate.
    fn rows(&self, batch: &RecordBatch) -> Result<Option<Rows>> {
        if self.key_count == 0 {
            return Ok(None);
        }
        self.keys.convert_columns(&batch.columns()[..self.key_count]).map(Some).map_err(|error| failed(&error))
    }
}

fn key_at<'a>(bytes: &'a [u8], ends: &[u64], group: u32) -> &'a [u8] {
    let group = group as usize;
    let start = if group == 0 { 0 } else { ends[group - 1] as usize };
    &bytes[start..ends[group] as usize]
}

fn failed(error: &datafusion::arrow::error::ArrowError) -> Error {
    Error::failed("group keys could not be compared").because(error.to_string())
}
