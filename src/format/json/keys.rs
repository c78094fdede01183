//! From a key in the text to the column that it fills.

use std::collections::HashMap;

use super::{
    escape::unescape,
    scan::{self, Fault, word},
};

/// Which column a key means: the declared name, else the one column whose name differs only in case.
#[derive(Debug)]
pub(super) struct KeyTable {
    exact: HashMap<String, usize>,
    /// By lower-case name; `None` where several columns share it.
    folded: HashMap<String, Option<usize>>,
}

impl KeyTable {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> KeyTable {
        let mut table = KeyTable { exact: HashMap::new(), folded: HashMap::new() };
        for (column, name) in names.enumerate() {
            table.exact.insert(name.to_owned(), column);
            table.folded.entry(name.to_lowercase()).and_modify(|found| *found = None).or_insert(Some(column));
        }
        table
    }

    /// The column, and whether the key is spelled exactly as it is declared.
    pub(super) fn find(&self, key: &str) -> Option<(usize, bool)> {
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

/// Keys come in the same order in most records: the n-th key is compared with the n-th of the record before,
/// and only looked up where it differs. A prediction changes speed, never a result.
#[derive(Debug, Default)]
pub(super) struct Predictor {
    seen: Vec<Seen>,
}

/// A key of the record before.
#[derive(Debug)]
struct Seen {
    /// With its quotes, as written.
    key: Vec<u8>,
    /// Its first and last eight bytes, so that keys of up to sixteen are compared without a loop; the first padded
    /// with zeros where there are fewer.
    first: u64,
    last: u64,
    target: Target,
}

impl Seen {
    fn new(key: &[u8], target: Target) -> Seen {
        let mut first = [0; 8];
        let head = key.len().min(8);
        first[..head].copy_from_slice(&key[..head]);
        let last = key.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Seen { key: key.to_vec(), first: u64::from_le_bytes(first), last, target }
    }

    /// Whether the text goes on with this key at `at`.
    #[inline(always)]
    fn is_at(&self, text: &[u8], at: usize) -> bool {
        let bytes = self.key.len();
        match word(text, at) {
            Some(first) if bytes < 8 => (first ^ self.first) << (64 - 8 * bytes) == 0,
            Some(first) if bytes <= 16 => first == self.first && word(text, at + bytes - 8) == Some(self.last),
            _ => text[at..].starts_with(&self.key),
        }
    }
}

/// How many keys of a record are predicted, and how long they may be; the rest are looked up.
const PREDICTED_KEYS_MAX: usize = 256;
const PREDICTED_KEY_BYTES_MAX: usize = 256;
/// How many keys that a record leaves out are stepped over before a key is looked up.
const SKIPPED_KEYS_MAX: usize = 4;

impl Predictor {
    /// From where a key must begin: its target, and the offset behind its closing quote. `place` counts the
    /// record's keys, as predicted.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        text: &[u8],
        at: usize,
        place: &mut usize,
        find: impl Fn(&str) -> Target,
    ) -> Result<(Target, usize), Fault> {
        if let Some(seen) = self.seen.get(*place)
            && seen.is_at(text, at)
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
            if seen.is_at(text, at) {
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
        if let Some(seen) = self.seen.get_mut(place) {
            *seen = Seen::new(key, target);
        } else if place == self.seen.len() {
            self.seen.push(Seen::new(key, target));
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
            let seen = Seen::new(&key, Target { slot: None, exact: true });
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
