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
    Misplaced {
        expected: u64,
        found: u64,
    },
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
    if seq == u64::MAX {
        return Err(beyond_the_last());
    }
    let record = decode_body(kind, body)?;
    let batch = u64::from_be_bytes(field(header, 16));
    if record.batch() == Some(BatchId(NO_BATCH)) {
        return Err(Damage::Body("its batch has the number that stands for none".to_owned()));
    }
    if batch != record.batch().map_or(NO_BATCH, |BatchId(batch)| batch) {
        return Err(Damage::Body("the header names another batch".to_owned()));
    }
    if inline.len() as u64 != inline_length || !payloads_are_sound(&record, seq, inline) {
        return Err(Damage::Payload);
    }
    Ok((Envelope { seq, prev: ChainHash(field(header, 24)), hash, record }, inline))
}

/// Whoever counts up to the last number cannot go on: a sound checksum around it is no accident.
pub(super) fn beyond_the_last() -> Damage {
    Damage::Body("its sequence number leaves no room for another".to_owned())
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
        Record::Rewind(rewind) => (Kind::Rewind, to_bytes(rewind.as_ref())?),
        Record::Accepted(accepted) => (Kind::Accepted, to_bytes(accepted)?),
        Record::Snapshot(snapshot) => (Kind::Snapshot, to_bytes(snapshot)?),
        Record::Published(batch) => (Kind::Published, to_bytes(batch)?),
        Record::Base(base) => (Kind::Base, to_bytes(base.as_ref())?),
    })
}

