//! What a table's options mean: sources, their format, and the sinks.

use std::{
    num::NonZeroU64,
    path::{Path, PathBuf},
};

use datafusion::arrow::datatypes::DataType;

use super::{
    databases::{self, POSTGRES_SINK_KEYS, REDIS_SINK_KEYS, SQLITE_SINK_KEYS},
    format,
    names::suggestion,
    options::{Options, Setting},
    overlap, received,
    sink::{CommandSpec, RowFormat, SinkConnector, SinkSpec},
    spec::{At, CleanSource, ColumnSpec, EventTimeSpec, FilesOptions, SourceSpec},
    tokens::Source,
    values::{parse_duration, parse_positive, parse_size, parse_switch},
};
use crate::model::{BatchWindow, OutputMode, Result};

pub(super) const SOURCE_KEYS: &[&str] = &[
    "connector",
    "path",
    "format",
    "max_files_per_trigger",
    "max_bytes_per_trigger",
    "latest_first",
    "max_file_age",
    "file_name_only",
    "recursive",
    "mode",
    "corrupt_record_column",
    "file_column",
    "max_line_bytes",
    "max_bad_records",
    "max_depth",
    "header",
    "delimiter",
    "quote",
    "escape",
    "null_value",
    "timestamp_format",
    "pattern",
    "event_time",
    "watermark_delay",
    "static",
    "clean_source",
    "archive_dir",
];
/// What is of a stream only.
const STREAM_KEYS: [&str; 8] = [
    "max_files_per_trigger",
    "max_bytes_per_trigger",
    "latest_first",
    "max_file_age",
    "event_time",
    "watermark_delay",
    "clean_source",
    "archive_dir",
];
const FILES_SINK_KEYS: &[&str] = &[
    "connector",
    "output_mode",
    "path",
    "format",
    "dedup_within_watermark",
    "late_rows",
    "window_batches",
    "slide_batches",
];
pub(super) const PLAIN_SINK_KEYS: &[&str] =
    &["connector", "output_mode", "dedup_within_watermark", "late_rows", "window_batches", "slide_batches"];
/// What some sinks have besides [`PLAIN_SINK_KEYS`].
const COMMAND_SINK_KEYS: &[&str] = &["command", "format"];

/// A table with columns.
pub(super) fn source(
    text: Source<'_>,
    name: &str,
    at: At,
    mut columns: Vec<ColumnSpec>,
    mut settings: Vec<Setting>,
) -> Result<SourceSpec> {
    if let Some(connector) = settings.iter().find(|setting| setting.key == "connector") {
        let connector = connector.value.trim().to_ascii_lowercase();
        received::add_format(&connector, &mut settings, at);
    }
    let options = Options { source: text, owner: format!("the source '{name}'"), owner_at: at, settings };
    if columns.is_empty() {
        return Err(text
            .error(at, format!("the source '{name}' declares no column"))
            .help("declare those the queries read"));
    }
    let connector = source_connector(&options, name)?;
    let (received, files) = match received::names().any(|name| connector.value.trim().eq_ignore_ascii_case(name)) {
        true => received::read(&options, connector, &columns).map(|(received, files)| (Some(received), files))?,
        false => (None, files(&options)?),
    };
    columns.extend(format::hidden_column(&options, &columns));
    let format = format::read(&options, &columns)?;
    if received.is_some() {
        received::check_format(&options, connector, &format)?;
    }
    let is_static = refuse_of_streams(&options, name)?;
    options.refuse_secrets_in(&["event_time", "watermark_delay", "static"])?;
    let event_time = event_time(&options, &columns)?;
    Ok(SourceSpec { name: name.to_owned(), at, columns, files, received, format, event_time, is_static })
}

/// Where files are, and which of them a batch takes.
fn files(options: &Options<'_>) -> Result<FilesOptions> {
    options.check_keys(SOURCE_KEYS, &[])?;
    let path = options.path("input")?;
    let files = FilesOptions {
        path: path.value.clone(),
        path_at: path.value_at,
        max_files_per_trigger: options.parse("max_files_per_trigger", POSITIVE, parse_positive)?,
        max_bytes_per_trigger: options
            .parse("max_bytes_per_trigger", SIZE, |text| NonZeroU64::new(parse_size(text)?))?,
        latest_first: options.parse("latest_first", SWITCH, parse_switch)?.unwrap_or(false),
        max_file_age: options.parse("max_file_age", "a duration such as '7 days'", |text| {
            parse_duration(text).filter(|age| !age.is_zero())
        })?,
        file_name_only: options.parse("file_name_only", SWITCH, parse_switch)?.unwrap_or(false),
        recursive: options.parse("recursive", SWITCH, parse_switch)?.unwrap_or(false),
        clean_source: clean_source(options, &path.value)?,
    };
    if let (Some(_), Some(bytes)) = (files.max_files_per_trigger, options.get("max_bytes_per_trigger")) {
        return Err(options
            .source
            .error(bytes.key_at, "max_files_per_trigger and max_bytes_per_trigger are both given")
            .because("a batch has one limit")
            .help("keep one of them"));
    }
    Ok(files)
}

