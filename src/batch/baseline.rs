//! `highwater batch`: the job's queries once over all the input, on plain DataFusion, without state or checkpoint.

use std::sync::{Arc, Mutex, PoisonError};

use super::{statics, view::Table};
use crate::{
    job::JobSpec,
    model::{Error, PlannedFile, Result},
    query::{Baseline, Rows, RowsIterator},
    source::FilesSource,
};

/// Runs every query of a job over what is there now. Bad records and skipped files are told to `notice`.
///
/// # Errors
/// Of kind `Usage` for the job, `Data` in `failfast` mode, `Failed` for input that cannot be read.
pub fn baseline(job: &JobSpec, threads: usize, now_us: i64, notice: &mut dyn FnMut(String)) -> Result<Vec<Table>> {
    if let Some((source, received)) = job.first_received() {
        return Err(Error::usage(format!("there is no batch over source '{source}'"))
            .because(format!("connector '{}' receives rows only while the job runs", received.connector()))
            .help(
                "run the job; `highwater verify DIR --batch` compares its results with a batch over what it received",
            ));
    }
    let baseline = Baseline::new(job)?;
    baseline.set_time(now_us);
    let bad = Arc::new(BadRows::default());
    let needed = baseline.needed_columns(job)?;
    for (table, read) in statics::read(job, &needed.statics, threads, notice)?.into_iter().enumerate() {
        baseline.feed_static(table, read.rows);
    }
    for (index, columns) in needed.sources.into_iter().enumerate() {
        let spec = &job.sources[index];
        let source =
            FilesSource::open(spec, columns).map_err(|error| error.at_if_none(job.place(spec.files.path_at)))?;
        let listing = source.list()?;
        for skipped in &listing.skipped {
            notice(format!("source '{}': {} is not read: {}", spec.name, skipped.path, skipped.reason));
        }
        baseline.feed(index, pass(source, listing.files, threads, Arc::clone(&bad)));
    }
    let mut tables = Vec::with_capacity(job.queries.len());
    for (index, query) in job.queries.iter().enumerate() {
        let result = baseline.run(job, index)?;
        tables.push(Table { query: query.name.clone(), schema: result.schema, rows: result.rows, keys: result.keys });
    }
    bad.tell(notice);
    Ok(tables)
}

/// Bad records by file; a file that several queries read is counted once.
#[derive(Default)]
struct BadRows(Mutex<Vec<(String, u64)>>);

impl BadRows {
    fn add(&self, file: &PlannedFile, rows: u64) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = file.path.to_string();
        if rows > 0 && !files.iter().any(|(known, _)| *known == name) {
            files.push((name, rows));
        }
    }

    fn tell(&self, notice: &mut dyn FnMut(String)) {
        for (file, rows) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            notice(format!("{file}: {rows} bad record{}", if *rows == 1 { "" } else { "s" }));
        }
    }
}

/// All files, one after the other, each decoded when it is its turn.
fn pass(source: FilesSource, files: Vec<PlannedFile>, threads: usize, bad: Arc<BadRows>) -> Rows {
    let (source, files) = (Arc::new(source), Arc::new(files));
    Rows::Pass(Arc::new(move || {
        let (source, files, bad) = (Arc::clone(&source), Arc::clone(&files), Arc::clone(&bad));
        let indexes = 0..files.len();
        let read = move |index: usize| match source.read(&files[index], threads) {
            Ok(read) => {
                bad.add(&files[index], read.read.bad_rows);
                read.decoded.batches.into_iter().map(Ok).collect::<Vec<_>>()
            }
            Err(error) => vec![Err(error)],
        };
        Box::new(indexes.flat_map(read)) as RowsIterator
    }))
}
