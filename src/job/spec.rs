//! What a job file says, validated: tables, sinks, queries, settings.

use std::{collections::BTreeMap, num::NonZeroU64, path::PathBuf, time::Duration};

use datafusion::arrow::datatypes::{DataType, SchemaRef};

use super::{received::ReceivedSpec, sink::SinkSpec};
use crate::model::{Place, WatermarkPolicy};

/// A whole job.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Stem of the job file's name: the default name of the checkpoint.
    pub name: String,
    /// The file as errors name it.
    pub file: String,
    /// The text as written, with `${NAME}` in place: what the checkpoint keeps.
    pub template: String,
    /// What was filled in for each `${NAME}` and `${NAME:-default}`; never an `${env:NAME}`.
    pub variables: BTreeMap<String, String>,
    /// The text with everything filled in but `${env:NAME}`, which stays in place wherever text is kept or shown.
    /// Positions ([`At`]) refer to it.
    pub text: String,
    pub sources: Vec<SourceSpec>,
    /// Tables that are read whole when the job starts (`static = 'true'`).
    pub statics: Vec<SourceSpec>,
    pub views: Vec<ViewSpec>,
    pub sinks: Vec<SinkSpec>,
    /// In file order.
    pub queries: Vec<QuerySpec>,
    pub settings: Settings,
}

impl JobSpec {
    pub fn source(&self, name: &str) -> Option<&SourceSpec> {
        self.sources.iter().find(|source| source.name == name)
    }

    pub fn query(&self, name: &str) -> Option<&QuerySpec> {
        self.queries.iter().find(|query| query.name == name)
    }

    /// The sink of a query.
    pub fn sink_of(&self, query: &QuerySpec) -> &SinkSpec {
        &self.sinks[query.sink]
    }

    /// The place of an offset of [`JobSpec::text`], for an error.
    pub fn place(&self, at: At) -> Place {
        place_in(&self.file, &self.text, at)
    }
}

/// The place of an offset of a file's text; one past its end, or inside a character, is moved back.
pub fn place_in(file: &str, text: &str, at: At) -> Place {
    let offset = text.floor_char_boundary(at.0);
    let start = text[..offset].rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    Place::Job {
        file: file.to_owned(),
        line: text[..offset].matches('\n').count() as u64 + 1,
        column: text[start..offset].chars().count() as u64 + 1,
        text: line.to_owned(),
    }
}

/// Byte offset into [`JobSpec::text`] (always at a character boundary).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At(pub usize);

/// A source table.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    pub name: String,
    pub at: At,
    pub columns: Vec<ColumnSpec>,
    /// Of a source that receives: which folder its receive log is, and how much of it a batch takes.
    pub files: FilesOptions,
    /// How its rows come; `None`: from files.
    pub received: Option<ReceivedSpec>,
    pub format: FormatSpec,
    /// What its watermark is made of; `None`: it has none.
    pub event_time: Option<EventTimeSpec>,
    /// `static = 'true'`: a table that is read whole when the job starts, no stream.
    pub is_static: bool,
}

/// `event_time` and `watermark_delay` of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTimeSpec {
    /// Index of the declared column (always `TIMESTAMP`) that holds the event time.
    pub column: usize,
    /// How far the watermark stays behind the newest event, microseconds.
    pub delay_us: i64,
}

impl SourceSpec {
    /// What the checkpoint calls the folder that its files are archived in. No table has such a name.
    pub fn archive_name(&self) -> String {
        format!("{}.archive", self.name)
    }

    /// All columns as Arrow, all nullable; a hidden one comes last.
    pub fn schema(&self) -> SchemaRef {
        schema_of(self.columns.iter())
    }

    /// As [`SourceSpec::schema`], without what is hidden.
    pub fn declared_schema(&self) -> SchemaRef {
        schema_of(self.columns.iter().filter(|column| !column.hidden))
    }

    /// Whether a column is there only for queries that name it.
    pub fn has_hidden(&self) -> bool {
        self.columns.iter().any(|column| column.hidden)
    }
}