/// What becomes of files that were read, once no batch needs them.
fn clean_source(options: &Options<'_>, path: &str) -> Result<Option<CleanSource>> {
    let is_archive = options.choose("clean_source", &[("delete", false), ("archive", true), ("off", false)])?;
    let setting = options.get("clean_source").filter(|setting| !setting.value.trim().eq_ignore_ascii_case("off"));
    let (Some(setting), Some(is_archive)) = (setting, is_archive) else { return Ok(None) };
    if !is_archive {
        return match options.get("archive_dir") {
            None => Ok(Some(CleanSource::Delete)),
            Some(dir) => Err(options
                .source
                .error(dir.key_at, "archive_dir is given, and nothing is archived")
                .because(format!("clean_source is {}", setting.shown))
                .help("write clean_source = 'archive', or leave archive_dir out")),
        };
    }
    let dir = options.path_of("archive_dir", "archive")?;
    if overlap::is_inside(Path::new(&dir.value), path) {
        return Err(options
            .bad_value(dir)
            .because("it lies in the source's own folder, whose files would be read again from there")
            .help("name a folder outside of the input"));
    }
    Ok(Some(CleanSource::Archive(PathBuf::from(&dir.value))))
}

/// Whether the table is static; it has no option of a stream then.
fn refuse_of_streams(options: &Options<'_>, name: &str) -> Result<bool> {
    let is_static = options.parse("static", SWITCH, parse_switch)?.unwrap_or(false);
    if let Some(setting) =
        options.settings.iter().find(|setting| is_static && STREAM_KEYS.contains(&setting.key.as_str()))
    {
        return Err(options
            .source
            .error(setting.key_at, format!("option '{}' belongs to a stream", setting.key))
            .because(format!("'{name}' is static: all of it is read when the job starts"))
            .help("leave it out"));
    }
    Ok(is_static)
}

/// The column that holds the event time, and how far the watermark stays behind it.
fn event_time(options: &Options<'_>, columns: &[ColumnSpec]) -> Result<Option<EventTimeSpec>> {
    let Some(setting) = options.get("event_time") else {
        return match options.get("watermark_delay") {
            None => Ok(None),
            Some(delay) => Err(options
                .source
                .error(delay.key_at, "watermark_delay is given without event_time")
                .because("a watermark is the newest event time, less the delay")
                .help("add event_time = 'the column that holds it'")),
        };
    };
    let Some(column) = columns.iter().position(|column| column.name == setting.value) else {
        let error = options.bad_value(setting).because(format!("{} declares no such column", options.owner));
        return Err(error.help(suggestion(&setting.value, columns.iter().map(|column| column.name.as_str()))));
    };
    if !matches!(columns[column].data_type, DataType::Timestamp(..)) {
        return Err(options
            .bad_value(setting)
            .because(format!("'{}' is no TIMESTAMP", setting.value))
            .help("declare the column as TIMESTAMP"));
    }
    let delay = options.parse("watermark_delay", "a duration such as '10 seconds'", |text| {
        i64::try_from(parse_duration(text)?.as_micros()).ok()
    })?;
    let Some(delay_us) = delay else {
        return Err(options
            .source
            .error(setting.key_at, "event_time is given without watermark_delay")
            .because("how long to wait for late rows is for the job to decide")
            .help("add watermark_delay = '10 seconds', or '0 seconds' where no row ever comes late"));
    };
    Ok(Some(EventTimeSpec { column, delay_us }))
}

const SWITCH: &str = "true or false";
const POSITIVE: &str = "a positive whole number";
const SIZE: &str = "a positive size in bytes, such as 1048576 or '16MB'";

/// The option that says where rows come from.
fn source_connector<'o>(options: &'o Options<'_>, name: &str) -> Result<&'o Setting> {
    if options.get("connector").is_none() {
        // a misspelt 'connector' is better named than a missing one
        options.check_keys(SOURCE_KEYS, &[])?;
    }
    let connector = options.required("connector", "files")?;
    match connector.value.trim().to_ascii_lowercase().as_str() {
        "files" => Ok(connector),
        word if received::names().any(|name| name == word) => Ok(connector),
        "console" | "memory" | "sqlite" | "postgres" | "redis" | "command" => Err(options
            .bad_value(connector)
            .because(format!("'{name}' declares columns and so is a source; {} is a sink", connector.shown))
            .help("a sink declares no columns: they come from its query")),
        word => {
            Err(options.bad_value(connector).help(suggestion(word, ["files"].into_iter().chain(received::names()))))
        }
    }
}

