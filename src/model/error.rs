//! The one error type: what, where, why, what to do.
//!
//! Errors are for the operator. `ErrorKind` says which exit code they end in; nothing else may be
//! decided from it. No `Debug` output and no backtrace ever reaches a user.

use std::{fmt, path::PathBuf};

use super::ids::BatchId;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the operator has to deal with; each kind has an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something failed while running: disk full, a file that cannot be read. Exit code 1.
    Failed,
    /// An input file is no longer what was planned: a batch of its own plan can be planned again. Exit code 1.
    Moved,
    /// The command line or the job file is wrong. Exit code 2.
    Usage,
    /// The checkpoint may not be used: other job, locked, damaged. Exit code 3.
    Refused,
    /// The data was refused: `failfast`, bad-record limit, a value that an expression fails on. Exit code 4.
    Data,
    /// A simulated crash (tests only): everything in memory is to be dropped as it is.
    Crashed,
}

impl ErrorKind {
    /// The process's exit code, as the command line's contract fixes it.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Failed | ErrorKind::Moved | ErrorKind::Crashed => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Refused => 3,
            ErrorKind::Data => 4,
        }
    }
}

/// Where it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a job file; `line` and `column` count from 1 (in characters), `text` is that whole line.
    Job { file: String, line: u64, column: u64, text: String },
    /// In an input file; `line` counts from 1, `byte` from 0 (offset of the record in the file).
    Input { file: String, line: u64, byte: u64 },
    /// A file or folder.
    Path(PathBuf),
    /// A server, as the job has it: nothing secret is in it.
    Server(String),
    /// A batch.
    Batch(BatchId),
}

/// What happened, where, why, and what the operator can do.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    what: String,
    place: Option<Place>,
    why: Option<String>,
    help: Option<String>,
}

impl Error {
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, what: what.into(), place: None, why: None, help: None }))
    }

    pub fn failed(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Failed, what)
    }

    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, what)
    }

    pub fn refused(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Refused, what)
    }

    pub fn data(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Data, what)
    }

    /// `what` failed on `path` because of the operating system.
    pub fn io(what: impl Into<String>, path: impl Into<PathBuf>, cause: &std::io::Error) -> Error {
        let error = Error::failed(what).at(Place::Path(path.into())).because(cause.to_string());
        match cause.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                error.help("free some space, then run the job again: nothing committed is lost")
            }
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                error.help("make it accessible to this user, then run again")
            }
            std::io::ErrorKind::FileTooLarge => error
                .help("raise the limit on the size of files (ulimit -f), then run again: nothing committed is lost"),
            _ if cause.raw_os_error() == Some(libc::EIO) => {
                error.help("check the disk and the system's log, then run again: nothing committed is lost")
            }
            _ => error,
        }
    }

    #[must_use]
    pub fn at(mut self, place: Place) -> Error {
        self.0.place = Some(place);
        self
    }

    /// Adds a place to an error that has none yet.
    #[must_use]
    pub fn at_if_none(mut self, place: Place) -> Error {
        self.0.place.get_or_insert(place);
        self
    }

    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Error {
        self.0.why = Some(why.into());
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Error {
        self.0.help = Some(help.into());
        self
    }

    /// Adds advice to an error that has none yet.
    #[must_use]
    pub fn help_if_none(mut self, help: impl Into<String>) -> Error {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    /// Adds another reason behind the one that there is.
    #[must_use]
    pub fn and_because(mut self, why: impl Into<String>) -> Error {
        let why = why.into();
        self.0.why = Some(self.0.why.take().map_or_else(|| why.clone(), |first| format!("{first}; {why}")));
        self
    }

    /// Adds another way out behind the advice that there is.
    #[must_use]
    pub fn or_help(mut self, help: impl Into<String>) -> Error {
        let help = help.into();
        self.0.help = Some(self.0.help.take().map_or_else(|| help.clone(), |first| format!("{first}; {help}")));
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub fn what(&self) -> &str {
        &self.0.what
    }

    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    pub fn why(&self) -> Option<&str> {
        self.0.why.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.0.what))?;
        match &self.0.place {
            Some(Place::Job { file, line, column, text }) => {
                let caret = " ".repeat((*column as usize).saturating_sub(1));
                let file = printable_name(file);
                write!(f, "\n  --> {file}:{line}:{column}\n   | {}\n   | {caret}^", printable(text))?;
            }
            Some(Place::Input { file, line, byte }) => {
                write!(f, "\n  --> {}, line {line}, byte {byte}", printable_name(file))?;
            }
            Some(Place::Path(path)) => write!(f, "\n  --> {}", printable_name(&path.to_string_lossy()))?,
            Some(Place::Server(shown)) => write!(f, "\n  --> {}", printable_name(shown))?,
            Some(Place::Batch(batch)) => write!(f, "\n  --> batch {batch}")?,
            None => {}
        }
        if let Some(why) = &self.0.why {
            write!(f, "\n  why: {}", printable(why))?;
        }
        if let Some(help) = &self.0.help {
            write!(f, "\n  help: {}", printable(help))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// What a panic said, in one line. An error of the operating system, which libraries panic with in its debug form, is
/// told in words.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    let line = text.unwrap_or("it panicked").split_whitespace().collect::<Vec<_>>().join(" ");
    let code = |rest: &str| rest.split_once(',').and_then(|(code, _)| code.parse().ok());
    match line.split_once("Os { code: ").and_then(|(before, rest)| Some((before, code(rest)?))) {
        Some((before, code)) => format!("{before}{}", std::io::Error::from_raw_os_error(code)),
        None => line,
    }
}

/// Text with its control characters escaped, so that data can never drive a terminal.
/// Line ends and tabs stay.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The name of a file or folder with line ends and tabs escaped, too: a name must not look like a line of its own.
pub fn printable_name(name: &str) -> String {
    printable(name).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_where_why_and_what_to_do() {
        let error = Error::usage("unknown option 'pth'")
            .at(Place::Job { file: "a.sql".into(), line: 2, column: 3, text: "  pth = 'x'".into() })
            .because("a files source knows no such option")
            .help("did you mean 'path'?");
        assert_eq!(
            error.to_string(),
            "unknown option 'pth'\n  --> a.sql:2:3\n   |   pth = 'x'\n   |   ^\n  why: a files source knows no such option\n  help: did you mean 'path'?"
        );
        assert_eq!(error.kind().exit_code(), 2);
    }

    #[test]
    fn a_panic_is_told_in_one_line_and_in_words() {
        let of_system = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let text = panic_text(&format!("called `Result::unwrap()` on an `Err` value:\n{of_system:?}"));
        assert_eq!(text, "called `Result::unwrap()` on an `Err` value: No space left on device (os error 28)");
        assert_eq!(panic_text(&"Os { code: none"), "Os { code: none");
        assert_eq!(panic_text(&5), "it panicked");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\r");
        let error = Error::failed("x").at(Place::Path("a\nerror: b".into()));
        assert_eq!(error.to_string(), "x\n  --> a\\nerror: b");
    }
}
