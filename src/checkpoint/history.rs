//! What the log adds up to: a pure fold over its records.
//!
//! A history may begin at a part's base instead of the very first record; it then knows nothing older, but all
//! that is needed to go on.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    codec::{ChainHash, Envelope},
    record::{Accepted, Base, Branch, Commit, Genesis, Record, Rewind, SeenFile, SeenSegment, Snapshot, Standing},
};
use crate::{
    job::fingerprint::QueryIdentity,
    model::{BatchId, BatchPlan, Generation},
};

/// Loads the lists of files that a base names; only a history's first record needs it.
pub(super) type LoadSeen<'a> = &'a mut dyn FnMut(&SeenSegment) -> crate::model::Result<Vec<SeenFile>>;

/// Everything that is known of a job's past.
#[derive(Debug, Clone)]
pub struct History {
    pub(super) genesis: Arc<Genesis>,
    pub(super) identities: Vec<QueryIdentity>,
    pub(super) generation: Generation,
    /// The live timeline: consecutive batches, as far back as this history goes.
    pub(super) live: Vec<Arc<Commit>>,
    /// In the order of the log.
    pub(super) retracted: Vec<Arc<Commit>>,
    pub(super) by_address: BTreeMap<(BatchId, Generation), Arc<Commit>>,
    /// By the commit that they hold the state of; retracted ones too.
    pub(super) snapshots: BTreeMap<(BatchId, Generation), Arc<Snapshot>>,
    /// The newest on the live timeline.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) branches: Vec<Branch>,
    pub(super) accepted: Vec<Accepted>,
    pub(super) pending: VecDeque<BatchPlan>,
    pub(super) intent: Option<BatchPlan>,
    pub(super) offsets: BTreeMap<String, u64>,
    /// Offsets before the oldest live commit's successor: what a rewind to the start of this history restores.
    pub(super) base_offsets: BTreeMap<String, u64>,
    pub(super) settled: bool,
    pub(super) retracting: bool,
    /// Batch by batch along the live timeline.
    pub(super) seen: Vec<SeenFile>,
    /// Lists on disk that cover the first entries of `seen`.
    pub(super) segments: Vec<SeenSegment>,
    /// Whether it begins with the very first record, so that even the first batch can be rewound.
    pub(super) complete: bool,
    /// Where a base did not say what the records before it add up to.
    pub(super) contradictions: Vec<String>,
    pub(super) next_seq: u64,
    pub(super) head: ChainHash,
}

impl History {
    /// Folds records that follow each other without a gap.
    ///
    /// # Errors
    /// Of kind `Refused` where the records contradict each other; whatever `load` fails with.
    pub(super) fn fold<E: Borrow<Envelope>>(
        envelopes: impl IntoIterator<Item = E>,
        load: LoadSeen<'_>,
    ) -> crate::model::Result<Option<History>> {
        let mut history = None::<History>;
        for envelope in envelopes {
            match &mut history {
                None => history = Some(History::begin(envelope.borrow(), load)?),
                Some(history) => history.apply(envelope.borrow(), load)?,
            }
        }
        Ok(history)
    }

    /// No record yet; only what is needed to write the first one.
    pub(super) fn empty() -> History {
        History::new(Genesis::default())
    }

    fn begin(first: &Envelope, load: LoadSeen<'_>) -> crate::model::Result<History> {
        let genesis = match &first.record {
            Record::Genesis(genesis) => genesis,
            Record::Base(base) => &base.genesis,
            _ => return Err(contradiction(first.seq, "a part must begin with its base")),
        };
        let mut history = History::new(genesis.clone());
        if let Record::Base(base) = &first.record {
            history.adopt(base, load)?;
            history.complete = false;
        }
        history.next_seq = first.seq + 1;
        history.head = first.hash;
        Ok(history)
    }

