//! The bytes of a receive log: a segment is a header, frames of whole lines, and a seal.
//!
//! Every frame says up to which byte its segment was known to be durable when it was written. So a tail that a crash tore
//! is told from damage: behind a tail that nobody was promised, no frame can say that it was durable.
//!
//! Whoever sends rows must not be able to make bytes that look like a frame. So the hashes of frames begin with a secret,
//! which is another one in each segment.

use std::fmt;

use twox_hash::XxHash3_128;

const HEADER_MAGIC: [u8; 4] = *b"HWRS";
pub(super) const FRAME_MAGIC: [u8; 4] = *b"HWRF";
const VERSION: u16 = 2;
const HASH_BYTES: usize = 16;
/// A header up to the source's name.
const HEADER_FIXED_BYTES: usize = 64;
/// What the check of a frame's head is of.
const HEAD_CHECKED_BYTES: usize = 28;
/// A frame up to its key.
pub(super) const HEAD_BYTES: usize = HEAD_CHECKED_BYTES + 8;
/// A seal is followed by where it begins, so that its keys are found without reading the frames.
pub(super) const TRAILER_BYTES: usize = 8;
/// No frame holds more: the longest line that may be asked for, and some.
pub(super) const PAYLOAD_BYTES_MAX: usize = (1 << 30) + (1 << 20);
/// Longest key of a request.
pub const KEY_BYTES_MAX: usize = 255;
/// A key and what came under it, in a seal.
const KNOWN_BYTES: usize = 32;

/// What a segment begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Segments of a source are numbered from 0.
    pub number: u64,
    /// The number of the first line in it, counted from 0 over the whole life of the source.
    pub line: u64,
    /// What the hashes of its frames begin with.
    pub secret: u64,
    pub story: Story,
    pub source: String,
}

/// What a segment tells of the log before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Story {
    /// From this segment on none is missing but those that retention has removed.
    pub whole_from: u64,
    pub pace: Pace,
}

/// When lines are due, where the clock makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// When line `line` was due, or the source first received; microseconds since the Unix epoch.
    pub since_us: i64,
    /// The first line that came at this rate.
    pub line: u64,
    /// 0: they come when somebody sends them.
    pub rows_per_second: u64,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whole lines.
    Rows,
    /// Nothing but the promise that what is before it is durable.
    Mark,
    /// The end of the segment: the keys of its frames.
    Seal,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Rows, Kind::Mark, Kind::Seal];
}

/// A part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub kind: Kind,
    /// The number of its first line.
    pub line: u64,
    /// So many bytes of the segment were durable when it was written.
    pub durable: u64,
    /// Under which a request came; empty: none.
    pub key: &'a [u8],
    pub payload: &'a [u8],
}

/// A key of a request and a hash of what came under it, short enough to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub key: [u8; 16],
    pub body: [u8; 16],
}

impl Known {
    pub fn new(key: &[u8], body: &[u8]) -> Known {
        // whoever sends chooses the key: no two of them may be made to look alike
        let short = |bytes: &[u8]| {
            let mut hash = [0; 16];
            hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
            hash
        };
        Known { key: short(key), body: short(body) }
    }
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where in the segment.
    pub at: u64,
    pub why: String,
}

impl Damage {
    pub fn new(at: u64, why: impl Into<String>) -> Damage {
        Damage { at, why: why.into() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.why)
    }
}

/// How many lines there are.
pub(super) fn lines_in(payload: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', payload).count() as u64
}

/// The hash of a frame holds for its segment only: one of another segment, or of a former file on the same disk, fails.
fn hash(seed: u64, bytes: &[u8]) -> [u8; HASH_BYTES] {
    XxHash3_128::oneshot_with_seed(seed, bytes).to_be_bytes()
}

/// Tells a head of a frame of this segment from anything else, before what it says is believed.
pub(super) fn check(secret: u64, head: &[u8]) -> [u8; HEAD_BYTES - HEAD_CHECKED_BYTES] {
    ((XxHash3_128::oneshot_with_seed(secret, head) >> 64) as u64).to_be_bytes()
}

