//! What a table's options mean: the files source, its format, and the sinks.

use std::{num::NonZeroU64, path::PathBuf};

use datafusion::arrow::datatypes::DataType;

use super::{
    names::suggestion,
    options::{Options, Setting},
    spec::{
        At, ColumnSpec, FilesOptions, FormatSpec, JsonOptions, Mode, RowFormat, SinkConnector, SinkSpec, SourceSpec,
    },
    tokens::Source,
    values::{parse_duration, parse_positive, parse_size, parse_switch},
};
use crate::model::{OutputMode, Result};

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
    "max_line_bytes",
    "max_depth",
    "max_bad_records",
];
const SOURCE_UNBUILT: &[&str] = &["clean_source", "event_time", "watermark_delay", "static"];
const FILES_SINK_KEYS: &[&str] = &["connector", "output_mode", "path", "format"];
const PLAIN_SINK_KEYS: &[&str] = &["connector", "output_mode"];
const SINK_UNBUILT: &[&str] = &["dedup_within_watermark", "late_rows"];

/// The column that takes unparsable lines where no option names another.
const CORRUPT_COLUMN: &str = "_corrupt_record";
/// Longest line that may be asked for, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 30;
/// Deepest nesting that may be asked for: nobody writes deeper records on purpose, and each level takes memory.
const DEPTH_MAX: u64 = 1024;

/// A table with columns.
pub(super) fn source(
    text: Source<'_>,
    name: &str,
    at: At,
    columns: Vec<ColumnSpec>,
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
    check_source_format(&options)?;
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
    let format = FormatSpec::Json(json(&options, &columns)?);
    Ok(SourceSpec { name: name.to_owned(), at, columns, files, format })
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
        "console" | "memory" => Err(options
            .bad_value(connector)
            .because(format!("'{name}' declares columns and so is a source; {} is a sink", connector.shown))
            .help("a sink declares no columns: they come from its query")),
        word => Err(options.bad_value(connector).help(suggestion(word, ["files"]))),
    }
}

fn check_source_format(options: &Options<'_>) -> Result<()> {
    let format = options.required("format", "json")?;
    let built = options.pick(format, &[("json", true), ("csv", false), ("text", false), ("parquet", false)])?;
    if built {
        return Ok(());
    }
    Err(options
        .source
        .error(format.value_at, format!("format {} is not built yet", format.shown))
        .because("this version reads newline-delimited JSON only")
        .help("write format = 'json', and convert other input before"))
}

fn json(options: &Options<'_>, columns: &[ColumnSpec]) -> Result<JsonOptions> {
    let default = JsonOptions::default();
    let modes =
        [("permissive", Mode::Permissive), ("dropmalformed", Mode::DropMalformed), ("failfast", Mode::FailFast)];
    let limited = |text: &str, read: fn(&str) -> Option<u64>, max: u64| {
        read(text).filter(|value| (1..=max).contains(value)).and_then(|value| usize::try_from(value).ok())
    };
    Ok(JsonOptions {
        mode: options.choose("mode", &modes)?.unwrap_or(default.mode),
        corrupt_column: corrupt_column(options, columns)?,
        line_bytes_max: options
            .parse("max_line_bytes", "a size from 1 byte to 1 GiB, such as '16MB'", |text| {
                limited(text, parse_size, LINE_BYTES_MAX)
            })?
            .unwrap_or(default.line_bytes_max),
        depth_max: options
            .parse("max_depth", "a whole number from 1 to 1024", |text| {
                limited(text, |text| text.trim().parse().ok(), DEPTH_MAX)
            })?
            .unwrap_or(default.depth_max),
        bad_records_max: options.parse("max_bad_records", "a whole number from 0", |text| text.trim().parse().ok())?,
    })
}

fn corrupt_column(options: &Options<'_>, columns: &[ColumnSpec]) -> Result<Option<usize>> {
    let setting = options.get("corrupt_record_column");
    let name = setting.map_or(CORRUPT_COLUMN, |setting| setting.value.as_str());
    let Some(index) = columns.iter().position(|column| column.name == name) else {
        let Some(setting) = setting else {
            return Ok(None);
        };
        let names = columns.iter().map(|column| column.name.as_str());
        return Err(options.bad_value(setting).because("the table declares no such column").help(
            super::names::nearest(name, names).map_or_else(
                || format!("declare the column: {} STRING", setting.shown.trim_matches('\'')),
                |near| format!("did you mean '{near}'?"),
            ),
        ));
    };
    if columns[index].data_type != DataType::Utf8 {
        return Err(options
            .source
            .error(columns[index].at, format!("column '{name}' must be a STRING"))
            .because("it takes the text of lines that cannot be read"));
    }
    Ok(Some(index))
}

/// A table without columns.
pub(super) fn sink(text: Source<'_>, name: &str, at: At, settings: Vec<Setting>) -> Result<SinkSpec> {
    let options = Options { source: text, owner: format!("the sink '{name}'"), owner_at: at, settings };
    if options.get("connector").is_none() {
        // a misspelt 'connector' is better named than a missing one
        options.check_keys(FILES_SINK_KEYS, SINK_UNBUILT)?;
    }
    let connector = options.required("connector", "console")?;
    let connector = match connector.value.trim().to_ascii_lowercase().as_str() {
        "console" => plain_sink(&options, SinkConnector::Console)?,
        "memory" => plain_sink(&options, SinkConnector::Memory)?,
        "files" => files_sink(&options, name)?,
        word => {
            let error = options.bad_value(connector);
            return Err(error.help(suggestion(word, ["console", "memory", "files"])));
        }
    };
    let modes = [("append", OutputMode::Append), ("update", OutputMode::Update), ("complete", OutputMode::Complete)];
    let output_mode = options.choose("output_mode", &modes)?;
    Ok(SinkSpec { name: name.to_owned(), at, connector, output_mode })
}

fn plain_sink(options: &Options<'_>, connector: SinkConnector) -> Result<SinkConnector> {
    options.check_keys(PLAIN_SINK_KEYS, SINK_UNBUILT)?;
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
    options.check_keys(FILES_SINK_KEYS, SINK_UNBUILT)?;
    let path = PathBuf::from(&options.path("out")?.value);
    let format = options.required("format", "json")?;
    let format = options.pick(format, &[("json", RowFormat::Json), ("csv", RowFormat::Csv)])?;
    Ok(SinkConnector::Files { path, format })
}
