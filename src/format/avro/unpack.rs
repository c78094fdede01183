//! Blocks, unpacked by one of the codecs that the specification names.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use datafusion::arrow::error::ArrowError;

use crate::format::{columnar::Wrong, compress::is_lack_of_memory, pieces::Stop};

/// How the blocks of a file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

/// Snappy makes at most so many bytes of one.
const SNAPPY_RATIO_MAX: usize = 64;

impl Codec {
    /// By its name in the header.
    ///
    /// # Errors
    /// Where it is none that is read.
    pub fn of(name: &[u8]) -> Result<Codec, Wrong> {
        Ok(match name {
            b"null" => Codec::Null,
            b"deflate" => Codec::Deflate,
            b"snappy" => Codec::Snappy,
            b"zstandard" => Codec::Zstandard,
            other => {
                let why = format!("codec '{}' is not read", String::from_utf8_lossy(other).escape_default());
                return Err(Wrong::Damage(format!("{why}, only null, deflate, snappy and zstandard")));
            }
        })
    }

    /// What a block holds.
    ///
    /// # Errors
    /// Where it is damaged, or holds more than `bytes_max`; where there is no memory, one that stops.
    pub fn unpack(self, packed: &[u8], bytes_max: u64) -> Result<Cow<'_, [u8]>, Wrong> {
        let unpacked = match self {
            Codec::Null => return Ok(Cow::Borrowed(packed)),
            Codec::Deflate => drain(flate2::read::DeflateDecoder::new(packed), bytes_max),
            Codec::Snappy => return snappy(packed, bytes_max).map(Cow::Owned),
            Codec::Zstandard => {
                zstd::stream::read::Decoder::with_buffer(packed).and_then(|decoder| drain(decoder, bytes_max))
            }
        };
        let unpacked = unpacked.map_err(|error| match is_lack_of_memory(&error) {
            true => Wrong::Stop(Stop::Arrow(ArrowError::MemoryError(error.to_string()))),
            false => Wrong::Damage(format!("a block cannot be unpacked: {error}")),
        })?;
        if unpacked.len() as u64 > bytes_max { Err(Wrong::TooMuch) } else { Ok(Cow::Owned(unpacked)) }
    }
}

/// All that comes, and one byte more than may, so that it is seen.
fn drain(packed: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    packed.take(bytes_max.saturating_add(1)).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

/// A raw Snappy block, and the CRC-32 of what it holds behind it.
fn snappy(packed: &[u8], bytes_max: u64) -> Result<Vec<u8>, Wrong> {
    let damaged = |why: &str| Wrong::Damage(format!("a block cannot be unpacked: {why}"));
    let (packed, checksum) = packed.split_last_chunk::<4>().ok_or_else(|| damaged("it has no checksum"))?;
    let length = snap::raw::decompress_len(packed).map_err(|error| damaged(&error.to_string()))?;
    if length / SNAPPY_RATIO_MAX > packed.len() {
        return Err(damaged("it claims more bytes than it can hold"));
    }
    if length as u64 > bytes_max {
        return Err(Wrong::TooMuch);
    }
    let unpacked = snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| damaged(&error.to_string()))?;
    if crc32fast::hash(&unpacked) != u32::from_be_bytes(*checksum) {
        return Err(damaged("its checksum is another"));
    }
    Ok(unpacked)
}
