//! Records to bytes and back: the envelope, its checksum, and the frozen ordinals of the kinds.
//!
//! An *entry* is what the log stores under one sequence number: header, body, checksum, inline payloads.
//! The checksum covers header and body, and is the record's chain hash: the next record's header carries it.

use serde::{Serialize, de::DeserializeOwned};

use super::record::{PayloadPlace, PayloadRef, Record};
use crate::model::{BatchId, Error, Result};

/// The format that this binary writes, and the newest that it reads.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"HWRC";
const HEADER_BYTES: usize = 68;
const HASH_BYTES: usize = 32;
/// No legal body is larger; a limit on everything.
const BODY_BYTES_MAX: usize = 256 << 20;
/// The batch field of a record that is about no batch.
const NO_BATCH: u64 = u64::MAX;

/// BLAKE3 of a record's header and body.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; HASH_BYTES]);

impl ChainHash {
    /// What the first record of all carries as its predecessor's.
    pub const START: ChainHash = ChainHash([0; HASH_BYTES]);
}

impl std::fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

macro_rules! kinds {
    ($($name:ident = $ordinal:literal),* $(,)?) => {
        /// Ordinals of the record kinds on disk. Frozen: never renumbered, never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        enum Kind { $($name = $ordinal),* }

        impl Kind {
            #[cfg(test)]
            const ALL: &'static [Kind] = &[$(Kind::$name),*];

            fn from_ordinal(ordinal: u16) -> Option<Kind> {
                match ordinal { $($ordinal => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    Genesis = 1,
    Intent = 2,
    Commit = 3,
    Withdraw = 4,
    Rewind = 5,
    Accepted = 6,
    Snapshot = 7,
    Published = 8,
    Base = 9,
}

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Position in the log, from 0, without gaps.
    pub seq: u64,
    /// Chain hash of the record before.
    pub prev: ChainHash,
    /// Chain hash of this one.
    pub hash: ChainHash,
    pub record: Record,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    Short,
    NotARecord,
    Checksum,
    /// Sound, but written by another program.
    Version(u16),
    Kind(u16),
    Body(String),
    /// A payload behind the record is not the one that it names.
    Payload,
    /// The record is sound but stands at another place of the log.
    Misplaced { expected: u64, found: u64 },
    /// The record is sound but follows another one.
    Chain,
    /// There is no record where one must be.
    Missing,
    /// A file of `state/` that the record names is gone or has another length.
    File(String),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::Short => f.write_str("it is cut short"),
            Damage::NotARecord => f.write_str("it does not begin like a record"),
            Damage::Checksum => f.write_str("its checksum is wrong"),
            Damage::Version(version) => write!(f, "it has format {version}, this binary reads {VERSION}"),
            Damage::Kind(kind) => write!(f, "its kind {kind} is unknown to this binary"),
            Damage::Body(why) => write!(f, "its body cannot be decoded: {why}"),
            Damage::Payload => f.write_str("a payload behind it is damaged"),
            Damage::Misplaced { expected, found } => write!(f, "record {found} stands where {expected} belongs"),
            Damage::Chain => f.write_str("it does not follow the record before it"),
            Damage::Missing => f.write_str("it is missing"),
            Damage::File(name) => write!(f, "its file state/{name} is missing or has another length"),
        }
    }
}

/// The bytes of one entry, and the record's chain hash.
///
/// # Errors
/// Where the record is too large.
pub fn encode(seq: u64, prev: ChainHash, record: &Record, inline: &[u8]) -> Result<(Vec<u8>, ChainHash)> {
    let (kind, body) = encode_body(record)?;
    if body.len() > BODY_BYTES_MAX {
        let why = format!("a record holds at most {BODY_BYTES_MAX} bytes, this one has {}", body.len());
        return Err(Error::failed("a record is too large for the log").because(why).help("take fewer files per batch"));
    }
    let body_length = u32::try_from(body.len()).expect("checked against BODY_BYTES_MAX above");
    let mut entry = Vec::with_capacity(HEADER_BYTES + body.len() + HASH_BYTES + inline.len());
    entry.extend(MAGIC);
    entry.extend(VERSION.to_be_bytes());
    entry.extend((kind as u16).to_be_bytes());
    entry.extend(seq.to_be_bytes());
    entry.extend(record.batch().map_or(NO_BATCH, |batch| batch.0).to_be_bytes());
    entry.extend(prev.0);
    entry.extend(body_length.to_be_bytes());
    entry.extend((inline.len() as u64).to_be_bytes());
    assert_eq!(entry.len(), HEADER_BYTES, "the header has a fixed length");
    entry.extend(body);
    let hash = ChainHash(*blake3::hash(&entry).as_bytes());
    entry.extend(hash.0);
    entry.extend(inline);
    Ok((entry, hash))
}

/// Reads one entry back: the record, and the payload bytes behind it.
///
/// # Errors
/// Says what is wrong with it; never panics, whatever the bytes are.
pub fn decode(entry: &[u8]) -> Result<(Envelope, &[u8]), Damage> {
    let (header, rest) = entry.split_at_checked(HEADER_BYTES).ok_or(Damage::Short)?;
    if header[..4] != MAGIC {
        return Err(Damage::NotARecord);
    }
    let body_length = u32::from_be_bytes(field(header, 56)) as usize;
    let inline_length = u64::from_be_bytes(field(header, 60));
    let (body, rest) = rest.split_at_checked(body_length).ok_or(Damage::Short)?;
    let (checksum, inline) = rest.split_at_checked(HASH_BYTES).ok_or(Damage::Short)?;
    let hash = ChainHash(*blake3::hash(&entry[..HEADER_BYTES + body_length]).as_bytes());
    if checksum != hash.0 {
        return Err(Damage::Checksum);
    }
    // Only what is sound can tell its version: a flipped bit must not look like a newer program's record.
    let version = u16::from_be_bytes(field(header, 4));
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let kind = u16::from_be_bytes(field(header, 6));
    let kind = Kind::from_ordinal(kind).ok_or(Damage::Kind(kind))?;
    let seq = u64::from_be_bytes(field(header, 8));
    let record = decode_body(kind, body)?;
    let batch = u64::from_be_bytes(field(header, 16));
    if batch != record.batch().map_or(NO_BATCH, |BatchId(batch)| batch) {
        return Err(Damage::Body("the header names another batch".to_owned()));
    }
    if inline.len() as u64 != inline_length || !payloads_are_sound(&record, seq, inline) {
        return Err(Damage::Payload);
    }
    Ok((Envelope { seq, prev: ChainHash(field(header, 24)), hash, record }, inline))
}

/// The bytes of an inline payload, or nothing where they are not what the record names.
pub fn inline_payload<'a>(payload: &PayloadRef, inline: &'a [u8]) -> Option<&'a [u8]> {
    let PayloadPlace::Inline { offset } = payload.place else { return None };
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(payload.length).ok()?)?;
    inline.get(start..end).filter(|bytes| blake3::hash(bytes).as_bytes() == &payload.hash)
}

