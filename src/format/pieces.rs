//! Files in pieces of whole lines, so that threads can share a file, and no more of it is held
//! than they work on. A single line is held whole, however long it is.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use datafusion::arrow::{error::ArrowError, record_batch::RecordBatch};

use super::BadRecord;

/// Bytes are asked for in steps of this many while the end of a piece's last line is looked for.
const STEP_BYTES: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A run of whole lines.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    pub bytes: &'a [u8],
    /// Offset of its first byte in the (decompressed) file.
    pub offset: u64,
}

/// What a piece became.
#[derive(Debug, Default)]
pub struct PieceRead {
    pub batches: Vec<RecordBatch>,
    pub lines: u64,
    pub rows: u64,
    pub bad_rows: u64,
    /// The first ones; lines count from 1 within the piece.
    pub bad: Vec<BadRecord>,
}

/// Why a piece was not read to its end.
#[derive(Debug)]
pub enum Stop {
    /// The first bad record in `failfast` mode; its line counts from 1 within the piece.
    Bad(BadRecord),
    Arrow(ArrowError),
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Stop {
        Stop::Arrow(error)
    }
}

/// The pieces of one file, shared by the threads that read it.
pub trait Pieces: Sync {
    /// The next piece, and its number from 0; `buffer` may be used to hold it. `None`: there are no more, or the source of
    /// the bytes failed, which it then tells by itself.
    fn next<'b>(&'b self, buffer: &'b mut Vec<u8>) -> Option<(usize, Piece<'b>)>;

    /// The pieces that nobody took yet are not needed.
    fn give_up(&self);
}

/// The pieces of bytes that are in memory, where a [`Cutter`] would cut them.
pub struct InMemory<'a> {
    pieces: Vec<Piece<'a>>,
    next: AtomicUsize,
}

impl InMemory<'_> {
    pub fn new(bytes: &[u8], piece_bytes: usize) -> InMemory<'_> {
        InMemory { pieces: pieces(bytes, piece_bytes), next: AtomicUsize::new(0) }
    }
}

impl Pieces for InMemory<'_> {
    fn next<'b>(&'b self, _buffer: &'b mut Vec<u8>) -> Option<(usize, Piece<'b>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.pieces.get(number).map(|piece| (number, *piece))
    }

    fn give_up(&self) {
        self.next.store(self.pieces.len(), Ordering::Relaxed);
    }
}

/// Where bytes come from.
pub trait Bytes {
    /// Appends the next bytes: `count` of them, fewer only at the end.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn append(&mut self, to: &mut Vec<u8>, count: usize) -> io::Result<()>;
}

/// Where a piece stands among those of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// From 0.
    pub number: usize,
    /// Offset of its first byte.
    pub offset: u64,
}

/// Cuts what comes at line ends, into pieces of about `piece_bytes`; a byte order mark at the start is left out. Where
/// it cuts is a function of the bytes.
#[derive(Debug)]
pub struct Cutter<B> {
    input: B,
    piece_bytes: usize,
    next: At,
    /// What was read beyond the last piece.
    rest: Vec<u8>,
    ended: bool,
    /// Whether the last piece ends with a line end.
    line_ended: bool,
}

impl<B: Bytes> Cutter<B> {
    pub fn new(input: B, piece_bytes: usize) -> Cutter<B> {
        let next = At { number: 0, offset: 0 };
        Cutter { input, piece_bytes: piece_bytes.max(1), next, rest: Vec::new(), ended: false, line_ended: true }
    }

