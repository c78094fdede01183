//! What an object container file is made of: a header, and blocks of rows
//! (<https://avro.apache.org/docs/1.12.0/specification/#object-container-files>).

use std::sync::Arc;

use super::varint;
use crate::format::columnar::{AnyBytes, Wrong, read_at};

/// What every file of this format begins with.
pub(super) const MAGIC: &[u8; 4] = b"Obj\x01";
/// What stands between blocks is of the file's own choice, and this long.
pub(super) const MARKER_BYTES: usize = 16;
/// The longest header (4 MiB).
const HEADER_BYTES_MAX: u64 = 4 << 20;
/// The file is looked over in steps of this many bytes.
const STEP_BYTES: u64 = 4 << 10;

/// What the header says.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// The schema, as JSON.
    pub schema: Vec<u8>,
    /// The name of the codec that blocks are packed with.
    pub codec: Vec<u8>,
    pub marker: [u8; MARKER_BYTES],
}

/// Blocks that follow each other, and are read in one go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where the first begins.
    pub offset: u64,
    /// Of all of them, markers included.
    pub bytes: u64,
}

/// One block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub rows: u64,
    /// Its rows, packed.
    pub packed: &'a [u8],
}

/// Looks over a file: its header, and its blocks in runs of about `run_bytes` (one block is never cut).
///
/// # Errors
/// Where it is no such file, cut off, or damaged.
pub(super) fn open(bytes: &Arc<dyn AnyBytes>, run_bytes: u64) -> Result<(Header, Vec<Run>), Wrong> {
    let mut scan = Scan { bytes, at: 0, step: Vec::new(), step_at: 0 };
    let header = scan.header()?;
    let (end, mut runs) = (bytes.size_bytes(), Vec::new());
    let mut offset = scan.at;
    while scan.at < end {
        scan.block(&header.marker)?;
        if scan.at - offset >= run_bytes || scan.at == end {
            runs.push(Run { offset, bytes: scan.at - offset });
            offset = scan.at;
        }
    }
    Ok((header, runs))
}

/// Takes the next block of a run that [`open`] found.
///
/// # Errors
/// Where it is none, since the file was changed in between.
pub(super) fn next_block<'a>(rest: &mut &'a [u8]) -> Result<Block<'a>, String> {
    let changed = || "a block is not where it was".to_owned();
    let mut number = || varint(rest).and_then(|number| u64::try_from(number).ok()).ok_or_else(changed);
    let (rows, size) = (number()?, number()?);
    let (packed, behind) =
        usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size)).ok_or_else(changed)?;
    *rest = behind.get(MARKER_BYTES..).ok_or_else(changed)?;
    Ok(Block { rows, packed })
}

/// A place in a file.
struct Scan<'a> {
    bytes: &'a Arc<dyn AnyBytes>,
    at: u64,
    /// Bytes that were read ...
    step: Vec<u8>,
    /// ... and where the first of them stands.
    step_at: u64,
}

impl Scan<'_> {
    fn header(&mut self) -> Result<Header, Wrong> {
        let none = || Wrong::Damage("it is no Avro file: it does not begin with Obj".to_owned());
        if self.bytes.size_bytes() < MAGIC.len() as u64 || self.take(MAGIC.len() as u64)? != MAGIC {
            return Err(none());
        }
        let mut header = Header { codec: b"null".to_vec(), ..Header::default() };
        let mut has_schema = false;
        loop {
            let mut count = self.number()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                // the size of the entries follows, for those who skip them
                self.number()?;
                count = count.saturating_neg();
            }
            for _ in 0..count {
                let key = self.text()?;
                let value = self.text()?;
                match key.as_slice() {
                    b"avro.schema" => (header.schema, has_schema) = (value, true),
                    b"avro.codec" => header.codec = value,
                    _ => {}
                }
            }
        }
        header.marker.copy_from_slice(&self.take(MARKER_BYTES as u64)?);
        if !has_schema {
            return Err(Wrong::Damage("its header has no schema".to_owned()));
        }
        Ok(header)
    }

    /// Goes over one block.
    fn block(&mut self, marker: &[u8; MARKER_BYTES]) -> Result<(), Wrong> {
        let start = self.at;
        let (rows, size) = (self.number()?, self.number()?);
        let size = u64::try_from(size).ok().filter(|_| rows >= 0);
        let size = size.ok_or_else(|| Wrong::Damage(format!("the block at byte {start} has no size")))?;
        self.at = self.at.checked_add(size).filter(|end| *end <= self.bytes.size_bytes()).ok_or_else(cut)?;
        if self.take(MARKER_BYTES as u64)? != marker {
            return Err(Wrong::Damage(format!("the block at byte {start} does not end with the file's marker")));
        }
        Ok(())
    }

    /// A string, or bytes.
    fn text(&mut self) -> Result<Vec<u8>, Wrong> {
        let length = self.number()?;
        let length = u64::try_from(length).map_err(|_| Wrong::Damage("its header is damaged".to_owned()))?;
        if self.at.saturating_add(length) > HEADER_BYTES_MAX {
            return Err(Wrong::Damage(format!("its header has more than {HEADER_BYTES_MAX} bytes, or is damaged")));
        }
        self.take(length)
    }

    fn number(&mut self) -> Result<i64, Wrong> {
        self.fill(10)?;
        let mut rest = self.step.get(self.in_step()..).unwrap_or_default();
        let before = rest.len();
        let number = varint(&mut rest);
        self.at += (before - rest.len()) as u64;
        number.ok_or_else(cut)
    }

    fn take(&mut self, count: u64) -> Result<Vec<u8>, Wrong> {
        self.fill(count)?;
        let start = self.in_step();
        let taken = usize::try_from(count).ok().and_then(|count| self.step.get(start..)?.get(..count));
        self.at += count;
        Ok(taken.ok_or_else(cut)?.to_vec())
    }

    /// Where in the step the place is.
    fn in_step(&self) -> usize {
        usize::try_from(self.at - self.step_at).unwrap_or(usize::MAX)
    }

    /// Reads on where the step has not `count` bytes more, as far as there are.
    fn fill(&mut self, count: u64) -> Result<(), Wrong> {
        if self.at >= self.step_at && self.at + count <= self.step_at + self.step.len() as u64 {
            return Ok(());
        }
        let left = self.bytes.size_bytes() - self.at;
        let length = usize::try_from(count.max(STEP_BYTES).min(left)).unwrap_or(usize::MAX);
        let step = read_at(self.bytes.as_ref(), self.at, length);
        self.step = step.map_err(|error| Wrong::Damage(format!("it cannot be read: {error}")))?;
        self.step_at = self.at;
        Ok(())
    }
}

fn cut() -> Wrong {
    Wrong::Damage("it is cut off or damaged".to_owned())
}