impl Header {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_FIXED_BYTES + self.source.len() + HASH_BYTES);
        bytes.extend_from_slice(&HEADER_MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&(self.source.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.line.to_be_bytes());
        bytes.extend_from_slice(&self.secret.to_be_bytes());
        let Story { whole_from, pace } = self.story;
        bytes.extend_from_slice(&whole_from.to_be_bytes());
        bytes.extend_from_slice(&pace.since_us.to_be_bytes());
        bytes.extend_from_slice(&pace.line.to_be_bytes());
        bytes.extend_from_slice(&pace.rows_per_second.to_be_bytes());
        bytes.extend_from_slice(self.source.as_bytes());
        let hash = hash(self.number, &bytes);
        bytes.extend_from_slice(&hash);
        bytes
    }

    /// How long the header of this source's segments is.
    pub fn length(source: &str) -> usize {
        HEADER_FIXED_BYTES + source.len() + HASH_BYTES
    }

    /// Reads the header of segment `number` of a source from exactly its bytes.
    pub fn decode(bytes: &[u8], number: u64, source: &str) -> Result<Header, Damage> {
        let damaged = |why: &str| Damage::new(0, why);
        if bytes.len() < HEADER_FIXED_BYTES {
            return Err(damaged("its header is cut off"));
        }
        let version = u16::from_be_bytes([bytes[4], bytes[5]]);
        if bytes[..4] == HEADER_MAGIC && version != VERSION {
            return Err(damaged(&format!("it has format {version}, this binary reads {VERSION}")));
        }
        if bytes.len() != Header::length(source) {
            return Err(damaged("its header is cut off"));
        }
        let (content, told) = bytes.split_at(bytes.len() - HASH_BYTES);
        if content[..4] != HEADER_MAGIC
            || u64_at(content, 8) != number
            || &content[HEADER_FIXED_BYTES..] != source.as_bytes()
        {
            return Err(damaged("it does not begin as this segment of this source does"));
        }
        if told != hash(number, content) {
            return Err(damaged("the checksum of its header does not match"));
        }
        let pace = Pace {
            since_us: u64_at(content, 40).cast_signed(),
            line: u64_at(content, 48),
            rows_per_second: u64_at(content, 56),
        };
        let (line, secret) = (u64_at(content, 16), u64_at(content, 24));
        let story = Story { whole_from: u64_at(content, 32), pace };
        Ok(Header { number, line, secret, story, source: source.to_owned() })
    }
}

impl Frame<'_> {
    /// Appends the frame's bytes, in the segment that has this secret.
    pub fn push(&self, secret: u64, to: &mut Vec<u8>) {
        debug_assert!(self.key.len() <= KEY_BYTES_MAX && self.payload.len() <= PAYLOAD_BYTES_MAX);
        let start = to.len();
        to.reserve(HEAD_BYTES + self.key.len() + self.payload.len() + HASH_BYTES);
        to.extend_from_slice(&FRAME_MAGIC);
        to.extend_from_slice(&[self.kind as u8, self.key.len() as u8, 0, 0]);
        to.extend_from_slice(&(self.payload.len() as u32).to_be_bytes());
        to.extend_from_slice(&self.line.to_be_bytes());
        to.extend_from_slice(&self.durable.to_be_bytes());
        let check = check(secret, &to[start..]);
        to.extend_from_slice(&check);
        to.extend_from_slice(self.key);
        to.extend_from_slice(self.payload);
        let hash = hash(secret, &to[start..]);
        to.extend_from_slice(&hash);
    }
}

/// How long the frame is whose head this is; `None`: it is no head of a frame of the segment that has this secret.
pub(super) fn length(secret: u64, head: &[u8; HEAD_BYTES]) -> Option<usize> {
    let (content, told) = head.split_at(HEAD_CHECKED_BYTES);
    let payload = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
    let sound = head[..4] == FRAME_MAGIC && payload <= PAYLOAD_BYTES_MAX && told == check(secret, content);
    (sound && usize::from(head[4]) < Kind::ALL.len()).then(|| HEAD_BYTES + usize::from(head[5]) + payload + HASH_BYTES)
}

/// Reads the frame that `bytes` begin with, and says how long it is; `None`: it is cut off, damaged, or none.
pub(super) fn decode(secret: u64, bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
    let length = length(secret, head)?;
    let (content, told) = bytes.get(..length)?.split_at(length - HASH_BYTES);
    if told != hash(secret, content) {
        return None;
    }
    let (key, payload) = content[HEAD_BYTES..].split_at(usize::from(head[5]));
    let kind = *Kind::ALL.get(usize::from(head[4]))?;
    Some((Frame { kind, line: u64_at(head, 12), durable: u64_at(head, 20), key, payload }, length))
}

/// The payload of a seal.
pub(super) fn encode_known(known: &[Known]) -> Vec<u8> {
    known.iter().flat_map(|known| known.key.iter().chain(&known.body)).copied().collect()
}

pub(super) fn decode_known(payload: &[u8]) -> impl Iterator<Item = Known> {
    let half = |entry: &[u8]| <[u8; 16]>::try_from(entry).unwrap_or_default();
    payload.chunks_exact(KNOWN_BYTES).map(move |entry| Known { key: half(&entry[..16]), body: half(&entry[16..]) })
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
impl Story {
    /// Of a source that nobody has asked anything of yet.
    pub fn of_tests() -> Story {
        Story { whole_from: 0, pace: Pace { since_us: 1, line: 0, rows_per_second: 0 } }
    }
}
