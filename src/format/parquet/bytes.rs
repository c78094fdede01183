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

use crate::format::columnar::{AnyBytes, read_at};

/// Headers of pages are read so many bytes at a time.
const HEADER_BYTES: usize = 8 << 10;

/// A file's bytes for the library.
#[derive(Clone)]
pub(super) struct Chunks(pub Arc<dyn AnyBytes>);

impl Chunks {
    /// So many bytes from `start` on.
    ///
    /// # Errors
    /// Where there are not as many, or they cannot be read.
    pub fn read(&self, start: u64, length: usize) -> Result<Vec<u8>> {
        read_at(self.0.as_ref(), start, length).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ParquetError::EOF(error.to_string()),
            _ => error.into(),
        })
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
