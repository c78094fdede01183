//! What the log says: one enum of facts, and the values that they carry.
//!
//! A record is never changed or taken back; a rewind is a record too. `checkpoints/README.md` specifies
//! every field. The order of fields and variants is the format: append only, and raise
//! [`codec::VERSION`](super::codec::VERSION) for anything else.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    job::fingerprint::{Difference, QueryIdentity},
    model::{BatchAddress, BatchId, BatchPlan, FileRead, Generation, PlannedFile, StagedOutput},
};

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// What the checkpoint was made for; the very first record.
    Genesis(Genesis),
    /// A batch's plan is fixed: it may have staged something.
    Intent(BatchPlan),
    /// The batch has happened.
    Commit(Commit),
    /// The intended batch was given up cleanly, with nothing staged.
    Withdraw,
    /// The job goes on from an earlier batch.
    Rewind(Box<Rewind>),
    /// The job was changed, and the operator accepted it.
    Accepted(Accepted),
    /// The state as of the newest commit was kept whole.
    Snapshot(Snapshot),
    /// All that the commits (and rewinds) so far owe the sinks is done.
    Published(Option<BatchId>),
    /// Everything a fold needs to go on, so that older parts need not be read.
    Base(Box<Base>),
}

impl Record {
    /// The batch that the record is about, for its envelope.
    pub fn batch(&self) -> Option<BatchId> {
        match self {
            Record::Intent(plan) => Some(plan.batch),
            Record::Commit(commit) => Some(commit.batch()),
            Record::Rewind(rewind) => rewind.to,
            Record::Accepted(accepted) => Some(accepted.from),
            Record::Snapshot(snapshot) => Some(snapshot.batch),
            Record::Published(batch) => *batch,
            Record::Base(base) => base.standing.newest.as_ref().map(Commit::batch),
            Record::Genesis(_) | Record::Withdraw => None,
        }
    }

    /// The payloads that came with this very record.
    pub fn own_payloads(&self, seq: u64) -> impl Iterator<Item = &PayloadRef> {
        let (named, kept, seen): (&[PayloadRef], &[PayloadRef], &[SeenSegment]) = match self {
            Record::Commit(commit) => (&commit.payloads, &[], &[]),
            Record::Snapshot(snapshot) => (&snapshot.payloads, &[], &[]),
            Record::Base(base) => {
                let Base { standing, seen, .. } = base.as_ref();
                let named = standing.newest.as_ref().map_or(&[][..], |newest| &newest.payloads);
                (named, standing.snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.payloads), seen)
            }
            _ => (&[], &[], &[]),
        };
        let all = named.iter().chain(kept).chain(seen.iter().map(|segment| &segment.payload));
        all.filter(move |payload| payload.seq == seq)
    }
}

/// What a checkpoint was made for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Genesis {
    /// Unique: sinks remember it to tell owners apart.
    pub checkpoint_id: String,
    pub job_name: String,
    pub job_file: String,
    /// The job's text with `${NAME}` in place.
    pub template: String,
    /// What was filled in; never an `${env:NAME}`.
    pub variables: BTreeMap<String, String>,
    /// Absolute root of each source.
    #[serde(with = "roots_as_bytes")]
    pub roots: Vec<(String, PathBuf)>,
    pub identities: Vec<QueryIdentity>,
    /// Microseconds since the Unix epoch.
    pub created_us: i64,
    pub forked_from: Option<ForkOrigin>,
}

/// Where a fork came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkOrigin {
    pub checkpoint_id: String,
    pub batch: BatchId,
    pub generation: Generation,
}

