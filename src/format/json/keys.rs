//! From a key in the text to the column that it fills.

use std::collections::HashMap;

use super::{
    escape::unescape,
    scan::{self, Fault, skip_space, word},
};

/// Which column a key means: the declared name, else the one column whose name differs only in case.
#[derive(Debug)]
pub(in crate::format) struct KeyTable {
    exact: HashMap<String, usize>,
    /// By lower-case name; `None` where several columns share it.
    folded: HashMap<String, Option<usize>>,
}

impl KeyTable {
    pub(in crate::format) fn new<'a>(names: impl Iterator<Item = &'a str>) -> KeyTable {
        let mut table = KeyTable { exact: HashMap::new(), folded: HashMap::new() };
        for (column, name) in names.enumerate() {
            table.exact.insert(name.to_owned(), column);
            table.folded.entry(name.to_lowercase()).and_modify(|found| *found = None).or_insert(Some(column));
        }
        table
    }

    /// The column, and whether the key is spelled exactly as it is declared.
    pub(in crate::format) fn find(&self, key: &str) -> Option<(usize, bool)> {
        match self.exact.get(key) {
            Some(&column) => Some((column, true)),
            None => Some(((*self.folded.get(&key.to_lowercase())?)?, false)),
        }
    }
}

/// Where a key's value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Index of the token that takes the value; `None`: nobody wants it.
    pub slot: Option<u32>,
    pub exact: bool,
}

/// Keys come in the same order in most records, with the same white space around them: what stands between two values is
/// compared with what stood there in the record before, in one go, and only taken apart where it differs. A prediction
/// changes speed, never a result.
#[derive(Debug, Default)]
pub(super) struct Predictor {
    seen: Vec<Seen>,
}

/// Bytes that are likely to be met again.
#[derive(Debug, Default)]
struct Expected {
    bytes: Vec<u8>,
    /// The first and the last eight and sixteen of them, so that up to 32 are compared without a loop; the first eight
    /// padded with zeros where there are fewer.
    first: u64,
    last: u64,
    first_wide: u128,
    last_wide: u128,
}

impl Expected {
    fn new(bytes: &[u8]) -> Expected {
        let mut expected = Expected::default();
        expected.set(bytes);
        expected
    }

    fn set(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        let head = bytes.len().min(8);
        first[..head].copy_from_slice(&bytes[..head]);
        let wide = |chunk: Option<&[u8; 16]>| chunk.map_or(0, |bytes| u128::from_le_bytes(*bytes));
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.first = u64::from_le_bytes(first);
        self.last = bytes.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.first_wide = wide(bytes.first_chunk());
        self.last_wide = wide(bytes.last_chunk());
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the text goes on with these bytes at `at`.
    #[inline(always)]
    fn is_at(&self, text: &[u8], at: usize) -> bool {
        let count = self.len();
        match word(text, at) {
            Some(first) if count < 8 => count > 0 && (first ^ self.first) << (64 - 8 * count) == 0,
            Some(first) if count <= 16 => first == self.first && word(text, at + count - 8) == Some(self.last),
            Some(_) if count <= 32 => {
                wide(text, at) == Some(self.first_wide) && wide(text, at + count - 16) == Some(self.last_wide)
            }
            _ => text[at..].starts_with(&self.bytes),
        }
    }
}

/// The sixteen bytes from `at` on.
#[inline(always)]
fn wide(text: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_le_bytes(*text.get(at..)?.first_chunk::<16>()?))
}

/// A key of the record before.
#[derive(Debug)]
struct Seen {
    /// With its quotes, as written.
    key: Expected,
    /// All that stood between the value before (or the object's brace) and the key's value; empty: not known.
    lead: Expected,
    target: Target,
}

/// How many keys of a record are predicted, and how long they may be; the rest are looked up.
const PREDICTED_KEYS_MAX: usize = 256;
const PREDICTED_KEY_BYTES_MAX: usize = 256;
/// How many keys that a record leaves out are stepped over before a key is looked up.
const SKIPPED_KEYS_MAX: usize = 4;

impl Predictor {
    /// From behind a value, or an object's brace: the next key's target and the offset of its value, where the text goes
    /// on as in the record before. `place` counts the record's keys, as predicted.
    #[inline(always)]
    pub(super) fn lead(&self, text: &[u8], at: usize, place: &mut usize) -> Option<(Target, usize)> {
        let seen = self.seen.get(*place)?;
        if seen.lead.bytes.is_empty() || !seen.lead.is_at(text, at) {
            return None;
        }
        *place += 1;
        // there may be more white space than in the record before
        Some((seen.target, skip_space(text, at + seen.lead.len())))
    }

    /// Remembers what stands in front of the value of the key that was taken last; `first`: it is the record's first.
    pub(super) fn learn(&mut self, place: usize, first: bool, lead: &[u8]) {
        let Some(seen) = place.checked_sub(1).and_then(|taken| self.seen.get_mut(taken)) else { return };
        // What stands before a first key is no lead of one that is first only here.
        if lead.len() <= PREDICTED_KEY_BYTES_MAX && first == (place == 1) {
            seen.lead.set(lead);
        }
    }

