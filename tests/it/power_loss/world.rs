//! The folder that a scenario lives in: filled with any state of it, and worked on by the binary or the library.

use std::{
    fs,
    ops::Range,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
};

use highwater::{
    batch::{self, EngineOptions, Event, RewindOptions, RunOptions, Trigger, View},
    job::{self, JobSpec, Variables},
    model::{BatchId, Error, Faults},
    sink::{self, ConsoleTarget},
};

use super::{
    disk::{Item, Tree},
    scenarios::{Kind, Scenario, Step},
    server::Server,
};
use crate::{
    binary::{Running, executable},
    fed,
    servers::held::Held,
    stream::{rows, stamp},
};

/// What no power loss touches.
pub const APART: [&str; 2] = ["input", "job.sql"];

/// Where the checkpoint is in it.
pub const CHECKPOINT: &str = "kept/checkpoints/job";

pub struct World {
    root: PathBuf,
    pub scenario: &'static Scenario,
    /// Where its results go, if that is a server.
    pub server: Option<Server>,
}

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A process of its own, 30 ms dearer.
    Binary,
    Library,
}

/// What a start of the job finds on its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    Nothing,
    /// The pieces that it has not received.
    Rest,
}

impl World {
    /// Makes the folder with the input, unless it is there.
    pub fn new(root: &Path, scenario: &'static Scenario) -> World {
        fs::create_dir_all(root.join("input")).expect("a folder is made");
        let root = fs::canonicalize(root).expect("it is there");
        let server = Server::of(scenario, &root.with_file_name("server"));
        let world = World { root, scenario, server };
        let root = world.root();
        fs::write(root.join("job.sql"), world.fill_in(scenario.sql())).expect("the job is written");
        for number in 0..scenario.files() {
            let path = root.join(format!("input/{number:04}.json"));
            fs::write(&path, scenario.file(number)).expect("input is written");
            stamp(&path, number);
        }
        world
    }

    fn fill_in(&self, sql: String) -> String {
        self.server.as_ref().map_or_else(|| sql.clone(), |server| server.fill_in(&sql))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Below folders of its own, which the first run makes, and nothing else makes durable.
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join(CHECKPOINT)
    }

    pub fn output(&self) -> PathBuf {
        self.root.join("published")
    }

