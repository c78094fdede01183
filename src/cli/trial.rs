//! `highwater generate`, `demo` and `crash-test`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    args::{CrashTestArgs, DemoArgs, Generate, GenerateArgs, LiveArgs, LiveLines},
    load,
    streams::{Failure, data, say},
};
use crate::{
    model::{Error, Result, error::printable},
    progress::numbers::{count, grouped},
    trial::{
        crash_test::{self, CrashTestOptions},
        demo::{self, DemoOptions},
        generate::{self, Content, FilesOptions, LiveContent, LiveOptions},
    },
};

pub fn generate(args: GenerateArgs) -> Result<(), Failure> {
    let (content, args) = match args.what {
        Generate::Live(args) => return live(&args),
        Generate::Flows(args) => (Content::Flows { unique: args.unique }, args.files),
        Generate::AccessLog(args) => (Content::AccessLog, args),
        Generate::Text(args) => (Content::Text, args),
        Generate::Messages(args) => (Content::Messages, args),
        Generate::Sensors(args) => (Content::Sensors, args),
        Generate::Clicks(args) => (Content::Clicks, args),
        Generate::Orders(args) => (Content::Orders, args),
    };
    let options = FilesOptions { files: args.files, rows: args.rows, seed: args.seed };
    let summary = generate::generate(content, &options, &args.dir)?;
    let (files, rows) = (count(u64::from(summary.files), "file"), count(summary.rows, "row"));
    say(&format!("{}: {files}, {rows}, {} bytes", args.dir.display(), grouped(summary.bytes)));
    Ok(())
}

fn live(args: &LiveArgs) -> Result<(), Failure> {
    let content = match args.lines {
        LiveLines::Messages => LiveContent::Messages,
        LiveLines::Text => LiveContent::Text,
    };
    let LiveArgs { port, rows, rows_per_second, seed, .. } = *args;
    let options = LiveOptions { content, port, rows, rows_per_second, seed };
    let sent = generate::serve(&options, &mut |line| say(line))?;
    say(&format!("{} sent", count(sent, "line")));
    Ok(())
}

pub fn demo(args: DemoArgs) -> Result<(), Failure> {
    let (folder, _scratch) = match &args.keep {
        Some(folder) => (empty(folder)?, None),
        None => scratch().map(|scratch| (scratch.path().to_owned(), Some(scratch)))?,
    };
    let flows = FilesOptions { files: args.files, rows: args.rows, seed: args.seed };
    let threads = args.threads.count();
    let options = DemoOptions { executable: executable()?, folder, flows, kills: args.kills, threads };
    let mut lines = Lines::default();
    let report = demo::demo(&options, &mut |line| lines.print(line))?;
    if let Some(difference) = report.difference {
        return Err(Error::failed("the stream's table is NOT the batch's").because(difference).into());
    }
    lines.print(&format!(
        "\nboth tables are the same: {} from {} of input, in {} of one file each, through {} with kill -9",
        count(report.groups, "row"),
        count(report.rows, "row"),
        if report.batches == 1 { "1 batch".to_owned() } else { format!("{} batches", grouped(report.batches)) },
        count(u64::from(report.kills), "kill"),
    ));
    if let Some(folder) = &args.keep {
        let checkpoint = folder.join("checkpoint");
        lines.print(&format!("look at it: highwater log {0}; highwater show {0} --at 17", checkpoint.display()));
    }
    lines.end()
}

pub fn crash_test(args: CrashTestArgs) -> Result<(), Failure> {
    let job = load::job(&args.job)?;
    let scratch = scratch()?;
    let options = CrashTestOptions {
        executable: executable()?,
        folder: scratch.path().to_owned(),
        kills: args.kills,
        seed: args.seed,
        allow_sinks: args.allow_sinks.clone(),
        threads: args.threads.count(),
    };
    let mut lines = Lines::default();
    let report = crash_test::crash_test(&job, &options, &mut |line| lines.print(line))?;
    for difference in &report.differences {
        lines.print(difference);
    }
    let kills = count(u64::from(report.kills), "kill");
    if let Some(first) = report.differences.first() {
        // what is different is worth a look
        let kept = scratch.keep();
        lines.end()?;
        return Err(Error::failed(format!("after {kills} the job's end is not that of an uninterrupted run"))
            .because(first.clone())
            .help(format!("checkpoints and sinks are kept in {}", kept.display()))
            .into());
    }
    let rounds = count(u64::from(report.rounds), "round");
    let compared = count(report.results_compared, "result");
    lines.print(&format!("the same after {kills} in {rounds}: {compared}, the log and the published files"));
    lines.end()
}

/// A scratch folder of a name that says whose it is; removed with everything in it at the end.
fn scratch() -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix("highwater-").tempdir();
    made.map_err(|cause| Error::io("cannot make a scratch folder", std::env::temp_dir(), &cause))
}

fn empty(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).map_err(|cause| Error::io("cannot make the folder", folder, &cause))?;
    let mut entries = std::fs::read_dir(folder).map_err(|cause| Error::io("cannot list the folder", folder, &cause))?;
    if entries.next().is_some() {
        return Err(Error::usage("the folder to keep the demo in is not empty")
            .at(crate::model::Place::Path(folder.to_owned()))
            .help("name a new or an empty folder"));
    }
    Ok(folder.to_owned())
}

fn executable() -> Result<PathBuf> {
    std::env::current_exe()
        .map_err(|cause| Error::failed("highwater cannot find its own executable").because(cause.to_string()))
}

/// Lines on stdout as they come; a reader that is gone is told of at the end.
#[derive(Default)]
struct Lines {
    failed: Option<io::Error>,
}

impl Lines {
    fn print(&mut self, line: &str) {
        if self.failed.is_some() {
            return;
        }
        let mut out = data();
        let printed = writeln!(out, "{}", printable(line)).and_then(|()| out.flush());
        self.failed = printed.err();
    }

    fn end(self) -> Result<(), Failure> {
        Ok(self.failed.map_or(Ok(()), Err)?)
    }
}
