//! What must be done when a checkpoint is opened: one pure table, from facts to a verdict.

use super::history::History;
use crate::model::{BatchId, BatchPlan};

/// All that the verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts<'a> {
    pub newest: Option<BatchId>,
    /// The plan of a batch that was under way.
    pub intent: Option<&'a BatchPlan>,
    /// Whether the sinks are known to show what is committed.
    pub settled: bool,
    /// Whether the newest thing that the sinks must be told is a rewind.
    pub retracting: bool,
}

impl<'a> Facts<'a> {
    pub fn of(history: &'a History) -> Facts<'a> {
        Facts {
            newest: history.newest_batch(),
            intent: history.intent(),
            settled: history.settled,
            retracting: history.retracting,
        }
    }
}

/// What the batch loop does first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing is owed: plan the next batch (or replay the next retracted plan).
    PlanAnew,
    /// A batch was under way: discard what it staged, and run the same plan again.
    RunAgain { plan: BatchPlan },
    /// The newest commit may not have reached every sink: publish it again.
    PublishAgain { batch: BatchId },
    /// A rewind may not have reached every sink: retract again everything after `to`.
    RetractAgain { to: Option<BatchId> },
}

/// The verdict. The loop plans a batch only after all older output is visible, so an intent proves that it is.
pub fn resolve(facts: &Facts<'_>) -> Recovery {
    match (facts.intent, facts.settled, facts.retracting, facts.newest) {
        (Some(plan), _, _, _) => Recovery::RunAgain { plan: plan.clone() },
        (None, true, _, _) => Recovery::PlanAnew,
        (None, false, true, to) => Recovery::RetractAgain { to },
        (None, false, false, Some(batch)) => Recovery::PublishAgain { batch },
        (None, false, false, None) => Recovery::PlanAnew,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_exhaustive() {
        let plan = BatchPlan { batch: BatchId(4), batch_time_us: 0, watermark_us: None, inputs: Vec::new() };
        let three = Some(BatchId(3));
        let run_again = || Recovery::RunAgain { plan: plan.clone() };
        let table = [
            (None, None, true, false, Recovery::PlanAnew),
            (None, None, true, true, Recovery::PlanAnew),
            (None, None, false, false, Recovery::PlanAnew),
            (None, None, false, true, Recovery::RetractAgain { to: None }),
            (three, None, true, false, Recovery::PlanAnew),
            (three, None, true, true, Recovery::PlanAnew),
            (three, None, false, false, Recovery::PublishAgain { batch: BatchId(3) }),
            (three, None, false, true, Recovery::RetractAgain { to: three }),
            (None, Some(&plan), true, false, run_again()),
            (None, Some(&plan), true, true, run_again()),
            (None, Some(&plan), false, false, run_again()),
            (None, Some(&plan), false, true, run_again()),
            (three, Some(&plan), true, false, run_again()),
            (three, Some(&plan), true, true, run_again()),
            (three, Some(&plan), false, false, run_again()),
            (three, Some(&plan), false, true, run_again()),
        ];
        for (newest, intent, settled, retracting, verdict) in table {
            let facts = Facts { newest, intent, settled, retracting };
            assert_eq!(resolve(&facts), verdict, "{facts:?}");
        }
    }
}