    fn new(genesis: Genesis) -> History {
        History {
            identities: genesis.identities.clone(),
            genesis: Arc::new(genesis),
            generation: Generation::FIRST,
            live: Vec::new(),
            retracted: Vec::new(),
            by_address: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            snapshot: None,
            branches: Vec::new(),
            accepted: Vec::new(),
            pending: VecDeque::new(),
            intent: None,
            offsets: BTreeMap::new(),
            base_offsets: BTreeMap::new(),
            settled: true,
            retracting: false,
            seen: Vec::new(),
            segments: Vec::new(),
            complete: true,
            contradictions: Vec::new(),
            next_seq: 0,
            head: ChainHash::START,
        }
    }

    /// Whether a record may follow; nothing that may not is ever written.
    ///
    /// # Errors
    /// Of kind `Refused` where it contradicts what came before.
    pub(super) fn check(&self, envelope: &Envelope) -> crate::model::Result<()> {
        let newest = self.newest().map(|newest| (newest.batch(), newest.generation));
        let why = match &envelope.record {
            _ if envelope.seq != self.next_seq || envelope.prev != self.head => {
                "it does not follow the record before it"
            }
            Record::Genesis(_) => "a checkpoint begins only once",
            Record::Intent(plan) if self.intent.is_some() || plan.batch != self.next_batch() => {
                "its plan is not the next batch's"
            }
            Record::Commit(commit) if commit.batch() != self.next_batch() || commit.generation != self.generation => {
                "the batch that it commits is not the next one"
            }
            Record::Commit(commit) if self.intent.as_ref().is_some_and(|intent| *intent != commit.plan) => {
                "the batch that it commits was planned otherwise"
            }
            Record::Commit(commit) if self.pending.front().is_some_and(|plan| *plan != commit.plan) => {
                "a retracted plan must be replayed first"
            }
            Record::Rewind(rewind)
                if rewind.standing.generation != self.generation.next() || rewind.to > self.newest_batch() =>
            {
                "it rewinds to a batch that was never committed"
            }
            Record::Snapshot(snapshot) if newest != Some((snapshot.batch, snapshot.generation)) => {
                "it is not a snapshot of the newest batch"
            }
            _ => return Ok(()),
        };
        Err(contradiction(envelope.seq, why))
    }

    /// Adds the next record.
    ///
    /// # Errors
    /// As [`History::check`]; whatever `load` fails with.
    pub(super) fn apply(&mut self, envelope: &Envelope, load: LoadSeen<'_>) -> crate::model::Result<()> {
        self.check(envelope)?;
        match &envelope.record {
            Record::Genesis(_) => {}
            Record::Intent(plan) => {
                self.intent = Some(plan.clone());
                self.settled = true;
            }
            Record::Withdraw => self.intent = None,
            Record::Commit(commit) => self.commit(commit.clone()),
            Record::Rewind(rewind) => self.rewind(rewind),
            Record::Accepted(accepted) => {
                self.identities = accepted.identities.clone();
                self.accepted.push(accepted.clone());
            }
            Record::Snapshot(snapshot) => self.add_snapshot(snapshot.clone()),
            Record::Published(_) => self.settled = true,
            Record::Base(base) => self.meet_base(base, load)?,
        }
        self.next_seq = envelope.seq + 1;
        self.head = envelope.hash;
        Ok(())
    }

    /// Forgets what the newest part's base makes unnecessary; then this history is what a fold from that base is.
    pub(super) fn forget_before(&mut self, base: &Base) {
        let newest = self.live.pop();
        self.live.clear();
        self.retracted.clear();
        self.by_address.clear();
        self.snapshots.clear();
        newest.into_iter().for_each(|commit| self.push_live(commit));
        self.base_offsets = base.standing.offsets.clone();
        self.segments = base.seen.clone();
        self.complete = false;
        self.stand(&base.standing);
    }

    fn commit(&mut self, commit: Commit) {
        advance(&mut self.offsets, &commit);
        self.seen.extend(files_of(&commit));
        self.pending.pop_front();
        self.intent = None;
        self.settled = false;
        self.retracting = false;
        self.push_live(Arc::new(commit));
    }

    fn push_live(&mut self, commit: Arc<Commit>) {
        self.by_address.insert((commit.batch(), commit.generation), Arc::clone(&commit));
        self.live.push(commit);
    }

