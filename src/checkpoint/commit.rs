//! What the batch loop writes: intents, commits, rewinds, snapshots.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    CommitPermit, bad_records, disk,
    payloads::{self, Placed},
    policy::{self, PartStart},
    record::{Accepted, Commit, Payload, PayloadKind, Record, Rewind, Snapshot, state_file_seq},
    seal,
    writer::Checkpoint,
};
use crate::{
    job::fingerprint::{Difference, QueryIdentity},
    model::{BatchId, BatchPlan, CrashPoint, Error, FileRead, Place, Result, StagedOutput},
};

/// A batch that is ready to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitDraft {
    pub plan: BatchPlan,
    pub run_id: String,
    /// Microseconds since the Unix epoch.
    pub committed_at_us: i64,
    /// What was read, per input of the plan, file by file as planned.
    pub files: Vec<Vec<FileRead>>,
    /// Each source's own watermark after the batch, microseconds since the Unix epoch, per input of the plan.
    pub watermarks_us: Vec<Option<i64>>,
    pub payloads: Vec<Payload>,
    pub outputs: Vec<StagedOutput>,
    pub rows: u64,
    pub bad_rows: u64,
    pub state_rows: u64,
    /// JSON.
    pub progress: String,
    /// JSON: what is known of the commit before only now.
    pub late_progress: Option<String>,
}

impl CommitDraft {
    fn check(&self) -> Result<()> {
        let planned = |input: &crate::model::SourceInput, read: &Vec<FileRead>| {
            input.files.len() == read.len() && input.files.iter().zip(read).all(|(planned, read)| *planned == read.file)
        };
        let same = self.files.len() == self.plan.inputs.len()
            && self.watermarks_us.len() == self.plan.inputs.len()
            && self.plan.inputs.iter().zip(&self.files).all(|(input, read)| planned(input, read));
        if same {
            Ok(())
        } else {
            Err(Error::failed("a batch did not read what it planned").at(Place::Batch(self.plan.batch)))
        }
    }
}

impl Checkpoint {
    /// Makes a plan durable, before anything is staged for it. The plan that is under way already is not written again.
    ///
    /// # Errors
    /// Where it is not the next batch's; where it cannot be written.
    pub fn intend(&mut self, plan: &BatchPlan) -> Result<()> {
        if self.history.intent() == Some(plan) {
            return Ok(());
        }
        self.append(Record::Intent(plan.clone()), &[])
    }

