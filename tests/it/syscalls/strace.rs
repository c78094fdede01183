//! The binary under strace: what it calls, and what happens to it there.

use std::{
    fmt,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use super::{subject::Subject, tracer};
use crate::binary::{Ended, Folder, skip};

/// Every call that changes files; `?`: not each machine has it.
const CHANGING: [&str; 30] = [
    "?write",
    "?writev",
    "?pwrite64",
    "?pwritev",
    "?pwritev2",
    "?fsync",
    "?fdatasync",
    "?sync_file_range",
    "?syncfs",
    "?rename",
    "?renameat",
    "?renameat2",
    "?link",
    "?linkat",
    "?symlink",
    "?symlinkat",
    "?unlink",
    "?unlinkat",
    "?rmdir",
    "?mkdir",
    "?mkdirat",
    "?truncate",
    "?ftruncate",
    "?fallocate",
    "?chmod",
    "?fchmod",
    "?fchmodat",
    "?copy_file_range",
    "?bind",
    "?openat",
];

/// Every call that reads files and folders. One that looks whether something is there is none: what is done about it fails, too.
const READING: [&str; 6] = ["?openat", "?read", "?pread64", "?readv", "?preadv", "?getdents64"];

/// Longer than any run that ends by itself.
const HANGS_AFTER: Duration = Duration::from_secs(40);

/// One system call of a run.
#[derive(Debug, Clone)]
pub struct Call {
    pub thread: String,
    pub name: String,
    /// The file that it names or has open, as it was given.
    pub file: String,
    pub line: String,
    /// It was disturbed.
    pub injected: bool,
}

impl Call {
    /// Whether it can make, change or remove something: opening does where it may create.
    pub fn changes(&self) -> bool {
        self.name != "openat" || ["O_CREAT", "O_TMPFILE", "O_TRUNC"].iter().any(|flag| self.line.contains(flag))
    }

    /// Whether the file's name is another one in each run.
    pub fn has_name_of_the_moment(&self) -> bool {
        let name = self.file.rsplit('/').next().unwrap_or_default();
        name.is_empty() || name.starts_with(".tmp") || name.starts_with('#') || name.contains(':')
    }

    /// Whether the file is one of the job's: in its checkpoint, input or output.
    pub fn is_of_job(&self, folder: &Folder) -> bool {
        let of_folder =
            self.file.strip_prefix(&*folder.path().to_string_lossy()).map(|rest| rest.trim_start_matches('/'));
        let relative = of_folder.unwrap_or(&self.file);
        let first = relative.split('/').next().unwrap_or_default();
        (["checkpoint", ".checkpoint.new", "input", "output"].contains(&first)) && !self.has_name_of_the_moment()
    }
}

/// What is done to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL as it begins.
    Kill,
    /// It fails with this error, once.
    Error(&'static str),
    /// It and all after it fail with this error.
    Sticky(&'static str),
}

/// A fault at the nth call of a kind, on these files only where any are named.
#[derive(Debug, Clone)]
pub struct Injection {
    pub call: String,
    pub fault: Fault,
    pub nth: usize,
    pub files: Vec<String>,
}

/// As strace would be asked for it.
impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Injection { call, fault, nth, .. } = self;
        match fault {
            Fault::Kill => write!(f, "{call}:signal=SIGKILL:when={nth}"),
            Fault::Error(error) => write!(f, "{call}:error={error}:when={nth}"),
            Fault::Sticky(error) => write!(f, "{call}:error={error}:when={nth}+"),
        }
    }
}

/// A run that was watched.
pub struct Traced {
    pub ended: Ended,
    pub calls: Vec<Call>,
}

/// Whether strace works here; says that the test is skipped where it does not.
pub fn is_there(test: &str) -> bool {
    let probe = Command::new("strace").args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).output();
    match probe {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skip(test, &format!("strace cannot trace here: {}", String::from_utf8_lossy(&output.stderr).trim()));
            false
        }
        Err(error) => {
            skip(test, &format!("strace cannot be started: {error}"));
            false
        }
    }
}

/// Runs the folder's job to its end, and tells every call that changes files.
pub fn watch(folder: &Subject) -> Traced {
    trace(folder, &["--seccomp-bpf".to_owned(), "-e".to_owned(), format!("trace={}", CHANGING.join(","))])
}

/// The same of the calls that read.
pub fn watch_reading(folder: &Subject) -> Traced {
    trace(folder, &["--seccomp-bpf".to_owned(), "-e".to_owned(), format!("trace={}", READING.join(","))])
}

