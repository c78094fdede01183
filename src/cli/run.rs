//! `highwater run`.

use std::{
    env::VarError,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use indicatif::ProgressBar;

use super::{
    args::{OutputFormat, RunArgs},
    load,
    progress::Reporter,
    signals,
    streams::{ConsoleNotices, ConsoleRows, Failure},
};
use crate::{
    batch::{self, EngineOptions, Event, RunOptions, Trigger},
    model::{Error, UI_TOKEN_VARIABLE},
    sink::{self, ConsoleFormat, ConsoleTarget},
    ui::{Page, PageOptions},
};

pub fn run(args: RunArgs) -> Result<(), Failure> {
    let job = load::job(&args.job)?;
    let stop = signals::stop_flag()?;
    let mut reporter = Reporter::new(args.progress, args.quiet);
    let console = Console { format: console_format(args.format.output), notices: reporter.tells_notices() };
    let bar = reporter.bar();
    let checkpoint = args.checkpoint.clone().unwrap_or_else(|| PathBuf::from("checkpoints").join(&job.name));
    let (job_file, queries) = (job.file.as_str(), job.queries.len());
    tracing::info!(job = job_file, queries, checkpoint = %checkpoint.display(), "running");
    let page = page(&args, &job.name, &checkpoint)?;
    if let Some(page) = &page {
        let is_chosen = args.ui.as_ref().is_some_and(|listen| listen.ends_with(":0"));
        reporter.page(page.address(), is_chosen);
    }
    let options = run_options(&args, checkpoint, &stop);
    let ran = batch::run(
        job,
        options,
        &mut |spec, mode| Ok(sink::make_sink(spec, mode, || console.target(bar.clone()))),
        &mut |event| {
            if let Some(page) = &page {
                page.event(&event);
            }
            reporter.event(event);
        },
    );
    let error = ran.as_ref().err().map(ToString::to_string);
    // a page that failed is no reason for a job to fail
    if let Some(Err(failed)) = page.map(|page| page.end(error)) {
        reporter.event(Event::Notice(failed.to_string().into()));
    }
    match ran {
        Ok(summary) => Ok(reporter.finish(&summary, stop.load(Ordering::Relaxed))?),
        Err(error) => {
            reporter.clear();
            Err(error.into())
        }
    }
}

/// The page, if it is asked for: its address is taken before the job is opened.
fn page(args: &RunArgs, job: &str, checkpoint: &Path) -> Result<Option<Page>, Failure> {
    let Some(listen) = &args.ui else { return Ok(None) };
    let token = match std::env::var(UI_TOKEN_VARIABLE) {
        Ok(token) => Some(token),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => {
            return Err(Error::usage(format!("{} is not text", UI_TOKEN_VARIABLE))
                .help("make one: `openssl rand -hex 16`")
                .into());
        }
    };
    let options = PageOptions {
        listen: listen.clone(),
        token,
        hosts: args.ui_host.clone(),
        job: job.to_owned(),
        checkpoint: checkpoint.to_owned(),
    };
    Ok(Some(Page::start(options)?))
}

fn run_options<'a>(args: &RunArgs, checkpoint: PathBuf, stop: &'a AtomicBool) -> RunOptions<'a> {
    let engine = EngineOptions {
        checkpoint,
        threads: args.threads.count(),
        accept_change: args.accept_change,
        faults: args.crash.faults(),
    };
    RunOptions { engine, trigger: trigger(args), batches_max: args.max_batches, stop }
}

fn trigger(args: &RunArgs) -> Trigger {
    match args.interval {
        Some(interval) => Trigger::Interval(interval),
        None if args.available_now => Trigger::AvailableNow,
        None if args.once => Trigger::Once,
        None => Trigger::AsSoonAsPossible,
    }
}

fn console_format(format: OutputFormat) -> ConsoleFormat {
    match format {
        OutputFormat::Table => ConsoleFormat::Table,
        OutputFormat::Json => ConsoleFormat::Json,
        OutputFormat::Csv => ConsoleFormat::Csv,
    }
}

/// What console sinks print to.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    pub format: ConsoleFormat,
    /// Whether stderr takes notices.
    pub notices: bool,
}

impl Console {
    pub fn target(self, bar: Option<ProgressBar>) -> ConsoleTarget {
        let rows = Box::new(ConsoleRows { bar: bar.clone() });
        let format = self.format;
        if self.notices {
            ConsoleTarget { rows, notices: Box::new(ConsoleNotices { bar }), format }
        } else {
            ConsoleTarget { rows, notices: Box::new(io::sink()), format }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};

    #[test]
    fn each_trigger_has_its_option() {
        let trigger = |words: &str| {
            let args = Args::try_parse_from(["highwater", "run", "a.sql"].into_iter().chain(words.split_whitespace()));
            match args.unwrap().command {
                Command::Run(args) => trigger(&args),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(trigger(""), Trigger::AsSoonAsPossible);
        assert_eq!(trigger("--available-now"), Trigger::AvailableNow);
        assert_eq!(trigger("--once"), Trigger::Once);
        assert_eq!(trigger("--interval 10s"), Trigger::Interval(Duration::from_secs(10)));
    }
}
