//! One query over all events: a process of its own, so that its peak memory is its own.

use std::{
    collections::BTreeMap,
    env, fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use highwater::{
    batch::{self, EngineOptions, Event, RunOptions, Trigger, clock::Stopwatch},
    job::{self, SinkSpec, Variables},
    model::Faults,
    progress::Progress,
    sink::{self, ConsoleTarget},
};
use serde::{Deserialize, Serialize};

/// Names the query that a process is to run; nothing else is then done.
const QUERY: &str = "HIGHWATER_NEXMARK_QUERY";
const INPUT: &str = "HIGHWATER_NEXMARK_INPUT";
const SCRATCH: &str = "HIGHWATER_NEXMARK_SCRATCH";

/// What one run cost.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Rows read, of all streams that the query has.
    pub rows: u64,
    /// Commits, those of batches without data included.
    pub batches: u64,
    /// From opening the checkpoint to closing it.
    pub seconds: f64,
    /// Rows given to the sink; `None`: the result lives in the state, and nothing was given.
    pub rows_out: Option<u64>,
    /// Keys and waiting rows in all operators, after the last batch and after the batch that left the most.
    pub state_rows_end: u64,
    pub state_rows_max: u64,
    /// The most that they took, as the progress has it (`memoryUsedBytes`).
    pub state_bytes_max: u64,
    /// Of the process, by the kernel (`VmHWM`); 0 where it does not tell.
    pub resident_bytes_max: u64,
}

impl Figures {
    fn add(&mut self, progress: &Progress) {
        let operators = &progress.state_operators;
        self.state_rows_end = operators.iter().map(|operator| operator.num_rows_total).sum();
        self.state_rows_max = self.state_rows_max.max(self.state_rows_end);
        self.state_bytes_max =
            self.state_bytes_max.max(operators.iter().map(|operator| operator.memory_used_bytes).sum());
        for rows in progress.sinks.iter().filter_map(|sink| sink.num_output_rows) {
            self.rows_out = Some(self.rows_out.unwrap_or_default() + rows);
        }
        assert_eq!(progress.num_bad_rows, 0, "the events can be read");
    }
}

/// The job file of a query.
pub fn job_file(query: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/nexmark").join(format!("{query}.sql"))
}

/// Runs a query over the events of a folder in a process of its own, with a fresh checkpoint in `scratch`.
pub fn in_a_process(query: &str, input: &Path, scratch: &Path) -> Figures {
    let folder = tempfile::tempdir_in(scratch).expect("a folder is made");
    let output = Command::new(env::current_exe().expect("this program has a path"))
        .env(QUERY, query)
        .env(INPUT, input)
        .env(SCRATCH, folder.path())
        // as the command line has it, see src/cli/memory.rs
        .env("MALLOC_ARENA_MAX", "2")
        .output()
        .expect("this program starts");
    assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the figures of a run")
}

/// What [`in_a_process`] asked for, if it started this process.
pub fn asked_for() -> Option<()> {
    let query = env::var(QUERY).ok()?;
    let [input, scratch] = [INPUT, SCRATCH].map(|name| PathBuf::from(env::var_os(name).expect("set with the query")));
    let figures = run(&query, &input, &scratch);
    serde_json::to_writer(io::stdout().lock(), &figures).expect("the one who asked listens");
    Some(())
}

fn run(query: &str, input: &Path, scratch: &Path) -> Figures {
    let text = fs::read_to_string(job_file(query)).expect("a job file");
    let mut given = BTreeMap::from([("INPUT".to_owned(), input.to_string_lossy().into_owned())]);
    if text.contains("${OUTPUT") {
        given.insert("OUTPUT".to_owned(), scratch.join("out").to_string_lossy().into_owned());
    }
    let job = job::parse(query, query, &text, &Variables::new(given)).unwrap_or_else(|error| panic!("{error}"));
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let engine =
        EngineOptions { checkpoint: scratch.join("checkpoint"), threads, accept_change: false, faults: Faults::none() };
    let stop = AtomicBool::new(false);
    let options = RunOptions { engine, trigger: Trigger::AvailableNow, batches_max: None, stop: &stop };
    let mut make_sink = |spec: &SinkSpec, mode| Ok(sink::make_sink(spec, mode, ConsoleTarget::nowhere));
    let mut figures = Figures::default();
    let started = Stopwatch::start();
    let ran = batch::run(job, options, &mut make_sink, &mut |event: Event<'_>| {
        if let Event::Batch { progress, .. } = event {
            figures.add(progress);
        }
    });
    let summary = ran.unwrap_or_else(|error| panic!("{error}"));
    figures.seconds = started.elapsed().as_secs_f64();
    figures.rows = summary.rows;
    figures.batches = summary.batches;
    figures.resident_bytes_max = resident_bytes_max();
    figures
}

fn resident_bytes_max() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib << 10)
}
