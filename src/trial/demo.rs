//! `highwater demo`: the batch's table, the stream's table after several `kill -9`, and that both are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{
    chance::Chance,
    child::{Child, failed},
    generate::{self, Content, FilesOptions},
};
use crate::{
    batch::{Table, View, baseline, clock},
    job::{self, Variables},
    model::{BatchId, Error, Result},
    query,
    sink::rows,
};

const JOB: &str = include_str!("../../jobs/web_servers.sql");
const JOB_NAME: &str = "web_servers";
/// Rows of the result that are shown.
const TOP: usize = 10;

/// What the demo does.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// `highwater` itself.
    pub executable: PathBuf,
    /// A new or empty folder for everything.
    pub folder: PathBuf,
    pub flows: FilesOptions,
    pub kills: u32,
    pub threads: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct DemoReport {
    pub kills: u32,
    pub batches: u64,
    pub rows: u64,
    /// Rows of the result.
    pub groups: u64,
    /// How the stream's table differs from the batch's, or its log from one file per batch; `None`: not at all.
    pub difference: Option<String>,
}

/// Runs the demo; lines go to `tell`.
///
/// # Errors
/// Of kind `Failed`, where something cannot be run at all.
pub fn demo(options: &DemoOptions, tell: &mut dyn FnMut(&str)) -> Result<DemoReport> {
    let paths = Paths::new(&options.folder);
    let written = generate::generate(Content::Flows { unique: false }, &options.flows, &paths.input)?;
    std::fs::write(&paths.job, JOB).map_err(|cause| Error::io("cannot write the job", &paths.job, &cause))?;
    tell(&format!(
        "generated {} files of {} rows each in {}",
        written.files,
        options.flows.rows,
        paths.input.display()
    ));

    let watch = clock::Stopwatch::start();
    let expected = batch(&paths, options.threads)?;
    tell(&format!("\nthe batch, over all files at once ({} ms); its top {TOP}:", watch.elapsed_ms()));
    tell(rows::table(&expected.schema, &top(&expected))?.trim_end());

    tell(&format!("\nthe stream, one file per batch, killed {} times:", options.kills));
    let mut stream = Stream { paths: &paths, options, newest: None, killed: 0, resuming: false };
    let watch = clock::Stopwatch::start();
    stream.run(tell)?;
    tell(&format!("  ran to its end ({} ms with all starts and kills)", watch.elapsed_ms()));

    let view = View::open(&paths.checkpoint)?;
    let got = view.result(&expected.query, view.resolve(None)?)?;
    tell(&format!("\nthe stream's table, out of its checkpoint; its top {TOP}:"));
    tell(rows::table(&got.schema, &top(&got))?.trim_end());
    let log = view.log()?;
    let difference = match query::difference(&got.rows, &query::Expected::exact(&expected.rows))? {
        Some(difference) => Some(format!("the stream has {difference}")),
        None => wrong_log(&log.iter().map(|row| row.files.as_slice()).collect::<Vec<_>>(), written.files),
    };
    Ok(DemoReport {
        kills: stream.killed,
        batches: log.len() as u64,
        rows: written.rows,
        groups: got.rows.iter().map(|batch| batch.num_rows() as u64).sum(),
        difference,
    })
}

struct Paths {
    input: PathBuf,
    job: PathBuf,
    checkpoint: PathBuf,
}

impl Paths {
    fn new(folder: &Path) -> Paths {
        let job = folder.join(JOB_NAME).with_extension("sql");
        Paths { input: folder.join("flows"), job, checkpoint: folder.join("checkpoint") }
    }
}

fn batch(paths: &Paths, threads: usize) -> Result<Table> {
    let input = paths.input.to_string_lossy().into_owned();
    let variables = Variables::new(BTreeMap::from([("INPUT".to_owned(), input)]));
    let job = job::parse(&paths.job.to_string_lossy(), JOB_NAME, JOB, &variables)?;
    let mut notices = Vec::new();
    let tables = baseline(&job, threads, clock::now_us(), &mut |notice| notices.push(notice))?;
    match tables.into_iter().next() {
        Some(table) if notices.is_empty() => Ok(table),
        _ => Err(Error::failed("the generated files cannot be read in full").because(notices.join("; "))),
    }
}

fn top(table: &Table) -> Vec<datafusion::arrow::record_batch::RecordBatch> {
    let mut left = TOP;
    let mut taken = Vec::new();
    for batch in &table.rows {
        let part = batch.slice(0, left.min(batch.num_rows()));
        left -= part.num_rows();
        taken.push(part);
    }
    taken
}

