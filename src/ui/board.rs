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
    /// Files that waited when it was opened.
    files_at_start: u64,
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

    pub fn lag(&self) -> Lag {
        match self.newest().filter(|_| self.totals.batches > 0) {
            Some(newest) => Lag::after(&newest.progress),
            None => Lag { files: self.files_at_start, bytes: None },
        }
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
                State::of_open(self.at_work.is_some(), self.lag().files, files, self.commit_age_us(now_us))
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
                files_at_start: 0,
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
            Event::Opened { files_waiting, facts, .. } => self.change(|known| {
                known.opened = true;
                known.files_at_start = *files_waiting;
                known.facts = Arc::new(facts.clone());
            }),
            Event::Began { batch } => self.change(|known| known.at_work = Some(*batch)),
            Event::Batch { progress, .. } => {
                let entry = Entry { progress: Arc::new((*progress).clone()), committed_at_us: now_us };
                self.change(|known| {
                    known.at_work = None;
                    known.totals.add(progress);
                    if known.entries.len() >= BATCHES_KEPT {
                        known.entries.pop_front();
                    }
                    known.entries.push_back(entry);
                });
            }
            // told with each trigger of an idle job: only what changes is a change
            Event::Idle => {
                let was_at_work = self.lock().at_work.is_some();
                if was_at_work {
                    self.change(|known| known.at_work = None);
                }
            }
            Event::Notice(_) => {}
        }
    }

    /// Puts what the log knows of earlier batches before those of this run.
    pub fn remember(&self, rows: Vec<LogRow>) {
        self.change(|known| {
            let first = known.entries.front().map(|entry| entry.progress.batch_id);
            let mut earlier: Vec<Entry> = rows
                .into_iter()
                .filter(|row| !row.retracted && first.is_none_or(|first| row.address.batch.0 < first))
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
    use crate::progress::{DurationMs, EventTime, LateProgress, SourceProgress};

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

    #[test]
    fn a_job_is_in_one_state_at_a_time() {
        let board = Board::new("job", 0);
        let state = |now_us| board.snapshot().state(now_us);
        assert_eq!(state(0), State::Starting);
        let opened = Event::Opened { newest: None, files_waiting: 3, facts: JobFacts::default() };
        board.event(&opened, 0);
        assert_eq!((state(0), board.snapshot().lag().files), (State::CatchingUp, 3));
        told(&board, 0, 2, 1_000);
        assert_eq!(board.snapshot().lag(), Lag { files: 2, bytes: Some(200) });
        assert_eq!(state(9_000_000), State::CatchingUp);
        told(&board, 1, 1, 2_000);
        assert_eq!(state(9_000_000), State::Running);
        told(&board, 2, 0, 3_000);
        assert_eq!((state(4_000), state(9_000_000)), (State::Running, State::Idle));
        board.event(&Event::Began { batch: BatchId(3) }, 9_000_000);
        assert_eq!(state(90_000_000), State::Running, "a batch may take long");
        board.event(&Event::Idle, 9_000_000);
        assert_eq!(state(90_000_000), State::Idle);
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
