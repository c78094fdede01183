//! Input that no batch needs any more is let go of: segments of receive logs, and files where the job says so.

use super::{
    engine::Engine,
    input::{Input, Inputs},
};
use crate::{
    checkpoint::History,
    model::{BatchId, Result},
};

/// Files that are named one by one.
const NAMED_MAX: usize = 100;

/// Files of a source that were cleared away after the batch before.
#[derive(Debug, Clone, Default)]
pub(super) struct Cleaned {
    /// Files of batches up to this one were looked at in this run.
    up_to: Option<BatchId>,
    pub count: u64,
    /// The first of them.
    pub names: Vec<String>,
    /// Those that could not be, with the reason; the first of them.
    pub failed: Vec<String>,
}

impl Cleaned {
    /// What was told is told once.
    pub fn told(&mut self) {
        *self = Cleaned { up_to: self.up_to, ..Cleaned::default() };
    }
}

impl Input {
    /// Clears away files that only batches up to `oldest` have read.
    fn clean(&mut self, history: &History, oldest: BatchId) {
        let seen = history.seen_files();
        let behind = seen.partition_point(|seen| Some(seen.batch) <= self.cleaned.up_to);
        for seen in seen[behind..].iter().take_while(|seen| seen.batch <= oldest) {
            if seen.source != self.name {
                continue;
            }
            match self.source.clean(&seen.file) {
                Ok(false) => {}
                Ok(true) => {
                    self.cleaned.count += 1;
                    if self.cleaned.names.len() < NAMED_MAX {
                        self.cleaned.names.push(seen.file.path.to_string());
                    }
                }
                // it is as good as it gets: the batch is committed, and nothing depends on it
                Err(error) => {
                    tracing::warn!(source = self.name, "{error}");
                    if self.cleaned.failed.len() < NAMED_MAX {
                        let why = error.why().unwrap_or(error.what());
                        self.cleaned.failed.push(format!("{}: {why}", seen.file.path));
                    }
                }
            }
        }
        self.cleaned.up_to = Some(oldest);
    }
}

impl Inputs {
    fn clean(&mut self, history: &History, oldest: BatchId) {
        self.inputs.iter_mut().filter(|input| input.cleans).for_each(|input| input.clean(history, oldest));
    }
}

impl Engine {
    /// Lets go of what only batches need that are no longer retained. A fork clears no files away: the job that it was forked
    /// from may still need them.
    ///
    /// # Errors
    /// Of kind `Failed`, naming a segment that cannot be removed.
    pub(super) fn retire_input(&mut self) -> Result<()> {
        let history = self.checkpoint.history();
        let (Some(oldest), Some(newest)) = (self.checkpoint.retained_from(), history.newest()) else { return Ok(()) };
        self.inputs.retire(history, oldest, newest.committed_at_us)?;
        if history.genesis().forked_from.is_none() {
            self.inputs.clean(history, oldest);
        }
        Ok(())
    }
}
