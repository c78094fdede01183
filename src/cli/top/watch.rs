//! Reads a checkpoint again and again, on a thread of its own: a large state takes its time, and keys must not wait for it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use super::{
    Wanted,
    shown::{ROWS_MAX, Shown, changed, shown},
};
use crate::{
    batch::{LogRow, SinkFacts, View, clock::Stopwatch},
    checkpoint::Activity,
    model::{BatchAddress, BatchId, Error, ErrorKind, Result},
};

/// Batches that charts and the table know.
const BATCHES_MAX: usize = 240;

/// A result is read anew only after so many times the time that reading it took: a large state must not be restored all the time.
const REST_FACTOR: u32 = 4;

/// What was read last.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub job: String,
    /// What the job is at; `None`: it has stopped.
    pub activity: Option<Activity>,
    /// Oldest first; none that a rewind retracted.
    pub batches: Vec<LogRow>,
    /// One for each query, in the order of the job file.
    pub sinks: Vec<SinkFacts>,
    /// What batches take.
    pub unit: &'static str,
    pub result: Option<Shown>,
    /// Why the result, or the whole checkpoint, could not be read.
    pub trouble: Option<String>,
    pub warnings: Vec<String>,
}

impl Seen {
    pub fn newest(&self) -> Option<BatchId> {
        self.batches.last().map(|row| row.address.batch)
    }

    /// The batch before one that is shown.
    pub fn batch_before(&self, at: Option<BatchId>) -> Option<BatchId> {
        let ids = || self.batches.iter().map(|row| row.address.batch);
        let newest = ids().next_back()?;
        let at = at.unwrap_or(newest);
        ids().rev().find(|id| *id < at).or(Some(at))
    }

    /// The batch after one that is shown; `None`: the newest, whichever it is.
    pub fn batch_after(&self, at: Option<BatchId>) -> Option<BatchId> {
        let newest = self.batches.last()?.address.batch;
        let later = self.batches.iter().map(|row| row.address.batch).find(|id| Some(*id) > at);
        later.filter(|id| at.is_some() && *id < newest)
    }

    /// The last row that can be scrolled to.
    pub fn last_row(&self, as_table: bool) -> usize {
        let rows = |result: &Shown| {
            let are_bars = !as_table && !result.bars.is_empty();
            if are_bars { result.bars.len() } else { result.rows.min(ROWS_MAX) }
        };
        self.result.as_ref().map_or(0, rows).saturating_sub(1)
    }
}

/// What the reading thread is told.
#[derive(Debug, Default)]
struct Orders {
    wanted: Wanted,
    /// Counts what was wanted so far.
    changes: u64,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A checkpoint that is read again and again until this is dropped.
pub(super) struct Watching {
    shared: Arc<Shared>,
    news: mpsc::Receiver<Seen>,
    newest: Seen,
}

impl Watching {
    /// Reads the checkpoint once, and then every `interval`.
    ///
    /// # Errors
    /// As [`View::open`], the first time only: later trouble is shown.
    pub fn start(checkpoint: &Path, interval: Duration) -> Result<Watching> {
        let mut reading = Reading { checkpoint: checkpoint.to_owned(), view: None, shown: None };
        let newest = reading.read(&Wanted::default())?;
        let shared = Arc::new(Shared::default());
        let (tell, news) = mpsc::sync_channel(1);
        let (theirs, first) = (Arc::clone(&shared), newest.clone());
        // nobody waits for it: it ends with the process, or when it finds that nobody listens
        std::thread::Builder::new()
            .name("top".to_owned())
            .spawn(move || reading.go_on(&theirs, interval, &tell, first))
            .map_err(|cause| Error::failed("a thread cannot be started").because(cause.to_string()))?;
        Ok(Watching { shared, news, newest })
    }

    /// What was read last.
    pub fn newest(&mut self) -> &Seen {
        while let Ok(seen) = self.news.try_recv() {
            self.newest = seen;
        }
        &self.newest
    }