    /// Gives up the intended batch: nothing of it is staged any more. Without one nothing happens.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn withdraw(&mut self) -> Result<()> {
        match self.history.intent() {
            Some(_) => self.append(Record::Withdraw, &[]),
            None => Ok(()),
        }
    }

    /// The batch happens: once this returns, it is durable.
    ///
    /// # Errors
    /// Where it cannot be written; whether it is durable is then for recovery to find out, and nothing may be published.
    pub fn commit(&mut self, draft: CommitDraft) -> Result<CommitPermit> {
        draft.check()?;
        self.begin_writing()?;
        let placed = payloads::place(&self.layout, self.history.next_seq, &draft.payloads)?;
        if placed.files {
            self.faults.reach(CrashPoint::PayloadsWritten)?;
        }
        let commit = Commit {
            generation: self.history.generation(),
            plan: draft.plan,
            run_id: draft.run_id,
            committed_at_us: draft.committed_at_us,
            files: draft.files,
            watermarks_us: draft.watermarks_us,
            payloads: placed.refs,
            outputs: draft.outputs,
            rows: draft.rows,
            bad_rows: draft.bad_rows,
            state_rows: draft.state_rows,
            progress: draft.progress,
            late_progress: draft.late_progress,
        };
        self.append(Record::Commit(commit), &placed.inline)?;
        Ok(CommitPermit(()))
    }

    /// All that the sinks are owed is done: the newest commit is published, or the rewind's output retracted. A clean
    /// stop says so, and then the next start publishes nothing again.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn mark_published(&mut self) -> Result<()> {
        if self.history.settled() {
            return Ok(());
        }
        self.append(Record::Published(self.history.newest_batch()), &[])
    }

    /// The live timeline from a batch on or earlier, oldest first; sealed parts of the log are read where it is older than
    /// the live one.
    ///
    /// # Errors
    /// Of kind `Refused` where a sealed part is missing or damaged.
    pub fn live_from(&self, batch: BatchId) -> Result<Vec<Arc<Commit>>> {
        match self.history.horizon() {
            Some(horizon) if batch < horizon => Ok(self.archive()?.history.live().to_vec()),
            _ => Ok(self.history.live().to_vec()),
        }
    }

    /// The job goes on after `to` (`None`: before the first batch), in a new generation; later batches are retracted.
    /// Their plans are replayed first, or dropped with `replan`. The permit is for telling the sinks.
    ///
    /// # Errors
    /// Of kind `Refused` where `to` is beyond the newest batch or before the horizon.
    pub fn rewind(&mut self, to: Option<BatchId>, replan: bool, at_us: i64) -> Result<CommitPermit> {
        if to > self.history.newest_batch() {
            let to = to.map_or_else(String::new, |to| to.to_string());
            return Err(
                Error::refused(format!("there is no batch {to} to go back to")).help(self.history.what_exists())
            );
        }
        let known = |history: &super::History| history.complete || (to.is_some() && to >= history.horizon());
        let standing = if known(&self.history) {
            self.history.standing_at(to, replan)
        } else {
            let archive = self.archive()?;
            if !known(&archive.history) {
                let horizon = archive.history.horizon().map_or_else(String::new, |batch| batch.to_string());
                return Err(Error::refused("the job can no longer go back that far")
                    .because(format!("the oldest batch that is kept is {horizon}"))
                    .help(format!("rewind to batch {horizon} or later; `SET retain_batches` keeps more")));
            }
            archive.history.standing_at(to, replan)
        };
        self.append(Record::Rewind(Box::new(Rewind { to, replan, at_us, standing })), &[])?;
        bad_records::retire(&self.layout, &self.history, None)?;
        Ok(CommitPermit(()))
    }

    /// Records that the job was changed and the operator accepted it: from the next batch on the queries are `identities`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn accept(
        &mut self,
        differences: Vec<Difference>,
        identities: Vec<QueryIdentity>,
        (template, variables): (String, BTreeMap<String, String>),
    ) -> Result<()> {
        let from = self.history.next_batch();
        self.append(Record::Accepted(Accepted { from, differences, identities, template, variables }), &[])
    }

    /// Whether the state should be kept whole now.
    pub fn snapshot_due(&self) -> bool {
        policy::snapshot_due(self.history.since_snapshot(), &self.settings)
    }

    /// Keeps the state at the newest commit whole, begins a new part of the log, and drops what is no longer retained.
    ///
    /// # Errors
    /// Where nothing was committed yet, or something cannot be written: the job stops, and recovery completes it.
    pub fn snapshot(&mut self, payloads: Vec<Payload>) -> Result<()> {
        let Some(newest) = self.history.newest().cloned() else {
            return Err(Error::failed("there is no state to keep before the first commit"));
        };
        self.begin_writing()?;
        let payloads: Vec<Payload> =
            payloads.into_iter().map(|payload| Payload { kind: PayloadKind::State, ..payload }).collect();
        let Placed { refs, .. } = payloads::place(&self.layout, self.history.next_seq, &payloads)?;
        self.faults.reach(CrashPoint::SnapshotWritten)?;
        let snapshot = Snapshot { batch: newest.batch(), generation: newest.generation, payloads: refs };
        self.append(Record::Snapshot(snapshot), &[])?;
        self.seal()?;
        self.apply_retention()
    }

    /// The live part becomes a sealed one, and a fresh live part begins.
    fn seal(&mut self) -> Result<()> {
        let entries = self.thread.handle().read(|store, _| store.entries())?;
        seal::write_part(&self.layout, self.part, &entries, &self.faults)?;
        let base = seal::next_base(&self.layout, &self.history)?;
        let (part, path) = (self.part + 1, self.layout.live(self.part + 1, 1));
        let first_seq = base.envelope.seq;
        seal::replace_part(&self.thread, part, &self.path, path.clone(), base.entry)?;
        self.faults.reach(CrashPoint::LiveReplaced)?;
        seal::go_on_from(&mut self.history, &base.envelope)?;
        self.moved_to(part, path, first_seq)
    }

    /// Seals and drops what the newest snapshot allows. [`Checkpoint::snapshot`] does so by itself; where a crash came
    /// between, it is made up for at the next start, so that no part depends on crashes.
    ///
    /// # Errors
    /// Of kind `Failed`, naming what cannot be written or removed.
    pub fn finish_snapshot(&mut self) -> Result<()> {
        let entries = self.thread.handle().read(|store, _| store.entries())?;
        let is_snapshot = |entry: &[u8]| {
            super::codec::decode(entry).is_ok_and(|(envelope, _)| matches!(envelope.record, Record::Snapshot(_)))
        };
        if entries.iter().any(|(_, entry)| is_snapshot(entry)) {
            self.begin_writing()?;
            self.seal()?;
        }
        // A rewind may have been durable, and what it removed not.
        bad_records::retire(&self.layout, &self.history, None)?;
        self.apply_retention()
    }

    /// Drops the parts that none of the newest batches needs, with their files.
    ///
    /// # Errors
    /// Of kind `Failed`, naming what cannot be removed.
    fn apply_retention(&mut self) -> Result<()> {
        if self.settings.retain_batches.is_none() {
            // all are kept; nobody needs to look at each of them
            return Ok(());
        }
        let sealed = self.layout.log_folder()?.sealed;
        let mut parts = Vec::new();
        for sealed in &sealed {
            match super::part::load_header(&sealed.path)? {
                Ok(header) => parts.push((header.start, header.first_seq)),
                Err(damage) => tracing::warn!(path = %sealed.path.display(), "a sealed part is damaged: {damage}"),
            }
        }
        let base = self.history.live().first().map(|commit| (commit.batch(), commit.generation));
        parts.push((PartStart { part: self.part, base }, self.first_seq));
        let starts: Vec<PartStart> = parts.iter().map(|(start, _)| *start).collect();
        // As of the snapshot that the live part begins with, so that the moment of a restart makes no difference.
        let newest = base.map(|(batch, _)| batch);
        let Some(keep) =
            policy::oldest_part_to_keep(&starts, &self.history.branches, newest, self.settings.retain_batches)
        else {
            return Ok(());
        };
        let Some((oldest, first_seq)) = parts.into_iter().find(|(start, _)| start.part == keep) else { return Ok(()) };
        self.faults.reach(CrashPoint::Retiring)?;
        let needed = self.files_of_base(keep)?;
        for sealed in sealed.iter().filter(|sealed| sealed.part < keep) {
            disk::remove(&sealed.path)?;
        }
        disk::sync_folder(&self.layout.log())?;
        for path in disk::list(&self.layout.state())? {
            let name = disk::name_of(&path);
            if state_file_seq(&name).is_some_and(|seq| seq < first_seq) && !needed.contains(&name) {
                disk::remove(&path)?;
            }
        }
        self.retained_from = oldest.base.map(|(batch, _)| batch);
        bad_records::retire(&self.layout, &self.history, self.retained_from)
    }

    /// The older files that the base of a part names: what stood when the part began, not what stands now.
    fn files_of_base(&self, part: u32) -> Result<Vec<String>> {
        let path = self.layout.sealed(part);
        let damaged =
            |why: String| Error::refused("a part of the log is damaged").at(Place::Path(path.clone())).because(why);
        let entries = if part == self.part {
            self.thread.handle().read(|store, _| store.entries())?
        } else {
            super::part::load(&path)?.map_err(|damage| damaged(damage.to_string()))?.1
        };
        let first = entries.first().ok_or_else(|| damaged("it is empty".to_owned()))?;
        let (envelope, _) = super::codec::decode(&first.1).map_err(|damage| damaged(damage.to_string()))?;
        match envelope.record {
            Record::Base(base) => Ok(base.standing.files(&base.seen)),
            _ => Ok(Vec::new()),
        }
    }
}
