//! Where a file's bytes come from, when any part of it is looked at.

use std::io;

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

/// So many bytes from `start` on. Whatever a damaged file says of itself, no more is asked for than there is.
///
/// # Errors
/// Where there are not as many, or they cannot be read.
pub(in crate::format) fn read_at(bytes: &dyn AnyBytes, start: u64, length: usize) -> io::Result<Vec<u8>> {
    if start.checked_add(length as u64).is_none_or(|end| end > bytes.size_bytes()) {
        let why = format!("{length} bytes at {start} are beyond its end");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    let mut read = vec![0; length];
    bytes.fill(&mut read, start)?;
    Ok(read)
}
