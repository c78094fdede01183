//! Rows of columns without a fixed width: immutable record batches ("arenas"), the newest row of each group being the live one.
//!
//! A batch appends one arena. Arenas are merged so that their number stays logarithmic and dead rows never outweigh
//! live ones: each row is moved O(log n) times in its life, to a base of eight, and no batch pays for all groups at once,
//! except in the amortised sense in which a growing vector does.

use datafusion::arrow::{array::Array, compute::interleave, datatypes::SchemaRef, record_batch::RecordBatch};

use super::merge::with_rows;
use crate::model::{Error, Result};

/// Sizes are of one order within a factor of two to the power of this.
const SIZE_STEP_LOG2: u32 = 3;

/// So many arenas of one order of size may stand side by side.
const SAME_SIZE_MAX: usize = 7;

/// Place of a row: arena, row.
pub(super) type Location = (u32, u32);

#[derive(Debug)]
struct Arena {
    rows: RecordBatch,
    /// The group that each row belongs to.
    groups: Vec<u32>,
    live: usize,
}

/// All rows, and for each group where its newest one is.
#[derive(Debug)]
pub(super) struct Arenas {
    schema: SchemaRef,
    /// Slots are stable while an arena lives; a freed slot is used again.
    slots: Vec<Option<Arena>>,
    /// Slots in order of age; at most [`SAME_SIZE_MAX`] neighbours have sizes (in live rows) of one order.
    order: Vec<u32>,
    /// By group.
    newest: Vec<Location>,
}

impl Arenas {
    pub fn new(schema: SchemaRef) -> Arenas {
        Arenas { schema, slots: Vec::new(), order: Vec::new(), newest: Vec::new() }
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Bytes held by the rows, dead ones included, and by the bookkeeping.
    pub fn memory_bytes(&self) -> usize {
        let arenas = self.slots.iter().flatten();
        let rows: usize = arenas.map(|arena| arena.rows.get_array_memory_size() + arena.groups.len() * 4).sum();
        rows + self.newest.len() * size_of::<Location>()
    }

    /// Makes `rows` the newest of `groups` (distinct; `len()`, `len() + 1`, ... add groups, in this order).
    pub fn push(&mut self, rows: RecordBatch, groups: Vec<u32>) -> Result<()> {
        debug_assert_eq!(rows.num_rows(), groups.len());
        if groups.is_empty() {
            return Ok(());
        }
        let slot = self.insert(rows, groups);
        self.order.push(slot);
        self.tidy()
    }

    /// The newest rows of `groups`, in this order.
    pub fn gather(&self, groups: &[u32]) -> Result<RecordBatch> {
        let mut position = vec![usize::MAX; self.slots.len()];
        let mut used = Vec::new();
        let rows: Vec<(usize, usize)> = groups
            .iter()
            .map(|group| {
                let (slot, row) = self.newest[*group as usize];
                let place = &mut position[slot as usize];
                if *place == usize::MAX {
                    *place = used.len();
                    used.push(slot);
                }
                (*place, row as usize)
            })
            .collect();
        self.interleave(&used, &rows)
    }

    fn insert(&mut self, rows: RecordBatch, groups: Vec<u32>) -> u32 {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        for (row, group) in groups.iter().enumerate() {
            let location = (slot as u32, row as u32);
            match self.newest.get_mut(*group as usize) {
                Some(newest) => {
                    // The same group's older row, wherever it is, is dead now. A slot that is just being refilled
                    // is empty, so there is nothing to count there.
                    if let Some(arena) = self.slots[newest.0 as usize].as_mut() {
                        arena.live -= 1;
                    }
                    *newest = location;
                }
                None => self.newest.push(location),
            }
        }
        let live = groups.len();
        self.slots[slot] = Some(Arena { rows, groups, live });
        slot as u32
    }

    /// Restores the two bounds: dead rows at most as many as live ones per arena, and no crowd of one size.
    fn tidy(&mut self) -> Result<()> {
        let mut index = 0;
        while index < self.order.len() {
            let arena = self.arena(self.order[index]);
            if arena.live == 0 {
                self.slots[self.order[index] as usize] = None;
                self.order.remove(index);
                continue;
            }
            if arena.live * 2 < arena.rows.num_rows() {
                self.join(index..index + 1)?;
            }
            index += 1;
        }
        while let Some(places) = self.crowd() {
            self.join(places)?;
        }
        Ok(())
    }

    /// The newest arenas that are too many of a size, or that stand behind smaller ones.
    fn crowd(&self) -> Option<std::ops::Range<usize>> {
        let end = self.order.len();
        let order_of = |place: usize| self.arena(self.order[place]).live.ilog2() / SIZE_STEP_LOG2;
        let newest = order_of(end.checked_sub(1)?);
        let smaller = (0..end).rev().skip(1).take_while(|place| order_of(*place) < newest).count();
        let same = (0..end).rev().take_while(|place| order_of(*place) <= newest).count();
        if smaller > 0 || same > SAME_SIZE_MAX { Some(end - same..end) } else { None }
    }

    /// Replaces the arenas at these places of `order` by one of their live rows.
    fn join(&mut self, places: std::ops::Range<usize>) -> Result<()> {
        let slots: Vec<u32> = self.order[places.clone()].to_vec();
        let (mut rows, mut groups) = (Vec::new(), Vec::new());
        for (place, slot) in slots.iter().enumerate() {
            for (row, group) in self.arena(*slot).groups.iter().enumerate() {
                if self.newest[*group as usize] == (*slot, row as u32) {
                    rows.push((place, row));
                    groups.push(*group);
                }
            }
        }
        let joined = self.interleave(&slots, &rows)?;
        for slot in &slots {
            self.slots[*slot as usize] = None;
        }
        let slot = self.insert(joined, groups);
        self.order.splice(places, [slot]);
        Ok(())
    }

    fn interleave(&self, slots: &[u32], rows: &[(usize, usize)]) -> Result<RecordBatch> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for column in 0..self.schema.fields().len() {
            let arrays: Vec<&dyn Array> =
                slots.iter().map(|slot| self.arena(*slot).rows.column(column).as_ref()).collect();
            let gathered = interleave(&arrays, rows)
                .map_err(|error| Error::failed("state rows could not be gathered").because(error.to_string()))?;
            columns.push(gathered);
        }
        with_rows(&self.schema, columns, rows.len())
    }

