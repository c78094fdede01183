//! What stderr tells while a job runs: a bar on a terminal, a line per batch, or progress objects.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    args::ProgressMode,
    streams::{say, say_as_it_is},
};
use crate::{
    batch::{Event, Summary},
    model::{BatchId, Error, Result},
    progress::{
        Progress,
        numbers::{count, grouped, plural, short},
    },
};

/// Tells stderr what happens.
#[derive(Debug)]
pub struct Reporter {
    how: How,
    newest: Option<BatchId>,
    /// What waits, and batches take: a file, or what a source has received.
    unit: &'static str,
    /// What of progress could not be told; it never stops a job.
    failed: Option<Error>,
}

#[derive(Debug)]
enum How {
    Bar(ProgressBar),
    Lines,
    Json,
    Nothing,
}

impl Reporter {
    pub fn new(mode: ProgressMode, quiet: bool) -> Reporter {
        let how = match mode {
            ProgressMode::Json => How::Json,
            ProgressMode::None => How::Nothing,
            ProgressMode::Auto if quiet => How::Nothing,
            ProgressMode::Auto if io::stderr().is_terminal() => How::Bar(bar()),
            ProgressMode::Auto => How::Lines,
        };
        Reporter { how, newest: None, unit: "file", failed: None }
    }

    /// The bar that other output has to keep clear of.
    pub fn bar(&self) -> Option<ProgressBar> {
        match &self.how {
            How::Bar(bar) => Some(bar.clone()),
            _ => None,
        }
    }

    /// Whether stderr is for more than errors and progress objects.
    pub fn tells_notices(&self) -> bool {
        matches!(self.how, How::Bar(_) | How::Lines)
    }

    /// Where the page is. A port that was chosen is told whatever else stderr is for, since it is told nowhere else; the line is
    /// no progress object, and the first.
    pub fn page(&self, address: SocketAddr, is_chosen: bool) {
        if is_chosen || self.tells_notices() {
            say(&format!("page: http://{address}/"));
        }
    }

    pub fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Opened { newest, is_new, files_waiting, facts, .. } => {
                self.unit = facts.unit();
                self.opened(newest, is_new, files_waiting);
            }
            Event::Batch { progress, files_left } => self.batch(progress, files_left),
            Event::Began { .. } | Event::Idle { .. } => {}
            Event::Notice(notice) => match &self.how {
                How::Bar(_) | How::Lines => self.line(&format!("note: {notice}")),
                // where stderr is for objects, only who asks for log lines gets them
                How::Nothing | How::Json if notice.is_warning => tracing::warn!("{notice}"),
                How::Nothing | How::Json => tracing::info!("{notice}"),
            },
        }
    }

    fn opened(&mut self, newest: Option<BatchId>, is_new: bool, files_waiting: u64) {
        self.newest = newest;
        let files = count(files_waiting, self.unit);
        self.line(&match newest {
            Some(newest) => format!("resuming after batch {newest}, {files} waiting"),
            None if is_new => format!("a new checkpoint, {files} waiting"),
            None => format!("resuming from the start, to which it was rewound; {files} waiting"),
        });
        if let How::Bar(bar) = &self.how {
            bar.set_message(plural(self.unit));
            bar.set_length(files_waiting);
            bar.tick();
        }
    }

    fn batch(&mut self, progress: &Progress, files_left: u64) {
        self.newest = Some(BatchId(progress.batch_id));
        match &self.how {
            How::Bar(bar) => {
                let files: usize = progress.sources.iter().map(|source| source.files.len()).sum();
                bar.println(batch_line(progress, files_left, self.unit));
                // files may have come since the job was opened
                bar.set_length(bar.position() + files as u64 + files_left);
                bar.inc(files as u64);
            }
            How::Lines => say(&batch_line(progress, files_left, self.unit)),
            How::Json => match serde_json::to_string(progress) {
                Ok(text) => say_as_it_is(&text),
                Err(cause) => {
                    let error = Error::failed("a progress object cannot be written").because(cause.to_string());
                    self.failed = Some(error);
                }
            },
            How::Nothing => {}
        }
    }

    /// The run is over: takes the bar away, and says how it went.
    ///
    /// # Errors
    /// Of kind `Failed`, where progress could not be told.
    pub fn finish(mut self, summary: &Summary, stopped: bool) -> Result<()> {
        self.clear();
        let Summary { batches, rows, bad_rows } = *summary;
        let bad = if bad_rows > 0 { format!(", {}", count(bad_rows, "bad record")) } else { String::new() };
        let did = format!("{}, {}{bad}", batches_text(batches), count(rows, "row"));
        let newest = self.newest.map_or_else(|| "no batch".to_owned(), |newest| format!("batch {newest}"));
        self.line(&match (stopped, batches) {
            (true, _) => format!("stopped after {newest}: {did}; run it again to go on"),
            (false, 0) => format!("nothing new: the newest is {newest}"),
            (false, _) => format!("done with {newest}: {did}"),
        });
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.how {
            How::Bar(bar) => bar.suspend(|| say(text)),
            How::Lines => say(text),
            How::Json | How::Nothing => {}
        }
    }
}