    /// Says what is to be read next.
    pub fn want(&self, wanted: &Wanted) {
        let mut orders = self.shared.orders();
        if orders.wanted != *wanted {
            orders.wanted = wanted.clone();
            orders.changes += 1;
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shared.orders().ended = true;
        self.shared.changed.notify_all();
    }
}

/// The reading thread's own.
struct Reading {
    checkpoint: PathBuf,
    /// What was read last, to be read on.
    view: Option<View>,
    /// The result read last, and when that was done, in how much time.
    shown: Option<(Shown, Stopwatch, Duration)>,
}

impl Reading {
    fn go_on(&mut self, shared: &Shared, interval: Duration, tell: &mpsc::SyncSender<Seen>, mut last: Seen) {
        let mut known = 0;
        loop {
            let wanted = {
                let orders = shared.orders();
                let idle = |orders: &mut Orders| !orders.ended && orders.changes == known;
                let waited = shared.changed.wait_timeout_while(orders, interval, idle);
                let (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
                if orders.ended {
                    return;
                }
                known = orders.changes;
                orders.wanted.clone()
            };
            match self.read(&wanted) {
                Ok(seen) => last = seen,
                // what was seen last is shown on, with what went wrong
                Err(error) => last.trouble = Some(error.to_string()),
            }
            let seen = last.clone();
            if tell.send(seen).is_err() {
                return;
            }
        }
    }

    /// Reads the log and, where it is time, the result.
    fn read(&mut self, wanted: &Wanted) -> Result<Seen> {
        let kept = self.view.take().and_then(|mut view| view.refresh().unwrap_or(false).then_some(view));
        let mut view = kept.map_or_else(|| View::open(&self.checkpoint), Ok)?;
        // one that is not answered is no reason to show nothing
        let (activity, trouble) = match view.activity() {
            Ok(activity) => (activity, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut seen = Seen {
            job: view.job().name.clone(),
            activity,
            trouble,
            unit: view.unit(),
            batches: view.log_of_newest(BATCHES_MAX)?,
            sinks: view.sinks(),
            warnings: view.warnings(),
            ..Seen::default()
        };
        let at = match wanted.at {
            Some(batch) => Some(BatchAddress { batch, generation: None }),
            None => view.newest(),
        };
        if let (Some(at), false) = (at, seen.sinks.is_empty()) {
            let query = &seen.sinks[wanted.query % seen.sinks.len()].query;
            let mut done = self.show(&view, query, at, wanted.mark);
            if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Refused) {
                // what it was read from may be dropped by now
                view = View::open(&self.checkpoint)?;
                done = self.show(&view, query, at, wanted.mark);
            }
            seen.trouble = done.err().map(|error| error.to_string()).or(seen.trouble);
            let is_wanted = |shown: &&Shown| shown.query == *query && shown.marked() == wanted.mark;
            seen.result = self.shown.as_ref().map(|(shown, ..)| shown).filter(is_wanted).cloned();
        }
        self.view = Some(view);
        Ok(seen)
    }

    fn show(&mut self, view: &View, query: &str, at: BatchAddress, mark: Option<BatchId>) -> Result<()> {
        let at = view.resolve(Some(at))?;
        if let Some((shown, read, took)) = &self.shown
            && shown.query == query
            && shown.marked() == mark
            && (shown.at == at || view.newest() == Some(at) && read.elapsed() < *took * REST_FACTOR)
        {
            return Ok(());
        }
        self.shown = None;
        let reading = Stopwatch::start();
        let shown = match mark {
            None => shown(&view.result(query, at)?, at)?,
            Some(batch) => {
                let since = view.resolve(Some(BatchAddress { batch, generation: None }))?;
                changed(&view.diff(query, since, at)?, since, at)?
            }
        };
        self.shown = Some((shown, Stopwatch::start(), reading.elapsed()));
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::shown::tests::table, *};
    use crate::{model::Generation, sink::Guarantee};

    fn row(batch: u64) -> LogRow {
        let progress = format!(
            r#"{{"id":"c","runId":"r","name":"job","timestamp":"2023-11-14T22:13:18.000Z","batchId":{batch},
            "batchDuration":118,"numInputRows":10000,"inputRowsPerSecond":null,"processedRowsPerSecond":84745.8,
            "durationMs":{{"latestOffset":1,"queryPlanning":0,"walCommit":0,"getBatch":50,"addBatch":60,
            "commitOffsets":5,"triggerExecution":118}},"eventTime":{{"watermark":"2024-01-01T00:00:00.000Z"}},"stateOperators":[
            {{"operatorName":"aggregate","query":"counts","numRowsTotal":700,"numRowsUpdated":7,"numRowsRemoved":0,
            "commitTimeMs":4,"memoryUsedBytes":1048576,"numRowsDroppedByWatermark":0}}],"sources":[
            {{"description":"files","startOffset":null,"endOffset":null,"latestOffset":null,"numInputRows":10000,
            "inputRowsPerSecond":null,"processedRowsPerSecond":null,"files":["f"],"filesLeft":3,"bytesLeft":2048}}],
            "sink":null,"sinks":[],"numBadRows":1,"badFiles":[],"numLateRows":2}}"#
        );
        LogRow {
            address: BatchAddress { batch: BatchId(batch), generation: Some(Generation(0)) },
            retracted: false,
            committed_at_us: 1_700_000_000_000_000,
            files: vec![format!("flows-{batch}.json")],
            rows: 10_000,
            bad_rows: 1,
            state_rows: 700,
            watermark_us: None,
            progress: serde_json::from_str(&progress).unwrap(),
        }
    }

    /// A job that runs, with these batches.
    pub fn seen(batches: &[u64]) -> Seen {
        let at = BatchAddress { batch: BatchId(batches.last().copied().unwrap()), generation: Some(Generation(0)) };
        Seen {
            job: "web_servers".to_owned(),
            activity: Some(Activity { since_us: Some(1_699_999_800_000_000), at_work: None }),
            batches: batches.iter().copied().map(row).collect(),
            sinks: vec![SinkFacts {
                query: "counts".to_owned(),
                sink: "memory[counts]".to_owned(),
                guarantee: Guarantee::ExactlyOnce,
            }],
            unit: "file",
            result: Some(shown(&table(), at).unwrap()),
            ..Seen::default()
        }
    }
}
