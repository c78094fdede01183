//! What is known of a running job, for whoever shows it: the page here, and others that know nothing of a web.
//!
//! The job's own thread tells it what happens ([`Board::event`]), which costs a lock and a copy; whoever shows it takes a
//! [`Snapshot`] and calculates on a thread of its own.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    batch::{Event, JobFacts, LogRow},
    model::BatchId,
    progress::Progress,
};

/// Batches that are remembered; older ones are in the checkpoint.
pub const BATCHES_KEPT: usize = 300;

/// Without a batch and with nothing waiting, a job is idle after this long. A second, in microseconds.
const IDLE_AFTER_US: i64 = 1_000_000;

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is being opened: the checkpoint is read, what a crash left is repaired.
    Starting,
    /// A batch is at work, and no more waits than the next one takes.
    Running,
    /// More waits than a batch like the newest takes.
    CatchingUp,
    /// Nothing waits.
    Idle,
    /// It ended well, or was stopped.
    Done,
    Failed,
}

impl State {
    pub const ALL: [State; 6] =
        [State::Starting, State::Running, State::CatchingUp, State::Idle, State::Done, State::Failed];

    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::CatchingUp => "catching up",
            State::Idle => "idle",
            State::Done => "done",
            State::Failed => "failed",
        }
    }

    /// Of a job that is open, from what its newest batch said. `working`: whether a batch is known to be at work;
    /// `files_newest`: the files that the newest batch took; `age_us`: how long ago it was committed.
    pub fn of_open(working: bool, files_left: u64, files_newest: u64, age_us: Option<i64>) -> State {
        if files_left > files_newest.max(1) {
            State::CatchingUp
        } else if working || files_left > 0 || age_us.is_some_and(|age| age < IDLE_AFTER_US) {
            State::Running
        } else {
            State::Idle
        }
    }
}

/// What waits to be read, as of the newest batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    pub files: u64,
    /// As they lie there; `None`: not known.
    pub bytes: Option<u64>,
}

impl Lag {
    /// What a batch left behind.
    pub fn after(progress: &Progress) -> Lag {
        let sources = &progress.sources;
        Lag {
            files: sources.iter().map(|source| source.files_left).sum(),
            bytes: sources.iter().map(|source| source.bytes_left).sum(),
        }
    }
}

/// What the lag was measured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The job was opened.
    Opening,
    /// This batch was planned; what it took is taken off.
    Batch(u64),
    /// The job looked for more, and found nothing.
    Idle,
}

/// The lag as it was found last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    pub lag: Lag,
    pub moment: Moment,
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
}

impl Measured {
    /// That of a batch. `committed_at_us`: where it does not say when it was planned.
    pub fn by(progress: &Progress, committed_at_us: i64) -> Measured {
        let planned = chrono::DateTime::parse_from_rfc3339(&progress.timestamp).ok();
        Measured {
            lag: Lag::after(progress),
            moment: Moment::Batch(progress.batch_id),
            at_us: planned.map_or(committed_at_us, |planned| planned.timestamp_micros()),
        }
    }
}

/// A committed batch.
#[derive(Debug, Clone)]
pub struct Entry {
    pub progress: Arc<Progress>,
    /// When it was committed, or a little later; microseconds since the Unix epoch.
    pub committed_at_us: i64,
}

/// What this run did so far. Grows only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub batches: u64,
    pub rows: u64,
    pub bad_rows: u64,
    pub late_rows: u64,
    /// Milliseconds that the batches took.
    pub busy_ms: u64,
    /// Rows read of each source, in the order of the job.
    pub source_rows: Vec<u64>,
    /// Rows given to the sink of each query, in the order of the job file.
    pub sink_rows: Vec<u64>,
}

impl Totals {
    fn add(&mut self, progress: &Progress) {
        self.batches += 1;
        self.rows += progress.num_input_rows;
        self.bad_rows += progress.num_bad_rows;
        self.late_rows += progress.num_late_rows;
        self.busy_ms += progress.batch_duration.unwrap_or(0);
        let grow = |sums: &mut Vec<u64>, rows: Vec<u64>| {
            sums.resize(sums.len().max(rows.len()), 0);
            sums.iter_mut().zip(rows).for_each(|(sum, rows)| *sum += rows);
        };
        grow(&mut self.source_rows, progress.sources.iter().map(|source| source.num_input_rows).collect());
        grow(&mut self.sink_rows, progress.sinks.iter().map(|sink| sink.num_output_rows.unwrap_or(0)).collect());
    }
}

