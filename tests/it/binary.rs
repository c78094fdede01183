//! The real binary over a scratch folder: started, waited for (never for ever), killed, and asked.
//!
//! Only children that were spawned here are ever killed. `HIGHWATER_BIN` names another build of the same tree to
//! test, for instance the release one.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{Read, Write as _},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// No command of these tests takes this long: one that does hangs.
pub const HANGS_AFTER: Duration = Duration::from_secs(20);

/// The binary under test.
pub fn executable() -> PathBuf {
    std::env::var_os("HIGHWATER_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_highwater")), PathBuf::from)
}

/// Says that a test was left out, and why; a run of the tests counts these lines.
pub fn skip(test: &str, why: &str) {
    // Past the capture of the test runner, so that a run can be asked what it skipped.
    writeln!(std::io::stderr(), "skipped: {test}: {why}").expect("standard error takes a line");
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    /// The exit code; a signal is none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// Fails the test unless the exit code is this.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code(), Some(code), "{}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr);
        self.sober()
    }

    /// Fails the test if anything of the inside shows: a panic, a backtrace, `Debug` output of an error.
    #[track_caller]
    pub fn sober(self) -> Ended {
        for word in ["panicked at", "RUST_BACKTRACE", "stack backtrace", "Error(Inner", "Some(\"", "Os { code"] {
            assert!(!self.stderr.contains(word), "{word}: {}", self.stderr);
        }
        self
    }

    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    /// Each line of stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// A running command. Killed when it is dropped, so that no failed test leaves one behind.
