//! Reads a checkpoint again and again, on a thread of its own: a large state takes its time, and keys must not wait for it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use datafusion::arrow::{
    array::{Array, AsArray},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Float64Type},
    record_batch::RecordBatch,
    util::display::FormatOptions,
};

use super::Wanted;
use crate::{
    batch::{LogRow, Table, View, clock::Stopwatch},
    model::{BatchAddress, BatchId, Error, Result},
    sink::rows,
};

/// Batches that charts and the table know.
const BATCHES_MAX: usize = 240;

/// Rows of a result that are shown.
const ROWS_MAX: usize = 500;

/// A result is read anew only after so many times the time that reading it took: a large state must not be restored all the time.
const REST_FACTOR: u32 = 4;

/// What was read last.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub job: String,
    /// Whether the job runs.
    pub running: bool,
    /// Oldest first; none that a rewind retracted.
    pub batches: Vec<LogRow>,
    pub queries: Vec<String>,
    pub result: Option<Shown>,
    /// Why the result, or the whole checkpoint, could not be read.
    pub trouble: Option<String>,
    pub warnings: Vec<String>,
}

/// A query's result, as far as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub query: String,
    pub at: BatchAddress,
    /// All rows, those that are not shown included.
    pub rows: usize,
    /// As `highwater show` prints it, line by line.
    pub table: Vec<String>,
    /// A label and its number, the largest first; empty where the rows have no such columns.
    pub bars: Vec<(String, f64)>,
}

impl Seen {
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
    pub fn last_row(&self) -> usize {
        self.result.as_ref().map_or(0, |result| result.rows.min(ROWS_MAX).saturating_sub(1))
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
        let mut reading = Reading { checkpoint: checkpoint.to_owned(), shown: None };
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
        let view = View::open(&self.checkpoint)?;
        let mut seen = Seen {
            job: view.job().name.clone(),
            running: view.is_running(),
            batches: view.log_of_newest(BATCHES_MAX)?,
            queries: view.queries(),
            warnings: view.warnings(),
            ..Seen::default()
        };
        let at = match wanted.at {
            Some(batch) => Some(BatchAddress { batch, generation: None }),
            None => view.newest(),
        };
        if let (Some(at), false) = (at, seen.queries.is_empty()) {
            let query = &seen.queries[wanted.query % seen.queries.len()];
            seen.trouble = self.show(&view, query, at).err().map(|error| error.to_string());
            seen.result = self.shown.as_ref().map(|(shown, ..)| shown.clone()).filter(|shown| shown.query == *query);
        }
        Ok(seen)
    }

    fn show(&mut self, view: &View, query: &str, at: BatchAddress) -> Result<()> {
        let at = view.resolve(Some(at))?;
        if let Some((shown, since, took)) = &self.shown
            && shown.query == query
            && (shown.at == at || view.newest() == Some(at) && since.elapsed() < *took * REST_FACTOR)
        {
            return Ok(());
        }
        self.shown = None;
        let reading = Stopwatch::start();
        let shown = shown(&view.result(query, at)?, at)?;
        self.shown = Some((shown, Stopwatch::start(), reading.elapsed()));
        Ok(())
    }
}

fn shown(table: &Table, at: BatchAddress) -> Result<Shown> {
    let mut left = ROWS_MAX;
    let mut first = Vec::new();
    for batch in &table.rows {
        let taken = left.min(batch.num_rows());
        first.push(batch.slice(0, taken));
        left -= taken;
    }
    let lines = rows::table(&table.schema, &first)?;
    Ok(Shown {
        query: table.query.clone(),
        at,
        rows: table.rows.iter().map(RecordBatch::num_rows).sum(),
        table: lines.lines().map(str::to_owned).collect(),
        bars: bars(table)?,
    })
}

/// The last column of numbers, by what the columns before it say.
fn bars(table: &Table) -> Result<Vec<(String, f64)>> {
    let is_number = |index: &usize| table.schema.field(*index).data_type().is_numeric();
    let Some(number) = (0..table.schema.fields().len()).rev().find(is_number) else { return Ok(Vec::new()) };
    let labels: Vec<usize> = (0..number).filter(|index| !is_number(index)).collect();
    if labels.is_empty() {
        return Ok(Vec::new());
    }
    let cannot = |cause: datafusion::arrow::error::ArrowError| {
        Error::failed("a result cannot be drawn").because(cause.to_string())
    };
    let casting = CastOptions { safe: true, format_options: FormatOptions::default() };
    let mut bars = Vec::new();
    for batch in &table.rows {
        let numbers = cast_with_options(batch.column(number), &DataType::Float64, &casting).map_err(cannot)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        let label = batch.project(&labels).map_err(cannot)?;
        let texts = rows::text_cells(&label)?;
        for row in (0..batch.num_rows()).filter(|row| numbers.is_valid(*row) && numbers.value(*row).is_finite()) {
            let words: Vec<&str> = texts.iter().map(|column| column[row].as_str()).collect();
            bars.push((words.join(" "), numbers.value(row)));
        }
    }
    bars.sort_by(|left, right| right.1.total_cmp(&left.1));
    bars.truncate(ROWS_MAX);
    Ok(bars)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::model::Generation;

    fn row(batch: u64) -> LogRow {
        let progress = format!(
            r#"{{"id":"c","runId":"r","name":"job","timestamp":"2024-01-01T00:00:00.000Z","batchId":{batch},
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

    fn table() -> Table {
        let batch = RecordBatch::try_from_iter([
            ("device", Arc::new(StringArray::from(vec!["Comp\u{1b}1", "Comp2"])) as ArrayRef),
            ("count", Arc::new(Int64Array::from(vec![Some(2), Some(40)]))),
        ])
        .unwrap();
        Table { query: "counts".to_owned(), schema: batch.schema(), rows: vec![batch], keys: vec![0] }
    }

    /// A job that runs, with these batches.
    pub fn seen(batches: &[u64]) -> Seen {
        let at = BatchAddress { batch: BatchId(batches.last().copied().unwrap()), generation: Some(Generation(0)) };
        Seen {
            job: "web_servers".to_owned(),
            running: true,
            batches: batches.iter().copied().map(row).collect(),
            queries: vec!["counts".to_owned()],
            result: Some(shown(&table(), at).unwrap()),
            ..Seen::default()
        }
    }

    #[test]
    fn bars_are_labels_and_the_last_number_the_largest_first() {
        assert_eq!(bars(&table()).unwrap(), [("Comp2".to_owned(), 40.0), ("Comp\\u{1b}1".to_owned(), 2.0)]);
        let only_numbers =
            RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let table =
            Table { query: "q".to_owned(), schema: only_numbers.schema(), rows: vec![only_numbers], keys: vec![] };
        assert!(bars(&table).unwrap().is_empty());
    }
}
