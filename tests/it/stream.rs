//! Jobs run in this process, through the library: what the property tests and sweeps are made of.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, SystemTime},
};

use highwater::{
    batch::{self, EngineOptions, Event, RewindOptions, RewindReport, RunOptions, Summary, Trigger, View},
    job::{self, JobSpec, Variables},
    model::{BatchId, Faults, Result},
    sink::{self, ConsoleTarget},
};

/// A job over a folder of its own, with a checkpoint and an output folder beside it.
pub struct Scratch {
    pub dir: tempfile::TempDir,
    pub sql: String,
    files: usize,
}

impl Scratch {
    /// `sql` may use `${INPUT}` and `${OUTPUT}`.
    pub fn new(sql: &str) -> Scratch {
        let dir = temporary_folder();
        fs::create_dir(dir.path().join("input")).expect("a folder for the input");
        Scratch { dir, sql: sql.to_owned(), files: 0 }
    }

    pub fn input(&self) -> PathBuf {
        self.dir.path().join("input")
    }

    pub fn output(&self) -> PathBuf {
        self.dir.path().join("output")
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.dir.path().join("checkpoint")
    }

    /// Adds a file, newer than all before it.
    pub fn add(&mut self, bytes: &[u8]) {
        let name = format!("{:04}.json", self.files);
        self.add_named(&name, bytes);
    }

    pub fn add_named(&mut self, name: &str, bytes: &[u8]) {
        let path = self.input().join(name);
        fs::write(&path, bytes).expect("input is written");
        stamp(&path, self.files);
        self.files += 1;
    }

    pub fn job(&self) -> JobSpec {
        let set = [("INPUT", self.input()), ("OUTPUT", self.output())];
        let given = set.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned())).into();
        job::parse("job.sql", "job", &self.sql, &Variables::new(given)).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn run(&self, faults: Faults, threads: usize) -> Result<Summary> {
        self.run_batches(faults, threads, None)
    }

    pub fn run_batches(&self, faults: Faults, threads: usize, batches_max: Option<u64>) -> Result<Summary> {
        self.run_with(
            EngineOptions { checkpoint: self.checkpoint(), threads, accept_change: false, faults },
            batches_max,
        )
    }

    pub fn run_with(&self, engine: EngineOptions, batches_max: Option<u64>) -> Result<Summary> {
        let stop = AtomicBool::new(false);
        let options = RunOptions { engine, trigger: Trigger::AvailableNow, batches_max, stop: &stop };
        let mut make_sink = |spec: &job::SinkSpec, mode| Ok(sink::make_sink(spec, mode, ConsoleTarget::nowhere));
        batch::run(self.job(), options, &mut make_sink, &mut |_: Event<'_>| {})
    }

    /// Goes back to a batch; `None`: before the first.
    pub fn rewind(&self, to: Option<u64>, replan: bool, faults: Faults) -> Result<RewindReport> {
        let options = RewindOptions { to: to.map(BatchId), dry_run: false, replan, threads: 1, faults };
        self.rewind_with(&options)
    }

    pub fn rewind_with(&self, options: &RewindOptions) -> Result<RewindReport> {
        let mut make_sink = |spec: &job::SinkSpec, mode| Ok(sink::make_sink(spec, mode, ConsoleTarget::nowhere));
        batch::rewind(&self.checkpoint(), options, &mut make_sink)
    }

    pub fn view(&self) -> View {
        View::open(&self.checkpoint()).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Crashes are simulated inside this process, so nothing here needs a disk that fsyncs.
pub fn temporary_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

/// Sets a file's modification time by its number, so that the order of reading does not depend on the clock.
pub fn stamp(path: &Path, number: usize) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + number as u64);
    let file = fs::File::options().write(true).open(path).expect("the file opens");
    file.set_modified(time).expect("its time can be set");
}

/// A table as text: column names, then rows.
pub fn rows(table: &batch::Table) -> Vec<String> {
    let text = sink::rows::json_lines(&table.rows).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(text).expect("JSON is UTF-8").lines().map(str::to_owned).collect()
}