    fn job_over(&self, input: &Path) -> JobSpec {
        let set = [("INPUT", input), ("OUTPUT", &self.output())];
        let given = set.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned())).into();
        let parsed =
            job::parse("job.sql", "job", &self.fill_in(self.scenario.sql_over_files()), &Variables::new(given));
        parsed.unwrap_or_else(|error| panic!("{error}"))
    }

    /// How often the job is started for a step, one start after the other. What it has received shows when it was started
    /// with nothing to receive: whoever sends goes on from there.
    pub fn starts(&self, step: Step) -> &'static [Given] {
        match (self.scenario.kind, step) {
            (Kind::Received, Step::Run { .. }) => &[Given::Nothing, Given::Rest],
            _ => &[Given::Nothing],
        }
    }

    /// One of these starts; `None`: nothing is left to do.
    ///
    /// # Errors
    /// Where the checkpoint cannot be read.
    pub fn start(
        &self,
        step: Step,
        given: Given,
        batches_max: Option<u64>,
    ) -> Result<Option<(Command, Stdio)>, String> {
        let (Given::Rest, Step::Run { newest }) = (given, step) else {
            return Ok(Some((self.command(step, batches_max), Stdio::null())));
        };
        let view = self.view().map_err(|error| error.to_string())?;
        let left = newest + 1 - view.newest().map_or(0, |at| at.batch.0 + 1);
        let pieces = (fed::received(&self.checkpoint())..=newest as usize).map(|number| self.scenario.file(number));
        let command = self.command(step, batches_max.map(|_| left));
        Ok((left > 0).then(|| (command, fed::pieces(pieces.collect()))))
    }

    /// The command for a step; a run stops after so many batches.
    fn command(&self, step: Step, batches_max: Option<u64>) -> Command {
        let mut command = Command::new(executable());
        match step {
            Step::Run { .. } => {
                command.args(["run", "job.sql", "--checkpoint", CHECKPOINT, "--available-now"]);
                // what a job does not use it must not be given
                let sets = [("INPUT", "input"), ("OUTPUT", "published")];
                for (name, folder) in sets.into_iter().filter(|(name, _)| self.scenario.uses(name)) {
                    command.arg("--set").arg(format!("{name}={}", self.root.join(folder).display()));
                }
                command.args(batches_max.iter().flat_map(|max| ["--max-batches".to_owned(), max.to_string()]));
            }
            Step::Rewind { to } => {
                let to = to.map_or("start".to_owned(), |to| to.to_string());
                command.args(["rewind", CHECKPOINT, "--to", &to]);
            }
        }
        for name in ["HIGHWATER_CRASH_AT", "RUST_LOG", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        command.current_dir(&self.root);
        command
    }

    /// Does a step, of a job that had received so many pieces durably.
    ///
    /// # Errors
    /// What the product says; that pieces are lost.
    pub fn perform(&self, step: Step, batches_max: Option<u64>, by: By, received: usize) -> Result<(), String> {
        let starts = self.starts(step);
        if by == By::Library && starts.len() == 1 {
            return self.perform_here(step, batches_max);
        }
        for given in starts {
            let Some((mut command, input)) = self.start(step, *given, batches_max)? else { continue };
            let ended = Running::start_given(&mut command, input).wait();
            if ended.code() != Some(0) || ended.stderr.contains("panicked at") {
                return Err(format!("{ended:?}"));
            }
            let found = fed::received(&self.checkpoint());
            if matches!(step, Step::Run { .. }) && found < received {
                return Err(format!("{received} pieces were durable, {found} are there"));
            }
        }
        Ok(())
    }

    /// Does a step in this process.
    fn perform_here(&self, step: Step, batches_max: Option<u64>) -> Result<(), String> {
        let mut make_sink = |spec: &job::SinkSpec, mode| Ok(sink::make_sink(spec, mode, ConsoleTarget::nowhere));
        let done = match step {
            Step::Run { .. } => {
                let engine = EngineOptions {
                    checkpoint: self.checkpoint(),
                    threads: 1,
                    accept_change: false,
                    faults: Faults::none(),
                };
                let stop = AtomicBool::new(false);
                let options = RunOptions { engine, trigger: Trigger::AvailableNow, batches_max, stop: &stop };
                let job = self.job_over(&self.root.join("input"));
                batch::run(job, options, &mut make_sink, &mut |_: Event<'_>| {}).map(drop)
            }
            Step::Rewind { to } => {
                let to = to.map(BatchId);
                let options = RewindOptions { to, dry_run: false, replan: false, threads: 1, faults: Faults::none() };
                batch::rewind(&self.checkpoint(), &options, &mut make_sink).map(drop)
            }
        };
        done.map_err(|error: Error| error.to_string())
    }

    pub fn view(&self) -> Result<View, Error> {
        View::open(&self.checkpoint())
    }

    /// What the queries yield over the first input files, on plain DataFusion: rows as text, sorted.
    pub fn model(&self, files: usize) -> Vec<Vec<String>> {
        let whole = self.yielded(0..files);
        let job = self.job_over(&self.root);
        let of_query = |(query, rows): (usize, Vec<String>)| {
            let Some(window) = job.sink_of(&job.queries[query]).batch_window else { return sorted(rows) };
            // a batch is a file
            let (size, slide) = (window.batches.get() as usize, window.slide.get() as usize);
            let ends = (1..=files).filter(|end| end % slide == 0);
            sorted(ends.flat_map(|end| self.yielded(end.saturating_sub(size)..end).swap_remove(query)).collect())
        };
        whole.into_iter().enumerate().map(of_query).collect()
    }

    fn yielded(&self, files: Range<usize>) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for number in files {
            fs::write(folder.path().join(format!("{number:04}.json")), self.scenario.file(number))
                .expect("it is written");
        }
        let job = self.job_over(folder.path());
        let tables = batch::baseline(&job, 1, 0, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
        tables.iter().map(rows).collect()
    }

    /// Puts the disk into a state.
    pub fn put(&self, tree: &Tree) {
        for path in self.top() {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        write(&self.root, tree);
    }

    /// Lets its server hold this, if there is one.
    ///
    /// # Errors
    /// What the server says.
    pub fn put_held(&self, held: &Held) -> Result<(), String> {
        self.server.as_ref().map_or(Ok(()), |server| server.put(held))
    }

    /// The state that the disk is in.
    pub fn read(&self) -> Tree {
        let mut tree = Tree::default();
        let mut open = self.top();
        while let Some(path) = open.pop() {
            let name = path.strip_prefix(&self.root).expect("it lies below").to_string_lossy().into_owned();
            let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
            let item = if kind.is_dir() {
                open.extend(
                    fs::read_dir(&path).expect("it is listed").map(|entry| entry.expect("it is listed").path()),
                );
                Item::Folder
            } else if kind.is_file() {
                Item::File(fs::read(&path).expect("it is read").into())
            } else {
                Item::Socket
            };
            tree.0.insert(name, item);
        }
        tree
    }

    /// All at the top of the folder that a power loss can touch.
    fn top(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.root).expect("it is listed");
        let paths = entries.map(|entry| entry.expect("it is listed").path());
        paths.filter(|path| !APART.iter().any(|apart| path.ends_with(apart))).collect()
    }
}

/// Writes a tree into a folder that is empty.
pub fn write(folder: &Path, tree: &Tree) {
    for (name, item) in &tree.0 {
        let path = folder.join(name);
        let written = match item {
            Item::Folder => fs::create_dir_all(&path),
            Item::File(bytes) => fs::write(&path, bytes),
            Item::Socket => UnixListener::bind(&path).map(drop),
        };
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

pub fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}
