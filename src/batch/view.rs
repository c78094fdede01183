//! Time travel: any query's result as of any committed batch, from the records alone. Works on a running job too.

use std::{
    cell::{RefCell, RefMut},
    collections::BTreeMap,
    path::Path,
    sync::Arc,
};

use datafusion::arrow::{datatypes::SchemaRef, record_batch::RecordBatch};

use super::{
    kept_job::{Version, job_as_of, kept_job},
    restore, statics,
};
use crate::{
    checkpoint::{Commit, PayloadKind, Reader},
    job::{self, JobSpec, SinkConnector},
    model::{BatchAddress, BatchId, Error, Result},
    progress::{LateProgress, Progress},
    query::{self, GroupChange, JobQueries},
    sink, state,
};

/// A query's rows, as of a batch or over all input.
#[derive(Debug, Clone)]
pub struct Table {
    pub query: String,
    pub schema: SchemaRef,
    pub rows: Vec<RecordBatch>,
    /// Columns that are the group key, in the order of the key; empty: none.
    pub keys: Vec<usize>,
}

/// What changed between two batches; places in `changes` are those of rows of the two tables.
#[derive(Debug, Clone)]
pub struct Diff {
    pub table_from: Table,
    pub table_to: Table,
    pub changes: Vec<GroupChange>,
}

/// One committed batch.
#[derive(Debug, Clone)]
pub struct LogRow {
    /// Its generation is always there.
    pub address: BatchAddress,
    pub retracted: bool,
    /// Microseconds since the Unix epoch.
    pub committed_at_us: i64,
    pub files: Vec<String>,
    pub rows: u64,
    pub bad_rows: u64,
    pub state_rows: u64,
    /// Microseconds since the Unix epoch.
    pub watermark_us: Option<i64>,
    /// Completed with what the next commit knew of it; its own durations are absent for the newest batch.
    pub progress: Progress,
}

/// A checkpoint, read.
pub struct View {
    pub(super) reader: Reader,
    pub(super) job: JobSpec,
    /// Of the texts that were asked for last, one with a state at most.
    planned: RefCell<BTreeMap<Version, Planned>>,
}

/// A job text's queries, kept, so that several results at one batch are planned and restored once.
struct Planned {
    queries: JobQueries,
    /// Whose state they have; `None`: no batch's yet.
    at: Option<BatchAddress>,
}

impl View {
    /// # Errors
    /// Of kind `Refused`, where there is no checkpoint, or it cannot be read.
    pub fn open(dir: &Path) -> Result<View> {
        let reader = Reader::open(dir)?;
        let mut job = kept_job(reader.history())?;
        job.receive_in(dir);
        Ok(View { reader, job, planned: RefCell::default() })
    }

