//! The golden suite: small jobs of `tests/golden`, whose output, watermark, late rows and state of each batch were
//! derived by hand from the semantics, never by running the engine.
//!
//! Each case runs straight, restarted between any two batches, crashed at a point and resumed, and rewound to each
//! batch: every time it must give what its `expected.txt` says. `HIGHWATER_GOLDEN=session` runs only the cases whose
//! name contains the word, `HIGHWATER_GOLDEN_CRASHES=all` crashes each case at every point that it comes to.

mod case;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use highwater::{
    batch::{self, VerifyOptions, View},
    job::{self, Variables},
    model::{BatchAddress, CrashPoint, ErrorKind, Faults, OutputMode, crash::Crash},
    sink::{self, ConsoleTarget},
};

use self::case::{Batch, Case, Expected};
use crate::{
    binary::skip,
    stream::{Scratch, rows},
};

/// The suite has more; fewer means that some were not found.
const CASES_MIN: usize = 60;
/// No case has as many batches: a job that makes more goes on for ever.
const BATCHES_MAX: usize = 40;

#[test]
fn every_case_gives_what_was_derived_by_hand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(&folder).expect("the cases are there").map(|entry| entry.expect("listed").path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() >= CASES_MIN, "{} cases were found in {}", folders.len(), folder.display());
    let mut cases: Vec<Case> = folders.iter().map(|folder| Case::read(folder)).collect();
    if let Ok(word) = std::env::var("HIGHWATER_GOLDEN") {
        cases.retain(|case| case.name.contains(&word));
        skip("golden_cases", &format!("all but the {} cases named '{word}'", cases.len()));
    }
    let failures = all_failures(&cases);
    assert!(failures.is_empty(), "{} of {} cases failed\n\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Runs all cases, some at a time; each failure in a text of its own, in the order of the cases.
fn all_failures(cases: &[Case]) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let judged = catch_unwind(AssertUnwindSafe(|| judge(case)));
            let failure = match judged {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure,
                Err(panic) => format!("panicked: {}", panic.downcast_ref::<String>().map_or("", String::as_str)),
            };
            let mut failures = failures.lock().expect("nothing panics with the lock held");
            failures.insert(case.name.clone(), format!("== {}\n{failure}\n", case.name));
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    failures.into_inner().expect("no thread panicked with the lock held").into_values().collect()
}

/// All that is asked of one case; the first thing that is not so.
fn judge(case: &Case) -> Result<(), String> {
    let scratch = case.scratch();
    let checked = check(&scratch);
    let (ordered, batches) = match &case.expected {
        Expected::Refused(why) => return refused(checked, why),
        Expected::Batches { ordered, batches } => (ordered, batches),
    };
    checked.map_err(|error| format!("check refuses it: {error}"))?;
    let run = Run { scratch, ordered, expected: batches };
    let faults = Faults::watching();
    run.to_the_end(faults.clone())?;
    run.compare("straight", &BTreeMap::new())?;
    run.verify("straight")?;
    let crashes = crashes(&case.name, &faults.reached());
    run.restarted()?;
    for (point, nth) in crashes {
        run.crashed(point, nth)?;
    }
    run.rewound()
}

/// As `highwater check` does it.
fn check(scratch: &Scratch) -> highwater::model::Result<()> {
    let set = [("INPUT", scratch.input()), ("OUTPUT", scratch.output())];
    let given = set.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned())).into();
    let job = job::parse("job.sql", "job", &scratch.sql, &Variables::new(given))?;
    batch::check(&job, &mut |spec, mode| Ok(sink::make_sink(spec, mode, ConsoleTarget::nowhere))).map(drop)
}

