//! What the owner of a checkpoint is at, beside what it has committed: kept in memory, and told to readers that ask.

use std::sync::{Arc, Mutex, PoisonError};

use super::{reader::Reader, wire, writer::Checkpoint};
use crate::model::{BatchId, Result};

/// What a running job is at. Times are in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Activity {
    /// Since when it runs.
    pub since_us: Option<i64>,
    /// The batch that it works on, and since when.
    pub at_work: Option<(BatchId, i64)>,
}

impl Activity {
    /// As it is sent: each number 8 bytes, with values that stand for none.
    pub(super) fn to_bytes(self) -> [u8; 24] {
        let (batch, began_us) = self.at_work.map_or((NO_BATCH, NO_TIME), |(batch, began_us)| (batch.0, began_us));
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.since_us.unwrap_or(NO_TIME).to_be_bytes());
        bytes[8..16].copy_from_slice(&batch.to_be_bytes());
        bytes[16..].copy_from_slice(&began_us.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: [u8; 24]) -> Activity {
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let time = |at: usize| Some(number(at).cast_signed()).filter(|us| *us != NO_TIME);
        let batch = Some(number(8)).filter(|batch| *batch != NO_BATCH);
        Activity { since_us: time(0), at_work: batch.map(BatchId).zip(time(16)) }
    }
}

const NO_TIME: i64 = i64::MIN;
const NO_BATCH: u64 = u64::MAX;

/// What the owner says of itself, where the thread that answers readers finds it.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Arc<Mutex<Activity>>);

impl Said {
    pub fn now(&self) -> Activity {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Activity)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Checkpoint {
    /// Tells readers since when the job runs.
    pub fn runs_since(&self, since_us: i64) {
        self.said.change(|activity| activity.since_us = Some(since_us));
    }

    /// Tells readers which batch is at work, and since when; `None`: none.
    pub fn works_on(&self, batch: Option<(BatchId, i64)>) {
        self.said.change(|activity| activity.at_work = batch);
    }
}

impl Reader {
    /// What the job that writes the checkpoint is at, as of now; `None`: it has stopped, or does not say.
    ///
    /// # Errors
    /// Of kind `Failed`, where it cannot be asked.
    pub fn activity(&self) -> Result<Option<Activity>> {
        if self.is_running() { wire::ask_activity(self.layout()) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_reads_back() {
        for activity in [
            Activity::default(),
            Activity { since_us: Some(-1), at_work: None },
            Activity { since_us: Some(1_700_000_000_000_000), at_work: Some((BatchId(7), 1_700_000_000_000_001)) },
            Activity { since_us: None, at_work: Some((BatchId::FIRST, 0)) },
        ] {
            assert_eq!(Activity::from_bytes(activity.to_bytes()), activity);
        }
    }
}
