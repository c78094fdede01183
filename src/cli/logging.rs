//! Log lines for the operator, on stderr.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::model::{Error, Result};

/// Starts logging: warnings, with `-v` what happens, with `-vv` in detail; `RUST_LOG` overrides it. Where stderr
/// carries JSON, nothing is logged unless asked for.
///
/// # Errors
/// Of kind `Usage`, where `RUST_LOG` cannot be read.
pub fn start(verbose: u8, stderr_is_json: bool) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|cause| {
            Error::usage(format!("RUST_LOG={text} cannot be read"))
                .because(cause.to_string())
                .help("write a level such as debug, or highwater=debug")
        })?,
        _ => EnvFilter::new(directives(verbose, stderr_is_json)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_color())
        .with_target(false)
        // it would say on stderr that stderr cannot be written, and panic over that
        .log_internal_errors(false)
        .try_init()
        .map_err(|cause| Error::failed("logging cannot start").because(cause.to_string()))
}

fn directives(verbose: u8, stderr_is_json: bool) -> &'static str {
    match verbose {
        0 if stderr_is_json => "off",
        0 => "highwater=warn",
        1 => "highwater=info,warn",
        _ => "highwater=debug,info",
    }
}

/// See <https://no-color.org>.
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}
