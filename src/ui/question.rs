//! SQL over the results, answered by a process of its own: what a question takes of memory, stack and time is that process's, and
//! none of it the job's.
//!
//! It is this program's own `show --sql`, with limits that the system keeps; planning and functions have none of their own.

use std::{
    io::{self, Read},
    os::{
        fd::{AsRawFd, RawFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{
    batch::clock::Stopwatch,
    model::{BatchAddress, Error, ErrorKind, Result, UI_TOKEN_VARIABLE},
};

/// What a question may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub rows: usize,
    pub longest: Duration,
    /// Of the process's addresses: its memory, its stacks, and the program itself.
    pub memory_bytes: u64,
    /// Of the answer.
    pub answer_bytes: usize,
}

/// Its answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// An array of objects, as JSON.
    pub rows: String,
    /// Whether there are more rows.
    pub truncated: bool,
}

/// How a process that reads for a moment looks for its end.
const PAUSE: Duration = Duration::from_millis(5);

/// A process that does not outlive this.
struct Asked(Child);

impl Drop for Asked {
    fn drop(&mut self) {
        // one that has ended already cannot be killed, and is waited for all the same
        let killed = self.0.kill();
        if let Err(error) = killed.and_then(|()| self.0.wait().map(drop)) {
            tracing::debug!("the process of a question had ended: {error}");
        }
    }
}

/// Asks, and waits for the answer.
///
/// # Errors
/// Of kind `Usage` where the question is wrong or takes too much, `Refused` where it takes too long or the checkpoint cannot be
/// read, `Failed` where there is no process to be had.
pub fn ask(checkpoint: &Path, at: BatchAddress, sql: &str, limits: &Limits) -> Result<Answered> {
    let started = Stopwatch::start();
    let mut asked = Asked(start(checkpoint, at, sql, limits).map_err(|cause| cannot(&cause))?);
    let mut said = Said::default();
    let whole = said.read(&mut asked.0, limits, &started).map_err(|cause| cannot(&cause))?;
    match whole {
        Ended::Late => Err(late(limits)),
        Ended::Enough => Ok(said.rows(limits, true)),
        Ended::Whole => loop {
            match asked.0.try_wait().map_err(|cause| cannot(&cause))? {
                Some(status) if status.success() => return Ok(said.rows(limits, false)),
                Some(status) => return Err(said.error(status, limits)),
                None if started.elapsed() > limits.longest => return Err(late(limits)),
                None => std::thread::sleep(PAUSE),
            }
        },
    }
}

fn cannot(cause: &io::Error) -> Error {
    Error::failed("the question cannot be asked").because(cause.to_string())
}

fn late(limits: &Limits) -> Error {
    Error::new(ErrorKind::Refused, format!("the query took longer than {} s", limits.longest.as_secs()))
        .help("ask for less; `highwater show CHECKPOINT --sql` has no limit")
}

fn start(checkpoint: &Path, at: BatchAddress, sql: &str, limits: &Limits) -> io::Result<Child> {
    // the program that runs, whatever has taken its place on disk
    let mut command = Command::new("/proc/self/exe");
    command.arg("show").arg(format!("--at={at}")).arg("--output=json").arg(format!("--sql={sql}"));
    command.arg("--").arg(checkpoint).env_remove(UI_TOKEN_VARIABLE).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let seconds = limits.longest.as_secs() + 1;
    let limited = [(libc::RLIMIT_AS, limits.memory_bytes), (libc::RLIMIT_CPU, seconds), (libc::RLIMIT_CORE, 0)];
    // SAFETY: between fork and exec, only calls are made that may be made there, on values that were made before.
    unsafe {
        command.pre_exec(move || {
            for (which, most) in limited {
                let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                if libc::setrlimit(which, &limit) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            // it ends with the thread that waits for it, and so with a job that is killed
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        })
    };
    command.spawn()
}

enum Ended {
    /// All was read.
    Whole,
    /// More than may be answered was read.
    Enough,
    Late,
}

/// What the process said.
#[derive(Default)]
struct Said {
    out: Vec<u8>,
    lines: usize,
    err: Vec<u8>,
}

impl Said {
    fn read(&mut self, child: &mut Child, limits: &Limits, started: &Stopwatch) -> io::Result<Ended> {
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let mut bytes = vec![0; 1 << 16];
        while out.is_some() || err.is_some() {
            let Some(left) = limits.longest.checked_sub(started.elapsed()) else { return Ok(Ended::Late) };
            let fds = [out.as_ref().map(AsRawFd::as_raw_fd), err.as_ref().map(AsRawFd::as_raw_fd)];
            let [from_out, from_err] = ready(fds, left)?;
            if from_out && let Some(stream) = &mut out {
                match stream.read(&mut bytes)? {
                    0 => out = None,
                    count => {
                        self.out.extend_from_slice(&bytes[..count]);
                        self.lines += bytes[..count].iter().filter(|byte| **byte == b'\n').count();
                    }
                }
            }
            if from_err && let Some(stream) = &mut err {
                match stream.read(&mut bytes)? {
                    0 => err = None,
                    // an error is never so long
                    count if self.err.len() < bytes.len() => self.err.extend_from_slice(&bytes[..count]),
                    _ => {}
                }
            }
            if self.lines > limits.rows || self.out.len() > limits.answer_bytes {
                return Ok(Ended::Enough);
            }
        }
        Ok(Ended::Whole)
    }

    /// The rows that are whole, as many as may be.
    fn rows(&self, limits: &Limits, truncated: bool) -> Answered {
        let mut left = limits.answer_bytes;
        let whole = self.out.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let fitting = whole.take(limits.rows).take_while(|line| {
            let fits = left >= line.len();
            left = left.saturating_sub(line.len());
            fits
        });
        let rows: Vec<_> = fitting.map(|line| String::from_utf8_lossy(&line[..line.len() - 1])).collect();
        Answered { rows: format!("[{}]", rows.join(",")), truncated }
    }

    fn error(&self, status: ExitStatus, limits: &Limits) -> Error {
        let told = String::from_utf8_lossy(&self.err);
        let told = told.split_once("error: ").map(|(_, error)| error.trim_end().to_owned());
        match (status.code(), told) {
            // memory that is not to be had ends a process by a signal, and so does a stack that is too deep
            (None, _) if status.signal().is_some() => Error::usage("the query takes too much")
                .because(format!("it may have {} MiB of memory, and is not nested for ever", limits.memory_bytes >> 20))
                .help("ask for less; `highwater show CHECKPOINT --sql` has no limit"),
            (Some(3), Some(told)) => Error::refused(told),
            (_, Some(told)) => Error::usage(told),
            (code, None) => Error::failed(format!("the question ended with {code:?} and no word")),
        }
    }
}

/// Which of two streams have something to read, or have ended; waits at most so long.
fn ready(fds: [Option<RawFd>; 2], longest: Duration) -> io::Result<[bool; 2]> {
    // poll passes over negative ones
    let mut watched = fds.map(|fd| libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 });
    let longest = i32::try_from(longest.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: an array of two initialised entries that outlives the call.
    if unsafe { libc::poll(watched.as_mut_ptr(), 2, longest) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok([false; 2]) } else { Err(error) };
    }
    Ok(watched.map(|watched| watched.revents != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rows: usize, answer_bytes: usize) -> Limits {
        Limits { rows, answer_bytes, longest: Duration::from_secs(1), memory_bytes: 1 << 30 }
    }

    fn said(text: &str) -> Said {
        Said { out: text.as_bytes().to_vec(), ..Said::default() }
    }

    #[test]
    fn rows_are_whole_and_as_many_as_may_be() {
        let rows = |text: &str, limits: Limits| said(text).rows(&limits, false).rows;
        assert_eq!(rows("", limits(9, 99)), "[]");
        assert_eq!(rows("{\"a\":1}\n{\"a\":2}\n", limits(9, 99)), "[{\"a\":1},{\"a\":2}]");
        assert_eq!(rows("{\"a\":1}\n{\"a\":2}\n", limits(1, 99)), "[{\"a\":1}]");
        assert_eq!(rows("{\"a\":1}\n{\"a\":2}\n", limits(9, 8)), "[{\"a\":1}]", "as many bytes as may be");
        assert_eq!(rows("{\"a\":1}\n{\"a", limits(9, 99)), "[{\"a\":1}]", "one that was cut is none");
    }

    #[test]
    fn an_end_is_told_by_what_it_means() {
        let end = |status: i32, err: &str| {
            let said = Said { err: err.as_bytes().to_vec(), ..Said::default() };
            said.error(ExitStatus::from_raw(status), &limits(1, 1))
        };
        let wrong = end(2 << 8, "warning: old\nerror: no such column\n  help: none\n");
        assert_eq!((wrong.kind(), wrong.what()), (ErrorKind::Usage, "no such column\n  help: none"));
        assert_eq!(end(3 << 8, "error: damaged\n").kind(), ErrorKind::Refused);
        let killed = end(6, "memory allocation of 4 bytes failed");
        assert_eq!((killed.kind(), killed.what()), (ErrorKind::Usage, "the query takes too much"));
        assert_eq!(end(1 << 8, "").kind(), ErrorKind::Failed);
    }
}
