//! A view of a job that runs: what it is at, and what it did since.

use super::view::View;
use crate::{checkpoint::Activity, model::Result};

impl View {
    /// What the job is at; `None`: it has stopped.
    ///
    /// # Errors
    /// Of kind `Failed`, where it cannot be asked.
    pub fn activity(&self) -> Result<Option<Activity>> {
        if !self.is_running() {
            return Ok(None);
        }
        // an owner that does not say tells by its log, where it has to make plans durable
        let planned = self.reader.history().intent().map(|plan| (plan.batch, plan.batch_time_us));
        let by_the_log = Activity { since_us: None, at_work: planned };
        Ok(Some(self.reader.activity()?.unwrap_or(by_the_log)))
    }

    /// Reads what the running job committed since; `false`: it has to be opened anew.
    ///
    /// # Errors
    /// Of kind `Failed`, where the job cannot be asked.
    pub fn refresh(&mut self) -> Result<bool> {
        let changes = self.reader.history().accepted().len();
        Ok(self.reader.refresh()? && self.reader.history().accepted().len() == changes)
    }
}
