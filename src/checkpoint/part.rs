//! A sealed part: the entries of what was once the live log, in one flat, checksummed file that never changes.
//!
//! Header: magic, format version, part number, count of entries, first sequence number, the base's batch and
//! generation, a checksum of these. Then each entry behind its length; then BLAKE3 of everything before it.

use std::{fs::File, io::Read, path::Path};

use super::{
    codec::{self, Damage},
    disk,
    policy::PartStart,
    record::Record,
};
use crate::model::{BatchId, Error, Generation, Result};

const MAGIC: [u8; 4] = *b"HWPT";
const HEADER_BYTES: usize = 4 + 2 + 2 + 4 + 4 + 8 + 8 + 4 + 16;
const CHECKED_BYTES: usize = HEADER_BYTES - 16;
const HASH_BYTES: usize = 32;
const NO_BATCH: u64 = u64::MAX;

/// Entries by sequence number, oldest first.
pub(super) type Entries = Vec<(u64, Vec<u8>)>;

/// What a part's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub start: PartStart,
    pub first_seq: u64,
    pub count: u32,
}

/// The bytes of a part file.
pub(super) fn encode(part: u32, entries: &[(u64, Vec<u8>)]) -> Result<Vec<u8>> {
    let first = entries.first().ok_or_else(|| Error::failed("an empty part cannot be sealed"))?;
    let base = codec::decode(&first.1).ok().and_then(|(envelope, _)| base_of(&envelope.record));
    let count = u32::try_from(entries.len()).map_err(|_| Error::failed("a part has too many records"))?;
    let mut bytes = Vec::with_capacity(entries.iter().map(|(_, entry)| entry.len() + 8).sum::<usize>() + 128);
    bytes.extend(MAGIC);
    bytes.extend(codec::VERSION.to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(part.to_be_bytes());
    bytes.extend(count.to_be_bytes());
    bytes.extend(first.0.to_be_bytes());
    bytes.extend(base.map_or(NO_BATCH, |(batch, _)| batch.0).to_be_bytes());
    bytes.extend(base.map_or(0, |(_, generation)| generation.0).to_be_bytes());
    let checksum = *blake3::hash(&bytes).as_bytes();
    bytes.extend(&checksum[..16]);
    assert_eq!(bytes.len(), HEADER_BYTES, "the header has a fixed length");
    for (_, entry) in entries {
        bytes.extend((entry.len() as u64).to_be_bytes());
        bytes.extend(entry);
    }
    let hash = *blake3::hash(&bytes).as_bytes();
    bytes.extend(hash);
    Ok(bytes)
}

/// The entries of a part file.
pub(super) fn decode(bytes: &[u8]) -> Result<(Header, Entries), Damage> {
    let header = decode_header(bytes)?;
    let (content, hash) = bytes.split_at_checked(bytes.len().saturating_sub(HASH_BYTES)).ok_or(Damage::Short)?;
    if blake3::hash(content).as_bytes() != hash {
        return Err(Damage::Checksum);
    }
    let mut rest = content.get(HEADER_BYTES..).ok_or(Damage::Short)?;
    let mut entries = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| Damage::Short)?;
        let (entry, after) = after.split_at_checked(length).ok_or(Damage::Short)?;
        let seq = header.first_seq.checked_add(entries.len() as u64).ok_or_else(codec::beyond_the_last)?;
        entries.push((seq, entry.to_vec()));
        rest = after;
    }
    if !rest.is_empty() || entries.len() != header.count as usize {
        return Err(Damage::Short);
    }
    Ok((header, entries))
}

fn decode_header(bytes: &[u8]) -> Result<Header, Damage> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Damage::Short)?;
    if header[..4] != MAGIC {
        return Err(Damage::NotARecord);
    }
    if blake3::hash(&header[..CHECKED_BYTES]).as_bytes()[..16] != header[CHECKED_BYTES..] {
        return Err(Damage::Checksum);
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(number(at)) << 32 | u64::from(number(at + 4));
    let version = u16::from_be_bytes([header[4], header[5]]);
    if version != codec::VERSION {
        return Err(Damage::Version(version));
    }
    let base = Some(long(24)).filter(|batch| *batch != NO_BATCH).map(|batch| (BatchId(batch), Generation(number(32))));
    Ok(Header { start: PartStart { part: number(8), base }, first_seq: long(16), count: number(12) })
}

/// Reads a whole part and verifies it.
///
/// # Errors
/// I/O errors as such; the inner result says what is wrong with the bytes.
pub(super) fn load(path: &Path) -> Result<Result<(Header, Entries), Damage>> {
    Ok(decode(&disk::read_file(path)?))
}

/// Reads a part's header only.
pub(super) fn load_header(path: &Path) -> Result<Result<Header, Damage>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut bytes))
        .map_err(|error| Error::io("cannot read a part of the log", path, &error))?;
    Ok(decode_header(&bytes))
}

/// The commit whose state a part's first record names.
pub(super) fn base_of(first: &Record) -> Option<(BatchId, Generation)> {
    match first {
        Record::Base(base) => base.standing.newest.as_ref().map(|commit| (commit.batch(), commit.generation)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::checkpoint::tests::cases(64))]

        #[test]
        fn parts_read_back_and_any_damage_is_found(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
            bit in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let entries: Entries = contents.into_iter().enumerate().map(|(i, entry)| (40 + i as u64, entry)).collect();
            let bytes = encode(7, &entries).unwrap();
            let (header, read) = decode(&bytes).unwrap();
            prop_assert_eq!(&read, &entries);
            prop_assert_eq!((header.start.part, header.first_seq), (7, 40));
            let mut damaged = bytes.clone();
            let bit = bit.index(bytes.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&damaged).is_err());
            prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }
}