fn schema_of<'a>(columns: impl Iterator<Item = &'a ColumnSpec>) -> SchemaRef {
    use datafusion::arrow::datatypes::{Field, Schema};
    let field = |column: &ColumnSpec| Field::new(&column.name, column.data_type.clone(), true);
    std::sync::Arc::new(Schema::new(columns.map(field).collect::<Vec<_>>()))
}

/// A column. Types: `Utf8`, `Boolean`, `Int8..Int64`, `Float32`, `Float64`, `Decimal128`, `Date32`,
/// `Timestamp(Microsecond, None)` (UTC); from JSON, Parquet and Avro `List`, `Struct` and `Map` of these, too.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSpec {
    pub name: String,
    pub data_type: DataType,
    pub at: At,
    /// Not declared: `*` leaves it out.
    pub hidden: bool,
}

/// Options of the files source, as `semantics.md` defines them; nothing is dropped unless asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilesOptions {
    /// As written: a directory, a glob or a file; relative to the current directory.
    pub path: String,
    pub path_at: At,
    pub max_files_per_trigger: Option<NonZeroU64>,
    pub max_bytes_per_trigger: Option<NonZeroU64>,
    pub latest_first: bool,
    pub max_file_age: Option<Duration>,
    pub file_name_only: bool,
    pub recursive: bool,
    pub clean_source: Option<CleanSource>,
}

/// What becomes of files that were read, once no batch that is retained needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanSource {
    Delete,
    /// They are moved into this folder, with the folders that they are in. Relative to the current directory.
    Archive(PathBuf),
}

/// How bytes become rows.
#[derive(Debug, Clone, PartialEq)]
pub struct FormatSpec {
    pub records: RecordOptions,
    pub kind: FormatKind,
}

/// The formats that can be read.
#[derive(Debug, Clone, PartialEq)]
pub enum FormatKind {
    /// Newline-delimited JSON.
    Json {
        /// Deepest nesting; 128 by default.
        depth_max: usize,
    },
    /// Lines of separated fields.
    Csv(CsvOptions),
    /// Each line is the value of one column.
    Text {
        /// Index of that column.
        column: usize,
    },
    /// Lines that match a pattern, whose named groups are columns.
    Regex(RegexOptions),
    /// Files of typed columns.
    Parquet,
    /// Files of typed rows, in blocks, behind their schema.
    Avro,
}

/// What every format has, as far as it applies.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordOptions {
    pub mode: Mode,
    /// Index of the declared column (always `STRING`) that takes the raw text of an unparsable line.
    pub corrupt_column: Option<usize>,
    /// Index of the column (always `STRING`; declared or hidden) that takes the name of the file.
    pub file_column: Option<usize>,
    /// Longest line in bytes; 16 MiB by default.
    pub line_bytes_max: usize,
    /// A batch with more bad records than this is refused (exit 4); `None`: no limit.
    pub bad_records_max: Option<u64>,
}

impl Default for RecordOptions {
    fn default() -> Self {
        RecordOptions {
            mode: Mode::Permissive,
            corrupt_column: None,
            file_column: None,
            line_bytes_max: 16 << 20,
            bad_records_max: None,
        }
    }
}

/// Nesting that no one writes on purpose is refused, unless the job allows it.
pub const JSON_DEPTH_MAX: usize = 128;

impl Default for FormatSpec {
    /// JSON.
    fn default() -> Self {
        FormatSpec { records: RecordOptions::default(), kind: FormatKind::Json { depth_max: JSON_DEPTH_MAX } }
    }
}

/// How fields are separated and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether each file's first line names the columns.
    pub header: bool,
    pub delimiter: u8,
    /// `None`: a quote is a character like any other.
    pub quote: Option<u8>,
    /// Makes the next character an ordinary one inside of quotes; a quote written twice is one as well.
    pub escape: Option<u8>,
    pub values: ValueOptions,
}

