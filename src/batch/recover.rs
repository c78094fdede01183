//! What a run owes before it plans anything: state restored, interrupted output discarded or published again.

use super::{engine::Engine, open::Loss, outputs::Rows, restore};
use crate::{
    checkpoint::{Recovery, RestoreSteps},
    job::SinkConnector,
    model::{BatchId, Result},
};

impl Engine {
    /// Restores the state, and does what the log's verdict says.
    pub(super) fn resume(&mut self, loss: Loss) -> Result<()> {
        let newest = self.checkpoint.history().newest().map(|newest| newest.batch());
        match self.checkpoint.recovery() {
            Recovery::PlanAnew => {
                self.outputs.abort()?;
                self.restore_newest(false)?;
            }
            Recovery::RunAgain { plan } => {
                self.outputs.abort()?;
                self.restore_newest(false)?;
                self.bound = Some(plan);
            }
            // What is about to be taken back is not published first: a sink may refuse it, and the rewind be the way out. It
            // stays staged until the rewind is durable.
            Recovery::PublishAgain { .. } if matches!(loss, Loss::Accept { to } if to < newest) => {
                self.restore_newest(false)?;
            }
            Recovery::PublishAgain { .. } => self.publish_again()?,
            // The same of a rewind that a sink refused: one that goes further back takes back all of it, and is the way out.
            Recovery::RetractAgain { to } if matches!(loss, Loss::Accept { to: further } if further <= to) => {
                self.restore_newest(false)?;
            }
            Recovery::RetractAgain { to } => {
                self.restore_newest(false)?;
                self.retract_after(to)?;
            }
        }
        if self.checkpoint.repaired().is_some() {
            // What lost batches published is theirs no more: their input may be divided otherwise this time.
            self.take_back(self.checkpoint.history().newest().map(|newest| newest.batch()))?;
        }
        // Which batches have a snapshot, and which are retained, must not depend on crashes that came before either.
        self.keep_snapshot()?;
        self.checkpoint.finish_snapshot()
    }

    /// Brings the (empty) state to the newest commit; with `wanted`, what that commit gave out is computed again. `None`: it
    /// is not, and need not be.
    fn restore_newest(&mut self, wanted: bool) -> Result<Option<Vec<Rows>>> {
        let Some(newest) = self.checkpoint.history().newest().cloned() else { return Ok(None) };
        let steps = self.checkpoint.restore_steps(newest.address())?;
        let checkpoint = &self.checkpoint;
        let read = |payload: &_| checkpoint.read_payload(payload);
        // a snapshot is taken only after its batch was published: where one stands at the newest, nothing is owed
        let Some((last, before)) = steps.commits.split_last().filter(|_| wanted) else {
            restore::restore(&mut self.queries, &steps, &read)?;
            return Ok(None);
        };
        let before = RestoreSteps { snapshot: steps.snapshot.clone(), commits: before.to_vec() };
        restore::restore(&mut self.queries, &before, &read)?;
        let wants: Vec<bool> = (0..self.queries.queries.len()).map(|query| self.wants_rows(query)).collect();
        restore::apply(&mut self.queries, last, &read, &|query| wants[query]).map(Some)
    }

    fn publish_again(&mut self) -> Result<()> {
        let rows = self.restore_newest(true)?;
        let (Some(permit), Some(newest)) = (self.checkpoint.permit(), self.checkpoint.history().newest().cloned())
        else {
            return Ok(());
        };
        if let Some(rows) = rows {
            self.outputs.publish(&permit, &self.queries, (newest.batch(), &newest.outputs), &rows)?;
        }
        self.outputs.abort()?;
        self.checkpoint.mark_published()
    }

    /// Carries out a rewind at the sinks.
    pub(super) fn retract_after(&mut self, to: Option<BatchId>) -> Result<()> {
        self.take_back(to)?;
        self.checkpoint.mark_published()
    }

    /// Takes back at the sinks what batches after `to` published; idempotent.
    fn take_back(&mut self, to: Option<BatchId>) -> Result<()> {
        let Some(permit) = self.checkpoint.permit() else { return Ok(()) };
        let executor = self.queries.executor();
        let mut latest = Vec::with_capacity(self.queries.queries.len());
        for (index, query) in self.queries.queries.iter().enumerate() {
            let shown = self.replaces_output(index);
            latest.push(if shown { Some(query.result(&executor)?) } else { None });
        }
        self.outputs.abort()?;
        self.outputs.retract(&permit, &self.queries, to, &latest)
    }

    /// Whether a query's sink is given rows (a memory sink's result lives in the checkpoint).
    pub(super) fn wants_rows(&self, query: usize) -> bool {
        let spec = &self.job.queries[query];
        self.queries.queries[query].gives_out_for_good() || self.job.sink_of(spec).connector != SinkConnector::Memory
    }
}
