//! `highwater crash-test`: a job killed at random, resumed each time, and compared with an uninterrupted run.
//!
//! The uninterrupted run says how long a run takes. Then rounds of kills: each begins a fresh checkpoint, kills the job
//! at moments drawn from that time, resumes it, and ends when a run outlives its moment (the last round: when all
//! kills are made). Most moments are short, so that starting and recovering are hit as well as batches. Each round's
//! results, log and published files must equal those of the uninterrupted run, and verify against the batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    chance::Chance,
    child::Child,
    redirect::{Moved, redirect},
};
use crate::{
    batch::{self, LogRow, VerifyOptions, View, clock},
    job::JobSpec,
    model::{Error, ErrorKind, Result},
    progress::keep_lasting,
    query::JobQueries,
    sink::{rows, table_lines},
};

/// One moment in this many is drawn from the whole run; the others from the first part of it.
const LONG_ONE_IN: u64 = 4;
/// Short moments are at most this part of a run.
const SHORT_PART: u32 = 4;
/// Differences that are listed; one is enough to fail.
const LISTED_MAX: usize = 20;
/// What a crash test does.
#[derive(Debug, Clone)]
pub struct CrashTestOptions {
    /// `highwater` itself.
    pub executable: PathBuf,
    /// An empty folder for checkpoints and sinks.
    pub folder: PathBuf,
    pub kills: u32,
    pub seed: u64,
    /// Sinks that write where the job says, in the killed runs; the others write into `folder`.
    pub allow_sinks: Vec<String>,
    pub threads: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct CrashTestReport {
    pub kills: u32,
    pub rounds: u32,
    /// Batches of the uninterrupted run.
    pub batches: u64,
    /// Results that were compared, over all rounds.
    pub results_compared: u64,
    /// What differs from the uninterrupted run or the batch; empty: nothing.
    pub differences: Vec<String>,
}

/// Runs the test; lines go to `tell`.
///
/// # Errors
/// Of kind `Usage` for an unknown sink, `Refused` for one that cannot be moved, `Failed` where the job itself fails; where
/// nothing else is wrong and the input is no longer what the job read, that.
pub fn crash_test(job: &JobSpec, options: &CrashTestOptions, tell: &mut dyn FnMut(&str)) -> Result<CrashTestReport> {
    check_names(job, &options.allow_sinks)?;
    refuse_time(job)?;
    if let Some((source, received)) = job.first_received() {
        return Err(Error::usage(format!("source '{source}' cannot be given the same rows twice"))
            .because(format!("connector '{}' receives rows only while a job runs", received.connector()))
            .help("try the job over files of such rows, with connector = 'files'"));
    }
    let expected = Trial::new(job, &options.folder.join("uninterrupted"), &[])?;
    let watch = clock::Stopwatch::start();
    expected.start(options)?.succeed()?;
    let whole = watch.elapsed();
    let expected = expected.outcome()?;
    tell(&format!("uninterrupted: {} batches in {} ms", expected.log.len(), whole.as_millis()));

    let mut chance = Chance::new(options.seed);
    let batches = expected.log.len() as u64;
    let mut report = CrashTestReport { kills: 0, rounds: 0, batches, results_compared: 0, differences: Vec::new() };
    while report.kills < options.kills && report.differences.is_empty() {
        if report.rounds > 0 && !options.allow_sinks.is_empty() {
            tell("that is all: the place of an allowed sink belongs to the first round's checkpoint");
            break;
        }
        report.rounds += 1;
        let folder = options.folder.join(format!("round-{}", report.rounds));
        let trial = Trial::new(job, &folder, &options.allow_sinks)?;
        let kills = trial.kill(options, options.kills - report.kills, whole, &mut chance)?;
        report.kills += kills;
        trial.judge(&expected, options, &mut report)?;
        let same = if report.differences.is_empty() { "same as uninterrupted" } else { "DIFFERENT" };
        tell(&format!("round {}: killed {kills} times, then run to its end: {same}", report.rounds));
    }
    report.differences.truncate(LISTED_MAX);
    Ok(report)
}

fn check_names(job: &JobSpec, names: &[String]) -> Result<()> {
    let sinks = || job.sinks.iter().map(|sink| sink.name.as_str());
    match names.iter().find(|name| !sinks().any(|sink| sink == *name)) {
        None => Ok(()),
        Some(unknown) => {
            let error = Error::usage(format!("--allow-sink {unknown}: the job has no such sink"));
            Err(match crate::job::nearest(unknown, sinks()) {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error.help(format!("its sinks are: {}", sinks().collect::<Vec<_>>().join(", "))),
            })
        }
    }
}

/// Rounds run at other times than the uninterrupted run: what depends on the time differs for good reason.
fn refuse_time(job: &JobSpec) -> Result<()> {
    let queries = JobQueries::plan(job)?;
    let Some(query) = queries.queries.iter().find(|query| query.shape().batch_time) else { return Ok(()) };
    Err(Error::usage(format!("query '{}' uses now(), so two runs of it cannot be compared", query.name()))
        .help("leave the query out, or write a fixed time in its place, for the test"))
}

/// A checkpoint with sinks of its own.
struct Trial {
    /// The job, its sinks moved.
    job: PathBuf,
    checkpoint: PathBuf,
    /// Where each sink publishes, and whether the folder is its own.
    places: Vec<(Moved, bool)>,
}

/// What a run left behind.
struct Outcome {
    /// By query; an error's text where a result cannot be had.
    results: BTreeMap<String, String>,
    log: Vec<String>,
    /// By sink and file name; rows of a table as text.
    files: BTreeMap<(String, String), Vec<u8>>,
}

impl Trial {
    fn new(job: &JobSpec, folder: &Path, allow_sinks: &[String]) -> Result<Trial> {
        let (text, places) = redirect(job, &folder.join("sinks"), allow_sinks)?;
        let path = folder.join(&job.name).with_extension("sql");
        std::fs::create_dir_all(folder).map_err(|cause| Error::io("cannot make the folder", folder, &cause))?;
        std::fs::write(&path, text).map_err(|cause| Error::io("cannot write the job", &path, &cause))?;
        let own = |place: &Moved| !allow_sinks.contains(&place.name);
        let places = places.into_iter().map(|place| (place.clone(), own(&place))).collect();
        Ok(Trial { job: path, checkpoint: folder.join("checkpoint"), places })
    }