fn payloads_are_sound(record: &Record, seq: u64, inline: &[u8]) -> bool {
    record
        .own_payloads(seq)
        .filter(|payload| payload.place != PayloadPlace::File)
        .all(|payload| inline_payload(payload, inline).is_some())
}

fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("a slice of N bytes becomes an array of N bytes")
}

fn encode_body(record: &Record) -> Result<(Kind, Vec<u8>)> {
    Ok(match record {
        Record::Genesis(genesis) => (Kind::Genesis, to_bytes(genesis)?),
        Record::Intent(plan) => (Kind::Intent, to_bytes(plan)?),
        Record::Commit(commit) => (Kind::Commit, to_bytes(commit)?),
        Record::Withdraw => (Kind::Withdraw, Vec::new()),
        Record::Rewind(rewind) => (Kind::Rewind, to_bytes(rewind)?),
        Record::Accepted(accepted) => (Kind::Accepted, to_bytes(accepted)?),
        Record::Snapshot(snapshot) => (Kind::Snapshot, to_bytes(snapshot)?),
        Record::Published(batch) => (Kind::Published, to_bytes(batch)?),
        Record::Base(base) => (Kind::Base, to_bytes(base)?),
    })
}

fn decode_body(kind: Kind, body: &[u8]) -> Result<Record, Damage> {
    Ok(match kind {
        Kind::Genesis => Record::Genesis(from_bytes(body)?),
        Kind::Intent => Record::Intent(from_bytes(body)?),
        Kind::Commit => Record::Commit(from_bytes(body)?),
        Kind::Withdraw if body.is_empty() => Record::Withdraw,
        Kind::Withdraw => return Err(Damage::Body("a withdrawal has no body".to_owned())),
        Kind::Rewind => Record::Rewind(from_bytes(body)?),
        Kind::Accepted => Record::Accepted(from_bytes(body)?),
        Kind::Snapshot => Record::Snapshot(from_bytes(body)?),
        Kind::Published => Record::Published(from_bytes(body)?),
        Kind::Base => Record::Base(from_bytes(body)?),
    })
}

pub(super) fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|error| Error::failed("a record cannot be encoded").because(error.to_string()))
}

pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Damage> {
    let config = bincode::config::standard().with_limit::<BODY_BYTES_MAX>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(Damage::Body(format!("{} bytes too many", bytes.len() - used))),
        Err(error) => Err(Damage::Body(error.to_string())),
    }
}