pub struct Running {
    child: Child,
    started: Instant,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running::start_given(command, Stdio::null())
    }

    /// With something on its standard input.
    pub fn start_given(command: &mut Command, input: Stdio) -> Running {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map(read_all);
        let stderr = child.stderr.take().map(read_all);
        Running { child, started: Instant::now(), stdout, stderr }
    }

    /// With a stdout that nobody reads before the command has ended: once the pipe is full, it waits for ever.
    pub fn start_unread(command: &mut Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().map(read_all);
        Running { child, started: Instant::now(), stdout: None, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a process id fits");
        // SAFETY: kill(2) takes no pointers; the child was spawned here and is not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal}");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// `kill -9`, unless it ends before.
    pub fn kill_after(mut self, delay: Duration) -> Ended {
        while self.started.elapsed() < delay && self.child.try_wait().expect("a child can be asked").is_none() {
            std::thread::sleep(Duration::from_micros(300));
        }
        self.child.kill().expect("a child of ours can be killed");
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(self) -> Ended {
        self.wait_within(HANGS_AFTER * 3)
    }

    /// Waits for the end of what may take longer than a test's command does.
    #[track_caller]
    pub fn wait_within(mut self, longest: Duration) -> Ended {
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                let took = self.started.elapsed();
                self.stdout = self.stdout.take().or_else(|| self.child.stdout.take().map(read_all));
                let text = |reader: &mut Option<JoinHandle<String>>| match reader.take().map(JoinHandle::join) {
                    Some(Ok(text)) => text,
                    other => panic!("its output was read: {}", other.is_some()),
                };
                return Ended { status, stdout: text(&mut self.stdout), stderr: text(&mut self.stderr), took };
            }
            assert!(self.started.elapsed() < longest, "it hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A folder with a job, its input, its checkpoint and its output; commands run in it.
pub struct Folder {
    /// Removed at the end.
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Folder {
    /// The job is `job.sql`; it may use `${INPUT}` and `${OUTPUT}`, which [`Folder::run`] fills in.
    pub fn new(sql: &str) -> Folder {
        Folder::within(tempfile::tempdir().expect("a temporary folder"), sql)
    }

    /// As [`Folder::new`], in memory where there is such a place: for tests that depend on no disk.
    pub fn in_memory(sql: &str) -> Folder {
        Folder::within(crate::stream::temporary_folder(), sql)
    }

    fn within(dir: tempfile::TempDir, sql: &str) -> Folder {
        let path = fs::canonicalize(dir.path()).expect("it is there");
        let folder = Folder { _dir: dir, path };
        folder.write("job.sql", sql.as_bytes());
        fs::create_dir(folder.at("input")).expect("a folder for the input");
        folder
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.at(name), bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Puts an input file in place, newer than those with smaller numbers.
    pub fn input(&self, number: usize, bytes: &[u8]) {
        let name = format!("input/{number:04}.json");
        self.write(&name, bytes);
        crate::stream::stamp(&self.at(&name), number);
    }

    /// A command of the binary, in this folder, that inherits nothing that could change what it does.
    pub fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new(executable());
        command.args(words).current_dir(&self.path);
        for name in ["HIGHWATER_CRASH_AT", "RUST_LOG", "RUST_BACKTRACE", "INPUT", "OUTPUT"] {
            command.env_remove(name);
        }
        command
    }

    pub fn start<S: AsRef<OsStr>>(&self, words: &[S]) -> Running {
        Running::start(&mut self.command(words))
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, words: &[S]) -> Ended {
        self.start(words).wait().sober()
    }

    /// `highwater run` of the folder's job, with these options.
    pub fn run_command(&self, options: &[&str]) -> Command {
        self.run_command_to("output", options)
    }

    /// The same with another output folder.
    pub fn run_command_to(&self, output: &str, options: &[&str]) -> Command {
        let mut command = self.command(&["run", "job.sql", "--checkpoint", "checkpoint"]);
        let job = fs::read_to_string(self.at("job.sql")).expect("the job is there");
        // what a job does not use it must not be given
        for (name, folder) in [("INPUT", "input"), ("OUTPUT", output)] {
            if job.contains(&format!("${{{name}}}")) {
                command.arg("--set").arg(format!("{name}={folder}"));
            }
        }
        command.args(options);
        command
    }

    /// Runs the job over all that is there.
    #[track_caller]
    pub fn run(&self) -> Ended {
        Running::start(&mut self.run_command(&["--available-now"])).wait().sober()
    }

    /// Every query's newest result, as JSON lines with their query.
    #[track_caller]
    pub fn shown(&self) -> String {
        self.call(&["show", "checkpoint", "--output", "json"]).expect(0).stdout
    }

    /// What a reader of the output folder sees, by name.
    pub fn published(&self) -> BTreeMap<String, Vec<u8>> {
        let visible = files(&self.at("output")).into_iter().filter(|(name, _)| !name.starts_with('.'));
        // where rows lie in a database depends on what was deleted before
        let as_seen = |(name, bytes): (String, Vec<u8>)| match name.ends_with(".db") {
            true => (name.clone(), crate::trace::database(&self.at("output").join(name)).into_bytes()),
            false => (name, bytes),
        };
        visible.map(as_seen).collect()
    }

    /// The log without what is of one run or one moment.
    #[track_caller]
    pub fn canonical_log(&self) -> Vec<String> {
        let mut lines = self.call(&["log", "checkpoint", "--json"]).expect(0).json();
        let job = fs::read_to_string(self.at("job.sql")).expect("the job is there");
        let more: &[&str] = if crate::fed::is_received(&job) { &crate::fed::OF_ARRIVAL } else { &[] };
        lines.iter_mut().for_each(|line| highwater::progress::keep_lasting(line, more));
        lines.iter().map(Value::to_string).collect()
    }
}

/// The files directly in a folder, by name; a missing folder has none.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let entries = entries.map(|entry| entry.expect("the folder can be listed"));
    entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("it is readable"))
        })
        .collect()
}

/// Copies a folder with all that is in it; sockets stay behind.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else if path.is_file() {
            fs::copy(&path, &target).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

/// Fails the test at the first line that differs, and shows no more than that: results can be long.
#[track_caller]
pub fn same_lines<T: AsRef<str>, U: AsRef<str>>(ours: &[T], expected: &[U], story: &str) {
    let short = |line: &str| line.chars().take(600).collect::<String>();
    for (number, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        let (ours, expected) = (ours.as_ref(), expected.as_ref());
        assert!(ours == expected, "{story}: line {number}\n  is {}\nnot {}", short(ours), short(expected));
    }
    assert_eq!(ours.len(), expected.len(), "{story}: count of lines");
}

/// A seeded source of chance (SplitMix64): the same seed draws the same numbers everywhere.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, not including, `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("it is below a usize")
    }

    pub fn moment(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.below(1 << 20) as f64 / f64::from(1 << 20))
    }
}

/// A number from the environment: how hard to try, or a seed to repeat.
pub fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
