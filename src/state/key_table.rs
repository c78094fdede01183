//! Keys that come and go, each with a number as long as it is there.
//!
//! What comes together mostly goes together: keys lie one behind the other in chunks, in the order in which they came, and
//! a chunk that has lost all of them is dropped whole. One that has lost half is dropped, too, and the others move: each key
//! that goes pays for less than its own length, and no batch for all that are there.

use super::keys::{AT_ONCE, Index};

/// A longer key has a chunk of its own.
const CHUNK_BYTES: usize = 1 << 16;

/// Before each key in its chunk: its number and its length.
const HEADER_BYTES: usize = 8;

/// No chunk.
const NONE: u32 = u32::MAX;

/// Where a key is.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    /// [`NONE`]: no key has this number.
    chunk: u32,
    /// Where in the chunk its bytes begin, and how many there are.
    start: u32,
    len: u32,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Of `bytes`, those of keys that are there, with their headers.
    live: usize,
}

impl Chunk {
    fn is_sparse(&self) -> bool {
        self.live * 2 < self.bytes.len()
    }
}

/// Keys by number and numbers by key. Numbers are used again.
#[derive(Debug)]
pub(super) struct KeyTable {
    index: Index,
    /// By number.
    slots: Vec<Slot>,
    free: Vec<u32>,
    chunks: Vec<Chunk>,
    /// Chunks without bytes.
    unused: Vec<u32>,
    /// The chunk that takes the next key.
    current: u32,
    /// Of all chunks together.
    bytes: usize,
}

impl Default for KeyTable {
    fn default() -> KeyTable {
        KeyTable {
            index: Index::default(),
            slots: Vec::new(),
            free: Vec::new(),
            chunks: Vec::new(),
            unused: Vec::new(),
            current: NONE,
            bytes: 0,
        }
    }
}

impl KeyTable {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Bytes in memory, bookkeeping included.
    pub fn memory_bytes(&self) -> usize {
        let lists = size_of_val(self.slots.as_slice()) + size_of_val(self.free.as_slice());
        let chunks = size_of_val(self.chunks.as_slice()) + size_of_val(self.unused.as_slice());
        self.index.memory_bytes() + lists + chunks + self.bytes
    }

    #[inline]
    pub fn get(&self, number: u32) -> &[u8] {
        let slot = self.slots[number as usize];
        &self.chunks[slot.chunk as usize].bytes[slot.start as usize..][..slot.len as usize]
    }

    /// The numbers that keys have, in ascending order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        (0..self.slots.len() as u32).filter(|number| self.slots[*number as usize].chunk != NONE)
    }

    /// The number of each of `count` keys, and whether it is new.
    pub fn intern<'a>(&mut self, count: usize, key: impl Fn(usize) -> &'a [u8]) -> Vec<(u32, bool)> {
        let mut numbers = Vec::with_capacity(count);
        let mut hashes = [0; AT_ONCE];
        for from in (0..count).step_by(AT_ONCE) {
            let some = AT_ONCE.min(count - from);
            self.index.reserve(self.len() + some);
            self.index.meet(&mut hashes[..some], |at| key(from + at));
            for (hash, at) in hashes.iter().zip(from..from + some) {
                let key = key(at);
                numbers.push(match self.index.find(*hash, |number| self.get(number) == key) {
                    Ok(number) => (number, false),
                    Err(place) => (self.add(place, *hash, key), true),
                });
            }
        }
        numbers
    }

    fn add(&mut self, place: usize, hash: u32, key: &[u8]) -> u32 {
        let slot = Slot { hash, chunk: NONE, start: 0, len: key.len() as u32 };
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.index.put(place, hash, number);
        self.write(number, key);
        number
    }

    /// Lets go of keys: each number once, and a key must have it.
    pub fn remove(&mut self, numbers: &[u32]) {
        let mut sparse = Vec::new();
        for some in numbers.chunks(AT_ONCE) {
            self.index.touch(some.iter().map(|number| self.slots[*number as usize].hash));
            for number in some {
                let slot = &mut self.slots[*number as usize];
                let chunk_id = std::mem::replace(&mut slot.chunk, NONE);
                self.index.remove(slot.hash, *number);
                let chunk = &mut self.chunks[chunk_id as usize];
                chunk.live -= HEADER_BYTES + slot.len as usize;
                if chunk.is_sparse() && sparse.last() != Some(&chunk_id) {
                    sparse.push(chunk_id);
                }
            }
        }
        self.free.extend(numbers);
        if self.len() == 0 {
            *self = KeyTable::default();
            return;
        }
        sparse.into_iter().for_each(|chunk| self.tidy(chunk));
        self.index.shrink(self.len());
    }

    /// Drops a chunk that has lost more than half of its bytes; the keys that are left move.
    fn tidy(&mut self, chunk_id: u32) {
        let chunk = &mut self.chunks[chunk_id as usize];
        if !chunk.is_sparse() {
            return;
        }
        let Chunk { bytes, live } = std::mem::take(chunk);
        self.bytes -= bytes.len();
        if self.current == chunk_id {
            self.current = NONE;
        }
        let mut rest = bytes.as_slice();
        while live > 0
            && let Some((header, behind)) = rest.split_first_chunk::<HEADER_BYTES>()
        {
            let [number, len] = header_of(*header);
            let start = bytes.len() - behind.len();
            let (key, behind) = behind.split_at(len as usize);
            let slot = self.slots[number as usize];
            if slot.chunk == chunk_id && slot.start as usize == start {
                self.write(number, key);
            }
            rest = behind;
        }
        // only now: until here it was what tells a key that is there from one that was
        self.unused.push(chunk_id);
    }

    /// Writes the bytes of a key behind the others.
    fn write(&mut self, number: u32, key: &[u8]) {
        let needed = HEADER_BYTES + key.len();
        let has_room = |chunk: &Chunk| chunk.bytes.len() + needed <= CHUNK_BYTES;
        if !self.chunks.get(self.current as usize).is_some_and(has_room) {
            self.current = self.unused.pop().unwrap_or_else(|| {
                self.chunks.push(Chunk::default());
                self.chunks.len() as u32 - 1
            });
            self.chunks[self.current as usize].bytes.reserve_exact(needed.max(CHUNK_BYTES));
        }
        let chunk = &mut self.chunks[self.current as usize];
        chunk.bytes.extend_from_slice(&number.to_le_bytes());
        chunk.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        let slot = &mut self.slots[number as usize];
        (slot.chunk, slot.start) = (self.current, chunk.bytes.len() as u32);
        chunk.bytes.extend_from_slice(key);
        chunk.live += needed;
        self.bytes += needed;
    }
}

