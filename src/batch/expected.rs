//! What a query's result must be as of a batch, by plain DataFusion over the input that the log names.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::record_batch::RecordBatch;

use super::{statics, view::View};
use crate::{
    job::JobSpec,
    model::{BatchId, BatchWindow, Error, ErrorKind, OutputMode, Place, Result, Watermarks},
    query::{Baseline, BatchInput, BatchResult, Rows},
    source::FilesSource,
};

/// What recomputes results, and the input that they are of.
pub(super) struct Input {
    baseline: Baseline,
    /// Each source's rows, file by file.
    sources: Vec<Vec<FileRows>>,
    /// The windows over batches that were given out for good, by query.
    given: BTreeMap<usize, Given>,
}

/// A file's rows, and the batch that read it.
struct FileRows {
    batch: BatchId,
    rows: Vec<RecordBatch>,
}

/// All windows of a query that end before a batch.
struct Given {
    next: BatchId,
    windows: BatchResult,
}

impl Input {
    /// Reads the input that the log names; also returns the first batch whose input is not the same any more, and why.
    ///
    /// # Errors
    /// Where a file cannot be read at all.
    pub fn read(view: &View, threads: usize) -> Result<(Input, Option<(BatchId, Error)>)> {
        let mut gone: Option<(BatchId, Error)>;
        let job = view.job();
        let baseline = Baseline::new(job)?;
        let mut sources = Vec::with_capacity(job.sources.len());
        let needed = baseline.needed_columns(job)?;
        // what is wrong with their records was told when the job ran
        match statics::read(job, &needed.statics, threads, &mut |_| {}) {
            Err(error) => gone = Some((BatchId::FIRST, error)),
            Ok(tables) => {
                let changed = statics::changed(job, view.reader.history().identities(), &tables);
                gone = changed.map(|error| (BatchId::FIRST, error));
                for (table, read) in tables.into_iter().enumerate() {
                    baseline.feed_static(table, read.rows);
                }
            }
        }
        for (index, columns) in needed.sources.into_iter().enumerate() {
            let spec = &job.sources[index];
            let source = FilesSource::open(spec, columns)?;
            let mut files = Vec::new();
            for seen in view.reader.history().seen_files().iter().filter(|seen| seen.source == spec.name) {
                if gone.as_ref().is_some_and(|(first, _)| seen.batch >= *first) {
                    continue;
                }
                let read = match source.read(&seen.file, threads) {
                    Ok(read) if read.read.content_hash == seen.content_hash => read,
                    Ok(_) => {
                        let other = Error::new(ErrorKind::Moved, "an input file is no longer what was read")
                            .at(Place::Path(source.root().join(seen.file.path.as_path())))
                            .because(format!("its bytes are not those that batch {} read", seen.batch));
                        gone = Some((seen.batch, other));
                        continue;
                    }
                    // of kind Refused: a segment of a receive log that is damaged
                    Err(error) if matches!(error.kind(), ErrorKind::Moved | ErrorKind::Refused) => {
                        let horizon = view.reader.horizon().filter(|_| spec.received.is_some());
                        let is_let_go = horizon.is_some_and(|horizon| seen.batch <= horizon);
                        gone = Some((seen.batch, if is_let_go { let_go_of(seen.batch) } else { error }));
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                files.push(FileRows { batch: seen.batch, rows: read.decoded.batches });
            }
            sources.push(files);
        }
        Ok((Input { baseline, sources, given: BTreeMap::new() }, gone))
    }

    /// The batch result of a query over what the batches `first` to `last` read, or why it has none. Of a query over the
    /// last batches, what it has given out by `last`.
    ///
    /// # Errors
    /// As [`Baseline::run`].
    pub fn expected(
        &mut self,
        view: &View,
        query: usize,
        (first, last): (BatchId, BatchId),
    ) -> Result<std::result::Result<BatchResult, &'static str>> {
        let job = view.job();
        let sink = job.sink_of(&job.queries[query]);
        match (sink.batch_window, sink.output_mode) {
            (Some(window), Some(OutputMode::Append)) => {
                return self.windows_given(job, query, window, (first, last)).map(Ok);
            }
            (Some(window), _) => return self.run(job, query, (window.first_of(last).max(first), last)).map(Ok),
            (None, _) => {}
        }
        if !self.baseline.depends_on_batches(job, query)? {
            return self.run(job, query, (first, last)).map(Ok);
        }
        let mut batches = Vec::new();
        let (mut late_us, mut over_us) = (None, None);
        for commit in view.reader.history().live().iter().filter(|commit| commit.batch() <= last) {
            over_us = commit.plan.watermark_us;
            if commit.batch() >= first {
                let of_batch = |source: &Vec<FileRows>| rows(source, (commit.batch(), commit.batch()));
                let watermarks = Watermarks { late_us, over_us };
                batches.push(BatchInput { rows: self.sources.iter().map(of_batch).collect(), watermarks });
            }
            late_us = over_us;
        }
        self.baseline.replay(job, query, &batches, over_us)
    }

    /// The query over what some batches read, as one.
    fn run(&self, job: &JobSpec, query: usize, batches: (BatchId, BatchId)) -> Result<BatchResult> {
        for (index, source) in self.sources.iter().enumerate() {
            self.baseline.feed(index, Rows::Batches(Arc::new(rows(source, batches))));
        }
        self.baseline.run_to_compare(job, query)
    }

    /// Every window that has ended by `last`, one after the other; those that were computed for an earlier batch are not
    /// computed again.
    fn windows_given(
        &mut self,
        job: &JobSpec,
        query: usize,
        window: BatchWindow,
        (first, last): (BatchId, BatchId),
    ) -> Result<BatchResult> {
        let mut given = match self.given.remove(&query) {
            Some(given) => given,
            None => {
                let newest = self.run(job, query, (last, last))?;
                Given { next: first, windows: BatchResult { rows: Vec::new(), sizes: Vec::new(), ..newest } }
            }
        };
        while given.next <= last {
            if window.ends_with(given.next) {
                let more = self.run(job, query, (window.first_of(given.next).max(first), given.next))?;
                given.windows.rows.extend(more.rows);
                given.windows.sizes.extend(more.sizes);
            }
            given.next = given.next.next();
        }
        let windows = given.windows.clone();
        self.given.insert(query, given);
        Ok(windows)
    }
}

/// What some batches read of a source.
fn rows(source: &[FileRows], (first, last): (BatchId, BatchId)) -> Vec<RecordBatch> {
    let files = source.iter().filter(|file| file.batch >= first && file.batch <= last);
    files.flat_map(|file| file.rows.iter().cloned()).collect()
}

/// What a batch received is kept as long as the batch is.
fn let_go_of(batch: BatchId) -> Error {
    Error::new(ErrorKind::Moved, format!("what batch {batch} received is no longer kept"))
        .because("retain_batches let go of it, as it should: the batch result over all input cannot be had any more")
        .help("verify without --batch: it checks all that is kept")
}