/// All that is known, as of one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The job's name.
    pub job: Arc<str>,
    /// When the process began with it; microseconds since the Unix epoch.
    pub started_us: i64,
    pub facts: Arc<JobFacts>,
    /// The newest batches, oldest first.
    pub entries: VecDeque<Entry>,
    pub totals: Totals,
    /// The batch at work.
    pub at_work: Option<BatchId>,
    /// Whether the checkpoint is open.
    pub opened: bool,
    /// The newest batch when it was opened: those after it are of this run.
    newest_before: Option<u64>,
    /// `None`: it is not open yet.
    measured: Option<Measured>,
    /// How it ended, once it did: `Some` holds the operator's error.
    ended: Option<Option<String>>,
}

impl Snapshot {
    pub fn newest(&self) -> Option<&Entry> {
        self.entries.back()
    }

    pub fn batch(&self, batch: u64) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.progress.batch_id == batch)
    }

    /// The high-water mark: the newest committed batch.
    pub fn high_water_mark(&self) -> Option<u64> {
        self.newest().map(|entry| entry.progress.batch_id)
    }

    /// What waits, as it was found last; `None`: nobody has looked yet.
    pub fn lag(&self) -> Option<Measured> {
        self.measured
    }

    /// Microseconds since the newest batch was committed.
    pub fn commit_age_us(&self, now_us: i64) -> Option<i64> {
        self.newest().map(|newest| (now_us - newest.committed_at_us).max(0))
    }

    pub fn state(&self, now_us: i64) -> State {
        match &self.ended {
            Some(Some(_)) => State::Failed,
            Some(None) => State::Done,
            None if !self.opened => State::Starting,
            None => {
                let files = self.newest().map_or(0, |newest| files_taken(&newest.progress));
                let waiting = self.measured.map_or(0, |measured| measured.lag.files);
                State::of_open(self.at_work.is_some(), waiting, files, self.commit_age_us(now_us))
            }
        }
    }

    /// Why it failed, if it did.
    pub fn error(&self) -> Option<&str> {
        self.ended.as_ref()?.as_deref()
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }
}

/// Files that a batch read.
pub fn files_taken(progress: &Progress) -> u64 {
    progress.sources.iter().map(|source| source.files.len() as u64).sum()
}

/// Rows of state, of all operators.
pub fn state_rows(progress: &Progress) -> u64 {
    progress.state_operators.iter().map(|operator| operator.num_rows_total).sum()
}

/// Bytes of memory that state takes, of all operators.
pub fn state_bytes(progress: &Progress) -> u64 {
    progress.state_operators.iter().map(|operator| operator.memory_used_bytes).sum()
}

/// How far the watermark is behind the newest event of the batch, in milliseconds; `None` where it has no events, or there
/// is no watermark yet.
pub fn watermark_gap_ms(progress: &Progress) -> Option<i64> {
    let time = |text: &Option<String>| chrono::DateTime::parse_from_rfc3339(text.as_deref()?).ok();
    let (newest, watermark) = (time(&progress.event_time.max)?, time(&progress.event_time.watermark)?);
    Some((newest - watermark).num_milliseconds())
}

/// The phases of a batch, in their order; what is left of its duration is upkeep (snapshots, bookkeeping).
pub const PHASES: [&str; 7] = ["plan", "read", "step", "stage", "commit", "publish", "upkeep"];

/// How long each of [`PHASES`] took, in milliseconds. Records older than the fields count staging as step, publishing as
/// commit.
pub fn phases_ms(progress: &Progress) -> [u64; 7] {
    let took = &progress.duration_ms;
    let (stage, publish) = (took.stage.unwrap_or(0), took.publish.unwrap_or(0));
    let commit = took.wal_commit + took.commit_offsets.unwrap_or(0).saturating_sub(publish);
    let known = [
        took.latest_offset + took.query_planning,
        took.get_batch,
        took.add_batch.saturating_sub(stage),
        stage,
        commit,
        publish,
    ];
    let rest = progress.batch_duration.unwrap_or(0).saturating_sub(known.iter().sum());
    let [plan, read, step, stage, commit, publish] = known;
    [plan, read, step, stage, commit, publish, rest]
}

/// Where the job's thread writes down what happens, and others look.
#[derive(Debug)]
pub struct Board {
    known: Mutex<Snapshot>,
    /// Grows with each change.
    version: AtomicU64,
}

impl Board {
    /// Of a job that is about to be opened.
    pub fn new(job: &str, now_us: i64) -> Board {
        Board {
            known: Mutex::new(Snapshot {
                job: job.into(),
                started_us: now_us,
                facts: Arc::default(),
                entries: VecDeque::with_capacity(BATCHES_KEPT),
                totals: Totals::default(),
                at_work: None,
                opened: false,
                newest_before: None,
                measured: None,
                ended: None,
            }),
            version: AtomicU64::new(0),
        }
    }

