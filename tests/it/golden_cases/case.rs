//! A golden case as it lies in its folder: the job, its input, and what each batch must give.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::stream::{Scratch, stamp};

/// One folder of `tests/golden`.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub sql: String,
    pub expected: Expected,
    folder: PathBuf,
}

/// What a case's `expected.txt` says.
#[derive(Debug)]
pub enum Expected {
    /// `check` refuses the job, with an error that contains this, whatever the case of its letters.
    Refused(String),
    Batches {
        /// Sinks whose rows come in this order; those of the others are sorted as text.
        ordered: BTreeSet<String>,
        batches: Vec<Batch>,
    },
}

/// One batch, as expected and as found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub id: u64,
    /// That of the batch's plan; `-`: none.
    pub watermark: String,
    /// Rows dropped as late or for a null time, over all stateful operators.
    pub late: u64,
    /// Rows in all stateful operators together; `None` (`state=*`): the semantics leave it open.
    pub state: Option<u64>,
    /// Rows by sink; a sink without rows is not listed.
    pub rows: BTreeMap<String, Vec<String>>,
}

impl Case {
    /// Reads a folder; what is wrong with it is the author's mistake.
    pub fn read(folder: &Path) -> Case {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let text =
            |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{name}/{file}: {error}"));
        let sql = text("job.sql");
        assert!(sql.starts_with("-- "), "{name}/job.sql says at its top what it shows");
        let expected = parse(&text("expected.txt")).unwrap_or_else(|error| panic!("{name}/expected.txt: {error}"));
        Case { name, sql, expected, folder: folder.to_owned() }
    }

    /// The job in a scratch folder, its input in place: of each table, file after file in the order of their numbers.
    pub fn scratch(&self) -> Scratch {
        let scratch = Scratch::new(&self.sql);
        for table in list(&self.folder.join("input")) {
            let target = scratch.input().join(table.file_name().expect("a table has a name"));
            fs::create_dir(&target).expect("a folder for a table");
            for file in list(&table) {
                let copy = target.join(file.file_name().expect("a file has a name"));
                let stem = file.file_stem().expect("a file has a name").to_string_lossy();
                let number = stem.parse().unwrap_or_else(|_| panic!("{}: no number", file.display()));
                fs::copy(&file, &copy).expect("a file is copied");
                stamp(&copy, number);
            }
        }
        scratch
    }
}

/// What is in a folder, by name; nothing where it is not there.
fn list(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.expect("a folder is listed").path()).collect()
}

/// Reads blocks of `batch ID watermark=W late=L state=S` and `SINK {row}` lines; `#` begins a comment line, and
/// `ordered: SINK` in front of all says whose rows stand in their order.
fn parse(text: &str) -> Result<Expected, String> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut ordered = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').ok_or_else(|| format!("'{line}' is no line of it"))?;
        match (word, batches.last_mut()) {
            ("refused:", None) => return Ok(Expected::Refused(rest.trim().to_owned())),
            ("ordered:", None) => ordered.extend(rest.split(' ').map(str::to_owned)),
            ("batch", _) => {
                let batch = header(rest).ok_or_else(|| format!("'{line}' begins no batch"))?;
                if batch.id != batches.len() as u64 {
                    return Err(format!("batch {} is not the next one", batch.id));
                }
                batches.push(batch);
            }
            (sink, Some(batch)) if rest.starts_with('{') => {
                batch.rows.entry(sink.to_owned()).or_default().push(rest.to_owned());
            }
            _ => return Err(format!("'{line}' is no line of it")),
        }
    }
    if batches.is_empty() {
        return Err("it expects nothing".to_owned());
    }
    batches.iter_mut().for_each(|batch| batch.sort(&ordered));
    Ok(Expected::Batches { ordered, batches })
}

/// What follows the word `batch`.
fn header(text: &str) -> Option<Batch> {
    let words: Vec<&str> = text.split(' ').collect();
    let [id, watermark, late, state] = words[..] else { return None };
    let state = match state.strip_prefix("state=")? {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    Some(Batch {
        id: id.parse().ok()?,
        watermark: watermark.strip_prefix("watermark=")?.to_owned(),
        late: late.strip_prefix("late=")?.parse().ok()?,
        state,
        rows: BTreeMap::new(),
    })
}

impl Batch {
    /// Sorts what comes in no order.
    pub fn sort(&mut self, ordered: &BTreeSet<String>) {
        for (sink, rows) in &mut self.rows {
            if !ordered.contains(sink) {
                rows.sort_unstable();
            }
        }
    }

    /// As `expected.txt` writes it.
    pub fn text(&self) -> String {
        let state = self.state.map_or("*".to_owned(), |state| state.to_string());
        let mut text = format!("batch {} watermark={} late={} state={state}\n", self.id, self.watermark, self.late);
        for (sink, rows) in &self.rows {
            for row in rows {
                text += &format!("{sink} {row}\n");
            }
        }
        text
    }
}

#[test]
fn an_expectation_is_read() {
    let text = "# says nothing\nordered: b\nbatch 0 watermark=- late=0 state=3\nb {2}\na {2}\na {1}\nb {1}\n\n\
                batch 1 watermark=2024-01-01T00:00:05.000Z late=1 state=*\n";
    let Ok(Expected::Batches { batches, .. }) = parse(text) else { panic!("it is read") };
    assert_eq!(batches[0].text(), "batch 0 watermark=- late=0 state=3\na {1}\na {2}\nb {2}\nb {1}\n");
    assert_eq!(batches[1].text(), "batch 1 watermark=2024-01-01T00:00:05.000Z late=1 state=*\n");
    assert!(matches!(parse("refused: a watermark\n"), Ok(Expected::Refused(why)) if why == "a watermark"));
    for wrong in ["", "batch 1 watermark=- late=0 state=3", "batch 0 watermark=- late=0", "a {1}", "batch"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
