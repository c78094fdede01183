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
    ascending_by(rows.num_rows(), |row| rows.row(row as usize).data())
}

/// So many numbers from 0 in ascending order of what `key` says of each, equal ones as they stand; `None`: they are in that
/// order.
pub(super) fn ascending_by<'a>(count: usize, key: impl Fn(u32) -> &'a [u8]) -> Option<Vec<u32>> {
    let count = count as u32;
    if (1..count).all(|row| key(row - 1) <= key(row)) {
        return None;
    }
    // Keys of one kind often begin alike: what differs behind that, as a number, decides nearly every comparison.
    let first = key(0);
    let common = (1..count).fold(first.len(), |common, row| common_bytes(&first[..common], key(row)));
    let mut order: Vec<(u64, u32)> = (0..count).map(|row| (prefix(&key(row)[common..]), row)).collect();
    order.sort_unstable_by(|(a, a_row), (b, b_row)| {
        a.cmp(b).then_with(|| key(*a_row).cmp(key(*b_row))).then(a_row.cmp(b_row))
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
pub(super) const AT_ONCE: usize = 16;

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
            self.meet(&mut hashes[..count], |key| wanted.get(from + key));
            for (hash, key) in hashes.iter().zip(from..from + count) {
                groups.push(self.group_of(known, *hash, wanted.get(key)));
            }
        }
        groups
    }

    /// Sets the hashes of as many keys, and has the places at which they are looked for first at hand.
    #[inline]
    pub fn meet<'a>(&self, hashes: &mut [u32], key: impl Fn(usize) -> &'a [u8]) {
        for (at, hash) in hashes.iter_mut().enumerate() {
            *hash = (self.hasher.hash_one(key(at)) >> 32) as u32;
        }
        self.touch(hashes.iter().copied());
    }

    /// Has the places at which these hashes are looked for first at hand.
    #[inline]
    pub fn touch(&self, hashes: impl Iterator<Item = u32>) {
        let met = hashes.fold(0, |met, hash| met ^ self.places[self.first_place(hash)].hash);
        // nothing depends on what was met there, but that it is at hand now
        std::hint::black_box(met);
    }

    /// Makes room for so many groups in all.
    pub fn reserve(&mut self, groups: usize) {
        let needed = places_for(groups);
        if needed > self.places.len() {
            self.resize(needed);
        }
    }

    /// Gives back most of the places where only so many groups are left, and they need far fewer.
    pub fn shrink(&mut self, groups: usize) {
        let needed = places_for(groups) * 2;
        if needed * 4 <= self.places.len() {
            self.resize(needed);
        }
    }

    fn resize(&mut self, count: usize) {
        let before = std::mem::replace(&mut self.places, vec![Place::default(); count]);
        for place in before.into_iter().filter(|place| place.group > 0) {
            let mut at = self.first_place(place.hash);
            while self.places[at].group > 0 {
                at = (at + 1) & (count - 1);
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
        match self.find(hash, |group| known.get(group as usize) == key) {
            Ok(group) => group,
            Err(place) => {
                let group = known.len() as u32;
                known.push(key);
                self.put(place, hash, group);
                group
            }
        }
    }

    /// The group of this hash that is meant, or the free place where it belongs. There must be a free place.
    #[inline]
    pub fn find(&self, hash: u32, is_meant: impl Fn(u32) -> bool) -> std::result::Result<u32, usize> {
        let mut at = self.first_place(hash);
        loop {
            let place = self.places[at];
            if place.group == 0 {
                return Err(at);
            }
            if place.hash == hash && is_meant(place.group - 1) {
                return Ok(place.group - 1);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }

    /// Puts a group where [`Index::find`] said.
    #[inline]
    pub fn put(&mut self, place: usize, hash: u32, group: u32) {
        self.places[place] = Place { hash, group: group + 1 };
    }

    /// Takes out a group, which must be there under this hash.
    #[inline]
    pub fn remove(&mut self, hash: u32, group: u32) {
        let last = self.places.len() - 1;
        let mut gap = self.first_place(hash);
        while self.places[gap].group != group + 1 {
            assert!(self.places[gap].group > 0, "a group that is taken out is there");
            gap = (gap + 1) & last;
        }
        // What stands behind moves up, or a search for it would end at the gap; but never before its own first place.
        let mut next = (gap + 1) & last;
        while self.places[next].group > 0 {
            let moved = next.wrapping_sub(self.first_place(self.places[next].hash)) & last;
            if moved >= (next.wrapping_sub(gap) & last) {
                self.places[gap] = self.places[next];
                gap = next;
            }
            next = (next + 1) & last;
        }
        self.places[gap] = Place::default();
    }
}

/// How many places so many groups need.
fn places_for(groups: usize) -> usize {
    (groups + groups.div_ceil(3)).next_power_of_two().max(64)
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

        /// Hashes crowd at the end and at the beginning of the table, so that what is moved up goes around its end.
        #[test]
        fn what_stands_behind_a_group_that_goes_is_found(steps in prop::collection::vec((any::<bool>(), 0..40_u32, 0..4_u32), 1..120)) {
            let mut index = Index::default();
            index.reserve(40);
            let hash_of = |group: u32| [0, 1 << 26, u32::MAX, u32::MAX - (1 << 26)][group as usize % 4];
            let mut there = std::collections::BTreeSet::new();
            for (come, first, more) in steps {
                for group in first..(first + more).min(40) {
                    let found = index.find(hash_of(group), |other| other == group);
                    match (come, found) {
                        (true, Err(place)) => index.put(place, hash_of(group), group),
                        (false, Ok(_)) => index.remove(hash_of(group), group),
                        _ => {}
                    }
                    let changed = if come { there.insert(group) } else { there.remove(&group) };
                    prop_assert_eq!(changed, come == found.is_err());
                }
                for group in 0..40 {
                    prop_assert_eq!(index.find(hash_of(group), |other| other == group).is_ok(), there.contains(&group));
                }
            }
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