    /// What of the log is lost, for whoever looks at what is left of it; empty: nothing, as far as can be seen here.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let dir = self.reader.dir().display();
        if let Some(damage) = self.reader.damage() {
            let newest = self.newest().map_or("no batch".to_owned(), |newest| format!("batch {}", newest.batch));
            warnings.push(format!(
                "the checkpoint's log is damaged ({damage}), and what can be read ends with {newest}: a run reads what is lost again, `highwater verify {dir}` names the damage"
            ));
        }
        // A fork's log begins with the batch that it was forked at.
        let first = self.reader.genesis().forked_from.as_ref().map(|origin| origin.batch);
        let all_are_kept = self.job.settings.retain_batches.is_none();
        if let Some(oldest) = self.reader.horizon().filter(|oldest| all_are_kept && Some(*oldest) != first) {
            warnings.push(format!(
                "batches before {oldest} are no longer in the log, though the job keeps all: parts of it were dropped or lost"
            ));
        }
        warnings
    }

    /// Whether the job was running when the checkpoint was read.
    pub fn is_running(&self) -> bool {
        self.reader.is_running()
    }

    /// The job as the checkpoint keeps it, with absolute paths.
    pub fn job(&self) -> &JobSpec {
        &self.job
    }

    pub fn newest(&self) -> Option<BatchAddress> {
        self.reader.history().newest().map(|commit| commit.address())
    }

    /// Names of the queries, in the order of the job file.
    pub fn queries(&self) -> Vec<String> {
        self.job.queries.iter().map(|query| query.name.clone()).collect()
    }

    /// The batch meant by `at` (`None`: the newest), with its generation.
    ///
    /// # Errors
    /// Of kind `Usage`, naming the batches that there are.
    pub fn resolve(&self, at: Option<BatchAddress>) -> Result<BatchAddress> {
        match at {
            Some(at) => Ok(self.reader.find(at)?.address()),
            None => self.newest().ok_or_else(|| {
                Error::usage("the checkpoint has no batch yet").help("run the job first: `highwater run JOB.sql`")
            }),
        }
    }

    /// A query's result as of a batch, as the job computed it then.
    ///
    /// # Errors
    /// Of kind `Usage` for an unknown query, or one whose result cannot be had again; `Refused` for damage.
    pub fn result(&self, query: &str, at: BatchAddress) -> Result<Table> {
        let index = self.query_index(query)?;
        let accepted = self.reader.history().accepted();
        let now = accepted.len().checked_sub(1);
        {
            let queries = self.planned(now, None)?;
            if queries.queries[index].gives_out_for_good() {
                return self.appended(&queries, index, at);
            }
        }
        let version = accepted.iter().rposition(|accepted| accepted.from <= at.batch);
        let then = job_as_of(self.reader.history(), version)?;
        // a query that was added later had seen nothing yet
        let (version, index) = match then.queries.iter().position(|spec| spec.name == query) {
            Some(index) => (version, index),
            None => (now, index),
        };
        let queries = self.planned(version, Some(at))?;
        if queries.queries[index].shows_statics() {
            self.feed_statics(&then, &queries, at.batch)?;
        }
        let rows = queries.queries[index].result(&queries.executor())?;
        Ok(table(&queries, index, rows))
    }

    /// The queries of one of the job's texts; `at`: with the state as of that batch.
    fn planned(&self, version: Version, at: Option<BatchAddress>) -> Result<RefMut<'_, JobQueries>> {
        let mut kept = self.planned.borrow_mut();
        let fits = |planned: &Planned| at.is_none() || planned.at.is_none() || planned.at == at;
        let mut planned = match kept.remove(&version).filter(fits) {
            Some(planned) => planned,
            None => Planned { queries: JobQueries::plan(&job_as_of(self.reader.history(), version)?)?, at: None },
        };
        if let (Some(at), None) = (at, planned.at) {
            // memory for one state, not for one of each text
            kept.retain(|_, other| other.at.is_none());
            let steps = self.reader.restore_steps(at)?;
            restore::restore(&mut planned.queries, &steps, &|payload| self.reader.read_payload(payload))?;
            planned.at = Some(at);
        }
        Ok(RefMut::map(kept, |kept| &mut kept.entry(version).or_insert(planned).queries))
    }

    /// What changed between two batches: changed groups, or rows that were added (and taken away, where the key that
    /// would tell a change is not shown).
    ///
    /// # Errors
    /// As [`View::result`].
    pub fn diff(&self, query: &str, from: BatchAddress, to: BatchAddress) -> Result<Diff> {
        let (table_from, table_to) = (self.result(query, from)?, self.result(query, to)?);
        let count = |table: &Table| table.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        let index = self.query_index(query)?;
        let queries = self.planned(self.reader.history().accepted().len().checked_sub(1), None)?;
        let query = &queries.queries[index];
        if table_from.schema.fields() != table_to.schema.fields() {
            return Err(Error::usage(format!(
                "query '{}' had other columns at batch {from} than at batch {to}",
                query.name()
            ))
            .because("its projection was changed in between (--accept-change)")
            .help("show it at both batches, or compare batches on one side of the change"));
        }
        let changes = if query.gives_out_for_good() && count(&table_from) <= count(&table_to) {
            // Rows are only ever added: what is new is what comes after the earlier ones, in the order given out.
            let places = table_to
                .rows
                .iter()
                .enumerate()
                .flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)));
            places.skip(count(&table_from)).map(|place| GroupChange { from: None, to: Some(place) }).collect()
        } else {
            // Groups whose key is not shown cannot be recognised: their rows are there, or they are not.
            let all = || (0..table_to.schema.fields().len()).collect();
            let keys: Vec<usize> = if query.shows_key() { table_to.keys.clone() } else { all() };
            query::diff_groups(&table_to.schema, &keys, &table_from.rows, &table_to.rows)?
        };
        Ok(Diff { table_from, table_to, changes })
    }

    /// One row per committed batch in the order of the log, retracted ones included.
    ///
    /// # Errors
    /// Of kind `Refused`, where a record's progress cannot be read.
    pub fn log(&self) -> Result<Vec<LogRow>> {
        let history = self.reader.history();
        let mut commits: Vec<&Arc<Commit>> = history.live().iter().chain(history.retracted()).collect();
        commits.sort_by_key(|commit| (commit.generation, commit.batch()));
        self.rows_of(&commits)
    }

    /// The newest batches of the live timeline, oldest first.
    ///
    /// # Errors
    /// As [`View::log`].
    pub fn log_of_newest(&self, batches_max: usize) -> Result<Vec<LogRow>> {
        let live: Vec<&Arc<Commit>> = self.reader.history().live().iter().collect();
        self.rows_of(&live[live.len().saturating_sub(batches_max)..])
    }

    /// One committed batch.
    ///
    /// # Errors
    /// As [`View::resolve`] and [`View::log`].
    pub fn log_row(&self, at: BatchAddress) -> Result<LogRow> {
        let history = self.reader.history();
        let commit = self.reader.find(at)?;
        // what came later about it is with the next in the order of the log
        let order = |commit: &Commit| (commit.generation, commit.batch());
        let all = history.live().iter().chain(history.retracted());
        let next = all.filter(|other| order(other) > order(commit)).min_by_key(|other| order(other));
        let commits: Vec<&Arc<Commit>> = std::iter::once(commit).chain(next).collect();
        Ok(self.rows_of(&commits)?.swap_remove(0))
    }

    fn rows_of(&self, commits: &[&Arc<Commit>]) -> Result<Vec<LogRow>> {
        let history = self.reader.history();
        let mut rows: Vec<LogRow> = Vec::with_capacity(commits.len());
        for commit in commits {
            let unreadable = |error: serde_json::Error| {
                Error::refused(format!("the progress of batch {} cannot be read", commit.batch()))
                    .because(error.to_string())
            };
            if let (Some(late), Some(before)) = (&commit.late_progress, rows.last_mut()) {
                let late: LateProgress = serde_json::from_str(late).map_err(unreadable)?;
                before.progress.complete(&late);
            }
            rows.push(LogRow {
                address: commit.address(),
                retracted: !history.is_live(commit),
                committed_at_us: commit.committed_at_us,
                files: crate::progress::names(commit.files.iter().flatten().map(|read| read.file.path.clone())),
                rows: commit.rows,
                bad_rows: commit.bad_rows,
                state_rows: commit.state_rows,
                watermark_us: commit.plan.watermark_us,
                progress: serde_json::from_str(&commit.progress).map_err(unreadable)?,
            });
        }
        Ok(rows)
    }

    /// Reads the static tables that results are computed with; they must be those of then.
    fn feed_statics(&self, job: &JobSpec, queries: &JobQueries, batch: BatchId) -> Result<()> {
        let needed: Vec<&[usize]> = (0..job.statics.len()).map(|table| queries.needed_of_static(table)).collect();
        let tables = statics::read(job, &needed, 1, &mut |_| {})?;
        let history = self.reader.history();
        let accepted = history.accepted().iter().rfind(|accepted| accepted.from <= batch);
        let identities = accepted.map_or(&history.genesis().identities, |accepted| &accepted.identities);
        if let Some(error) = statics::changed(job, identities, &tables) {
            return Err(error);
        }
        for (table, read) in tables.into_iter().enumerate() {
            queries.feed_static(table, read.rows);
        }
        Ok(())
    }

    pub(super) fn query_index(&self, name: &str) -> Result<usize> {
        self.job.queries.iter().position(|query| query.name == name).ok_or_else(|| {
            let error = Error::usage(format!("the job has no query '{name}'"));
            let names = self.queries();
            match job::nearest(name, names.iter().map(String::as_str)) {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error.help(format!("its queries are: {}", names.join(", "))),
            }
        })
    }

    /// Why rows that an append query gave out are no longer to be had, if so.
    fn rows_gone(&self, connector: &SinkConnector) -> Option<String> {
        let horizon = self.reader.horizon()?;
        let in_files = matches!(connector, SinkConnector::Files { .. });
        match &self.reader.genesis().forked_from {
            Some(fork) if in_files => {
                Some(format!("those up to batch {} are in the files of the job that this is a fork of", fork.batch))
            }
            // A fork's first record has them all.
            Some(fork) if fork.batch == horizon => None,
            None if in_files && horizon == BatchId::FIRST => None,
            _ if self.job.settings.retain_batches.is_some() => {
                Some(format!("retain_batches let the log up to batch {horizon} go, and an append query's rows with it"))
            }
            _ => Some(format!("the log up to batch {horizon} is lost, and an append query's rows with it")),
        }
    }

    /// All rows that an append query gave out up to a batch.
    fn appended(&self, queries: &JobQueries, index: usize, at: BatchAddress) -> Result<Table> {
        let query = &queries.queries[index];
        let commits = self.reader.timeline(at)?;
        let connector = &self.job.sink_of(&self.job.queries[index]).connector;
        if let Some(why) = self.rows_gone(connector) {
            return Err(Error::usage(format!("not all rows of query '{}' can be had again", query.name()))
                .because(why)
                .help("keep all batches, or read the sink's own files"));
        }
        let mut rows = Vec::new();
        if let SinkConnector::Files { format, .. } = connector {
            let outputs = published(&commits, query.name());
            let sink =
                sink::make_sink(self.job.sink_of(&self.job.queries[index]), query.mode(), sink::ConsoleTarget::nowhere);
            for bytes in sink.read_back(&outputs)? {
                rows.extend(sink::rows::from_bytes(*format, query.output_schema(), bytes)?);
            }
        } else {
            let kept = commits.iter().flat_map(|commit| &commit.payloads);
            for payload in kept.filter(|payload| payload.query == query.name() && payload.kind == PayloadKind::Rows) {
                rows.extend(state::decode(query.output_schema(), &self.reader.read_payload(payload)?)?);
            }
        }
        Ok(table(queries, index, rows))
    }
}

/// What the commits say that a query's sink published, oldest first.
pub(super) fn published(
    commits: &[Arc<Commit>],
    query: &str,
) -> Vec<(crate::model::BatchId, crate::model::StagedOutput)> {
    let of = |commit: &Arc<Commit>| {
        let output = commit.outputs.iter().find(|output| output.sink == query)?;
        Some((commit.batch(), output.clone()))
    };
    commits.iter().filter_map(of).collect()
}

pub(super) fn table(queries: &JobQueries, index: usize, rows: Vec<RecordBatch>) -> Table {
    let query = &queries.queries[index];
    Table {
        query: query.name().to_owned(),
        schema: query.output_schema().clone(),
        rows,
        keys: query.key_columns().to_vec(),
    }
}

/// Rows as a sink's own files give them back: CSV, for one, cannot tell an empty string from a null.
pub(super) fn as_read_back(
    schema: &SchemaRef,
    rows: Vec<RecordBatch>,
    connector: &SinkConnector,
) -> Result<Vec<RecordBatch>> {
    match connector {
        SinkConnector::Files { format, .. } => {
            sink::rows::from_bytes(*format, schema, sink::rows::to_bytes(*format, schema, &rows)?)
        }
        _ => Ok(rows),
    }
}
