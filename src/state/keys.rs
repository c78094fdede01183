//! Group keys as bytes: their order, and the index from key to group.

use std::hash::BuildHasher;

use datafusion::arrow::row::Rows;
use hashbrown::DefaultHashBuilder;

/// Row-encoded keys, one behind the other: comparable as bytes.
#[derive(Debug, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u64>,
}

impl Keys {
    /// The keys of these rows, in the given order (`None`: as they stand).
    pub fn of(rows: &Rows, order: Option<&[u32]>) -> Keys {
        let count = rows.num_rows();
        let total = rows.lengths().sum();
        let mut keys = Keys { bytes: Vec::with_capacity(total), ends: Vec::with_capacity(count) };
        match order {
            None => (0..count).for_each(|row| keys.push(rows.row(row).data())),
            Some(order) => order.iter().for_each(|row| keys.push(rows.row(*row as usize).data())),
        }
        keys
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The length of all keys together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(self.ends.as_slice())
    }

    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u64);
    }

    #[inline]
    pub fn get(&self, key: usize) -> &[u8] {
        let start = if key == 0 { 0 } else { self.ends[key - 1] as usize };
        &self.bytes[start..self.ends[key] as usize]
    }

    pub fn reserve(&mut self, count: usize) {
        self.ends.reserve(count);
    }
}

/// The rows in ascending order of their keys, equal ones as they stand; `None`: they are in that order.
pub(super) fn ascending(rows: &Rows) -> Option<Vec<u32>> {
    let count = rows.num_rows() as u32;
    let bytes = |row: u32| rows.row(row as usize).data();
    if (1..count).all(|row| bytes(row - 1) <= bytes(row)) {
        return None;
    }
    // Keys of one kind often begin alike: what differs behind that, as a number, decides nearly every comparison.
    let first = bytes(0);
    let common = (1..count).fold(first.len(), |common, row| common_bytes(&first[..common], bytes(row)));
    let mut order: Vec<(u64, u32)> = (0..count).map(|row| (prefix(&bytes(row)[common..]), row)).collect();
    order.sort_unstable_by(|(a, a_row), (b, b_row)| {
        a.cmp(b).then_with(|| bytes(*a_row).cmp(bytes(*b_row))).then(a_row.cmp(b_row))
    });
    Some(order.into_iter().map(|(_, row)| row).collect())
}

fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes as a number that compares as they do; zeros stand for what is not there.
fn prefix(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk::<8>() {
        return u64::from_be_bytes(*whole);
    }
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(padded)
}

/// A place of the index: a key's hash, and its group counted from 1; 0: the place is free.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    hash: u32,
    group: u32,
}

/// How many keys are looked for at once: their places are fetched side by side, and memory is waited for once.
const AT_ONCE: usize = 16;

/// From key to group: open addressing with linear probing, so that a key that is new costs one access to memory, and a
/// table that grows need not look at the keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// A power of two of places, at most three quarters of them taken; none at first.
    places: Vec<Place>,
    hasher: DefaultHashBuilder,
}