fn batches_text(batches: u64) -> String {
    format!("{} {}", grouped(batches), if batches == 1 { "batch" } else { "batches" })
}

/// Without colours, so that `NO_COLOR` changes nothing.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} {msg}  {elapsed} + {eta}")
        .expect("the template is a constant that parses");
    ProgressBar::new(0).with_style(style)
}

/// `batch 24  10,000 rows  118 ms  84.7k rows/s  state 398  25 files left`
fn batch_line(progress: &Progress, files_left: u64, unit: &str) -> String {
    let mut parts = vec![format!("batch {}", progress.batch_id), count(progress.num_input_rows, "row")];
    if progress.num_bad_rows > 0 {
        parts.push(format!("{} bad", grouped(progress.num_bad_rows)));
    }
    if progress.num_late_rows > 0 {
        parts.push(format!("{} late", grouped(progress.num_late_rows)));
    }
    if let Some(duration_ms) = progress.batch_duration {
        parts.push(format!("{} ms", grouped(duration_ms)));
    }
    if let Some(rate) = progress.processed_rows_per_second {
        parts.push(format!("{} rows/s", short(rate)));
    }
    let state_rows = progress.state_operators.iter().map(|operator| operator.num_rows_total).sum();
    parts.push(format!("state {}", grouped(state_rows)));
    parts.push(format!("{} left", count(files_left, unit)));
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{DurationMs, EventTime, LateProgress, StateOperator};

    fn progress() -> Progress {
        let operator = StateOperator {
            operator_name: "stateStoreSave".into(),
            query: "counts".into(),
            num_rows_total: 398,
            num_rows_updated: 90,
            num_rows_removed: 0,
            commit_time_ms: Some(1),
            memory_used_bytes: 4096,
            num_rows_dropped_by_watermark: 0,
        };
        Progress {
            id: "id".into(),
            run_id: "run".into(),
            name: "web_servers".into(),
            timestamp: "2024-01-01T00:00:00.000Z".into(),
            batch_id: 24,
            batch_duration: None,
            num_input_rows: 10_000,
            input_rows_per_second: None,
            processed_rows_per_second: None,
            duration_ms: DurationMs::default(),
            event_time: EventTime::default(),
            state_operators: vec![operator],
            sources: Vec::new(),
            sink: None,
            sinks: Vec::new(),
            num_bad_rows: 0,
            bad_files: Vec::new(),
            num_late_rows: 0,
        }
    }

    #[test]
    fn a_batch_is_one_line() {
        let mut progress = progress();
        progress.complete(&LateProgress { batch_duration: 118, commit_offsets: 3, publish: 1 });
        assert_eq!(
            batch_line(&progress, 25, "file"),
            "batch 24  10,000 rows  118 ms  84.7k rows/s  state 398  25 files left"
        );
        progress.complete(&LateProgress { batch_duration: 0, commit_offsets: 0, publish: 0 });
        progress.num_bad_rows = 2;
        progress.num_late_rows = 1234;
        assert!(batch_line(&progress, 1, "segment").ends_with("  1 segment left"));
        assert_eq!(
            batch_line(&progress, 1, "file"),
            "batch 24  10,000 rows  2 bad  1,234 late  0 ms  state 398  1 file left"
        );
    }

    #[test]
    fn json_and_none_leave_stderr_alone() {
        assert!(!Reporter::new(ProgressMode::Json, false).tells_notices());
        assert!(!Reporter::new(ProgressMode::None, false).tells_notices());
        assert!(!Reporter::new(ProgressMode::Auto, true).tells_notices());
        assert!(Reporter::new(ProgressMode::Json, true).bar().is_none());
    }
}
