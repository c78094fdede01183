//! The command line: the only module that prints.
//!
//! stdout carries data, stderr the rest. Exit codes: 0 done; 1 failed while running; 2 usage or job file; 3 checkpoint
//! refused (other job, locked, damaged); 4 data refused (`failfast`, bad-record limit, a value that an expression of
//! the job fails on). A reader that closes stdout early (`| head`) ends a command
//! that only reads, quietly and with 0; a running job says so and fails, since it did not do all it was asked to.
//!
//! - [`args`]: every command, option and help text, in one place; completions and man pages come from it
//! - `load`: a job file becomes a `JobSpec`; `streams`: stdout, stderr; `output`: results as table, JSON or CSV
//! - `signals`, `panics`: what the system, or a bug, may do to the process; `memory`: what it asks of the allocator
//! - the commands: `run` (with `progress`), `batch`, `check`, `show`, `log`, `top`, `diff`, `verify`,
//!   `rewind`, `trial`, `about`

mod about;
pub mod args;
mod batch;
mod check;
mod diff;
mod load;
mod log;
mod logging;
mod memory;
mod output;
mod panics;
mod progress;
mod rewind;
mod run;
mod show;
mod signals;
mod streams;
mod top;
mod trial;
mod verify;

use std::{ffi::OsString, process::ExitCode};

use args::{Args, Command};
use clap::Parser;
use streams::{Failure, say};

/// Reads the command line.
///
/// # Errors
/// The exit code to leave with, where there is nothing to run: 0 after `--help` and `--version`, else 2. What there
/// is to say is printed.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, ExitCode> {
    Args::try_parse_from(words).map_err(|error| {
        let code = if error.use_stderr() { 2 } else { 0 };
        match error.print() {
            // a reader that wants no more help has enough
            Ok(()) => ExitCode::from(code),
            Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(code),
            Err(_) => ExitCode::FAILURE,
        }
    })
}

/// Runs a command and says how it ended.
pub fn run(args: Args) -> ExitCode {
    memory::share();
    let started = logging::start(args.verbose, args.command.has_json_progress()).and_then(|()| signals::tame());
    panics::tell_in_one_line();
    match started.map_err(Failure::from).and_then(|()| panics::caught(|| dispatch(args.command))) {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(Failure::Error(error)) => {
            say(&format!("error: {error}"));
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Batch(args) => batch::batch(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => check::explain(&args),
        Command::Show(args) => show::show(&args),
        Command::Log(args) => log::log(&args),
        Command::Top(args) => top::top(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Rewind(args) => rewind::rewind(args),
        Command::Fork(args) => rewind::fork(args),
        Command::CrashTest(args) => trial::crash_test(args),
        Command::Generate(args) => trial::generate(args),
        Command::Demo(args) => trial::demo(args),
        Command::Completions(args) => about::completions(&args),
        Command::Man(args) => about::man(&args),
    }
}