/// Number and length.
fn header_of(header: [u8; HEADER_BYTES]) -> [u32; 2] {
    let both = u64::from_le_bytes(header);
    [both as u32, (both >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A key of its own for each, of lengths up to one that no chunk has room for.
    fn key(which: u8) -> Vec<u8> {
        let len = match which % 8 {
            0 => 0,
            1 => 30_000,
            2 => CHUNK_BYTES + 1,
            short => usize::from(short),
        };
        [vec![which; usize::from(which > 0)], vec![7; len]].concat()
    }

    proptest! {
        #[test]
        fn keys_are_found_as_long_as_they_are_there(steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<u8>(), any::<u8>()), 1..20)) {
            let mut table = KeyTable::default();
            let mut model: BTreeMap<u8, u32> = BTreeMap::new();
            for (come, at_least, below) in steps {
                let keys: Vec<Vec<u8>> = come.iter().map(|which| key(*which)).collect();
                for (which, (number, new)) in come.iter().zip(table.intern(keys.len(), |at| &keys[at])) {
                    prop_assert_eq!(new, model.insert(*which, number).is_none_or(|known| { assert_eq!(known, number); false }));
                }
                let go = |which: &u8| (at_least..below).contains(which);
                table.remove(&model.iter().filter(|(which, _)| go(which)).map(|(_, number)| *number).collect::<Vec<_>>());
                model.retain(|which, _| !go(which));
                for (which, number) in &model {
                    prop_assert!(table.get(*number) == key(*which));
                }
                let mut numbers: Vec<u32> = model.values().copied().collect();
                numbers.sort_unstable();
                prop_assert_eq!(table.numbers().collect::<Vec<_>>(), numbers);
                let live: usize = model.keys().map(|which| key(*which).len() + HEADER_BYTES).sum();
                prop_assert_eq!(table.chunks.iter().map(|chunk| chunk.live).sum::<usize>(), live);
                prop_assert_eq!(table.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>(), table.bytes);
                prop_assert!(table.bytes <= 2 * live, "keys that are gone outweigh the others");
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }

    #[test]
    fn a_table_that_was_large_gives_memory_back() {
        let mut table = KeyTable::default();
        let keys: Vec<String> = (0..100_000).map(|key| format!("key {key}")).collect();
        table.intern(keys.len(), |at| keys[at].as_bytes());
        let full = table.memory_bytes();
        table.remove(&(0..99_900).collect::<Vec<_>>());
        assert_eq!(table.intern(1, |_| b"key 99950"), [(99_950, false)]);
        assert!(table.bytes + table.index.memory_bytes() < full / 100, "{table:?}");
        table.remove(&(99_900..100_000).collect::<Vec<_>>());
        assert_eq!(table.memory_bytes(), 0);
    }
}