    fn add_snapshot(&mut self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.snapshots.insert((snapshot.batch, snapshot.generation), Arc::clone(&snapshot));
        self.snapshot = Some(snapshot);
    }

    fn rewind(&mut self, rewind: &Rewind) {
        let kept = self.live.partition_point(|commit| Some(commit.batch()) <= rewind.to);
        self.retracted.extend(self.live.drain(kept..));
        self.seen.truncate(self.seen.partition_point(|file| Some(file.batch) <= rewind.to));
        let mut left = self.seen.len() as u64;
        self.segments.retain_mut(|segment| {
            segment.keep = segment.keep.min(left);
            left -= segment.keep;
            segment.keep > 0
        });
        if kept == 0 && !self.complete {
            // The batch that it goes back to is older than this history: the record says all about it.
            self.base_offsets = rewind.standing.offsets.clone();
            if let Some(newest) = &rewind.standing.newest {
                self.push_live(Arc::new(newest.clone()));
            }
        }
        self.stand(&rewind.standing);
    }

    /// Takes over all of `standing` but the newest commit itself.
    fn stand(&mut self, standing: &Standing) {
        self.generation = standing.generation;
        self.snapshot = None;
        if let Some(snapshot) = &standing.snapshot {
            self.add_snapshot(snapshot.clone());
        }
        self.intent = standing.intent.clone();
        self.pending = standing.pending.iter().cloned().collect();
        self.offsets = standing.offsets.clone();
        self.branches = standing.branches.clone();
        self.accepted = standing.accepted.clone();
        self.settled = standing.settled;
        self.retracting = standing.retracting;
        if let Some(accepted) = standing.accepted.last() {
            self.identities = accepted.identities.clone();
        }
    }

    fn adopt(&mut self, base: &Base, load: LoadSeen<'_>) -> crate::model::Result<()> {
        self.base_offsets = base.standing.offsets.clone();
        if let Some(newest) = &base.standing.newest {
            self.push_live(Arc::new(newest.clone()));
        }
        self.stand(&base.standing);
        for segment in &base.seen {
            self.seen.extend(load(segment)?);
        }
        self.segments = base.seen.clone();
        Ok(())
    }

    /// A base in the middle: a fork's second record is the beginning of all; any other must say what is known.
    fn meet_base(&mut self, base: &Base, load: LoadSeen<'_>) -> crate::model::Result<()> {
        if self.next_seq == 1 && self.genesis.forked_from.is_some() {
            self.adopt(base, load)?;
            self.complete = false;
            return Ok(());
        }
        if base.standing != self.standing() || base.genesis != *self.genesis {
            self.contradictions
                .push(format!("the base at record {} differs from what older records say", self.next_seq));
        }
        self.segments = base.seen.clone();
        Ok(())
    }

    /// What a base must carry so that nothing older is needed.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            generation: self.generation,
            newest: self.newest().map(|newest| (**newest).clone()),
            snapshot: self.snapshot.as_deref().cloned(),
            intent: self.intent.clone(),
            pending: self.pending.iter().cloned().collect(),
            offsets: self.offsets.clone(),
            branches: self.branches.clone(),
            accepted: self.accepted.clone(),
            settled: self.settled,
            retracting: self.retracting,
        }
    }
}

pub(super) fn advance(offsets: &mut BTreeMap<String, u64>, commit: &Commit) {
    let ends = commit.plan.inputs.iter().filter_map(|input| Some((input.source.clone(), input.end?)));
    offsets.extend(ends);
}

pub(super) fn files_of(commit: &Commit) -> impl Iterator<Item = SeenFile> {
    commit.plan.inputs.iter().zip(&commit.files).flat_map(|(input, files)| {
        files.iter().map(|read| SeenFile {
            source: input.source.clone(),
            batch: commit.plan.batch,
            file: read.file.clone(),
            content_hash: read.content_hash,
        })
    })
}

fn contradiction(seq: u64, why: &str) -> crate::model::Error {
    crate::model::Error::refused(format!("record {seq} of the checkpoint's log contradicts those before it"))
        .because(why)
        .help("`highwater verify DIR` shows what is sound; the checkpoint can be rebuilt by removing it and reading all input again")
}
