//! Asking the checkpoint of the running job: one question at a time, a few may wait, none takes the job's own thread.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use super::board::Board;
use crate::{
    batch::View,
    model::{BatchAddress, Error, ErrorKind, Result},
};

/// Questions that may wait for the one that is being answered.
const WAITING_MAX: usize = 4;

/// An answer must be here after this long, waiting included.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// Too many wait.
    Busy,
    /// It takes too long; what was begun ends by itself.
    Slow,
    Failed(Error),
}

/// Reads the checkpoint on threads for what blocks.
pub struct Asking {
    checkpoint: PathBuf,
    /// Knows whether the job has opened the checkpoint: before, a reader could keep it from doing so.
    board: Arc<Board>,
    /// What was read last: it still tells of the batches that were there then.
    kept: Mutex<Option<View>>,
    one: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// What a question needs to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// This batch, and whatever else may be there.
    Batch(BatchAddress),
    /// Batches up to this one, which the job says it committed.
    Up(Option<u64>),
}

impl Asking {
    pub fn new(checkpoint: PathBuf, board: Arc<Board>) -> Asking {
        let one = Arc::new(Semaphore::new(1));
        Asking { checkpoint, board, kept: Mutex::new(None), one, waiting: AtomicUsize::new(0) }
    }

    /// Asks, as soon as those who asked before have their answers.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Asking>,
        needs: Needs,
        question: impl Fn(&View) -> Result<T> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let this = Arc::clone(self);
        self.beside(move || this.now(needs, &question)).await
    }

    /// Does other work that takes its time, by the same rules.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn beside<T: Send + 'static>(
        self: &Arc<Asking>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T, Unanswered> {
        if self.waiting.fetch_add(1, Ordering::AcqRel) > WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Unanswered::Busy);
        }
        // also where whoever asked goes away meanwhile
        let _waits = Waits(&self.waiting);
        tokio::time::timeout(ANSWER_WITHIN, self.answer(work)).await.unwrap_or(Err(Unanswered::Slow))
    }

    /// Asks only if nobody else does; `None`: somebody does.
    pub async fn ask_if_free<T: Send + 'static>(
        self: &Arc<Asking>,
        needs: Needs,
        question: impl Fn(&View) -> Result<T> + Send + 'static,
    ) -> Option<Result<T, Unanswered>> {
        if self.one.available_permits() == 0 {
            return None;
        }
        let this = Arc::clone(self);
        Some(self.answer(move || this.now(needs, &question)).await)
    }

    async fn answer<T: Send + 'static>(
        self: &Arc<Asking>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T, Unanswered> {
        if !self.board.is_open() {
            return Err(Unanswered::Failed(
                Error::refused("the job is still opening its checkpoint").help("ask again in a moment"),
            ));
        }
        let stopped = |cause: String| Unanswered::Failed(Error::failed("the question was dropped").because(cause));
        let place = Arc::clone(&self.one).acquire_owned().await.map_err(|closed| stopped(closed.to_string()))?;
        let answered = tokio::task::spawn_blocking(move || {
            let answer = work();
            // what takes too long for whoever asked still keeps its place until it ends
            drop(place);
            answer
        });
        answered.await.map_err(|cause| stopped(cause.to_string()))?.map_err(Unanswered::Failed)
    }

    /// Answers on this thread. What is kept may have been dropped by the job meanwhile: then it is read anew.
    fn now<T>(&self, needs: Needs, question: &dyn Fn(&View) -> Result<T>) -> Result<T> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) =
            kept.take_if(|view| view.knows(needs) || view.refresh().unwrap_or(false) && view.knows(needs))
        {
            match question(&view) {
                Err(error) if error.kind() == ErrorKind::Refused => {}
                // a wrong question stays wrong
                answer => {
                    *kept = Some(view);
                    return answer;
                }
            }
        }
        // memory for one
        *kept = None;
        let view = View::open(&self.checkpoint)?;
        let answer = question(&view);
        *kept = Some(view);
        answer
    }

    /// Where the checkpoint is.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// Lets go of what is kept. Not on a thread that may not block.
    pub fn forget(&self) {
        if let Ok(mut kept) = self.kept.try_lock() {
            *kept = None;
        }
    }
}

/// Counts one who waits, as long as it lives.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a view that was read some time ago is good for.
trait Knows {
    fn knows(&self, needs: Needs) -> bool;
}

impl Knows for View {
    fn knows(&self, needs: Needs) -> bool {
        match needs {
            Needs::Batch(at) => self.resolve(Some(at)).is_ok(),
            Needs::Up(newest) => newest.is_some() && self.newest().map(|newest| newest.batch.0) >= newest,
        }
    }
}
