//! Static tables: read whole when a job starts, and the same until it is restarted.

use std::sync::Arc;

use crate::{
    job::{JobSpec, SourceSpec, fingerprint::QueryIdentity},
    model::{Error, ErrorKind, Place, Result},
    query::{JobQueries, Rows},
    source::FilesSource,
};

/// What was read of one static table.
pub(super) struct StaticRows {
    pub rows: Rows,
    /// Says which rows they are: other files give another one.
    pub identity: String,
}

/// Plans a job's queries over its static tables as they are now. Bad records are told to `notice`.
///
/// # Errors
/// As [`JobQueries::plan`]; of kind `Usage`, `Failed` or `Data`, where a static table cannot be read.
pub(super) fn plan(job: &JobSpec, threads: usize, notice: &mut dyn FnMut(String)) -> Result<JobQueries> {
    let queries = JobQueries::plan(job)?;
    if job.statics.is_empty() {
        return Ok(queries);
    }
    let needed: Vec<&[usize]> = (0..job.statics.len()).map(|table| queries.needed_of_static(table)).collect();
    let tables = read(job, &needed, threads, notice)?;
    let identities: Vec<Option<String>> = tables.iter().map(|table| Some(table.identity.clone())).collect();
    let queries = JobQueries::plan_with(job, &identities)?;
    for (table, read) in tables.into_iter().enumerate() {
        queries.feed_static(table, read.rows);
    }
    Ok(queries)
}

/// Reads the static tables of a job, of each the columns that are `needed`.
///
/// # Errors
/// As [`plan`].
pub(super) fn read(
    job: &JobSpec,
    needed: &[impl AsRef<[usize]>],
    threads: usize,
    notice: &mut dyn FnMut(String),
) -> Result<Vec<StaticRows>> {
    let tables = job.statics.iter().zip(needed);
    tables.map(|(spec, needed)| read_one(job, spec, needed.as_ref(), threads, notice)).collect()
}

/// Whether static tables are no longer those that a checkpoint's queries were run with; names the first that is not.
pub(super) fn changed(job: &JobSpec, identities: &[QueryIdentity], tables: &[StaticRows]) -> Option<Error> {
    job.statics.iter().zip(tables).find_map(|(spec, read)| {
        let what = format!("static table '{}'", spec.name);
        let parts = identities.iter().flat_map(|identity| &identity.parts);
        let then = parts.into_iter().find(|part| part.what == what && part.value != read.identity)?;
        let error = Error::new(ErrorKind::Moved, format!("the {what} is no longer what it was"))
            .at(Place::Path(spec.files.path.clone().into()))
            .because(format!("the job was run with {}, and there are {}", then.value, read.identity));
        Some(error.help("put the files back as they were"))
    })
}

fn read_one(
    job: &JobSpec,
    spec: &SourceSpec,
    needed: &[usize],
    threads: usize,
    notice: &mut dyn FnMut(String),
) -> Result<StaticRows> {
    let source =
        FilesSource::open(spec, needed.to_vec()).map_err(|error| error.at_if_none(job.place(spec.files.path_at)))?;
    let listing = source.list()?;
    for skipped in &listing.skipped {
        notice(format!("static table '{}': {} is not read: {}", spec.name, skipped.path, skipped.reason));
    }
    let mut hash = blake3::Hasher::new();
    let (mut batches, mut rows, mut bad) = (Vec::new(), 0, 0);
    let mut files = listing.files;
    // by name: a copy has other times of modification
    files.sort_by(|one, other| one.path.cmp(&other.path));
    for file in &files {
        let read = source.read(file, threads)?;
        hash.update(&(file.path.0.len() as u64).to_le_bytes());
        hash.update(&file.path.0);
        hash.update(&read.read.content_hash.to_le_bytes());
        rows += read.read.rows;
        bad += read.read.bad_rows;
        if let Some(first) = read.decoded.bad.first() {
            notice(format!(
                "static table '{}': {} has {} bad records, the first in line {}: {}",
                spec.name, file.path, read.read.bad_rows, first.line, first.reason
            ));
        }
        batches.extend(read.decoded.batches);
    }
    if spec.format.records.bad_records_max.is_some_and(|max| bad > max) {
        return Err(Error::data(format!("the static table '{}' has {bad} bad records", spec.name))
            .at(Place::Path(spec.files.path.clone().into()))
            .help("mend its files and run again, or raise max_bad_records"));
    }
    let hash = hash.finalize().to_hex();
    Ok(StaticRows {
        rows: Rows::Batches(Arc::new(batches)),
        identity: format!("{rows} rows in {} files ({})", files.len(), &hash.as_str()[..16]),
    })
}
