//! What users of a site look at, in visits.
//!
//! A click a second over all users, up to twenty seconds out of order. Every ten minutes other users are about, with
//! a few of those before among them, so that visits begin and end all the time.

use std::io::Write;

use super::{FilesOptions, Lines, TIME_FIRST_S, push_time};
use crate::trial::chance::Chance;

/// How far a click may stand behind the newest before it.
const DISORDER_S: u64 = 20;
/// How long the same users are about.
const SLOT_S: u64 = 600;
/// How many users of one slot are gone in the next.
const USERS_GONE: u64 = 40;

const PAGES: [&str; 10] =
    ["/", "/search", "/articles", "/articles/7", "/articles/12", "/cart", "/checkout", "/help", "/account", "/logout"];

pub(super) struct Clicks {
    chance: Chance,
    row: u64,
}

impl Clicks {
    pub fn new(options: &FilesOptions, index: u32) -> Clicks {
        Clicks { chance: options.chance(index), row: options.first_row(index) }
    }
}

impl Lines for Clicks {
    fn push(&mut self, out: &mut Vec<u8>) {
        let seconds = TIME_FIRST_S + self.row + self.chance.below(DISORDER_S);
        let user = self.row / SLOT_S * USERS_GONE + self.chance.log_uniform(6);
        let page = PAGES[self.chance.below(PAGES.len() as u64) as usize];
        out.extend_from_slice(b"{\"time\": \"");
        push_time(out, seconds);
        let written = writeln!(out, "\", \"user_id\": \"user{user}\", \"page\": \"{page}\"}}");
        debug_assert!(written.is_ok(), "a vector takes what is written");
        self.row += 1;
    }
}