/// A table without columns.
pub(super) fn sink(text: Source<'_>, name: &str, at: At, settings: Vec<Setting>) -> Result<SinkSpec> {
    let options = Options { source: text, owner: format!("the sink '{name}'"), owner_at: at, settings };
    if options.get("connector").is_none() {
        // a misspelt 'connector' is better named than a missing one
        let keys = [FILES_SINK_KEYS, SQLITE_SINK_KEYS, POSTGRES_SINK_KEYS, REDIS_SINK_KEYS, COMMAND_SINK_KEYS];
        options.check_keys(&keys.concat(), &[])?;
    }
    let connector = options.required("connector", "console")?;
    let connector = match connector.value.trim().to_ascii_lowercase().as_str() {
        "console" => plain_sink(&options, SinkConnector::Console)?,
        "memory" => plain_sink(&options, SinkConnector::Memory)?,
        "files" => files_sink(&options, name)?,
        "sqlite" => databases::sqlite_sink(&options, name)?,
        "postgres" | "postgresql" => databases::postgres_sink(&options, name)?,
        "redis" => databases::redis_sink(&options, name)?,
        "command" => command_sink(&options)?,
        word => {
            let error = options.bad_value(connector);
            if received::names().any(|name| name == word) {
                return Err(error
                    .because(format!("'{name}' declares no columns and so is a sink; {} is a source", connector.shown))
                    .help("a source declares its columns, in front of WITH"));
            }
            let known = ["console", "memory", "files", "sqlite", "postgres", "redis", "command"];
            return Err(error.help(suggestion(word, known)));
        }
    };
    let modes = [("append", OutputMode::Append), ("update", OutputMode::Update), ("complete", OutputMode::Complete)];
    let output_mode = options.choose("output_mode", &modes)?;
    options.refuse_secrets_in(&["output_mode", "dedup_within_watermark", "window_batches", "slide_batches"])?;
    let dedup_within_watermark = options.parse("dedup_within_watermark", SWITCH, parse_switch)?.unwrap_or(false);
    let late_rows = options.get("late_rows").map(|_| options.path_of("late_rows", "late")).transpose()?;
    let late_rows = late_rows.map(|setting| PathBuf::from(&setting.value));
    let batch_window = batch_window(&options)?;
    let name = name.to_owned();
    Ok(SinkSpec { name, at, connector, output_mode, dedup_within_watermark, late_rows, batch_window })
}

/// Over how many of the last batches the sink's query aggregates, and how often.
fn batch_window(options: &Options<'_>) -> Result<Option<BatchWindow>> {
    let batches = options.parse("window_batches", POSITIVE, parse_positive)?;
    let slide = options.parse("slide_batches", POSITIVE, parse_positive)?;
    match (batches, options.get("slide_batches")) {
        (Some(batches), _) => Ok(Some(BatchWindow { batches, slide: slide.unwrap_or(NonZeroU64::MIN) })),
        (None, None) => Ok(None),
        (None, Some(setting)) => Err(options
            .source
            .error(setting.key_at, "slide_batches is given without window_batches")
            .because("it says how often a window over batches is given out")
            .help("add window_batches = 'how many batches a window has'")),
    }
}

fn plain_sink(options: &Options<'_>, connector: SinkConnector) -> Result<SinkConnector> {
    options.check_keys(PLAIN_SINK_KEYS, &[])?;
    Ok(connector)
}

fn files_sink(options: &Options<'_>, name: &str) -> Result<SinkConnector> {
    let source_only = |key: &str| SOURCE_KEYS.contains(&key) && !FILES_SINK_KEYS.contains(&key);
    if let Some(setting) = options.settings.iter().find(|setting| source_only(&setting.key)) {
        return Err(options
            .source
            .error(setting.key_at, format!("option '{}' belongs to a source", setting.key))
            .because(format!("'{name}' declares no columns and so is a sink"))
            .help("if it is a source, declare its columns; if it is a sink, leave the option out"));
    }
    options.check_keys(FILES_SINK_KEYS, &[])?;
    let path = PathBuf::from(&options.path("out")?.value);
    let format = options.required("format", "json")?;
    let format = options.pick(format, &RowFormat::ALL.map(|format| (format.name(), format)))?;
    Ok(SinkConnector::Files { path, format })
}

fn command_sink(options: &Options<'_>) -> Result<SinkConnector> {
    options.check_keys(&[PLAIN_SINK_KEYS, COMMAND_SINK_KEYS].concat(), &[])?;
    let (shell, secrets) = options.shell_text(options.required("command", "cat >> out.json")?);
    let formats = [RowFormat::Json, RowFormat::Csv].map(|format| (format.name(), format));
    let format = options.choose("format", &formats)?.unwrap_or(RowFormat::Json);
    Ok(SinkConnector::Command(CommandSpec { shell, secrets, format }))
}
