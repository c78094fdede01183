//! Bytes that come in any pieces, cut where lines end.

use std::{
    io::{self, Read},
    time::Duration,
};

use super::log::ReceiveLog;
use crate::model::Result;

/// A peer that has nothing to say, and does not wait for it, is asked again after so long.
const NO_NEWS_PAUSE: Duration = Duration::from_millis(10);

/// What is read at once, and made durable together.
const CHUNK_BYTES: usize = 256 << 10;

/// Whole lines of what came so far.
#[derive(Debug)]
pub(super) struct LineCutter {
    /// What came of a line that has not ended.
    rest: Vec<u8>,
    line_bytes_max: usize,
    /// Whether the line is too long already: its end is waited for, and the reader will find the line too long.
    dropping: bool,
}

impl LineCutter {
    pub fn new(line_bytes_max: usize) -> LineCutter {
        LineCutter { rest: Vec::new(), line_bytes_max, dropping: false }
    }

    /// The lines that end in `chunk`, from their starts, which may have come before; empty: none ends.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        let Some(last) = memchr::memrchr(b'\n', chunk) else {
            self.keep(chunk);
            return lines;
        };
        let first = memchr::memchr(b'\n', chunk).unwrap_or(last);
        self.keep(&chunk[..first]);
        lines.append(&mut self.rest);
        lines.extend_from_slice(&chunk[first..=last]);
        self.dropping = false;
        self.keep(&chunk[last + 1..]);
        lines
    }

    /// How much came of a line that has not ended; of one that is too long, not all of it.
    fn unfinished_bytes(&self) -> usize {
        self.rest.len()
    }

    /// What is left of a line when nothing more comes: it is one, as if it had been ended.
    pub fn end(&mut self) -> Vec<u8> {
        self.dropping = false;
        let mut line = std::mem::take(&mut self.rest);
        if !line.is_empty() {
            line.push(b'\n');
        }
        line
    }

    /// One byte more than a line may have is enough to see that it has more.
    fn keep(&mut self, part: &[u8]) {
        let room = (self.line_bytes_max + 1).saturating_sub(self.rest.len());
        if !self.dropping {
            self.rest.extend_from_slice(&part[..part.len().min(room)]);
            self.dropping = part.len() > room;
        }
    }
}

/// How the bytes of a peer ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// There are no more.
    AtItsEnd,
    /// They broke off, and with them so many bytes of a line whose end did not come: it is none.
    Broken { error: io::Error, unfinished_bytes: usize },
    /// The log takes no more.
    Stopped,
}

/// Appends the lines of `input` to the log until they end; also says whether any byte came. A read that says `WouldBlock`
/// is tried again; `TimedOut` is the end of a connection whose peer does not answer.
pub(super) fn pump(log: &ReceiveLog, mut input: impl Read, line_bytes_max: usize) -> (Ended, bool) {
    let (mut chunk, mut came) = (vec![0; CHUNK_BYTES], false);
    let mut cutter = LineCutter::new(line_bytes_max);
    loop {
        if !log.wait_for_room() {
            return (Ended::Stopped, came);
        }
        let (lines, ended) = match input.read(&mut chunk) {
            Ok(0) => (cutter.end(), Some(Ended::AtItsEnd)),
            Ok(count) => {
                came = true;
                (cutter.push(&chunk[..count]), None)
            }
            Err(error) if is_no_news(&error) => {
                if error.kind() == io::ErrorKind::WouldBlock {
                    std::thread::sleep(NO_NEWS_PAUSE);
                }
                continue;
            }
            // what was cut may look whole: `123` of `12345`
            Err(error) => return (Ended::Broken { error, unfinished_bytes: cutter.unfinished_bytes() }, came),
        };
        if append(log, &lines).is_err() {
            return (Ended::Stopped, came);
        }
        if let Some(ended) = ended {
            return (ended, came);
        }
    }
}

fn is_no_news(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// Whoever runs the job is told by the log itself why it fails.
fn append(log: &ReceiveLog, lines: &[u8]) -> Result<()> {
    if lines.is_empty() { Ok(()) } else { log.append(lines, b"").map(drop) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However bytes come, the lines are the same.
        #[test]
        fn lines_do_not_depend_on_how_they_come(text in "[ab\n]{0,60}", cuts in proptest::collection::vec(0_usize..7, 0..40)) {
            let (mut cutter, mut lines, mut rest) = (LineCutter::new(1000), Vec::new(), text.as_bytes());
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                let came = cutter.push(now);
                prop_assert!(came.is_empty() || came.ends_with(b"\n"));
                lines.extend(came);
                rest = later;
            }
            lines.extend(cutter.push(rest));
            lines.extend(cutter.end());
            let ended = if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" };
            prop_assert_eq!(String::from_utf8(lines).unwrap(), ended);
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_one_that_is_too_long() {
        let mut cutter = LineCutter::new(4);
        for _ in 0..100 {
            assert!(cutter.push(b"abc").is_empty());
        }
        assert_eq!(cutter.rest.len(), 5);
        assert_eq!(cutter.push(b"abc\nab\nc"), b"abcab\nab\n");
        assert_eq!(cutter.push(b"d"), b"");
        assert_eq!(cutter.end(), b"cd\n");
        assert_eq!(cutter.end(), b"");
    }
}
