//! A bug, here or in a library: one line for the operator, never a backtrace.
//!
//! sled's own threads panic where the disk does not take their writes; the checkpoint then fails with an error of its
//! own, and the line is what it looked like from the inside.

use std::panic::{self, AssertUnwindSafe};

use super::streams::Failure;
use crate::model::{Error, error::panic_text};

/// From now on a panic of any thread is one log line.
pub fn tell_in_one_line() {
    panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        let at = info.location().map(|at| format!(" at {}:{}", crate_path(at.file()), at.line())).unwrap_or_default();
        tracing::warn!("thread '{thread}' gave up{at}: {}", panic_text(info.payload()));
    }));
}

/// Runs a command; a panic becomes its error.
///
/// # Errors
/// The command's own; of kind `Failed` after a panic.
pub fn caught(command: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    panic::catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|panic| {
        Err(Failure::Error(
            Error::failed("this program has a bug")
                .because(panic_text(panic.as_ref()))
                .help("run it again: nothing committed is lost; if it stays, report it with the job and this message"),
        ))
    })
}

/// The part of a source file's path that is the same on every machine: the crate's folder, and what is in it.
fn crate_path(file: &str) -> &str {
    let crate_end = file.rfind("/src/").unwrap_or(0);
    file[..crate_end].rfind('/').map_or(file, |slash| &file[slash + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_of_one_line() {
        let Err(Failure::Error(error)) = caught(|| panic!("two\nlines")) else { panic!("it was caught") };
        let text = error.to_string();
        assert!(text.contains("why: two lines\n") && text.contains("help: "), "{text}");
        assert!(caught(|| Ok(())).is_ok());
    }

    #[test]
    fn nothing_of_the_machine_that_built_it_shows() {
        assert_eq!(crate_path("/home/me/registry/src/index/sled-0.34.7/src/db.rs"), "sled-0.34.7/src/db.rs");
        assert_eq!(crate_path("src/cli/mod.rs"), "src/cli/mod.rs");
        assert_eq!(crate_path("/rustc/abc/library/core/src/option.rs"), "core/src/option.rs");
    }
}
