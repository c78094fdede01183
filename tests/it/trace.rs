//! What a run leaves behind, without what may differ from run to run: times, durations, run id, memory.
//!
//! Two runs over the same input that leave the same trace did the same, whatever was killed when.

use std::{collections::BTreeMap, fs, path::Path};

use highwater::{
    batch::{LogRow, View},
    checkpoint::{PayloadKind, PayloadRef, Reader},
    model::BatchAddress,
};
use serde_json::Value;

use crate::stream::{Scratch, rows};

/// Length and hash of bytes that nobody wants to see in full.
type Bytes = (usize, String);

/// One live batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchTrace {
    /// Its progress, canonical.
    pub progress: Value,
    pub files: Vec<String>,
    /// Rows as text, by query; `None` where retention dropped what they are made of.
    pub results: BTreeMap<String, Option<Vec<String>>>,
    /// Query, kind and bytes of what the commit carries; no bytes where retention dropped them.
    pub payloads: Vec<(String, PayloadKind, Option<Bytes>)>,
    /// The snapshot that the state at this batch is restored from: how many batches before, and its bytes.
    pub snapshot: Option<(usize, Vec<Bytes>)>,
}

/// All live batches, and every byte that was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub batches: BTreeMap<u64, BatchTrace>,
    pub output: BTreeMap<String, Vec<u8>>,
    pub bad_records: BTreeMap<String, Vec<u8>>,
}

impl Trace {
    /// Reads all that a stopped job left.
    pub fn of(scratch: &Scratch) -> Trace {
        Trace::read(scratch.dir.path(), &scratch.checkpoint(), &scratch.output(), &|_| true)
    }

    /// Reads what a stopped job left in the folder `root`, with the results of those batches that are `shown`.
    pub fn read(root: &Path, checkpoint: &Path, output: &Path, shown: &dyn Fn(BatchAddress) -> bool) -> Trace {
        let view = View::open(checkpoint).unwrap_or_else(|error| panic!("{error}"));
        let reader = Reader::open(checkpoint).unwrap_or_else(|error| panic!("{error}"));
        let bytes = |bytes: Vec<u8>| (bytes.len(), blake3::hash(&bytes).to_hex()[..16].to_owned());
        let read = |payload: &PayloadRef| bytes(reader.read_payload(payload).unwrap_or_else(|error| panic!("{error}")));
        let horizon = reader.horizon();
        let mut batches = BTreeMap::new();
        for row in view.log().unwrap_or_else(|error| panic!("{error}")) {
            if row.retracted {
                continue;
            }
            let at = row.address;
            let commit = reader.find(at).unwrap_or_else(|error| panic!("{error}"));
            let kept = Some(at.batch) != horizon;
            let payload = |payload: &PayloadRef| (payload.query.clone(), payload.kind, kept.then(|| read(payload)));
            let payloads = commit.payloads.iter().map(payload).collect();
            let steps = reader.restore_steps(at).unwrap_or_else(|error| panic!("{error}"));
            let snapshot = steps.snapshot.map(|kept| (steps.commits.len(), kept.iter().map(read).collect()));
            let trace = BatchTrace {
                progress: canonical(&row, root),
                results: if shown(at) { results(&view, at) } else { BTreeMap::new() },
                files: row.files,
                payloads,
                snapshot,
            };
            batches.insert(at.batch.0, trace);
        }
        Trace { batches, output: files(output), bad_records: bad_records(checkpoint) }
    }

    /// The trace from a batch on.
    pub fn from(mut self, first: u64) -> Trace {
        self.batches.retain(|batch, _| *batch >= first);
        self
    }

    /// Panics at the first thing that differs, naming it. This trace may go back further: a crash may put off retention.
    #[track_caller]
    pub fn assert_same(&self, expected: &Trace, context: &dyn std::fmt::Debug) {
        let first = expected.batches.keys().next().copied().unwrap_or(0);
        let kept = self.batches.range(first..).map(|(batch, _)| *batch);
        assert_eq!(
            kept.collect::<Vec<_>>(),
            expected.batches.keys().copied().collect::<Vec<_>>(),
            "live batches: {context:?}"
        );
        for (batch, expected) in &expected.batches {
            let found = &self.batches[batch].as_far_as(expected);
            assert_eq!(found.files, expected.files, "input of batch {batch}: {context:?}");
            assert_eq!(found.progress, expected.progress, "progress of batch {batch}: {context:?}");
            assert_eq!(found.results, expected.results, "results at batch {batch}: {context:?}");
            assert_eq!(found.payloads, expected.payloads, "committed bytes of batch {batch}: {context:?}");
            assert_eq!(found.snapshot, expected.snapshot, "snapshot for batch {batch}: {context:?}");
        }
        same_files(&self.output, &expected.output, context);
        let known = |name: &String| expected.bad_records.contains_key(name) || first == 0;
        let bad_records =
            self.bad_records.iter().filter(|(name, _)| known(name)).map(|(name, bytes)| (name.clone(), bytes.clone()));
        same_files(&bad_records.collect(), &expected.bad_records, context);
    }
}