/// How the text of a field becomes a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValueOptions {
    /// An unquoted field with this text is null.
    pub null_value: String,
    /// How a `TIMESTAMP` is written; `None`: ISO 8601, or seconds since the Unix epoch.
    pub timestamp_format: Option<TimeFormat>,
}

/// How times are written, as `strftime` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat {
    pub text: String,
    pub holds: TimeParts,
}

/// What a written time says. A format is read in one way only: what is no such time is never taken for half of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeParts {
    /// A moment: with an offset from UTC, or in seconds since the Unix epoch.
    Moment,
    /// A date and a time of day, of UTC.
    DateTime,
    /// A date, of which the midnight of UTC is meant.
    Date,
}

/// What lines look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegexOptions {
    /// In the syntax of Rust's `regex`; valid where it comes from a job file.
    pub pattern: String,
    pub values: ValueOptions,
}

impl RegexOptions {
    /// The pattern for whole lines.
    ///
    /// # Errors
    /// Why it is none, without the pattern itself: it may hold what is secret.
    pub fn compile(&self) -> std::result::Result<regex::Regex, String> {
        let why = |error: regex::Error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        // by itself as well: brackets that are wrong could be right with those around it
        regex::Regex::new(&self.pattern).map_err(why)?;
        let whole = regex::Regex::new(&format!("^(?:{})$", self.pattern));
        whole.map_err(|_| "it does not stand in brackets: a comment at its end must be ended by a line end".to_owned())
    }

    /// Of each group the column of its name among these: spelled alike, else the only one that differs in case.
    pub fn columns<'a>(pattern: &regex::Regex, names: impl Iterator<Item = &'a str> + Clone) -> Vec<Option<usize>> {
        let find = |group: &str| {
            let exact = names.clone().position(|name| name == group);
            let lower = group.to_lowercase();
            let mut alike = names.clone().enumerate().filter(|(_, name)| name.to_lowercase() == lower);
            exact.or_else(|| alike.next().filter(|_| alike.next().is_none()).map(|(at, _)| at))
        };
        pattern.capture_names().map(|group| group.and_then(find)).collect()
    }
}

/// What happens to a bad record, as in Spark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// An unparsable line is a row of nulls; a field of the wrong type is null.
    #[default]
    Permissive,
    /// A bad record is no row; it is counted.
    DropMalformed,
    /// A bad record fails the batch (exit 4).
    FailFast,
}

/// A named query that other queries read.
#[derive(Debug, Clone)]
pub struct ViewSpec {
    pub name: String,
    pub at: At,
    /// The whole `CREATE VIEW` statement.
    pub sql: String,
    /// Where `sql` begins in the job's text.
    pub sql_at: At,
}

/// One `INSERT INTO sink SELECT ...`, or a bare `SELECT` (sink: a console of its own).
#[derive(Debug, Clone)]
pub struct QuerySpec {
    /// The sink's name; bare `SELECT`s are `query1`, `query2`, ... in file order.
    pub name: String,
    /// Index into [`JobSpec::sinks`].
    pub sink: usize,
    /// The `SELECT` alone.
    pub sql: String,
    /// Where `sql` begins in the job's text.
    pub sql_at: At,
}

/// `SET name = 'value';` of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How many of the newest batches stay addressable; `None`: all.
    pub retain_batches: Option<NonZeroU64>,
    /// A snapshot follows at the latest after this many batches (256 by default).
    pub snapshot_batches: NonZeroU64,
    /// While a batch is worked on, files of the next ones are read, of so many bytes at most (64 MiB by default; 0: none).
    pub read_ahead_bytes: u64,
    /// How the watermarks of several sources make one.
    pub watermark_policy: WatermarkPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        let snapshot_batches = NonZeroU64::new(256).expect("not zero");
        Settings {
            retain_batches: None,
            snapshot_batches,
            read_ahead_bytes: 64 << 20,
            watermark_policy: WatermarkPolicy::Min,
        }
    }
}