    fn arena(&self, slot: u32) -> &Arena {
        self.slots[slot as usize].as_ref().expect("a slot in `order` or in `newest` is filled")
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use datafusion::arrow::{
        array::{AsArray, Int64Array},
        datatypes::{DataType, Field, Int64Type, Schema},
    };
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_newest_row_of_each_group_is_found(batches in prop::collection::vec(prop::collection::btree_set(0u32..40, 0..20), 0..40)) {
            let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
            let mut arenas = Arenas::new(schema.clone());
            let (mut ids, mut model) = (BTreeMap::new(), BTreeMap::new());
            for (number, keys) in batches.iter().enumerate() {
                let mut groups = Vec::new();
                for key in keys {
                    let next = ids.len() as u32;
                    let group = *ids.entry(*key).or_insert(next);
                    groups.push(group);
                    model.insert(group, (number * 100) as i64 + i64::from(*key));
                }
                let values: Vec<i64> = groups.iter().map(|group| model[group]).collect();
                let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(values))]).unwrap();
                arenas.push(rows, groups).unwrap();
                let all: Vec<u32> = (0..arenas.newest.len() as u32).rev().collect();
                let found = arenas.gather(&all).unwrap();
                let expected: Vec<i64> = all.iter().map(|group| model[group]).collect();
                prop_assert_eq!(found.column(0).as_primitive::<Int64Type>().values().to_vec(), expected);
                let total: usize = arenas.slots.iter().flatten().map(|arena| arena.rows.num_rows()).sum();
                prop_assert!(total <= 2 * arenas.newest.len(), "dead rows outweigh live ones");
                prop_assert!(arenas.order.len() <= 2 * SAME_SIZE_MAX, "too many arenas: {}", arenas.order.len());
            }
        }
    }
}