    /// Nobody panics with the lock; if somebody did, what is written there is still whole.
    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Takes down what happened.
    pub fn event(&self, event: &Event<'_>, now_us: i64) {
        match event {
            Event::Opened { newest, files_waiting, bytes_waiting, facts, .. } => self.change(|known| {
                known.opened = true;
                known.newest_before = newest.map(|newest| newest.0);
                let lag = Lag { files: *files_waiting, bytes: Some(*bytes_waiting) };
                known.measured = Some(Measured { lag, moment: Moment::Opening, at_us: now_us });
                known.facts = Arc::new(facts.clone());
            }),
            Event::Began { batch } => self.change(|known| known.at_work = Some(*batch)),
            Event::Batch { progress, .. } => {
                let entry = Entry { progress: Arc::new((*progress).clone()), committed_at_us: now_us };
                self.change(|known| {
                    known.at_work = None;
                    known.totals.add(progress);
                    known.measured = Some(Measured::by(progress, now_us));
                    if known.entries.len() >= BATCHES_KEPT {
                        known.entries.pop_front();
                    }
                    known.entries.push_back(entry);
                });
            }
            // told with each trigger of an idle job: what only grows older is no change
            Event::Idle { bytes_waiting } => {
                let was_at_work = {
                    let mut known = self.lock();
                    let lag = Lag { files: 0, bytes: Some(*bytes_waiting) };
                    known.measured = Some(Measured { lag, moment: Moment::Idle, at_us: now_us });
                    known.at_work.is_some()
                };
                if was_at_work {
                    self.change(|known| known.at_work = None);
                }
            }
            Event::Notice(_) => {}
        }
    }

    /// Puts what the log knows of earlier batches before those of this run, some of which may be in the log already.
    pub fn remember(&self, rows: Vec<LogRow>) {
        self.change(|known| {
            let newest = known.newest_before;
            let mut earlier: Vec<Entry> = rows
                .into_iter()
                .filter(|row| !row.retracted && Some(row.address.batch.0) <= newest)
                .map(|row| Entry { progress: Arc::new(row.progress), committed_at_us: row.committed_at_us })
                .collect();
            earlier.sort_by_key(|entry| entry.progress.batch_id);
            let room = BATCHES_KEPT.saturating_sub(known.entries.len());
            let skipped = earlier.len().saturating_sub(room);
            earlier.into_iter().skip(skipped).rev().for_each(|entry| known.entries.push_front(entry));
        });
    }

    /// The job is over; `error`: why it failed.
    pub fn ended(&self, error: Option<String>) {
        self.change(|known| {
            known.at_work = None;
            known.ended = Some(error);
        });
    }

    /// Whether the job has the checkpoint open, or is done with it.
    pub fn is_open(&self) -> bool {
        let known = self.lock();
        known.opened || known.has_ended()
    }

