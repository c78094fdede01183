//! Where results go: stage, publish, abort, retract. One file per connector.
//!
//! The checkpoint keeps what memory shows, and what a console or a program is given again after a kill. Files are staged and
//! renamed; a table of a database gets a batch and its number in one transaction.

mod command;
mod console;
mod durable;
mod files;
mod late;
mod memory;
mod parquet;
mod postgres;
mod redis;
pub mod rows;
mod server;
mod sqlite;
mod table;

use std::fmt;

use datafusion::arrow::{datatypes::SchemaRef, record_batch::RecordBatch};

pub use command::CommandSink;
pub use console::{ConsoleFormat, ConsoleSink, ConsoleTarget};
pub use files::FilesSink;
pub use late::LateRowsSink;
pub use memory::MemorySink;
pub use sqlite::table_lines;

use self::redis::RedisSink;
use postgres::PostgresSink;
use sqlite::SqliteSink;

use crate::{
    checkpoint::CommitPermit,
    job::{SinkConnector, SinkSpec},
    model::{BatchId, OutputMode, Result, StagedOutput},
};

/// The sink that a job asks for; nothing is touched before [`Sink::open`]. `mode` is what the query decided where the
/// job says nothing. `console` is asked only for a sink that has something to print: a console, and the notices of a command.
pub fn make_sink(spec: &SinkSpec, mode: OutputMode, console: impl FnOnce() -> ConsoleTarget) -> Box<dyn Sink> {
    match &spec.connector {
        SinkConnector::Console => Box::new(ConsoleSink::new(&spec.name, console())),
        SinkConnector::Memory => Box::new(MemorySink::new(&spec.name)),
        SinkConnector::Files { path, format } => Box::new(FilesSink::new(&spec.name, path, *format, mode)),
        SinkConnector::Sqlite { path, table } => Box::new(SqliteSink::new(&spec.name, path.clone(), table, mode)),
        SinkConnector::Postgres(server) => {
            Box::new(PostgresSink::new(&spec.name, (**server).clone(), &server.table, mode))
        }
        SinkConnector::Redis(server) => Box::new(RedisSink::new(&spec.name, server, mode)),
        SinkConnector::Command(command) => Box::new(CommandSink::new(&spec.name, command, console().notices)),
    }
}

/// Where late rows of a sink's query go, if the job asks for them; nothing is touched before [`Sink::open`].
pub fn late_sink(spec: &SinkSpec) -> Option<Box<dyn Sink>> {
    let folder = spec.late_rows.as_ref()?;
    Some(Box::new(LateRowsSink::new(&spec.late_name(), folder)))
}

/// What a sink that stages nothing outside of the checkpoint has to say of a batch.
fn nothing_outside(sink: &str, output: &Output<'_>) -> StagedOutput {
    StagedOutput { sink: sink.to_owned(), name: String::new(), rows: output.row_count(), size_bytes: 0, hash: [0; 32] }
}

/// What one query gives its sink in one batch.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    pub query: &'a str,
    pub batch: BatchId,
    pub mode: OutputMode,
    pub schema: &'a SchemaRef,
    pub rows: &'a [RecordBatch],
}

impl Output<'_> {
    pub fn row_count(&self) -> u64 {
        self.rows.iter().map(|batch| batch.num_rows() as u64).sum()
    }
}

/// What is known of a query's rows before there are any.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    pub schema: &'a SchemaRef,
    pub key: RowKey<'a>,
}

/// What a row of a later batch is to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKey<'a> {
    /// One more.
    None,
    /// It replaces the one with the same values in these columns (update mode over groups).
    Columns(&'a [usize]),
    /// Each batch replaces all (complete mode), whose rows are told apart by these columns.
    All(&'a [usize]),
    /// It replaces one that cannot be told, since not all of the group's key is among the columns.
    Hidden,
}

impl<'a> From<&'a SchemaRef> for Columns<'a> {
    fn from(schema: &'a SchemaRef) -> Columns<'a> {
        Columns { schema, key: RowKey::None }
    }
}

/// What this very checkpoint has published to a sink, by its log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// It has, or was about to, and goes on from there: the place must know of the checkpoint. Not for a rewind, which may be
    /// the way out where the place forgot.
    pub resumes: bool,
    /// The newest batch that must be there. Left out are one that a crash may have kept from being published, and those that
    /// a rewind is about to take back.
    pub newest: Option<BatchId>,
    /// The batches along the live timeline with the hashes of their rows, oldest first, as far back as the log was read.
    pub batches: Vec<(BatchId, [u8; 32])>,
}