    /// From where a key must begin: its target, and the offset behind its closing quote.
    pub(super) fn take(
        &mut self,
        text: &[u8],
        at: usize,
        place: &mut usize,
        find: impl Fn(&str) -> Target,
    ) -> Result<(Target, usize), Fault> {
        if let Some(seen) = self.seen.get(*place)
            && seen.key.is_at(text, at)
        {
            *place += 1;
            return Ok((seen.target, at + seen.key.len()));
        }
        self.look_up(text, at, place, find)
    }

    fn look_up(
        &mut self,
        text: &[u8],
        at: usize,
        place: &mut usize,
        find: impl Fn(&str) -> Target,
    ) -> Result<(Target, usize), Fault> {
        let ahead = self.seen.iter().enumerate().skip(*place + 1).take(SKIPPED_KEYS_MAX);
        for (later, seen) in ahead {
            if seen.key.is_at(text, at) {
                *place = later + 1;
                return Ok((seen.target, at + seen.key.len()));
            }
        }
        if text.get(at) != Some(&b'"') {
            return Err(Fault::new(at, "a key in double quotes was expected"));
        }
        let (end, escaped) = scan::string(text, at + 1)?;
        let mut name = Vec::new();
        if escaped {
            unescape(&text[at + 1..end], &mut name);
        } else {
            name.extend_from_slice(&text[at + 1..end]);
        }
        let target = find(&String::from_utf8_lossy(&name));
        self.remember(*place, &text[at..=end], target);
        *place += 1;
        Ok((target, end + 1))
    }

    fn remember(&mut self, place: usize, key: &[u8], target: Target) {
        if place >= PREDICTED_KEYS_MAX || key.len() > PREDICTED_KEY_BYTES_MAX {
            return;
        }
        let fresh = Seen { key: Expected::new(key), lead: Expected::default(), target };
        if let Some(seen) = self.seen.get_mut(place) {
            *seen = fresh;
        } else if place == self.seen.len() {
            self.seen.push(fresh);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_exactly_then_whatever_its_case_if_one_column_fits() {
        let table = KeyTable::new(["a", "ab", "AB", "Größe"].into_iter());
        assert_eq!(table.find("a"), Some((0, true)));
        assert_eq!(table.find("A"), Some((0, false)));
        assert_eq!(table.find("ab"), Some((1, true)));
        assert_eq!(table.find("AB"), Some((2, true)));
        assert_eq!(table.find("Ab"), None, "two columns fit");
        assert_eq!(table.find("GRÖSSE"), None);
        assert_eq!(table.find("GRÖßE"), Some((3, false)));
        assert_eq!(table.find("b"), None);
    }

    #[test]
    fn a_predicted_key_is_the_whole_key() {
        for length in 0..40 {
            let key: Vec<u8> = [b"\"", &vec![b'k'; length][..], b"\""].concat();
            let seen = Expected::new(&key);
            for behind in ["", ":", ":1}", ": 1, \"and more text\": 2}"] {
                let text = [b"{", &key[..], behind.as_bytes()].concat();
                assert!(seen.is_at(&text, 1), "{length} {behind}");
                assert!(!seen.is_at(&text[..key.len()], 1), "{length} cut");
                for place in 1..=key.len() {
                    let mut other = text.clone();
                    other[place] ^= 1;
                    assert!(!seen.is_at(&other, 1), "{length} {place}");
                }
            }
        }
    }

    #[test]
    fn a_lead_is_met_again_with_more_white_space_behind_it() {
        let mut predictor = Predictor::default();
        let target = Target { slot: Some(7), exact: true };
        let mut place = 0;
        assert_eq!(predictor.take(b"\"a\":1}", 0, &mut place, |_| target), Ok((target, 3)));
        predictor.learn(place, true, b"\"a\":");
        for (text, value) in [("\"a\":1", Some(4)), ("\"a\": \t1", Some(6)), (" \"a\":1", None), ("\"a\" :1", None)] {
            let predicted = predictor.lead(text.as_bytes(), 0, &mut 0);
            assert_eq!(predicted, value.map(|value| (target, value)), "{text}");
        }
    }

    #[test]
    fn predictions_survive_left_out_and_changed_keys() {
        let mut predictor = Predictor::default();
        let find = |key: &str| Target { slot: key.parse().ok(), exact: true };
        let mut record = |keys: &[&str]| {
            let mut place = 0;
            for key in keys {
                let text = format!("\"{key}\":");
                let taken = predictor.take(text.as_bytes(), 0, &mut place, find);
                assert_eq!(taken, Ok((find(key), text.len() - 1)), "{key} in {keys:?}");
            }
        };
        for keys in [&["1", "2", "x", "4"][..], &["1", "4"], &["4", "1"], &["11", "1"], &["1", "2", "x", "4"], &[]] {
            record(keys);
        }
        assert!(predictor.take(b"1:", 0, &mut 0, find).is_err());
        assert!(predictor.take(b"\"1", 0, &mut 0, find).is_err());
    }
}