    /// Puts the next piece into `buffer`, in place of what is there; `None`: there is no more.
    ///
    /// # Errors
    /// Where bytes cannot be read, or a line is longer than the memory.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<At>> {
        buffer.clear();
        buffer.append(&mut self.rest);
        self.fill(buffer, self.piece_bytes.max(BYTE_ORDER_MARK.len()))?;
        if self.next.number == 0 && self.next.offset == 0 && buffer.starts_with(BYTE_ORDER_MARK) {
            buffer.drain(..BYTE_ORDER_MARK.len());
            self.next.offset = BYTE_ORDER_MARK.len() as u64;
            self.fill(buffer, self.piece_bytes)?;
        }
        let end = self.line_end(buffer)?;
        self.rest.extend_from_slice(&buffer[end..]);
        buffer.truncate(end);
        let Some(last) = buffer.last() else { return Ok(None) };
        self.line_ended = *last == b'\n';
        let at = self.next;
        self.next = At { number: at.number + 1, offset: at.offset + end as u64 };
        Ok(Some(at))
    }

    /// There are no more pieces: somebody found that the rest is not needed.
    pub fn give_up(&mut self) {
        self.rest.clear();
        self.ended = true;
    }

    /// How many bytes were given out (a byte order mark included), and whether they end with a line end.
    pub fn position(&self) -> (u64, bool) {
        (self.next.offset, self.line_ended)
    }

    pub fn input(&mut self) -> &mut B {
        &mut self.input
    }

    /// Reads until `buffer` has `wanted` bytes, or there are no more.
    fn fill(&mut self, buffer: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
        if self.ended || buffer.len() >= wanted {
            return Ok(());
        }
        let missing = wanted - buffer.len();
        buffer.try_reserve(missing).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.input.append(buffer, missing)?;
        self.ended = buffer.len() < wanted;
        Ok(())
    }

    /// The end of the line in which the piece reaches its size.
    fn line_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let mut from = self.piece_bytes;
        if buffer.len() < from {
            return Ok(buffer.len());
        }
        if buffer[from - 1] == b'\n' {
            return Ok(from);
        }
        loop {
            if let Some(found) = memchr::memchr(b'\n', &buffer[from..]) {
                return Ok(from + found + 1);
            }
            from = buffer.len();
            if self.ended {
                return Ok(from);
            }
            self.fill(buffer, from + STEP_BYTES)?;
        }
    }
}

fn pieces(bytes: &[u8], piece_bytes: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::with_capacity(bytes.len() / piece_bytes + 1);
    let mut start = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    while start < bytes.len() {
        let end = line_end(bytes, (start + piece_bytes).min(bytes.len()));
        pieces.push(Piece { bytes: &bytes[start..end], offset: start as u64 });
        start = end;
    }
    pieces
}

/// The end of the line that `at` is in or ends.
pub(super) fn line_end(bytes: &[u8], at: usize) -> usize {
    if at == 0 || bytes[at - 1] == b'\n' {
        return at;
    }
    memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |offset| at + offset + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Bytes for &[u8] {
        fn append(&mut self, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
            let (now, later) = self.split_at(count.min(self.len()));
            to.extend_from_slice(now);
            *self = later;
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_stream_is_cut_where_memory_is(
            mark in any::<bool>(),
            lines in prop::collection::vec(prop_oneof![9 => 0..20_usize, 1 => 60_000..140_000_usize], 0..12),
            ends in any::<bool>(),
            piece_bytes in prop_oneof![1..40_usize, Just(70_000)],
        ) {
            let mut bytes = if mark { BYTE_ORDER_MARK.to_vec() } else { Vec::new() };
            for length in &lines {
                bytes.extend(std::iter::repeat_n(b'x', *length).chain([b'\n']));
            }
            if !ends {
                bytes.pop();
            }
            let (mut cutter, mut buffer, mut found) = (Cutter::new(&bytes[..], piece_bytes), Vec::new(), Vec::new());
            while let Some(at) = cutter.next(&mut buffer).unwrap() {
                prop_assert_eq!(at.number, found.len());
                found.push((at.offset, buffer.clone()));
            }
            let expected: Vec<_> =
                pieces(&bytes, piece_bytes).iter().map(|piece| (piece.offset, piece.bytes.to_vec())).collect();
            prop_assert_eq!(found, expected);
            let without_mark = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
            let whole = without_mark.is_empty() || without_mark.ends_with(b"\n");
            prop_assert_eq!(cutter.position(), (bytes.len() as u64, whole));
            prop_assert!(cutter.next(&mut buffer).unwrap().is_none(), "it stays at its end");
        }
    }
}
