//! Sentences of common words, to be counted.

use super::{FilesOptions, Lines};
use crate::trial::chance::Chance;

/// From frequent to rare.
const WORDS: [&str; 48] = [
    "the",
    "of",
    "a",
    "to",
    "and",
    "is",
    "in",
    "it",
    "batch",
    "log",
    "that",
    "state",
    "commit",
    "file",
    "once",
    "as",
    "every",
    "offset",
    "row",
    "by",
    "stream",
    "window",
    "from",
    "group",
    "checkpoint",
    "key",
    "after",
    "crash",
    "time",
    "count",
    "water",
    "mark",
    "late",
    "sink",
    "source",
    "query",
    "table",
    "plan",
    "sled",
    "disk",
    "power",
    "node",
    "replay",
    "merge",
    "delta",
    "snapshot",
    "rewind",
    "exactly",
];

pub(super) struct Text {
    chance: Chance,
}

impl Text {
    pub fn new(options: &FilesOptions, index: u32) -> Text {
        Text { chance: options.chance(index) }
    }
}

impl Lines for Text {
    fn push(&mut self, out: &mut Vec<u8>) {
        let words = 3 + self.chance.below(12);
        for number in 0..words {
            let word = WORDS[(self.chance.log_uniform(6) as usize - 1) % WORDS.len()];
            let start = out.len();
            out.extend_from_slice(word.as_bytes());
            match number {
                0 => out[start].make_ascii_uppercase(),
                _ if self.chance.below(12) == 0 => out.push(b','),
                _ => {}
            }
            out.extend_from_slice(if number + 1 == words { b".\n" } else { b" " });
        }
    }
}