/// Each batch must be one file, and each file one batch.
fn wrong_log(batches: &[&[String]], files: u32) -> Option<String> {
    let distinct: BTreeSet<&String> = batches.iter().copied().flatten().collect();
    if let Some(batch) = batches.iter().position(|files| files.len() != 1) {
        return Some(format!("batch {batch} took {} files", batches[batch].len()));
    }
    let wrong = distinct.len() != batches.len() || batches.len() != files as usize;
    wrong.then(|| format!("{} batches took {} of {files} files", batches.len(), distinct.len()))
}

/// What the demo needs of a progress object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    batch_id: u64,
    batch_duration: Option<u64>,
}

/// The job, run by children.
struct Stream<'a> {
    paths: &'a Paths,
    options: &'a DemoOptions,
    /// The newest batch that a child told of.
    newest: Option<BatchId>,
    killed: u32,
    /// A child was started after a kill, and has told of no batch yet.
    resuming: bool,
}

impl Stream<'_> {
    fn run(&mut self, tell: &mut dyn FnMut(&str)) -> Result<()> {
        let mut chance = Chance::new(self.options.flows.seed);
        let targets = targets(self.options.kills, self.options.flows.files, &mut chance);
        for target in targets {
            let mut child = self.start()?;
            let took = self.follow(&mut child, Some(target), tell)?;
            let was_killed = child.kill_after(chance.moment(took))?;
            self.follow(&mut child, None, tell)?;
            let (status, said) = child.end()?;
            if !was_killed {
                // it was quicker: there is nothing left to kill
                return if status.success() { Ok(()) } else { Err(failed(status, &said)) };
            }
            self.killed += 1;
            self.resuming = true;
            let newest =
                self.newest.map_or_else(|| "before any batch".to_owned(), |batch| format!("after batch {batch}"));
            tell(&format!("  killed {newest} (kill -9)"));
        }
        let mut child = self.start()?;
        self.follow(&mut child, None, tell)?;
        child.succeed()
    }

    fn start(&self) -> Result<Child> {
        let setting = format!("INPUT={}", self.paths.input.display());
        let threads = self.options.threads.to_string();
        let words =
            ["run", "--available-now", "--progress", "json", "--set", &setting, "--threads", &threads, "--checkpoint"];
        let mut words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        words.extend([self.paths.checkpoint.as_os_str(), self.paths.job.as_os_str()]);
        Child::start(&self.options.executable, &words)
    }

    /// Hears a child until it has told of batch `until`, or all it has to say; how long its last batch took.
    fn follow(&mut self, child: &mut Child, until: Option<BatchId>, tell: &mut dyn FnMut(&str)) -> Result<Duration> {
        let mut took = Duration::ZERO;
        let mut said = String::new();
        while let Some(line) = child.line()? {
            let Ok(told) = serde_json::from_str::<Told>(&line) else {
                // an object may be cut off by the kill; everything else is an error
                if !line.starts_with('{') {
                    said += &line;
                    said.push('\n');
                }
                continue;
            };
            let batch = BatchId(told.batch_id);
            if std::mem::take(&mut self.resuming) {
                tell(&format!("    resumed at batch {batch}"));
            }
            self.newest = Some(batch);
            took = Duration::from_millis(told.batch_duration.unwrap_or(0));
            if until.is_some_and(|until| batch >= until) {
                break;
            }
        }
        if said.is_empty() { Ok(took) } else { Err(Error::failed("a run of the job failed").because(said.trim())) }
    }
}

/// The batches after which to kill: spread over the run, drawn within their share of it.
fn targets(kills: u32, batches: u32, chance: &mut Chance) -> Vec<BatchId> {
    let (kills, batches) = (u64::from(kills), u64::from(batches));
    let share = |index: u64| index * batches / (kills + 1);
    (0..kills).map(|index| BatchId(share(index) + chance.below((share(index + 1) - share(index)).max(1)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_spread_over_the_run() {
        let targets = targets(5, 50, &mut Chance::new(1));
        assert_eq!(targets.len(), 5);
        assert!(targets.is_sorted(), "{targets:?}");
        assert!(targets[4].0 < 50 && targets[1].0 >= 8, "{targets:?}");
        assert_eq!(super::targets(9, 1, &mut Chance::new(1)), vec![BatchId(0); 9]);
    }

    #[test]
    fn a_log_is_one_file_per_batch() {
        let file = |name: &str| vec![name.to_owned()];
        let (a, b, both) = (file("a"), file("b"), ["a", "b"].map(str::to_owned).to_vec());
        assert_eq!(wrong_log(&[&a, &b], 2), None);
        assert_eq!(wrong_log(&[&a, &both], 3).as_deref(), Some("batch 1 took 2 files"));
        assert_eq!(wrong_log(&[&a, &a], 2).as_deref(), Some("2 batches took 1 of 2 files"));
        assert_eq!(wrong_log(&[&a], 2).as_deref(), Some("1 batches took 1 of 2 files"));
    }
}
