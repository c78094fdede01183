//! The keys of requests that came, by which one that is repeated is known: for a time, and not more of them than memory holds.

use std::collections::{HashMap, VecDeque};

use super::frame::Known;

/// A place in the log: segment, and bytes of it.
pub(super) type Position = (u64, u64);

/// So many keys are remembered at most. They take 200 MiB.
const KEYS_MAX: usize = 3_500_000;
/// What is forgotten at once: a look through all keys is worth it then.
const PART: usize = 16;

/// What came under which key, and where it stands.
pub(super) struct Keys {
    by_key: HashMap<[u8; 16], ([u8; 16], Position)>,
    /// Segments that are closed and have keys: number, when they were closed (microseconds since the Unix epoch), how many.
    closed: VecDeque<(u64, i64, usize)>,
    max: usize,
}

impl Keys {
    pub fn new() -> Keys {
        Keys { by_key: HashMap::new(), closed: VecDeque::new(), max: KEYS_MAX }
    }

    /// What came under a key: a hash of the rows, and where they end.
    pub fn get(&self, key: &[u8; 16]) -> Option<([u8; 16], Position)> {
        self.by_key.get(key).copied()
    }

    /// Notes a key of the open segment.
    pub fn insert(&mut self, known: Known, at: Position) {
        self.by_key.insert(known.key, (known.body, at));
    }

    /// Notes that a segment is closed that has so many keys; the oldest ones are forgotten where there are too many now.
    pub fn close(&mut self, segment: u64, at_us: i64, count: usize) {
        if count > 0 {
            self.closed.push_back((segment, at_us, count));
        }
        if self.by_key.len() > self.max {
            let mut left = self.by_key.len();
            let kept = self.max - self.max / PART;
            let over = |(_, _, count): &&(u64, i64, usize)| {
                let too_many = left > kept;
                left = left.saturating_sub(*count);
                too_many
            };
            let last = self.closed.iter().take_while(over).last().map(|(segment, ..)| *segment);
            last.into_iter().for_each(|segment| self.forget_up_to(segment));
        }
    }

    /// Notes the keys of a closed segment that comes before all that are known; false: there is no room for them.
    pub fn insert_before(&mut self, segment: u64, at_us: i64, known: &[Known]) -> bool {
        let fits = self.by_key.len() + known.len() <= self.max;
        if fits && !known.is_empty() {
            // what is known already is newer
            known.iter().for_each(|known| {
                self.by_key.entry(known.key).or_insert((known.body, (segment, 0)));
            });
            self.closed.push_front((segment, at_us, known.len()));
        }
        fits
    }

    /// Forgets segments up to this one.
    pub fn forget_up_to(&mut self, segment: u64) {
        self.closed.retain(|(number, ..)| *number > segment);
        self.by_key.retain(|_, (_, (number, _))| *number > segment);
    }

    /// Forgets, not at once, segments that were closed longer ago than `kept_us`.
    pub fn forget_old(&mut self, now_us: i64, kept_us: i64) {
        let before = |us: i64| move |(_, at_us, _): &&(u64, i64, usize)| *at_us < now_us.saturating_sub(us);
        if self.closed.front().as_ref().is_some_and(before(kept_us.saturating_add(kept_us / PART as i64))) {
            let last = self.closed.iter().take_while(before(kept_us)).last().map(|(segment, ..)| *segment);
            last.into_iter().for_each(|segment| self.forget_up_to(segment));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Known {
        Known::new(number.to_string().as_bytes(), b"a\n")
    }

    fn known(keys: &Keys, numbers: std::ops::Range<usize>) -> Vec<usize> {
        numbers.filter(|number| keys.get(&key(*number).key).is_some()).collect()
    }

    /// One key in each segment, closed at its number.
    fn keys(max: usize, count: usize) -> Keys {
        let mut keys = Keys { max, ..Keys::new() };
        for number in 0..count {
            keys.insert(key(number), (number as u64, 1));
            keys.close(number as u64, number as i64, 1);
        }
        keys
    }

    #[test]
    fn the_oldest_are_forgotten_where_there_are_too_many() {
        let keys = keys(32, 1000);
        let left = known(&keys, 0..1000);
        assert!((30..=32).contains(&left.len()) && left.last() == Some(&999), "{left:?}");
        assert!(left.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{left:?}");
        assert_eq!(keys.closed.len(), left.len());
    }

    #[test]
    fn keys_are_kept_as_long_as_they_should_be_and_little_longer() {
        let mut keys = keys(1000, 100);
        keys.forget_old(106, 100);
        assert_eq!(known(&keys, 0..100).len(), 100);
        keys.forget_old(120, 100);
        assert_eq!(known(&keys, 0..100), (20..100).collect::<Vec<_>>());
    }

    #[test]
    fn of_segments_that_a_start_finds_the_newest_come_first() {
        let mut keys = Keys { max: 4, ..Keys::new() };
        assert!(keys.insert_before(3, 30, &[key(3), key(1)]));
        assert!(keys.insert_before(2, 20, &[key(1), key(2)]));
        assert_eq!(keys.get(&key(1).key).map(|(_, (segment, _))| segment), Some(3));
        assert!(!keys.insert_before(1, 10, &[key(4), key(5)]));
        assert_eq!(known(&keys, 0..9), [1, 2, 3]);
        keys.forget_up_to(2);
        assert_eq!(known(&keys, 0..9), [1, 3]);
    }
}