    /// The newest committed batch.
    pub fn high_water_mark(&self) -> Option<u64> {
        self.lock().high_water_mark()
    }

    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Grows with each change: what was calculated from a snapshot of the same version still holds, but for ages.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{BatchAddress, Generation},
        progress::{DurationMs, EventTime, LateProgress, SourceProgress},
    };

    fn source(files_left: u64, bytes_left: Option<u64>) -> SourceProgress {
        SourceProgress {
            description: "FileStreamSource[/in]".into(),
            start_offset: None,
            end_offset: None,
            latest_offset: None,
            num_input_rows: 10,
            input_rows_per_second: None,
            processed_rows_per_second: None,
            files: vec!["a.json".into()],
            files_left,
            bytes_left,
            num_files_cleaned: 0,
            files_cleaned: Vec::new(),
            files_not_cleaned: Vec::new(),
            unread_bytes: None,
        }
    }

    pub fn progress(batch_id: u64, files_left: u64) -> Progress {
        Progress {
            id: "id".into(),
            run_id: "run".into(),
            name: "job".into(),
            timestamp: "2024-01-01T00:00:00.000Z".into(),
            batch_id,
            batch_duration: None,
            num_input_rows: 10,
            input_rows_per_second: None,
            processed_rows_per_second: None,
            duration_ms: DurationMs { add_batch: 7, stage: Some(2), wal_commit: 1, ..DurationMs::default() },
            event_time: EventTime::default(),
            state_operators: Vec::new(),
            sources: vec![source(files_left, Some(files_left * 100))],
            sink: None,
            sinks: Vec::new(),
            num_bad_rows: 1,
            bad_files: Vec::new(),
            num_late_rows: 2,
        }
    }

    fn told(board: &Board, batch: u64, files_left: u64, now_us: i64) {
        board.event(&Event::Began { batch: BatchId(batch) }, now_us);
        board.event(&Event::Batch { progress: &progress(batch, files_left), files_left }, now_us);
    }

    fn opened(newest: Option<u64>) -> Event<'static> {
        let newest = newest.map(BatchId);
        Event::Opened { newest, is_new: false, files_waiting: 3, bytes_waiting: 700, facts: JobFacts::default() }
    }

    fn logged(batch: u64) -> LogRow {
        LogRow {
            address: BatchAddress { batch: BatchId(batch), generation: Some(Generation::FIRST) },
            retracted: false,
            committed_at_us: 0,
            files: Vec::new(),
            rows: 0,
            bad_rows: 0,
            state_rows: 0,
            watermark_us: None,
            progress: progress(batch, 0),
        }
    }

    #[test]
    fn a_batch_that_the_log_knows_already_is_there_once() {
        let board = Board::new("job", 0);
        board.event(&opened(Some(4)), 0);
        // the log was read after this run had committed batch 5, and before it told so
        board.remember((3..=5).map(logged).collect());
        let ids = || board.snapshot().entries.iter().map(|entry| entry.progress.batch_id).collect::<Vec<_>>();
        assert_eq!(ids(), [3, 4]);
        told(&board, 5, 0, 0);
        assert_eq!(ids(), [3, 4, 5]);
    }

    #[test]
    fn a_job_is_in_one_state_at_a_time() {
        let board = Board::new("job", 0);
        let state = |now_us| board.snapshot().state(now_us);
        assert_eq!(state(0), State::Starting);
        assert_eq!(board.snapshot().lag(), None, "nobody has looked");
        board.event(&opened(None), 5);
        let measured = |files, bytes, moment, at_us| Some(Measured { lag: Lag { files, bytes }, moment, at_us });
        assert_eq!(state(0), State::CatchingUp);
        assert_eq!(board.snapshot().lag(), measured(3, Some(700), Moment::Opening, 5));
        told(&board, 0, 2, 1_000);
        let planned = 1_704_067_200_000_000;
        assert_eq!(board.snapshot().lag(), measured(2, Some(200), Moment::Batch(0), planned), "as its plan found it");
        assert_eq!(state(9_000_000), State::CatchingUp);
        told(&board, 1, 1, 2_000);
        assert_eq!(state(9_000_000), State::Running);
        told(&board, 2, 0, 3_000);
        assert_eq!((state(4_000), state(9_000_000)), (State::Running, State::Idle));
        board.event(&Event::Began { batch: BatchId(3) }, 9_000_000);
        assert_eq!(state(90_000_000), State::Running, "a batch may take long");
        board.event(&Event::Idle { bytes_waiting: 0 }, 9_000_000);
        assert_eq!(state(90_000_000), State::Idle);
        assert_eq!(board.snapshot().lag(), measured(0, Some(0), Moment::Idle, 9_000_000));
        board.ended(None);
        assert_eq!(state(90_000_000), State::Done);
        board.ended(Some("the disk is full".into()));
        assert_eq!((state(0), board.snapshot().error()), (State::Failed, Some("the disk is full")));
    }

    #[test]
    fn so_many_batches_are_remembered_and_all_are_counted() {
        let board = Board::new("job", 0);
        (0..400).for_each(|batch| told(&board, batch, 0, 0));
        let known = board.snapshot();
        assert_eq!((known.entries.len(), known.high_water_mark()), (BATCHES_KEPT, Some(399)));
        assert_eq!(known.entries[0].progress.batch_id, 100);
        let Totals { batches, rows, bad_rows, late_rows, .. } = known.totals;
        assert_eq!((batches, rows, bad_rows, late_rows), (400, 4000, 400, 800));
    }

    #[test]
    fn phases_add_up_to_the_duration() {
        let mut progress = progress(0, 0);
        progress.complete(&LateProgress { batch_duration: 20, commit_offsets: 4, publish: 3 });
        assert_eq!(phases_ms(&progress), [0, 0, 5, 2, 5, 3, 5]);
        assert_eq!(phases_ms(&progress).iter().sum::<u64>(), 20);
        (progress.duration_ms.stage, progress.duration_ms.publish) = (None, None);
        assert_eq!(phases_ms(&progress), [0, 0, 7, 0, 8, 0, 5], "of an older record");
    }

    #[test]
    fn the_gap_is_between_the_newest_event_and_the_watermark() {
        let mut progress = progress(0, 0);
        assert_eq!(watermark_gap_ms(&progress), None);
        progress.event_time.max = Some("2024-01-01T00:00:12.500Z".into());
        progress.event_time.watermark = Some("2024-01-01T00:00:00.000Z".into());
        assert_eq!(watermark_gap_ms(&progress), Some(12_500));
    }
}
