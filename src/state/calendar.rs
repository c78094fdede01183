//! Numbers by time: those whose time has come are let go, the others are not looked at.
//!
//! Times may be all distinct, and mostly come in order: they lie one behind the other in leaves of a few hundred, so that
//! letting go reads memory from one end to the other, and the tree of leaves is small.

use std::collections::BTreeMap;

/// A leaf with more has only one time behind these.
const LEAF_LEN: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Entry {
    time: i64,
    number: u32,
}

/// Numbers by time, those of the same time in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    /// By the first time of each; none is empty, and no time is in two.
    leaves: BTreeMap<i64, Vec<Entry>>,
    len: usize,
}

impl Calendar {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.len * size_of::<Entry>() + self.leaves.len() * 64
    }

    pub fn insert(&mut self, time: i64, number: u32) {
        self.len += 1;
        self.place(Entry { time, number });
    }

    fn place(&mut self, entry: Entry) {
        let leaf = match self.leaves.last_entry() {
            // as most do: it is behind all others, or nearly
            Some(last) if *last.key() <= entry.time => Some(last.into_mut()),
            _ => self.leaves.range_mut(..=entry.time).next_back().map(|(_, leaf)| leaf),
        };
        let Some(leaf) = leaf else { return self.place_first(entry) };
        let last = leaf.last().map_or(i64::MIN, |last| last.time);
        let at = if last <= entry.time { leaf.len() } else { leaf.partition_point(|other| other.time <= entry.time) };
        if leaf.len() < LEAF_LEN || last == entry.time {
            leaf.insert(at, entry);
        } else if at == leaf.len() {
            self.leaves.insert(entry.time, vec![entry]);
        } else {
            // the last time is later than the first, so there is a cut between two times
            let middle = leaf[leaf.len() / 2].time;
            let cut = match leaf.partition_point(|other| other.time < middle) {
                0 => leaf.partition_point(|other| other.time <= middle),
                cut => cut,
            };
            let behind = leaf.split_off(cut);
            // a leaf of one time may have been far longer
            leaf.shrink_to(LEAF_LEN);
            self.leaves.insert(behind[0].time, behind);
            self.place(entry);
        }
    }

    fn place_first(&mut self, entry: Entry) {
        let mut leaf = match self.leaves.first_entry() {
            Some(first) if first.get().len() < LEAF_LEN => first.remove(),
            _ => Vec::new(),
        };
        leaf.insert(0, entry);
        self.leaves.insert(entry.time, leaf);
    }

    /// Takes out the numbers whose time is `last` or before, the earliest first.
    pub fn take_until(&mut self, last: i64) -> Vec<u32> {
        let mut taken = Vec::new();
        while let Some(first) = self.leaves.first_entry().filter(|first| *first.key() <= last) {
            let mut leaf = first.remove();
            let cut = leaf.partition_point(|entry| entry.time <= last);
            taken.extend(leaf.drain(..cut).map(|entry| entry.number));
            if let Some(entry) = leaf.first() {
                self.leaves.insert(entry.time, leaf);
                break;
            }
        }
        self.len -= taken.len();
        taken
    }

    /// Times and numbers, by time.
    pub fn iter(&self) -> impl Iterator<Item = (i64, u32)> {
        self.leaves.values().flatten().map(|entry| (entry.time, entry.number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Runs of times that go up, go down, stand still or jump, so that leaves are filled at each end and cut everywhere.
        #[test]
        fn numbers_are_taken_by_time_in_the_order_in_which_they_came(
            steps in prop::collection::vec((0..3000_i64, -3..4_i64, 0..700_u32, prop::option::of(0..3000_i64)), 1..12),
        ) {
            let (mut calendar, mut model, mut next) = (Calendar::default(), Vec::<(i64, u32)>::new(), 0);
            for (from, by, count, until) in steps {
                for time in (0..i64::from(count)).map(|step| from + step * by) {
                    calendar.insert(time, next);
                    model.push((time, next));
                    next += 1;
                }
                model.sort_by_key(|(time, _)| *time);
                prop_assert_eq!(calendar.iter().collect::<Vec<_>>(), model.clone());
                if let Some(until) = until {
                    let cut = model.partition_point(|(time, _)| *time <= until);
                    let expected: Vec<u32> = model.drain(..cut).map(|(_, number)| number).collect();
                    prop_assert_eq!(calendar.take_until(until), expected);
                    prop_assert_eq!(calendar.iter().collect::<Vec<_>>(), model.clone());
                }
                prop_assert_eq!(calendar.len, model.len());
                let one_time = |leaf: &Vec<Entry>| leaf[LEAF_LEN - 1].time == leaf[leaf.len() - 1].time;
                prop_assert!(calendar.leaves.values().all(|leaf| leaf.len() <= LEAF_LEN || one_time(leaf)));
                prop_assert!(calendar.leaves.iter().all(|(time, leaf)| leaf[0].time == *time));
            }
        }
    }
}
