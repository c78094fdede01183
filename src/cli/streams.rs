//! stdout, for data, and stderr, for the rest.

use std::io::{self, BufWriter, Write};

use indicatif::ProgressBar;

use crate::model::{Error, error::printable};

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    Error(Error),
    /// Whoever read stdout has closed it: there is nothing left to do, and nothing went wrong.
    ReaderGone,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

/// Of a write to stdout.
impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Failure {
        if cause.kind() == io::ErrorKind::BrokenPipe {
            return Failure::ReaderGone;
        }
        Failure::Error(Error::io("stdout cannot be written", "/dev/stdout", &cause))
    }
}

/// stdout, locked and buffered: end with `flush`, or what is left is lost unseen.
pub fn data() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Prints a line on stderr, without control characters.
pub fn say(line: &str) {
    say_as_it_is(&printable(line));
}

/// Prints a line on stderr that is safe as it is: JSON.
pub fn say_as_it_is(line: &str) {
    // in one write, so that a kill leaves whole lines; and a stderr that nobody reads must not end a job, while there
    // is no other place to say so
    drop(io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
}

/// The console sinks' stdout: keeps clear of the progress bar.
#[derive(Debug)]
pub struct ConsoleRows {
    pub bar: Option<ProgressBar>,
}

impl Write for ConsoleRows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = || io::stdout().lock().write_all(bytes);
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}

/// The console sinks' stderr.
#[derive(Debug)]
pub struct ConsoleNotices {
    pub bar: Option<ProgressBar>,
}

impl Write for ConsoleNotices {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let write = || say(text.trim_end_matches('\n'));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
