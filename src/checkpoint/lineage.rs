//! Along one timeline: from a commit back to the beginning, across the rewinds that it survived.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    history::{History, advance, files_of},
    record::{Branch, Commit, PayloadKind, PayloadPlace, PayloadRef, SeenFile, Snapshot, Standing},
};
use crate::model::{BatchId, Generation};

impl History {
    /// How things stand after going back to `to`, which this history must know.
    pub(super) fn standing_at(&self, to: Option<BatchId>, replan: bool) -> Standing {
        let kept = self.live.partition_point(|commit| Some(commit.batch()) <= to);
        let retracted = self.live[kept..].iter().map(|commit| commit.plan.clone());
        let pending = if replan { Vec::new() } else { retracted.chain(self.pending.iter().cloned()).collect() };
        let offsets = offsets_after(self.base_offsets.clone(), &self.live[..kept]);
        let generation = self.generation.next();
        let mut branches = self.branches.clone();
        branches.push(Branch { generation, to });
        let newest = self.live[..kept].last();
        Standing {
            generation,
            newest: newest.map(|commit| (**commit).clone()),
            snapshot: newest.and_then(|commit| self.snapshot_before(commit)).map(|snapshot| (*snapshot).clone()),
            intent: None,
            pending,
            offsets,
            branches,
            accepted: self.accepted.iter().map(|accepted| accepted.as_of(to)).collect(),
            settled: false,
            retracting: true,
        }
    }

    fn snapshot_before(&self, commit: &Arc<Commit>) -> Option<Arc<Snapshot>> {
        // The newest on the live timeline may be older than this history, which then does not know its commit.
        let newest = self.snapshot.as_ref().filter(|snapshot| snapshot.batch <= commit.batch()).cloned();
        newest.or_else(|| {
            self.lineage(commit).find_map(|commit| self.snapshots.get(&(commit.batch(), commit.generation)).cloned())
        })
    }

    /// Offsets as they were after a commit of any timeline.
    pub(super) fn offsets_at(&self, commit: &Arc<Commit>) -> BTreeMap<String, u64> {
        let mut commits: Vec<Arc<Commit>> = self.lineage(commit).cloned().collect();
        commits.reverse();
        offsets_after(self.base_offsets.clone(), &commits)
    }

    /// All files that a commit of any timeline and those before it have read.
    pub(super) fn seen_before(&self, commit: &Arc<Commit>) -> Vec<SeenFile> {
        let mut commits: Vec<&Arc<Commit>> = self.lineage(commit).collect();
        commits.reverse();
        // What is older than this history is in the list that it began with; its first commit is in there, too.
        let oldest = commits.first().map(|commit| commit.batch()).filter(|_| !self.complete);
        let older = self.seen.iter().filter(|file| Some(file.batch) <= oldest).cloned();
        let newer = commits.iter().filter(|commit| Some(commit.batch()) > oldest).flat_map(|commit| files_of(commit));
        older.chain(newer).collect()
    }

    /// A commit and those before it on its own timeline, newest first, as far as this history goes.
    pub(super) fn lineage<'a>(&'a self, commit: &'a Arc<Commit>) -> impl Iterator<Item = &'a Arc<Commit>> {
        let mut generation = commit.generation;
        std::iter::successors(Some(commit), move |commit| {
            let batch = BatchId(commit.batch().0.checked_sub(1)?);
            let shares = |branch: &Branch, generation| branch.generation == generation && branch.to >= Some(batch);
            while self.branches.iter().any(|branch| shares(branch, generation)) {
                generation = Generation(generation.0 - 1);
            }
            self.by_address.get(&(batch, generation))
        })
    }

    /// Bytes and batches since the newest snapshot, for the decision whether another is due.
    pub(super) fn since_snapshot(&self) -> SinceSnapshot {
        let after = self.snapshot.as_ref().map(|snapshot| snapshot.batch);
        // Counted by ids: after a rewind to before this history begins, it does not know all of these commits.
        let number = |batch: Option<BatchId>| batch.map_or(0, |batch| batch.0 + 1);
        let batches = number(self.newest_batch()).saturating_sub(number(after));
        let fresh = self.live.iter().rev().take_while(|commit| Some(commit.batch()) > after);
        let mut since = SinceSnapshot { batches, ..SinceSnapshot::default() };
        for commit in fresh {
            since.delta_bytes += sum(&commit.payloads, |payload| payload.kind == PayloadKind::Delta);
            since.inline_bytes += sum(&commit.payloads, |payload| payload.place != PayloadPlace::File);
        }
        since.snapshot_bytes = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes());
        since
    }
}

/// What the snapshot rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SinceSnapshot {
    pub batches: u64,
    pub delta_bytes: u64,
    /// Payload bytes of any kind that went into the live log.
    pub inline_bytes: u64,
    /// Of the snapshot itself.
    pub snapshot_bytes: u64,
}

fn offsets_after(mut offsets: BTreeMap<String, u64>, commits: &[Arc<Commit>]) -> BTreeMap<String, u64> {
    commits.iter().for_each(|commit| advance(&mut offsets, commit));
    offsets
}

fn sum(payloads: &[PayloadRef], counts: impl Fn(&PayloadRef) -> bool) -> u64 {
    payloads.iter().filter(|payload| counts(payload)).map(|payload| payload.length).sum()
}
