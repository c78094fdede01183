//! What a web server logs, in Apache's combined format.
//!
//! Requests follow each other by a second on average, and stand up to a minute out of order, as a server writes a request
//! when it is answered. A few paths are asked for most of the time, a few addresses ask most; one answer in twenty-two
//! has no content, whose size is written `-`. One line in 5,000 is cut off, as where a disk was full.

use std::io::Write;

use chrono::DateTime;

use super::{FilesOptions, Lines, TIME_FIRST_S};
use crate::trial::chance::Chance;

/// How far a line may stand behind the newest before it.
const DISORDER_S: u64 = 60;

const PATHS: [&str; 16] = [
    "/",
    "/favicon.ico",
    "/style.css",
    "/images/logo.png",
    "/blog/",
    "/blog/feed.xml",
    "/robots.txt",
    "/about.html",
    "/projects/highwater/",
    "/downloads/highwater.tar.gz",
    "/search?q=exactly+once",
    "/articles/checkpoints.html",
    "/articles/watermarks.html",
    "/contact",
    "/login",
    "/images/old/banner.gif",
];

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36",
    "Mozilla/5.0 (compatible; Feedbot/2.1; +http://example.org/bot.html)",
    "curl/8.14.1",
];

pub(super) struct AccessLog {
    chance: Chance,
    row: u64,
}

impl AccessLog {
    pub fn new(options: &FilesOptions, index: u32) -> AccessLog {
        AccessLog { chance: options.chance(index), row: options.first_row(index) }
    }

    fn status(&mut self) -> (u16, bool) {
        match self.chance.below(1000) {
            0..912 => (200, true),
            912..957 => (304, false),
            957..974 => (301, true),
            974..996 => (404, true),
            _ => (500, true),
        }
    }
}

impl Lines for AccessLog {
    fn push(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        let address = self.chance.log_uniform(12);
        let seconds = TIME_FIRST_S + self.row + self.chance.below(DISORDER_S);
        let time = DateTime::from_timestamp_secs(seconds as i64).unwrap_or_default().format("%d/%b/%Y:%H:%M:%S %z");
        let path = PATHS[(self.chance.log_uniform(5) as usize - 1) % PATHS.len()];
        let method = if self.chance.below(50) == 0 { "POST" } else { "GET" };
        let (status, has_content) = self.status();
        let size = if has_content { self.chance.log_uniform(20).to_string() } else { "-".to_owned() };
        let agent = AGENTS[self.chance.below(AGENTS.len() as u64) as usize];
        let (third, fourth) = (address / 250 % 250, address % 250 + 1);
        let line = write!(
            out,
            "192.0.{third}.{fourth} - - [{time}] \"{method} {path} HTTP/1.1\" {status} {size} \"-\" \"{agent}\""
        );
        debug_assert!(line.is_ok(), "a vector takes what is written");
        if self.chance.below(5_000) == 0 {
            let length = out.len() - start;
            out.truncate(start + length - 1 - self.chance.below(length as u64 / 2) as usize);
        }
        out.push(b'\n');
        self.row += 1;
    }
}
