//! The `highwater` binary: parse, run, exit code. What the codes mean is in [`highwater::cli`].

use std::process::ExitCode;

use highwater::cli;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(args) => cli::run(args),
        Err(code) => code,
    }
}