impl Index {
    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.places.as_slice())
    }

    /// The group of each of `wanted`; unknown keys become groups of `known`, in their order.
    pub fn intern(&mut self, known: &mut Keys, wanted: &Keys) -> Vec<u32> {
        let mut groups = Vec::with_capacity(wanted.len());
        let mut hashes = [0; AT_ONCE];
        for from in (0..wanted.len()).step_by(AT_ONCE) {
            let count = AT_ONCE.min(wanted.len() - from);
            self.reserve(known.len() + count);
            let mut met = 0;
            for (hash, key) in hashes.iter_mut().zip(from..from + count) {
                *hash = (self.hasher.hash_one(wanted.get(key)) >> 32) as u32;
                met ^= self.places[self.first_place(*hash)].hash;
            }
            // nothing depends on what was met there, but that it is at hand now
            std::hint::black_box(met);
            for (hash, key) in hashes.iter().zip(from..from + count) {
                groups.push(self.group_of(known, *hash, wanted.get(key)));
            }
        }
        groups
    }

    /// Makes room for so many groups in all.
    pub fn reserve(&mut self, groups: usize) {
        let needed = (groups + groups.div_ceil(3)).next_power_of_two().max(64);
        if needed <= self.places.len() {
            return;
        }
        let before = std::mem::replace(&mut self.places, vec![Place::default(); needed]);
        for place in before.into_iter().filter(|place| place.group > 0) {
            let mut at = self.first_place(place.hash);
            while self.places[at].group > 0 {
                at = (at + 1) & (needed - 1);
            }
            self.places[at] = place;
        }
    }

    /// The high bits, so that a table that grows is filled from its beginning to its end.
    #[inline]
    fn first_place(&self, hash: u32) -> usize {
        let bits = self.places.len().trailing_zeros();
        (u64::from(hash) << bits >> 32) as usize
    }

    #[inline]
    fn group_of(&mut self, known: &mut Keys, hash: u32, key: &[u8]) -> u32 {
        let mut at = self.first_place(hash);
        loop {
            let place = self.places[at];
            if place.group == 0 {
                known.push(key);
                self.places[at] = Place { hash, group: known.len() as u32 };
                return known.len() as u32 - 1;
            }
            if place.hash == hash && known.get(place.group as usize - 1) == key {
                return place.group - 1;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use datafusion::arrow::{
        array::{ArrayRef, Int32Array, StringArray},
        datatypes::DataType,
        row::{RowConverter, SortField},
    };
    use proptest::prelude::*;

    use super::*;

    fn rows(keys: Vec<(String, i32)>) -> Rows {
        let converter = RowConverter::new(vec![SortField::new(DataType::Utf8), SortField::new(DataType::Int32)]);
        let (texts, numbers): (Vec<String>, Vec<i32>) = keys.into_iter().unzip();
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(texts)), Arc::new(Int32Array::from(numbers))];
        converter.and_then(|converter| converter.convert_columns(&columns)).unwrap()
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let (mut index, mut known) = (Index::default(), Keys::default());
        index.reserve(40);
        let key = |number: u32| format!("key {number}").into_bytes();
        for round in 0..2 {
            for number in 0..40 {
                assert_eq!(index.group_of(&mut known, u32::MAX, &key(number)), number, "round {round}");
            }
        }
        assert_eq!(known.len(), 40);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_stable_sort(keys in prop::collection::vec(("(Comp0000)?[ab\\x00]{0,9}", 0..3_i32), 1..60)) {
            let rows = rows(keys);
            let mut expected: Vec<u32> = (0..rows.num_rows() as u32).collect();
            expected.sort_by_key(|row| rows.row(*row as usize));
            let order = ascending(&rows);
            let found = order.clone().unwrap_or_else(|| (0..rows.num_rows() as u32).collect());
            prop_assert_eq!(found, expected);
            let keys = Keys::of(&rows, order.as_deref());
            prop_assert!((1..keys.len()).all(|key| keys.get(key - 1) <= keys.get(key)));
        }

        #[test]
        fn groups_are_numbered_as_they_are_first_seen(batches in prop::collection::vec(prop::collection::vec((0..400_i32).prop_map(|key| (key.to_string(), key)), 1..90), 1..12)) {
            let (mut index, mut known) = (Index::default(), Keys::default());
            let mut model: HashMap<(String, i32), u32> = HashMap::new();
            for batch in batches {
                let mut expected = Vec::new();
                for key in &batch {
                    let next = model.len() as u32;
                    expected.push(*model.entry(key.clone()).or_insert(next));
                }
                prop_assert_eq!(index.intern(&mut known, &Keys::of(&rows(batch), None)), expected);
                prop_assert_eq!(known.len(), model.len());
                prop_assert!(known.len() * 4 <= index.places.len() * 3);
            }
        }
    }
}
