//! What a table's options mean: the files source, its format, and the sinks.

use std::{num::NonZeroU64, path::PathBuf};

use datafusion::arrow::datatypes::DataType;

use super::{
    databases::{self, POSTGRES_SINK_KEYS, REDIS_SINK_KEYS, SQLITE_SINK_KEYS},
    format,
    names::suggestion,
    options::{Options, Setting},
    sink::{CommandSpec, RowFormat, SinkConnector, SinkSpec},
    spec::{At, ColumnSpec, EventTimeSpec, FilesOptions, SourceSpec},
    tokens::Source,
    values::{parse_duration, parse_positive, parse_size, parse_switch},
};
use crate::model::{BatchWindow, OutputMode, Result};

const SOURCE_KEYS: &[&str] = &[
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
];
const SOURCE_UNBUILT: &[&str] = &["clean_source"];
/// What is of a stream only.
const STREAM_KEYS: [&str; 6] =
    ["max_files_per_trigger", "max_bytes_per_trigger", "latest_first", "max_file_age", "event_time", "watermark_delay"];
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
    settings: Vec<Setting>,
) -> Result<SourceSpec> {
    let options = Options { source: text, owner: format!("the source '{name}'"), owner_at: at, settings };
    if columns.is_empty() {
        return Err(text
            .error(at, format!("the source '{name}' declares no column"))
            .help("declare those the queries read"));
    }
    source_connector(&options, name)?;
    options.check_keys(SOURCE_KEYS, SOURCE_UNBUILT)?;
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
    };
    if let (Some(_), Some(bytes)) = (files.max_files_per_trigger, options.get("max_bytes_per_trigger")) {
        return Err(text
            .error(bytes.key_at, "max_files_per_trigger and max_bytes_per_trigger are both given")
            .because("a batch has one limit")
            .help("keep one of them"));
    }
    columns.extend(format::hidden_column(&options, &columns));
    let format = format::read(&options, &columns)?;
    let is_static = options.parse("static", SWITCH, parse_switch)?.unwrap_or(false);
    if let Some(setting) =
        options.settings.iter().find(|setting| is_static && STREAM_KEYS.contains(&setting.key.as_str()))
    {
        return Err(text
            .error(setting.key_at, format!("option '{}' belongs to a stream", setting.key))
            .because(format!("'{name}' is static: all of it is read when the job starts"))
            .help("leave it out"));
    }
    options.refuse_secrets_in(&["event_time", "watermark_delay", "static"])?;
    let event_time = event_time(&options, &columns)?;
    Ok(SourceSpec { name: name.to_owned(), at, columns, files, format, event_time, is_static })
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

fn source_connector(options: &Options<'_>, name: &str) -> Result<()> {
    if options.get("connector").is_none() {
        // a misspelt 'connector' is better named than a missing one
        options.check_keys(SOURCE_KEYS, SOURCE_UNBUILT)?;
    }
    let connector = options.required("connector", "files")?;
    match connector.value.trim().to_ascii_lowercase().as_str() {
        "files" => Ok(()),
        "console" | "memory" | "sqlite" | "postgres" | "redis" | "command" => Err(options
            .bad_value(connector)
            .because(format!("'{name}' declares columns and so is a source; {} is a sink", connector.shown))
            .help("a sink declares no columns: they come from its query")),
        word => Err(options.bad_value(connector).help(suggestion(word, ["files"]))),
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
