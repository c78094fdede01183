//! Which sessions there are: by key, and by the time at which they end.
//!
//! A session is known by its row among the columns of the state. Nearly every key has one session, which its number leads
//! to; the sessions of a key that has more are a tree. Those that end at the same time are a list through the rows.

use std::collections::BTreeMap;

use super::{
    key_table::KeyTable,
    keys::{self, Keys},
};

/// No row.
const NONE: u32 = u32::MAX;

/// A session: from its start to its end, both microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub start: i64,
    pub end: i64,
}

/// What is in a row.
#[derive(Debug, Clone, Copy)]
struct Session {
    span: Span,
    key: u32,
    /// Rows of its neighbours among those that end at the same time, or [`NONE`].
    before: u32,
    after: u32,
}

/// The rows of a key's sessions.
#[derive(Debug, Default)]
enum OfKey {
    #[default]
    None,
    One(u32),
    /// By start.
    Many(BTreeMap<i64, u32>),
}

/// The sessions of all keys. Two of a key never overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Spans {
    keys: KeyTable,
    /// By number of the key.
    of_key: Vec<OfKey>,
    /// By row.
    sessions: Vec<Session>,
    /// Rows that no session has.
    free: Vec<u32>,
    /// The first row of those that end at each time.
    by_end: BTreeMap<i64, u32>,
}

impl Spans {
    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.sessions.len() - self.free.len()
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        let rows = size_of_val(self.sessions.as_slice()) + size_of_val(self.free.as_slice());
        let of_keys = size_of_val(self.of_key.as_slice());
        // of a tree, a node is a good half full
        let trees = (self.by_end.len() + self.len().saturating_sub(self.keys.len())) * 24;
        self.keys.memory_bytes() + of_keys + rows + trees
    }

    /// The number of each of these keys, and whether it is new; from then on it must have a session.
    pub fn numbers(&mut self, keys: &Keys) -> Vec<(u32, bool)> {
        let numbers = self.keys.intern(keys.len(), |key| keys.get(key));
        let end = numbers.iter().map(|(number, _)| *number as usize + 1).max().unwrap_or(0);
        if end > self.of_key.len() {
            self.of_key.resize_with(end, OfKey::default);
        }
        numbers
    }

    pub fn key(&self, row: u32) -> &[u8] {
        self.keys.get(self.sessions[row as usize].key)
    }

    pub fn span(&self, row: u32) -> Span {
        self.sessions[row as usize].span
    }

    /// Adds to `rows` those of a key's sessions that overlap or touch `span`.
    pub fn near(&self, key: u32, span: Span, rows: &mut Vec<u32>) {
        match &self.of_key[key as usize] {
            OfKey::None => {}
            OfKey::One(row) => {
                let known = self.span(*row);
                rows.extend((known.start <= span.end && known.end >= span.start).then_some(*row));
            }
            OfKey::Many(known) => {
                // going back, the first that ends before is behind all others
                let until_end = known.range(..=span.end).rev().map(|(_, row)| *row);
                rows.extend(until_end.take_while(|row| self.span(*row).end >= span.start));
            }
        }
    }

    /// Adds a session of a key, and says which row it has.
    pub fn insert(&mut self, key: u32, span: Span) -> u32 {
        let row = self.free.pop().unwrap_or(self.sessions.len() as u32);
        let of_key = &mut self.of_key[key as usize];
        match of_key {
            OfKey::None => *of_key = OfKey::One(row),
            OfKey::One(other) => {
                let start = self.sessions[*other as usize].span.start;
                *of_key = OfKey::Many(BTreeMap::from([(start, *other), (span.start, row)]));
            }
            OfKey::Many(known) => {
                known.insert(span.start, row);
            }
        }
        let after = self.by_end.insert(span.end, row).unwrap_or(NONE);
        if let Some(after) = self.sessions.get_mut(after as usize) {
            after.before = row;
        }
        let session = Session { span, key, before: NONE, after };
        match self.sessions.get_mut(row as usize) {
            Some(place) => *place = session,
            None => self.sessions.push(session),
        }
        row
    }

    /// Takes out a session whose key gets another one at once.
    pub fn remove(&mut self, row: u32) {
        let Session { span, before, after, .. } = self.sessions[row as usize];
        if let Some(after) = self.sessions.get_mut(after as usize) {
            after.before = before;
        }
        match self.sessions.get_mut(before as usize) {
            Some(before) => before.after = after,
            None if after == NONE => {
                self.by_end.remove(&span.end);
            }
            None => {
                self.by_end.insert(span.end, after);
            }
        }
        self.leave_key(row);
        self.free.push(row);
    }

    /// Takes a session from its key; true: the key has no other.
    fn leave_key(&mut self, row: u32) -> bool {
        let Session { span, key, .. } = self.sessions[row as usize];
        let of_key = &mut self.of_key[key as usize];
        match of_key {
            OfKey::None | OfKey::One(_) => *of_key = OfKey::None,
            OfKey::Many(known) => {
                known.remove(&span.start);
                if let (1, Some((_, left))) = (known.len(), known.first_key_value()) {
                    *of_key = OfKey::One(*left);
                }
            }
        }
        matches!(of_key, OfKey::None)
    }

    /// The sessions that are over at `watermark_us`: by end, then by key and start. They stay until [`Spans::let_go`].
    pub fn over(&self, watermark_us: i64) -> Vec<u32> {
        let mut rows = Vec::new();
        for first in self.by_end.range(..=watermark_us).map(|(_, first)| *first) {
            let from = rows.len();
            let after = |row: &u32| Some(self.sessions[*row as usize].after).filter(|after| *after != NONE);
            rows.extend(std::iter::successors(Some(first), after));
            if rows.len() > from + 1 {
                let mut of_end: Vec<_> =
                    rows.drain(from..).map(|row| (self.key(row), self.span(row).start, row)).collect();
                of_end.sort_unstable();
                rows.extend(of_end.into_iter().map(|(.., row)| row));
            }
        }
        rows
    }

    /// Lets go of what [`Spans::over`] gave for the same watermark.
    pub fn let_go(&mut self, over: Vec<u32>, watermark_us: i64) {
        self.by_end = match watermark_us.checked_add(1) {
            Some(after) => self.by_end.split_off(&after),
            None => BTreeMap::new(),
        };
        let mut keys = Vec::with_capacity(over.len());
        for row in &over {
            if self.leave_key(*row) {
                keys.push(self.sessions[*row as usize].key);
            }
        }
        self.free.extend(over);
        self.keys.remove(&keys);
        if self.len() == 0 {
            *self = Spans::default();
        }
    }

    /// All sessions, by key and start.
    pub fn ordered(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.keys.numbers().collect();
        if let Some(order) = keys::ascending_by(numbers.len(), |at| self.keys.get(numbers[at as usize])) {
            numbers = order.into_iter().map(|at| numbers[at as usize]).collect();
        }
        let mut rows = Vec::with_capacity(self.len());
        for number in numbers {
            match &self.of_key[number as usize] {
                OfKey::None => {}
                OfKey::One(row) => rows.push(*row),
                OfKey::Many(known) => rows.extend(known.values()),
            }
        }
        rows
    }
}