impl BatchTrace {
    /// Without what the other one no longer has.
    fn as_far_as(&self, other: &BatchTrace) -> BatchTrace {
        let mut ours = self.clone();
        for (payload, theirs) in ours.payloads.iter_mut().zip(&other.payloads) {
            if theirs.2.is_none() {
                payload.2 = None;
            }
        }
        for (query, result) in &mut ours.results {
            if other.results.get(query).is_some_and(Option::is_none) {
                *result = None;
            }
        }
        ours
    }
}

#[track_caller]
fn same_files(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>, context: &dyn std::fmt::Debug) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "names of files: {context:?}");
    for (name, bytes) in expected {
        assert_eq!(
            String::from_utf8_lossy(&found[name]),
            String::from_utf8_lossy(bytes),
            "bytes of {name}: {context:?}"
        );
    }
}

/// Every query's rows as of a batch.
fn results(view: &View, at: BatchAddress) -> BTreeMap<String, Option<Vec<String>>> {
    let result = |query: String| {
        let found = match view.result(&query, at) {
            Ok(table) => Some(rows(&table)),
            Err(error) if error.why().is_some_and(|why| why.starts_with("retain_batches")) => None,
            Err(error) => panic!("{query} at {at}: {error}"),
        };
        (query, found)
    };
    view.queries().into_iter().map(result).collect()
}

/// Progress without ids, times, durations, rates, memory and the scratch folder's name.
fn canonical(row: &LogRow, scratch: &Path) -> Value {
    let text = serde_json::to_string(&row.progress).expect("plain data");
    let mut value: Value = serde_json::from_str(&text.replace(&*scratch.to_string_lossy(), "SCRATCH")).expect("JSON");
    highwater::progress::keep_lasting(&mut value, &[]);
    value["rows"] = row.rows.into();
    value["badRows"] = row.bad_rows.into();
    value["stateRows"] = row.state_rows.into();
    value
}

/// The files of bad records by batch: how many rewinds came before, their names say, and a crash may add one.
fn bad_records(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for (name, bytes) in files(&checkpoint.join("bad-records")) {
        let (batch, _) = name.split_once("-g").unwrap_or_else(|| panic!("{name} is left lying about"));
        let other = found.insert(batch.to_owned(), bytes);
        assert!(other.is_none(), "batch {batch} has two files of bad records");
    }
    found
}

/// Every file below a folder, by its path in it; the owner's mark by its name alone.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry.expect("a folder is listed").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("it lies below").to_string_lossy().into_owned();
            let owner = name.rsplit('/').next().is_some_and(|name| name.starts_with(".highwater-"));
            let bytes = match path.extension() {
                _ if owner => Vec::new(),
                // where rows lie in a database depends on what was deleted before
                Some(extension) if extension == "db" => database(&path).into_bytes(),
                _ => fs::read(&path).expect("a file is read"),
            };
            found.insert(name, bytes);
        }
    }
    found
}

/// Every table of a database as text, in no order of its own; without the checkpoint's id.
pub fn database(path: &Path) -> String {
    let database = rusqlite::Connection::open(path).expect("a database opens");
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'highwater_tables' ORDER BY name";
    let mut names = database.prepare(names).expect("it has tables");
    let names: Vec<String> = names.query_map((), |row| row.get(0)).expect("it has names").flatten().collect();
    let mut text = String::new();
    for name in names {
        let columns = if name == "highwater_batches" { "name, batch, rows, hex(hash)" } else { "*" };
        let mut select = database.prepare(&format!("SELECT {columns} FROM \"{name}\"")).expect("a table is read");
        let width = select.column_count();
        let line = |row: &rusqlite::Row<'_>| {
            let cells = (0..width).map(|cell| format!("{:?}", row.get_ref(cell).expect("a cell"))).collect::<Vec<_>>();
            Ok(cells.join(" "))
        };
        let mut lines: Vec<String> = select.query_map((), line).expect("rows").flatten().collect();
        lines.sort_unstable();
        text += &format!("{name}\n{}\n", lines.join("\n"));
    }
    text
}

/// Copies a folder with all that is in it, times included.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).expect("a folder is listed") {
        let (from, to) = {
            let entry = entry.expect("a folder is listed");
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            copy_folder(&from, &to);
        } else if from.is_file() {
            fs::copy(&from, &to).expect("a file is copied");
            let times = fs::metadata(&from).and_then(|metadata| metadata.modified()).expect("a file has a time");
            let copy = fs::File::options().write(true).open(&to).expect("the copy opens");
            copy.set_modified(times).expect("its time can be set");
        }
    }
}

/// Puts a folder back as it was copied.
pub fn restore_folder(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("a folder is removed");
    }
    copy_folder(from, to);
}
