//! Keyed state that a watermark evicts: one [`KeyedState`] for each time at which groups are over, dropped whole.

use std::collections::BTreeMap;

use datafusion::arrow::{
    array::{AsArray, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
    record_batch::RecordBatch,
};

use super::{
    keyed::{KeyedState, Ordered, Touched},
    merge::Merger,
};
use crate::model::{Error, Result};

/// Which key says when a group is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverAt {
    /// The key of this index is the time itself (microseconds).
    Time(usize),
    /// The key of this index is a window: a struct with `end`.
    End(usize),
}

impl OverAt {
    /// When each row's group is over, microseconds.
    ///
    /// # Errors
    /// Of kind `Failed` where the key is no time.
    pub fn times(self, rows: &RecordBatch) -> Result<Vec<i64>> {
        let times = match self {
            OverAt::Time(key) => rows.column(key).clone(),
            OverAt::End(key) => {
                let window = rows.column(key).as_struct_opt().and_then(|window| window.column_by_name("end"));
                window.cloned().ok_or_else(no_time)?
            }
        };
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(no_time)?;
        // rows without a time are dropped before they come here
        times.iter().map(|time| time.ok_or_else(no_time)).collect()
    }
}

fn no_time() -> Error {
    Error::failed("a group key that a watermark closes groups by holds no time")
}

/// Groups by key; those that are over at the same time are kept together.
pub struct Panes {
    schema: SchemaRef,
    key_count: usize,
    over_at: OverAt,
    panes: BTreeMap<i64, KeyedState>,
    /// For the order of deltas.
    empty: KeyedState,
}

impl Panes {
    /// # Errors
    /// As [`KeyedState::new`].
    pub fn new(schema: &SchemaRef, key_count: usize, over_at: OverAt) -> Result<Panes> {
        let empty = KeyedState::new(schema, key_count)?;
        Ok(Panes { schema: schema.clone(), key_count, over_at, panes: BTreeMap::new(), empty })
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.panes.values().map(KeyedState::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.panes.values().map(KeyedState::memory_bytes).sum()
    }

    /// # Errors
    /// As [`KeyedState::ordered`].
    pub fn ordered(&self, delta: RecordBatch) -> Result<Ordered> {
        self.empty.ordered(delta)
    }

    /// Merges an ordered delta, see [`KeyedState::merge`].
    ///
    /// # Errors
    /// As [`Merger::merge`].
    pub fn merge(&mut self, merger: &Merger, delta: &Ordered) -> Result<Touched> {
        let mut touched = Touched { state: RecordBatch::new_empty(self.schema.clone()), new: Vec::new() };
        let mut states = Vec::new();
        for (time, rows) in self.by_time(&delta.rows)? {
            let pane = self.pane(time)?;
            let delta = pane.ordered(rows)?;
            let of_pane = pane.merge(merger, &delta)?;
            touched.new.extend(of_pane.new);
            states.push(of_pane.state);
        }
        touched.state = joined(&self.schema, &states)?;
        Ok(touched)
    }

    /// Takes out all groups that are over at `watermark_us`, the earliest first.
    ///
    /// # Errors
    /// As [`KeyedState::whole`].
    pub fn evict(&mut self, watermark_us: i64) -> Result<RecordBatch> {
        let open = match watermark_us.checked_add(1) {
            Some(after) => self.panes.split_off(&after),
            None => BTreeMap::new(),
        };
        let over = std::mem::replace(&mut self.panes, open);
        let states: Vec<RecordBatch> = over.values().map(KeyedState::whole).collect::<Result<_>>()?;
        joined(&self.schema, &states)
    }

    /// Takes over the rows of a snapshot.
    ///
    /// # Errors
    /// As [`KeyedState::load`].
    pub fn load(&mut self, snapshot: &RecordBatch) -> Result<()> {
        for (time, rows) in self.by_time(snapshot)? {
            self.pane(time)?.load(&rows)?;
        }
        Ok(())
    }

    /// The state in parts, by the time at which groups are over, then in the order in which they were first seen.
    ///
    /// # Errors
    /// As [`KeyedState::parts`].
    pub fn parts(&self) -> Result<Vec<RecordBatch>> {
        if self.panes.is_empty() {
            return Ok(vec![RecordBatch::new_empty(self.schema.clone())]);
        }
        let mut parts = Vec::new();
        for pane in self.panes.values() {
            parts.extend(pane.parts()?);
        }
        Ok(parts)
    }

    /// # Errors
    /// As [`KeyedState::whole`].
    pub fn whole(&self) -> Result<RecordBatch> {
        joined(&self.schema, &self.parts()?)
    }

    fn pane(&mut self, time: i64) -> Result<&mut KeyedState> {
        use std::collections::btree_map::Entry;
        Ok(match self.panes.entry(time) {
            Entry::Occupied(pane) => pane.into_mut(),
            Entry::Vacant(place) => place.insert(KeyedState::new(&self.schema, self.key_count)?),
        })
    }

    /// The rows of each time, in their order.
    fn by_time(&self, rows: &RecordBatch) -> Result<Vec<(i64, RecordBatch)>> {
        let mut places: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in self.over_at.times(rows)?.into_iter().enumerate() {
            places.entry(time).or_default().push(row as u32);
        }
        if places.len() == 1 {
            return Ok(places.into_keys().map(|time| (time, rows.clone())).collect());
        }
        let taken = |(time, places): (i64, Vec<u32>)| {
            let rows = take_record_batch(rows, &UInt32Array::from(places));
            rows.map(|rows| (time, rows)).map_err(|error| failed(&error))
        };
        places.into_iter().map(taken).collect()
    }
}

fn joined(schema: &SchemaRef, states: &[RecordBatch]) -> Result<RecordBatch> {
    concat_batches(schema, states).map_err(|error| failed(&error))
}

fn failed(error: &datafusion::arrow::error::ArrowError) -> Error {
    Error::failed("state rows could not be put together").because(error.to_string())
}