/// A batch that has happened: what was read, what it contributes, what the sinks may publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub generation: Generation,
    pub plan: BatchPlan,
    /// New at each start of the job.
    pub run_id: String,
    /// Microseconds since the Unix epoch.
    pub committed_at_us: i64,
    /// What was read, per input of the plan.
    pub files: Vec<Vec<FileRead>>,
    /// Each source's own watermark after the batch, microseconds since the Unix epoch, per input of the plan.
    pub watermarks_us: Vec<Option<i64>>,
    pub payloads: Vec<PayloadRef>,
    pub outputs: Vec<StagedOutput>,
    /// Rows read.
    pub rows: u64,
    pub bad_rows: u64,
    /// Distinct keys in the state after the batch.
    pub state_rows: u64,
    /// Progress as JSON.
    pub progress: String,
    /// What is known of the batch before only now (its own durations), as JSON.
    pub late_progress: Option<String>,
}

impl Commit {
    pub fn batch(&self) -> BatchId {
        self.plan.batch
    }

    /// Its address for ever, generation included.
    pub fn address(&self) -> BatchAddress {
        BatchAddress { batch: self.plan.batch, generation: Some(self.generation) }
    }
}

/// The job goes on from `to`; what came after it is retracted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewind {
    /// The newest batch from now on; `None`: before the first.
    pub to: Option<BatchId>,
    /// Whether the retracted plans are dropped instead of replayed.
    pub replan: bool,
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
    /// How things stand after it (its generation is the one that the rewind begins). It follows from older
    /// records, but the newest part alone must be enough to go on.
    pub standing: Standing,
}

/// A change of the job that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The first batch that runs with it.
    pub from: BatchId,
    pub differences: Vec<Difference>,
    /// All queries' identities from then on.
    pub identities: Vec<QueryIdentity>,
    /// The job's text from then on, with `${NAME}` in place.
    pub template: String,
    /// What was filled in; never an `${env:NAME}`.
    pub variables: BTreeMap<String, String>,
}

impl Accepted {
    /// The same change where the job goes on from `to`: the replayed batches run with it, too.
    pub(super) fn as_of(&self, to: Option<BatchId>) -> Accepted {
        let next = to.map_or(BatchId::FIRST, BatchId::next);
        Accepted { from: self.from.min(next), ..self.clone() }
    }
}

/// The state as of a commit, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub batch: BatchId,
    /// That of the commit.
    pub generation: Generation,
    pub payloads: Vec<PayloadRef>,
}

impl Snapshot {
    pub fn bytes(&self) -> u64 {
        self.payloads.iter().map(|payload| payload.length).sum()
    }
}

/// How things stand after some record: what a fold cannot do without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub generation: Generation,
    pub newest: Option<Commit>,
    /// The newest snapshot on the live timeline.
    pub snapshot: Option<Snapshot>,
    /// The intended batch, if one is under way.
    pub intent: Option<BatchPlan>,
    /// Retracted plans still to be replayed, in order.
    pub pending: Vec<BatchPlan>,
    /// Newest `logOffset` of each source that was ever read.
    pub offsets: BTreeMap<String, u64>,
    /// Where each later generation began: `(generation, to)`, oldest first.
    pub branches: Vec<Branch>,
    pub accepted: Vec<Accepted>,
    /// Whether all that is owed to the sinks is done.
    pub settled: bool,
    /// Whether what is owed is a rewind's retraction (else the newest commit's output).
    pub retracting: bool,
}

impl Standing {
    /// The files of `state/` that the snapshot and these lists are in.
    pub(super) fn files(&self, seen: &[SeenSegment]) -> Vec<String> {
        let state = self.snapshot.iter().flat_map(|snapshot| &snapshot.payloads);
        state.chain(seen.iter().map(|segment| &segment.payload)).map(PayloadRef::file_name).collect()
    }
}

/// Where a generation began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    pub generation: Generation,
    /// The last batch that it shares with the generation before.
    pub to: Option<BatchId>,
}

/// The first record of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    pub genesis: Genesis,
    pub standing: Standing,
    /// All files read so far: the concatenation of these.
    pub seen: Vec<SeenSegment>,
}

