//! Where the library gets a file's bytes from.

use std::{
    io::{self, BufReader, Read},
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    errors::{ParquetError, Result},
    file::reader::{ChunkReader, Length},
};

/// Headers of pages are read so many bytes at a time.
const HEADER_BYTES: usize = 8 << 10;

/// The bytes of a file of which any part can be had.
pub trait AnyBytes: Send + Sync {
    /// How many there are.
    fn size_bytes(&self) -> u64;

    /// Fills `buffer` with what stands at `offset` and behind; the caller asks for nothing beyond the end.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl AnyBytes for Vec<u8> {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The same for the library. Whatever a damaged file says of itself, no more is asked for than there is.
#[derive(Clone)]
pub(super) struct Chunks(pub Arc<dyn AnyBytes>);

impl Chunks {
    /// So many bytes from `start` on.
    ///
    /// # Errors
    /// Where there are not as many, or they cannot be read.
    pub fn read(&self, start: u64, length: usize) -> Result<Vec<u8>> {
        let size = self.0.size_bytes();
        if start.checked_add(length as u64).is_none_or(|end| end > size) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are beyond its end")));
        }
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes, start)?;
        Ok(bytes)
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.size_bytes()
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::with_capacity(HEADER_BYTES, From { bytes: Arc::clone(&self.0), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.read(start, length).map(Bytes::from)
    }
}

/// All bytes from one on.
pub(super) struct From {
    bytes: Arc<dyn AnyBytes>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.size_bytes().saturating_sub(self.at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.bytes.fill(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
