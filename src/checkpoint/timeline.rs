//! Questions to a history: which batches there are, and how to get the state at one.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    history::History,
    record::{Accepted, Commit, Genesis, PayloadRef, SeenFile, Snapshot},
};
use crate::{
    job::fingerprint::QueryIdentity,
    model::{BatchAddress, BatchId, BatchPlan, Error, Generation, Place, Result},
};

/// What must be merged, in this order, to get the state at a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSteps {
    /// The payloads of the snapshot to begin with; `None`: begin with nothing.
    pub snapshot: Option<Vec<PayloadRef>>,
    /// The batches after it, oldest first, the addressed one last.
    pub commits: Vec<Arc<Commit>>,
}

impl History {
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The queries' identities that the job must have now: those of the beginning, or as accepted last.
    pub fn identities(&self) -> &[QueryIdentity] {
        &self.identities
    }

    /// The job's text as it was run last, with `${NAME}` in place.
    pub fn template(&self) -> &str {
        self.accepted.last().map_or(&self.genesis.template, |accepted| &accepted.template)
    }

    /// What was filled in for each `${NAME}` when it was run last.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        self.accepted.last().map_or(&self.genesis.variables, |accepted| &accepted.variables)
    }

    /// Changes of the job that were accepted, oldest first.
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    /// The generation that the next commit belongs to.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The newest committed batch: the high-water mark.
    pub fn newest(&self) -> Option<&Arc<Commit>> {
        self.live.last()
    }

    pub(super) fn newest_batch(&self) -> Option<BatchId> {
        self.newest().map(|commit| commit.batch())
    }

    /// The batch to come.
    pub fn next_batch(&self) -> BatchId {
        self.newest_batch().map_or(BatchId::FIRST, BatchId::next)
    }

    /// The live timeline as far as it is known here, oldest first, without gaps.
    pub fn live(&self) -> &[Arc<Commit>] {
        &self.live
    }

    /// Commits that a rewind retracted, in the order of the log.
    pub fn retracted(&self) -> &[Arc<Commit>] {
        &self.retracted
    }

    /// Plans of retracted batches, still to be replayed in this order before anything new is planned.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &BatchPlan> {
        self.pending.iter()
    }

    /// The batch under way, if its plan is durable.
    pub fn intent(&self) -> Option<&BatchPlan> {
        self.intent.as_ref()
    }

    /// The newest `logOffset` of a source; `None`: nothing was ever read.
    pub fn offset(&self, source: &str) -> Option<u64> {
        self.offsets.get(source).copied()
    }

    /// All files that live batches have read, batch by batch.
    pub fn seen_files(&self) -> &[SeenFile] {
        &self.seen
    }

    /// Whether the sinks are known to show exactly what is committed.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// Whether the newest thing that the sinks must be told is a rewind.
    pub fn retracting(&self) -> bool {
        self.retracting
    }

    /// The oldest batch that can be addressed or rewound to; `None`: all of them, the start included.
    pub fn horizon(&self) -> Option<BatchId> {
        if self.complete { None } else { self.live.first().map(|commit| commit.batch()) }
    }

    /// The commit of a batch.
    ///
    /// # Errors
    /// Of kind `Usage`, naming the batches that exist.
    pub fn find(&self, address: BatchAddress) -> Result<&Arc<Commit>> {
        let found = match (address.generation, self.live.first()) {
            (Some(generation), _) => self.by_address.get(&(address.batch, generation)),
            (None, Some(first)) => {
                let index = address.batch.0.checked_sub(first.batch().0).and_then(|index| usize::try_from(index).ok());
                index.and_then(|index| self.live.get(index))
            }
            (None, None) => None,
        };
        found.ok_or_else(|| self.no_such_batch(address))
    }

    /// Whether a commit is on the live timeline.
    pub fn is_live(&self, commit: &Commit) -> bool {
        let address = BatchAddress { batch: commit.batch(), generation: None };
        self.find(address).is_ok_and(|live| live.generation == commit.generation)
    }

    /// How to get the state at a batch: the newest snapshot at or before it on its own timeline that is `usable`, and
    /// the deltas after that.
    ///
    /// # Errors
    /// Of kind `Usage` where there is no such batch, `Refused` where what is needed was dropped.
    pub(super) fn restore_steps(
        &self,
        address: BatchAddress,
        usable: &mut dyn FnMut(&Snapshot) -> bool,
    ) -> Result<RestoreSteps> {
        let target = self.find(address)?;
        let mut commits = Vec::new();
        for commit in self.lineage(target) {
            let snapshot = self.snapshots.get(&(commit.batch(), commit.generation));
            if let Some(snapshot) = snapshot.filter(|snapshot| usable(snapshot)) {
                commits.reverse();
                return Ok(RestoreSteps { snapshot: Some(snapshot.payloads.clone()), commits });
            }
            commits.push(Arc::clone(commit));
        }
        // The state that a fork begins with is in its snapshot alone.
        let inherited = self.genesis.forked_from.as_ref().map(|fork| fork.batch);
        let from_the_start =
            commits.last().is_some_and(|oldest| oldest.batch() == BatchId::FIRST && inherited != Some(BatchId::FIRST));
        if !from_the_start {
            return Err(Error::refused(format!("the state at batch {address} can no longer be restored"))
                .at(Place::Batch(address.batch))
                .because("the snapshot before it was dropped or is damaged, and so were the batches since")
                .help(format!("{}; `highwater verify DIR` shows what is sound", self.what_exists())));
        }
        commits.reverse();
        Ok(RestoreSteps { snapshot: None, commits })
    }

    fn no_such_batch(&self, address: BatchAddress) -> Error {
        Error::usage(format!("there is no batch {address} in this checkpoint")).help(self.what_exists())
    }

    /// The batches that can be named, in words.
    pub(super) fn what_exists(&self) -> String {
        match (self.live.first(), self.live.last()) {
            (Some(first), Some(last)) if self.retracted.is_empty() => {
                format!("batches {} to {} exist", first.batch(), last.batch())
            }
            (Some(first), Some(last)) => {
                format!(
                    "batches {} to {} exist, and retracted ones such as {}",
                    first.batch(),
                    last.batch(),
                    self.a_retracted()
                )
            }
            _ if self.retracted.is_empty() => "no batch was committed yet".to_owned(),
            _ => format!("only retracted batches exist, such as {}", self.a_retracted()),
        }
    }

    fn a_retracted(&self) -> String {
        self.retracted.last().map(|commit| commit.address().to_string()).unwrap_or_default()
    }
}