fn refused(checked: highwater::model::Result<()>, expected: &str) -> Result<(), String> {
    let Err(error) = checked else {
        return Err(format!("check takes it, and should refuse it: {expected}"));
    };
    // without the line of the job that it points at, which has words of its own
    let text = error.to_string().to_lowercase();
    let said: Vec<&str> = text.lines().filter(|line| !line.starts_with("   |")).collect();
    let said = said.join("\n");
    match error.kind() {
        ErrorKind::Usage if said.contains("not built yet") => Err(format!("it is refused as unfinished: {error}")),
        ErrorKind::Usage if said.contains(&expected.to_lowercase()) => Ok(()),
        ErrorKind::Usage => Err(format!("it is refused, and not because of '{expected}': {error}")),
        kind => Err(format!("it is refused as {kind:?}: {error}")),
    }
}

/// Where a case is crashed: at one of the points that it comes to, another for each case.
fn crashes(name: &str, reached: &[(CrashPoint, u64)]) -> Vec<(CrashPoint, u64)> {
    if std::env::var("HIGHWATER_GOLDEN_CRASHES").is_ok_and(|which| which == "all") {
        return reached.iter().flat_map(|(point, count)| (1..=*count).map(|nth| (*point, nth))).collect();
    }
    let hash =
        blake3::hash(name.as_bytes()).as_bytes().iter().fold(0_u64, |hash, byte| hash * 31 % 65_521 + u64::from(*byte));
    let (point, count) = reached[hash as usize % reached.len()];
    vec![(point, 1 + hash / 7 % count)]
}

/// A case in its scratch folder.
struct Run<'a> {
    scratch: Scratch,
    ordered: &'a BTreeSet<String>,
    expected: &'a [Batch],
}

/// What a reader of a complete sink's file saw after a batch, by batch and sink.
type Seen = BTreeMap<(u64, String), Vec<String>>;