/// A list of files that were read, kept in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSegment {
    pub payload: PayloadRef,
    /// How many of its entries, from the first, still count (a rewind forgets the later ones).
    pub keep: u64,
}

/// A file that a live batch has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFile {
    pub source: String,
    /// The batch that read it.
    pub batch: BatchId,
    pub file: PlannedFile,
    /// XXH3-128 of the bytes that were read.
    pub content_hash: u128,
}

/// What a payload is. Frozen order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PayloadKind {
    /// Partial aggregates (and other state changes) that one batch contributes.
    Delta,
    /// Rows that a memory sink in append mode keeps.
    Rows,
    /// The state, whole.
    State,
    /// The log's own list of files that were read.
    Seen,
}

impl PayloadKind {
    fn extension(self) -> &'static str {
        match self {
            PayloadKind::Delta => "delta",
            PayloadKind::Rows => "rows",
            PayloadKind::State => "snapshot",
            PayloadKind::Seen => "seen",
        }
    }
}

/// Bytes on their way into the log; what they mean is the caller's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub query: String,
    pub kind: PayloadKind,
    pub bytes: Vec<u8>,
}

/// Where a payload is, and how to tell that it is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadRef {
    pub query: String,
    pub kind: PayloadKind,
    /// Sequence number of the record that it came with.
    pub seq: u64,
    /// Its place among that record's payloads.
    pub index: u32,
    pub place: PayloadPlace,
    /// In bytes.
    pub length: u64,
    /// BLAKE3 of the bytes.
    pub hash: [u8; 32],
}

/// Where a payload's bytes are. Frozen order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadPlace {
    /// Right behind the record, from this offset on.
    Inline { offset: u64 },
    /// In a file of `state/`.
    File,
}

impl PayloadRef {
    /// The file's name, a function of where it is named: written again, it is the same.
    pub fn file_name(&self) -> String {
        state_file_name(self.seq, self.index, self.kind)
    }
}

/// `000000000012-000.delta`: the sequence number of the record that names the file comes first.
pub(super) fn state_file_name(seq: u64, index: u32, kind: PayloadKind) -> String {
    format!("{seq:012}-{index:03}.{}", kind.extension())
}

/// The sequence number in a state file's name.
pub(super) fn state_file_seq(name: &str) -> Option<u64> {
    let (stem, extension) = name.rsplit_once('.')?;
    let known = [PayloadKind::Delta, PayloadKind::Rows, PayloadKind::State, PayloadKind::Seen];
    let (seq, index) = stem.split_once('-')?;
    let index = index.parse::<u32>().ok()?;
    let seq = seq.parse().ok()?;
    known.iter().any(|kind| kind.extension() == extension && state_file_name(seq, index, *kind) == name).then_some(seq)
}

/// Paths are bytes, not necessarily UTF-8.
mod roots_as_bytes {
    use super::{Path, PathBuf};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    pub fn serialize<S: Serializer>(roots: &[(String, PathBuf)], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = |path: &PathBuf| Path::as_os_str(path).as_bytes().to_vec();
        roots.iter().map(|(source, path)| (source.clone(), bytes(path))).collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, PathBuf)>, D::Error> {
        let roots = Vec::<(String, Vec<u8>)>::deserialize(deserializer)?;
        let path = |bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes));
        Ok(roots.into_iter().map(|(source, bytes)| (source, path(bytes))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_state_files_read_back() {
        for kind in [PayloadKind::Delta, PayloadKind::Rows, PayloadKind::State, PayloadKind::Seen] {
            assert_eq!(state_file_seq(&state_file_name(1_234_567, 12, kind)), Some(1_234_567));
        }
        for foreign in [
            "",
            "x",
            "1-0.delta",
            "000000000001-000.txt",
            "000000000001-000",
            "a-b.delta",
            "000000000001-000.delta.tmp",
        ] {
            assert_eq!(state_file_seq(foreign), None, "{foreign}");
        }
    }
}