impl Before {
    /// The hash of a batch's rows; `None`: it is not on the live timeline, or older than the log that was read.
    fn hash_of(&self, batch: BatchId) -> Option<&[u8; 32]> {
        let at = self.batches.binary_search_by_key(&batch, |(batch, _)| *batch).ok()?;
        Some(&self.batches[at].1)
    }
}

/// What a sink promises; `check` and the README print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    ExactlyOnce,
    /// A batch may be delivered again after a kill, with the same rows.
    AtLeastOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Guarantee::ExactlyOnce => "exactly once",
            Guarantee::AtLeastOnce => "at least once",
        })
    }
}

/// A place for results. The batch loop alone calls these, in the order of the life of a batch.
pub trait Sink: Send {
    /// For progress and `check`: `files[/out, json]`.
    fn description(&self) -> String;

    fn guarantee(&self) -> Guarantee;

    /// Whether `stage` writes outside the checkpoint (then a batch's plan must be durable first).
    fn stages_outside(&self) -> bool;

    /// Whether the sink can write rows of these columns; asked before anything is touched, so that no batch fails at
    /// its first row, or after its commit.
    ///
    /// # Errors
    /// Of kind `Usage`, naming the column and a way out.
    fn accepts(&self, columns: &Columns<'_>) -> Result<()>;

    /// What `check` says of it besides; touches nothing.
    ///
    /// # Errors
    /// Of kind `Failed`, where its place cannot be looked at.
    fn notes(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Whether nobody publishes here yet, so that a checkpoint that is still to be made may; touches nothing.
    ///
    /// # Errors
    /// Of kind `Refused`, naming what is here.
    fn check_free(&self) -> Result<()>;

    /// Checks that the sink can be used by this checkpoint, and claims it; touches nothing else. `before`: what the checkpoint
    /// has published here, so that the place must know of it.
    ///
    /// # Errors
    /// Of kind `Refused` where another checkpoint owns the place, it is not the one published to before, or lost some of it;
    /// `Failed` where it cannot be written.
    fn open(&mut self, checkpoint_id: &str, before: &Before, columns: &Columns<'_>) -> Result<()>;

    /// Writes what the batch will publish: durable, invisible. Doing it again changes nothing.
    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput>;

    /// Makes visible what was staged; idempotent. `output` is the same that was staged, in case it must be
    /// shown (console) or written again (a staged file lost to a crash is staged again).
    fn publish(&mut self, permit: &CommitPermit, staged: &StagedOutput, output: &Output<'_>) -> Result<()>;

    /// Removes everything staged; nothing published is touched.
    fn abort(&mut self) -> Result<()>;

    /// Whether its place is such that what was published can be taken back; touches nothing.
    ///
    /// # Errors
    /// Of kind `Refused`, saying why not.
    fn can_retract(&self) -> Result<()> {
        Ok(())
    }

    /// Makes invisible what batches after `keep` published (`None`: all batches). `latest` is the result as of `keep`, to be
    /// published again where the sink keeps only the newest (complete mode, and update mode of a table).
    fn retract(&mut self, permit: &CommitPermit, keep: Option<BatchId>, latest: Option<&Output<'_>>) -> Result<()>;

    /// Whether what batch after batch published is still there as the commits say; one finding per problem.
    /// `published`: the commits' records for this sink along the live timeline, oldest first.
    fn verify(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>>;

    /// Whether each row of the newest result stands in the place as it is, where that can be told (update mode of a table, all
    /// of whose groups were published to it); the finding, if not.
    ///
    /// # Errors
    /// As [`Sink::verify`].
    fn lacks(&self, _result: &[RecordBatch]) -> Result<Option<String>> {
        Ok(None)
    }

    /// Reads back what was published in append mode, batch by batch, in the sink's format ([`rows::from_bytes`]).
    ///
    /// # Errors
    /// Of kind `Usage`, saying why it cannot; `Failed` where it is gone or was changed.
    fn read_back(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>>;
}