impl Run<'_> {
    fn to_the_end(&self, faults: Faults) -> Result<(), String> {
        self.scratch.run(faults, 1).map(drop).map_err(|error| format!("it stops: {error}"))
    }

    /// As if it had never run.
    fn begin_anew(&self) {
        for folder in [self.scratch.checkpoint(), self.scratch.output()] {
            if folder.exists() {
                fs::remove_dir_all(folder).expect("a folder is removed");
            }
        }
    }

    /// One process a batch.
    fn restarted(&self) -> Result<(), String> {
        self.begin_anew();
        let mut seen = Seen::new();
        for batch in 0.. {
            let summary =
                self.scratch.run_batches(Faults::none(), 1, Some(1)).map_err(|error| format!("restarted: {error}"))?;
            if summary.batches == 0 {
                break;
            }
            if batch as usize >= BATCHES_MAX {
                return Err(format!("restarted: there is no end after {BATCHES_MAX} batches"));
            }
            for sink in self.complete_sinks(&self.scratch.view()) {
                let path = self.scratch.output().join(format!("{sink}/{sink}.json"));
                let rows = lines(&path)?;
                seen.insert((batch, sink), rows);
            }
        }
        self.compare("restarted before every batch", &seen)
    }

    fn crashed(&self, point: CrashPoint, nth: u64) -> Result<(), String> {
        self.begin_anew();
        let way = format!("crashed at {point}:{nth}");
        match self.scratch.run(Faults::armed(point, nth, Crash::Error), 1) {
            Err(error) if error.kind() == ErrorKind::Crashed => {}
            Err(error) => return Err(format!("{way}: {error}")),
            Ok(_) => return Err(format!("{way}: the point is not reached")),
        }
        self.to_the_end(Faults::none()).map_err(|why| format!("{way}: {why}"))?;
        self.compare(&way, &BTreeMap::new())
    }

    /// Back to each batch, the newest first, and to the start; and each time on to the end.
    fn rewound(&self) -> Result<(), String> {
        let targets = (0..self.expected.len() as u64 - 1).rev().map(Some).chain([None]);
        for target in targets {
            let way = format!("rewound to {}", target.map_or("start".to_owned(), |batch| batch.to_string()));
            self.scratch.rewind(target, false, Faults::none()).map_err(|error| format!("{way}: {error}"))?;
            self.to_the_end(Faults::none()).map_err(|why| format!("{way}: {why}"))?;
            self.compare(&way, &BTreeMap::new())?;
        }
        self.verify("rewound")
    }

    /// Records, state and sinks are sound, and every batch is what a recomputation gives.
    fn verify(&self, way: &str) -> Result<(), String> {
        let options = VerifyOptions { batch: true, every: true, threads: 1 };
        let report = batch::verify(&self.scratch.checkpoint(), &options, &mut |_| {})
            .map_err(|error| format!("{way}, verify: {error}"))?;
        let not_compared = report.not_compared.map(|error| format!("not compared: {error}"));
        let findings: Vec<String> = report.findings.into_iter().chain(not_compared).collect();
        if findings.is_empty() { Ok(()) } else { Err(format!("{way}, verify: {}", findings.join("\n"))) }
    }

    /// Holds what is there against what is expected; the first batch that differs is told.
    fn compare(&self, way: &str, seen: &Seen) -> Result<(), String> {
        let found = self.found(seen).map_err(|why| format!("{way}: {why}"))?;
        for (at, expected) in self.expected.iter().enumerate() {
            let found = found.get(at).cloned().unwrap_or_default();
            let as_far = Batch { state: expected.state.and(found.state), ..found };
            if as_far != *expected {
                return Err(format!("{way}, batch {at}\nexpected\n{}found\n{}", expected.text(), as_far.text()));
            }
        }
        match found.get(self.expected.len()) {
            None => Ok(()),
            Some(more) => {
                Err(format!("{way}, there are {} batches, the first too many is\n{}", found.len(), more.text()))
            }
        }
    }

    /// All live batches.
    fn found(&self, seen: &Seen) -> Result<Vec<Batch>, String> {
        let view = View::open(&self.scratch.checkpoint()).map_err(|error| error.to_string())?;
        let complete = self.complete_sinks(&view);
        let mut batches = Vec::new();
        for row in view.log().map_err(|error| error.to_string())?.iter().filter(|row| !row.retracted) {
            let id = row.address.batch.0;
            let mut found = Batch {
                id,
                watermark: row.progress.event_time.watermark.clone().unwrap_or_else(|| "-".to_owned()),
                late: row.progress.state_operators.iter().map(|operator| operator.num_rows_dropped_by_watermark).sum(),
                state: Some(row.progress.state_operators.iter().map(|operator| operator.num_rows_total).sum()),
                rows: BTreeMap::new(),
            };
            for query in view.queries() {
                let rows = match seen.get(&(id, query.clone())) {
                    Some(rows) => rows.clone(),
                    None if complete.contains(&query) => result(&view, &query, row.address)?,
                    None => lines(&self.scratch.output().join(format!("{query}/{query}-{id:08}.json")))?,
                };
                // a batch without late rows has no file of them
                let late = self.scratch.output().join(format!("{query}.late/{query}.late-{id:08}.json"));
                let late = if late.exists() { lines(&late)? } else { Vec::new() };
                let of_both = [(format!("{query}.late"), late), (query, rows)];
                found.rows.extend(of_both.into_iter().filter(|(_, rows)| !rows.is_empty()));
            }
            found.sort(self.ordered);
            batches.push(found);
        }
        Ok(batches)
    }

    fn complete_sinks(&self, view: &View) -> BTreeSet<String> {
        let sinks = view.job().sinks.iter().filter(|sink| sink.output_mode == Some(OutputMode::Complete));
        sinks.map(|sink| sink.name.clone()).collect()
    }
}

/// What is shown of a query as of a batch: of a complete sink the same as its file held.
fn result(view: &View, query: &str, at: BatchAddress) -> Result<Vec<String>, String> {
    let table = view.result(query, at).map_err(|error| format!("{query} at batch {at}: {error}"))?;
    Ok(rows(&table))
}

fn lines(path: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(path).map_err(|error| {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        format!("{name} was not published: {error}")
    })?;
    Ok(text.lines().map(str::to_owned).collect())
}