fn decode_body(kind: Kind, body: &[u8]) -> Result<Record, Damage> {
    Ok(match kind {
        Kind::Genesis => Record::Genesis(from_bytes(body)?),
        Kind::Intent => Record::Intent(from_bytes(body)?),
        Kind::Commit => Record::Commit(from_bytes(body)?),
        Kind::Withdraw if body.is_empty() => Record::Withdraw,
        Kind::Withdraw => return Err(Damage::Body("a withdrawal has no body".to_owned())),
        Kind::Rewind => Record::Rewind(Box::new(from_bytes(body)?)),
        Kind::Accepted => Record::Accepted(from_bytes(body)?),
        Kind::Snapshot => Record::Snapshot(from_bytes(body)?),
        Kind::Published => Record::Published(from_bytes(body)?),
        Kind::Base => Record::Base(Box::new(from_bytes(body)?)),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        checkpoint::record::{
            Accepted, Base, Branch, Commit, Genesis, PayloadKind, Rewind, SeenSegment, Snapshot, Standing,
        },
        job::fingerprint::{Change, Difference},
        model::{BatchPlan, FileRead, Generation, InputPath, PlannedFile, SourceInput, StagedOutput},
    };

    fn file() -> impl Strategy<Value = PlannedFile> {
        (prop::collection::vec(any::<u8>(), 0..20), any::<u64>(), any::<i64>()).prop_map(
            |(path, size_bytes, modified_ns)| PlannedFile {
                identity: InputPath(path.clone()),
                path: InputPath(path),
                size_bytes,
                modified_ns,
            },
        )
    }

    fn plan() -> impl Strategy<Value = BatchPlan> {
        let input = (".{0,8}", any::<Option<u64>>(), any::<Option<u64>>(), prop::collection::vec(file(), 0..3))
            .prop_map(|(source, start, end, files)| SourceInput { source, start, end, files });
        (0..u64::MAX, any::<i64>(), any::<Option<i64>>(), prop::collection::vec(input, 0..3)).prop_map(
            |(batch, batch_time_us, watermark_us, inputs)| BatchPlan {
                batch: BatchId(batch),
                batch_time_us,
                watermark_us,
                inputs,
            },
        )
    }

    fn payload() -> impl Strategy<Value = PayloadRef> {
        let kind = prop_oneof![
            Just(PayloadKind::Delta),
            Just(PayloadKind::Rows),
            Just(PayloadKind::State),
            Just(PayloadKind::Seen)
        ];
        // Of another record, so that the entry needs no bytes behind it.
        (".{0,5}", kind, any::<u32>(), any::<bool>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
            |(query, kind, index, file, length, hash)| {
                let place = if file { PayloadPlace::File } else { PayloadPlace::Inline { offset: length } };
                PayloadRef { query, kind, seq: u64::MAX, index, place, length, hash }
            },
        )
    }

    fn commit() -> impl Strategy<Value = Commit> {
        let rest = (any::<u32>(), any::<i64>(), any::<u64>(), ".{0,20}", any::<Option<i64>>(), any::<u128>());
        (plan(), prop::collection::vec(payload(), 0..3), rest).prop_map(|(plan, payloads, rest)| {
            let (generation, committed_at_us, rows, text, watermark, content_hash) = rest;
            let read = |file: &PlannedFile| FileRead { file: file.clone(), content_hash, rows, bad_rows: 1 };
            let output = StagedOutput { sink: text.clone(), name: text.clone(), rows, size_bytes: 5, hash: [9; 32] };
            Commit {
                generation: Generation(generation),
                files: plan.inputs.iter().map(|input| input.files.iter().map(read).collect()).collect(),
                watermarks_us: vec![watermark; plan.inputs.len()],
                plan,
                run_id: text.clone(),
                committed_at_us,
                payloads,
                outputs: vec![output],
                rows,
                bad_rows: rows / 2,
                state_rows: 3,
                progress: text.clone(),
                late_progress: watermark.map(|_| text),
            }
        })
    }

    fn standing() -> impl Strategy<Value = Standing> {
        let parts =
            (prop::option::of(commit()), prop::collection::vec(plan(), 0..3), any::<bool>(), prop::option::of(plan()));
        (parts, prop::collection::vec(payload(), 0..2)).prop_map(|((newest, pending, settled, intent), payloads)| {
            Standing {
                generation: Generation(3),
                snapshot: newest.as_ref().map(|newest| Snapshot {
                    batch: newest.batch(),
                    generation: newest.generation,
                    payloads,
                }),
                newest,
                intent,
                pending,
                offsets: [("flows".to_owned(), 7)].into(),
                branches: vec![
                    Branch { generation: Generation(2), to: None },
                    Branch { generation: Generation(3), to: Some(BatchId(4)) },
                ],
                accepted: vec![accepted()],
                settled,
                retracting: !settled,
            }
        })
    }

    fn accepted() -> Accepted {
        let text = |text: &str| text.to_owned();
        let difference = Difference {
            query: text("q"),
            what: text("filter"),
            was: text("a"),
            is: text("b"),
            change: Change::IfAccepted,
        };
        Accepted {
            from: BatchId(5),
            differences: vec![difference],
            identities: Vec::new(),
            template: "SELECT 1".to_owned(),
            variables: [("INPUT".to_owned(), "in".to_owned())].into(),
        }
    }

    fn genesis() -> Genesis {
        use std::os::unix::ffi::OsStrExt;
        let root = std::path::Path::new(std::ffi::OsStr::from_bytes(b"/data/\xff\xfe")).to_owned();
        Genesis { checkpoint_id: "id".to_owned(), roots: vec![("flows".to_owned(), root)], ..Genesis::default() }
    }

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            Just(Record::Genesis(genesis())),
            plan().prop_map(Record::Intent),
            commit().prop_map(Record::Commit),
            Just(Record::Withdraw),
            standing().prop_map(|standing| Record::Rewind(Box::new(Rewind {
                to: None,
                replan: true,
                at_us: -1,
                standing
            }))),
            Just(Record::Accepted(accepted())),
            prop::collection::vec(payload(), 0..3).prop_map(|payloads| Record::Snapshot(Snapshot {
                batch: BatchId(1),
                generation: Generation(1),
                payloads
            })),
            Just(Record::Published(None)),
            (standing(), payload()).prop_map(|(standing, payload)| {
                Record::Base(Box::new(Base {
                    genesis: genesis(),
                    standing,
                    seen: vec![SeenSegment { payload, keep: 9 }],
                }))
            }),
        ]
    }

    proptest! {
        #![proptest_config(crate::checkpoint::tests::cases(128))]

        #[test]
        fn records_read_back_and_any_damage_is_found(
            record in record(), seq in 0..u64::MAX, prev in any::<[u8; 32]>(),
            bit in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(),
        ) {
            let (entry, hash) = encode(seq, ChainHash(prev), &record, &[]).unwrap();
            let (envelope, inline) = decode(&entry).unwrap();
            prop_assert!(inline.is_empty());
            prop_assert_eq!(envelope, Envelope { seq, prev: ChainHash(prev), hash, record });
            let mut damaged = entry.clone();
            let bit = bit.index(entry.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&damaged).is_err());
            prop_assert!(decode(&entry[..cut.index(entry.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_no_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn inline_payloads_are_verified_with_their_record() {
        let bytes = b"delta".to_vec();
        let payload = PayloadRef {
            query: "q".to_owned(),
            kind: PayloadKind::Delta,
            seq: 4,
            index: 0,
            place: PayloadPlace::Inline { offset: 0 },
            length: 5,
            hash: *blake3::hash(&bytes).as_bytes(),
        };
        let snapshot = Snapshot { batch: BatchId(0), generation: Generation(1), payloads: vec![payload.clone()] };
        let (entry, _) = encode(4, ChainHash::START, &Record::Snapshot(snapshot), &bytes).unwrap();
        let (_, inline) = decode(&entry).unwrap();
        assert_eq!(inline_payload(&payload, inline), Some(&bytes[..]));
        let mut damaged = entry.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(decode(&damaged), Err(Damage::Payload));
        assert_eq!(decode(&entry[..entry.len() - 1]), Err(Damage::Payload));
        assert_eq!(decode(&[&entry[..], b"x"].concat()), Err(Damage::Payload));
    }

    /// Found by fuzzing a sealed part (`part::decode`): counting went past the last number.
    #[test]
    fn the_last_sequence_number_and_the_batch_that_stands_for_none_are_refused() {
        let (entry, _) = encode(u64::MAX, ChainHash::START, &Record::Withdraw, &[]).unwrap();
        assert_eq!(decode(&entry), Err(beyond_the_last()));
        let (entry, _) = encode(3, ChainHash::START, &Record::Published(Some(BatchId(NO_BATCH))), &[]).unwrap();
        assert!(matches!(decode(&entry), Err(Damage::Body(_))));
    }

    #[test]
    fn a_newer_format_is_named_and_a_flipped_version_is_damage() {
        let (mut entry, _) = encode(0, ChainHash::START, &Record::Withdraw, &[]).unwrap();
        entry[5] = 7;
        assert_eq!(decode(&entry), Err(Damage::Checksum));
        let hash = *blake3::hash(&entry[..HEADER_BYTES]).as_bytes();
        entry[HEADER_BYTES..].copy_from_slice(&hash);
        assert_eq!(decode(&entry), Err(Damage::Version(7)));
        assert_eq!(Damage::Version(7).to_string(), "it has format 7, this binary reads 1");
    }

    /// Not a test of behaviour: whoever renumbers a kind must break this on purpose.
    #[test]
    fn ordinals_are_frozen() {
        let ordinals: Vec<(u16, &Kind)> = Kind::ALL.iter().map(|kind| (*kind as u16, kind)).collect();
        let text = format!("{ordinals:?}");
        assert_eq!(
            text,
            "[(1, Genesis), (2, Intent), (3, Commit), (4, Withdraw), (5, Rewind), (6, Accepted), (7, Snapshot), (8, Published), (9, Base)]"
        );
        let body = to_bytes(&[PayloadKind::Delta, PayloadKind::Rows, PayloadKind::State, PayloadKind::Seen]).unwrap();
        assert_eq!(body, [0, 1, 2, 3]);
    }
}
