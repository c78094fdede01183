//! Short messages with hashtags, to be counted over time.
//!
//! Ten messages a second, up to three seconds out of order. A few tags are in most of the messages; one in four is
//! written with a capital letter, and some end a sentence.

use std::io::Write;

use super::{FilesOptions, Lines, TIME_FIRST_S, push_time};
use crate::trial::chance::Chance;

const MESSAGES_PER_SECOND: u64 = 10;
/// How far a message may stand behind the newest before it.
const DISORDER_S: u64 = 3;

/// From frequent to rare.
const TAGS: [&str; 24] = [
    "rust",
    "streaming",
    "sql",
    "exactlyonce",
    "arrow",
    "databases",
    "sled",
    "watermarks",
    "checkpoint",
    "windows",
    "opensource",
    "batch",
    "sessions",
    "joins",
    "linux",
    "latency",
    "recovery",
    "fsync",
    "datafusion",
    "events",
    "iot",
    "logs",
    "lateness",
    "coffee",
];

const WORDS: [&str; 16] = [
    "reading", "about", "today", "we", "shipped", "why", "is", "nobody", "talking", "the", "new", "release", "of",
    "again", "finally", "works",
];

pub(super) struct Messages {
    chance: Chance,
    row: u64,
}

impl Messages {
    pub fn new(options: &FilesOptions, index: u32) -> Messages {
        Messages { chance: options.chance(index), row: options.first_row(index) }
    }

    fn push_words(&mut self, out: &mut Vec<u8>, count: u64) {
        for _ in 0..count {
            out.extend_from_slice(WORDS[self.chance.below(WORDS.len() as u64) as usize].as_bytes());
            out.push(b' ');
        }
    }

    fn push_tag(&mut self, out: &mut Vec<u8>) {
        out.push(b'#');
        let start = out.len();
        out.extend_from_slice(TAGS[(self.chance.log_uniform(5) as usize - 1) % TAGS.len()].as_bytes());
        if self.chance.below(4) == 0 {
            out[start].make_ascii_uppercase();
        }
    }
}

impl Lines for Messages {
    fn push(&mut self, out: &mut Vec<u8>) {
        let seconds = TIME_FIRST_S + self.row / MESSAGES_PER_SECOND + self.chance.below(DISORDER_S + 1);
        out.extend_from_slice(b"{\"time\": \"");
        push_time(out, seconds);
        let user = self.chance.log_uniform(10);
        let written = write!(out, "\", \"user\": \"user{user}\", \"text\": \"");
        debug_assert!(written.is_ok(), "a vector takes what is written");
        let words = 1 + self.chance.below(6);
        self.push_words(out, words);
        for number in 0..self.chance.below(4) {
            if number > 0 {
                out.push(b' ');
            }
            self.push_tag(out);
        }
        out.extend_from_slice(if self.chance.below(3) == 0 { b".\"}\n" } else { b"\"}\n" });
        self.row += 1;
    }
}