/// Runs the folder's job with a fault.
pub fn inject(folder: &Subject, injection: &Injection) -> Traced {
    // what is said is traced as well: on stderr, a file here
    let mut options = vec!["-e".to_owned(), format!("trace=?write,{}", injection.call)];
    if injection.fault != Fault::Kill {
        // much quicker; and a signal would not be sent
        options.push("--seccomp-bpf".to_owned());
    }
    options.extend(["-e".to_owned(), format!("inject={injection}")]);
    if !injection.files.is_empty() {
        // but then a failing `write` must not hit it
        let said = (injection.call != "write").then(|| folder.at("stderr").to_string_lossy().into_owned());
        options.extend(injection.files.iter().chain(&said).flat_map(|file| ["-P".to_owned(), file.clone()]));
    }
    trace(folder, &options)
}

/// Its standard streams are files, so that the trace tells by name when something is said.
fn trace(folder: &Subject, options: &[String]) -> Traced {
    let job = folder.run_command(&["--available-now"]);
    let mut command = Command::new("strace");
    command.args(["-f", "--quiet=all", "-e", "signal=none", "-y", "-s", "24", "-o", "calls"]);
    command.args(options).arg("--").arg(job.get_program()).args(job.get_args()).current_dir(folder.path());
    for (name, value) in job.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let ended = finish(folder, &mut command);
    let text = fs::read(folder.at("calls")).expect("strace writes what it saw");
    Traced { ended, calls: parse(&String::from_utf8_lossy(&text)) }
}

/// Kills the folder's job as any one of its threads begins its `nth` call of this `number`, without strace.
pub fn kill_directly(folder: &Subject, number: libc::c_long, nth: usize) -> Ended {
    let mut job = folder.run_command(&["--available-now"]);
    speak_in_files(folder, job.current_dir(folder.path()));
    let started = Instant::now();
    let status = tracer::run_and_kill(&mut job, number, nth, HANGS_AFTER);
    ended(folder, status, started.elapsed())
}

/// Waits for a command that says what it has to say in files; ends it with all that it started where it hangs.
fn finish(folder: &Subject, command: &mut Command) -> Ended {
    speak_in_files(folder, command.process_group(0));
    let started = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be asked") {
            break status;
        }
        if started.elapsed() > HANGS_AFTER {
            let group = libc::pid_t::try_from(child.id()).expect("a process id fits");
            // SAFETY: kill(2) takes no pointers; the group was made for this child, which is not yet waited for.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    ended(folder, status, started.elapsed())
}

fn speak_in_files(folder: &Subject, command: &mut Command) {
    let file = |name: &str| Stdio::from(File::create(folder.at(name)).expect("a file can be made"));
    command.stdin(folder.input()).stdout(file("stdout")).stderr(file("stderr"));
}

fn ended(folder: &Folder, status: ExitStatus, took: Duration) -> Ended {
    let text = |name: &str| read_lossy(&folder.at(name));
    Ended { status, stdout: text("stdout"), stderr: text("stderr"), took }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("what was said is kept")).into_owned()
}

/// `7 fsync(5</tmp/db> <unfinished ...>`, then `7 <... fsync resumed>) = -1 EIO (...) (INJECTED)`.
fn parse(text: &str) -> Vec<Call> {
    let mut calls = Vec::<Call>::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let injected = rest.ends_with("(INJECTED)");
        if rest.starts_with("<... ") {
            if let Some(call) = calls.iter_mut().rev().find(|call| call.thread == thread) {
                call.injected |= injected;
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            continue;
        }
        let file = file_of(arguments).to_owned();
        calls.push(Call { thread: thread.to_owned(), name: name.to_owned(), file, line: rest.to_owned(), injected });
    }
    calls
}

/// `"path", ...`, `AT_FDCWD</cwd>, "path", ...`, or `3</path>, ...`
fn file_of(arguments: &str) -> &str {
    let of_descriptor = arguments.starts_with(|c: char| c.is_ascii_digit());
    let (open, close) = if of_descriptor { ('<', '>') } else { ('"', '"') };
    let after = arguments.split_once(open).map_or("", |(_, after)| after);
    after.split_once(close).map_or("", |(file, _)| file)
}

#[test]
fn a_trace_is_read() {
    let text = "\
7 openat(AT_FDCWD</tmp>, \"a/b\", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3</tmp/a/b>
8 pwrite64(4</tmp/db>, \"\\1\\2\"..., 24, 96 <unfinished ...>
7 rename(\"x\", \"y\") = 0
8 <... pwrite64 resumed>) = -1 EIO (Input/output error) (INJECTED)
7 +++ killed by SIGKILL +++
";
    let calls = parse(text);
    let seen: Vec<_> = calls.iter().map(|call| (&*call.thread, &*call.name, &*call.file, call.injected)).collect();
    let expected = [("7", "openat", "a/b", false), ("8", "pwrite64", "/tmp/db", true), ("7", "rename", "x", false)];
    assert_eq!(seen, expected);
    assert!(calls.iter().all(Call::changes));
}