    fn start(&self, options: &CrashTestOptions) -> Result<Child> {
        let threads = options.threads.to_string();
        let words = ["run", "--available-now", "--progress", "none", "--threads", &threads, "--checkpoint"];
        let mut words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        words.extend([self.checkpoint.as_os_str(), self.job.as_os_str()]);
        Child::start(&options.executable, &words)
    }

    /// Kills the job at most `kills_max` times, then runs it to its end; how often it was killed.
    fn kill(&self, options: &CrashTestOptions, kills_max: u32, whole: Duration, chance: &mut Chance) -> Result<u32> {
        let mut kills = 0;
        while kills < kills_max {
            let longest = if chance.below(LONG_ONE_IN) == 0 { whole } else { whole / SHORT_PART };
            let mut child = self.start(options)?;
            if !child.kill_after(chance.moment(longest))? {
                child.succeed()?;
                return Ok(kills);
            }
            kills += 1;
        }
        self.start(options)?.succeed()?;
        Ok(kills)
    }

    /// Compares with the uninterrupted run, and with the batch.
    fn judge(&self, expected: &Outcome, options: &CrashTestOptions, report: &mut CrashTestReport) -> Result<()> {
        let round = report.rounds;
        let outcome = self.outcome()?;
        report.results_compared += outcome.results.len() as u64;
        let mut differences = differences(expected, &outcome);
        let verify = VerifyOptions { batch: true, every: false, threads: options.threads };
        let verified = batch::verify(&self.checkpoint, &verify, &mut |_| {})?;
        report.results_compared += verified.results_compared;
        differences.extend(verified.findings.into_iter().map(|finding| format!("verify --batch: {finding}")));
        report.differences.extend(differences.into_iter().map(|difference| format!("round {round}: {difference}")));
        match verified.not_compared {
            Some(error) if report.differences.is_empty() => Err(error.and_because(format!("in round {round}"))),
            Some(error) => {
                report.differences.push(format!("round {round}: the batch result could not be compared: {error}"));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn outcome(&self) -> Result<Outcome> {
        let view = View::open(&self.checkpoint)?;
        let log: Result<Vec<String>> = view.log()?.iter().map(canonical).collect();
        let mut results = BTreeMap::new();
        if let Some(newest) = view.newest() {
            for query in view.queries() {
                let text = match view.result(&query, newest) {
                    Ok(table) => String::from_utf8_lossy(&rows::json_lines(&table.rows)?).into_owned(),
                    // a console cannot be asked: nothing to compare, but the same nothing
                    Err(error) if error.kind() == ErrorKind::Usage => error.what().to_owned(),
                    Err(error) => return Err(error),
                };
                results.insert(query, text);
            }
        }
        let mut files = BTreeMap::new();
        for (Moved { name, path, table }, own) in &self.places {
            match table {
                Some(table) => {
                    let lines = table_lines(path, table)?.join("\n");
                    files.insert((name.clone(), format!("table '{table}'")), lines.into_bytes());
                }
                None => read_published(name, path, *own, &mut files)?,
            }
        }
        Ok(Outcome { results, log: log?, files })
    }
}

/// What a reader of a sink's folder sees; in a folder that is not the sink's own, what bears its name.
fn read_published(sink: &str, folder: &Path, own: bool, files: &mut BTreeMap<(String, String), Vec<u8>>) -> Result<()> {
    let cannot = |cause: &std::io::Error| Error::io("a sink's folder cannot be read", folder, cause);
    for entry in std::fs::read_dir(folder).map_err(|cause| cannot(&cause))? {
        let entry = entry.map_err(|cause| cannot(&cause))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name.strip_prefix(sink);
        let ours = own || rest.is_some_and(|rest| rest.starts_with('-') || rest.starts_with('.'));
        // dot names are the sink's bookkeeping: whose files they are, and what is staged
        if ours && !name.starts_with('.') {
            files.insert((sink.to_owned(), name), std::fs::read(entry.path()).map_err(|cause| cannot(&cause))?);
        }
    }
    Ok(())
}

/// A batch of the log without what is of one checkpoint, one run or one moment.
fn canonical(row: &LogRow) -> Result<String> {
    let mut value = serde_json::to_value(&row.progress)
        .map_err(|cause| Error::failed("a progress object cannot be compared").because(cause.to_string()))?;
    // sinks are in folders of their own, and sources are compared by their files
    keep_lasting(&mut value, &["description"]);
    let LogRow { address, retracted, files, rows, bad_rows, state_rows, watermark_us, .. } = row;
    Ok(format!("{address} {retracted} {files:?} {rows} {bad_rows} {state_rows} {watermark_us:?} {value}"))
}

fn differences(expected: &Outcome, got: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    for (query, rows) in &expected.results {
        if got.results.get(query) != Some(rows) {
            found.push(format!("the result of '{query}' is not the same"));
        }
    }
    if expected.log.len() != got.log.len() {
        found.push(format!("{} batches where there are {}", got.log.len(), expected.log.len()));
    }
    for (ours, theirs) in got.log.iter().zip(&expected.log).filter(|(ours, theirs)| ours != theirs) {
        found.push(format!("the log has\n  {ours}\nwhere it is\n  {theirs}"));
    }
    let names: BTreeSet<_> = expected.files.keys().chain(got.files.keys()).collect();
    for key @ (sink, name) in names {
        match (expected.files.get(key), got.files.get(key)) {
            (Some(theirs), Some(ours)) if theirs == ours => {}
            (Some(_), Some(_)) => found.push(format!("sink '{sink}': {name} has other bytes")),
            (Some(_), None) => found.push(format!("sink '{sink}': {name} is missing")),
            (None, _) => found.push(format!("sink '{sink}': {name} should not be there")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            results: BTreeMap::from([("q".to_owned(), "{\"x\":1}\n".to_owned())]),
            log: vec!["0@1".to_owned(), "1@1".to_owned()],
            files: BTreeMap::from([(("s".to_owned(), "s-00000000.json".to_owned()), b"1".to_vec())]),
        }
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        assert_eq!(differences(&outcome(), &outcome()), Vec::<String>::new());
        let changed = |change: fn(&mut Outcome)| {
            let mut other = outcome();
            change(&mut other);
            differences(&outcome(), &other).join("; ")
        };
        assert_eq!(changed(|o| o.results.clear()), "the result of 'q' is not the same");
        assert_eq!(changed(|o| o.log.truncate(1)), "1 batches where there are 2");
        assert_eq!(changed(|o| o.log[1] = "x".into()), "the log has\n  x\nwhere it is\n  1@1");
        assert_eq!(changed(|o| o.files.clear()), "sink 's': s-00000000.json is missing");
        assert_eq!(
            changed(|o| o.files.values_mut().for_each(|b| b.push(0))),
            "sink 's': s-00000000.json has other bytes"
        );
        assert_eq!(
            changed(|o| drop(o.files.insert(("s".into(), "s-00000001.json".into()), Vec::new()))),
            "sink 's': s-00000001.json should not be there"
        );
    }

    #[test]
    fn moments_and_ids_are_no_difference_and_counts_are() {
        let canonical = |text: &str| {
            let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
            keep_lasting(&mut value, &["description"]);
            value
        };
        let first = r#"{"id":"a","batchId":1,"durationMs":{"getBatch":1},"sources":[{"numInputRows":2,"inputRowsPerSecond":1.5}]}"#;
        let later = r#"{"id":"b","batchId":1,"durationMs":{"getBatch":9},"sources":[{"numInputRows":2,"inputRowsPerSecond":null}]}"#;
        assert_eq!(canonical(first), canonical(later));
        assert_ne!(canonical(first), canonical(&later.replace(":2,", ":3,")));
    }

    #[test]
    fn a_shared_folder_is_read_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s-00000000.json", "s.json", "sum.json", ".highwater-s.json"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let names = |own| {
            let mut files = BTreeMap::new();
            read_published("s", dir.path(), own, &mut files).unwrap();
            files.into_keys().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["s-00000000.json", "s.json"]);
        assert_eq!(names(true), ["s-00000000.json", "s.json", "sum.json"]);
    }
}
