//! `highwater` as a child process that can be killed.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{ChildStderr, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{
    batch::clock::Stopwatch,
    model::{Error, Place, Result},
};

/// How often a child is looked at while its moment to be killed has not come.
const LOOK: Duration = Duration::from_micros(500);

/// Killed when it is dropped, so that no error here leaves a job running.
pub(super) struct Child {
    process: std::process::Child,
    stderr: BufReader<ChildStderr>,
}

impl Child {
    /// Starts `highwater` with these words; its stdout goes nowhere, its stderr can be read.
    ///
    /// # Errors
    /// Of kind `Failed`, where it cannot be started.
    pub fn start(executable: &Path, words: &[&std::ffi::OsStr]) -> Result<Child> {
        let cannot = |cause: String| {
            Error::failed("highwater cannot start itself").at(Place::Path(executable.to_owned())).because(cause)
        };
        let mut command = Command::new(executable);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // what asks this process for a crash, or for log lines, does not ask its children
        command.env_remove("HIGHWATER_CRASH_AT").env_remove("RUST_LOG");
        let mut process = command.spawn().map_err(|cause| cannot(cause.to_string()))?;
        let stderr = process.stderr.take().ok_or_else(|| cannot("it has no stderr".to_owned()))?;
        Ok(Child { process, stderr: BufReader::new(stderr) })
    }

    /// The next line of its stderr; `None` at its end.
    ///
    /// # Errors
    /// Of kind `Failed`, where the pipe breaks.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        match self.stderr.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line.trim_end().to_owned())),
            Err(cause) => Err(Error::failed("a child of highwater cannot be heard").because(cause.to_string())),
        }
    }

    /// Kills it as `kill -9` does, unless it ends by itself within `delay`; whether it was killed.
    ///
    /// # Errors
    /// Of kind `Failed`, where the system refuses.
    pub fn kill_after(&mut self, delay: Duration) -> Result<bool> {
        let watch = Stopwatch::start();
        loop {
            if self.process.try_wait().map_err(|cause| lost(&cause))?.is_some() {
                return Ok(false);
            }
            let Some(left) = delay.checked_sub(watch.elapsed()).filter(|left| !left.is_zero()) else { break };
            std::thread::sleep(left.min(LOOK));
        }
        self.process.kill().map_err(|cause| lost(&cause))?;
        let status = self.process.wait().map_err(|cause| lost(&cause))?;
        // it may have ended in the moment between
        Ok(status.code().is_none())
    }

    /// Waits for its end and says how it ended, with what it said.
    ///
    /// # Errors
    /// Of kind `Failed`, where the system refuses.
    pub fn end(mut self) -> Result<(ExitStatus, String)> {
        let mut text = Vec::new();
        self.stderr.read_to_end(&mut text).map_err(|cause| lost(&cause))?;
        let status = self.process.wait().map_err(|cause| lost(&cause))?;
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    /// Waits for an end with exit code 0.
    ///
    /// # Errors
    /// Of kind `Failed`, with what the child said, where it ends otherwise.
    pub fn succeed(self) -> Result<()> {
        let (status, said) = self.end()?;
        if status.success() {
            return Ok(());
        }
        Err(failed(status, &said))
    }
}

/// A child that ended other than it should.
pub(super) fn failed(status: ExitStatus, said: &str) -> Error {
    let said = said.trim();
    let said = said.strip_prefix("error: ").unwrap_or(said);
    Error::failed(format!("a run of the job ended with {status}")).because(if said.is_empty() {
        "it said nothing"
    } else {
        said
    })
}

fn lost(cause: &std::io::Error) -> Error {
    Error::failed("a child of highwater was lost").because(cause.to_string())
}

impl Drop for Child {
    fn drop(&mut self) {
        // after its end both have nothing to do, and an error here could not be told
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn shell(script: &str) -> Child {
        Child::start(Path::new("/bin/sh"), &[OsStr::new("-c"), OsStr::new(script)]).unwrap()
    }

    #[test]
    fn a_child_is_heard_and_killed() {
        let mut child = shell("echo one >&2; echo two >&2; exec sleep 60");
        assert_eq!(child.line().unwrap().as_deref(), Some("one"));
        assert!(child.kill_after(Duration::from_millis(1)).unwrap());
        assert_eq!(child.line().unwrap().as_deref(), Some("two"));
        assert_eq!(child.line().unwrap(), None);
        assert_eq!(child.end().unwrap().0.code(), None);
    }

    #[test]
    fn a_child_that_ends_in_time_is_not_killed() {
        let mut child = shell("exit 0");
        assert!(!child.kill_after(Duration::from_secs(60)).unwrap());
        child.succeed().unwrap();
        let error = shell("echo 'error: no space' >&2; exit 3").succeed().unwrap_err();
        assert_eq!(error.why(), Some("no space"));
        assert!(error.what().contains('3'), "{error}");
    }
}
