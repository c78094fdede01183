//! What a source's options say of its format.

use chrono::format::{Fixed, Item, Numeric, StrftimeItems};
use datafusion::arrow::datatypes::DataType;

use super::{
    names::nearest,
    options::{Options, Setting},
    spec::{
        ColumnSpec, CsvOptions, FormatKind, FormatSpec, JSON_DEPTH_MAX, Mode, RecordOptions, RegexOptions, TimeFormat,
        TimeParts, ValueOptions,
    },
    values::{parse_size, parse_switch},
};
use crate::model::Result;

/// The column that takes unparsable lines where no option names another.
const CORRUPT_COLUMN: &str = "_corrupt_record";
/// The column that takes the name of the file where no option names another.
pub const FILE_COLUMN: &str = "_file";
/// Longest line that may be asked for, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 30;
/// Deepest nesting that may be asked for: nobody writes deeper records on purpose, and each level takes memory.
const DEPTH_MAX: u64 = 1024;

/// Formats whose records are lines.
const OF_LINES: &[&str] = &["json", "csv", "text", "regex"];
/// Options that only some formats have.
const OF_SOME: [(&str, &[&str]); 10] = [
    ("max_line_bytes", OF_LINES),
    ("corrupt_record_column", OF_LINES),
    ("max_depth", &["json"]),
    ("header", &["csv"]),
    ("delimiter", &["csv"]),
    ("quote", &["csv"]),
    ("escape", &["csv"]),
    ("null_value", &["csv", "regex"]),
    ("timestamp_format", &["csv", "regex"]),
    ("pattern", &["regex"]),
];

/// What web servers log by default: the Common Log Format of Apache and NCSA, and the one that Apache calls combined
/// (<https://httpd.apache.org/docs/2.4/logs.html>). A quote inside of a field is written `\"`.
const COMMON_LOG: &str = r#"(?<host>\S+) (?<identity>\S+) (?<user>\S+) \[(?<time>[^\]]+)\] "(?<request>(?:(?<method>[A-Z]+) (?<path>[^ "]+)(?: (?<protocol>[^ "]+))?)|(?:[^"\\]|\\.)*)" (?<status>\d{3}|-) (?<bytes>\d+|-)"#;
const COMBINED_TAIL: &str = r#" "(?<referer>(?:[^"\\]|\\.)*)" "(?<user_agent>(?:[^"\\]|\\.)*)""#;
const LOG_TIME: &str = "%d/%b/%Y:%H:%M:%S %z";

/// The column that every source has whose own columns or options say nothing of it: the file's name.
pub(super) fn hidden_column(options: &Options<'_>, columns: &[ColumnSpec]) -> Option<ColumnSpec> {
    let is_said = options.get("file_column").is_some() || columns.iter().any(|column| column.name == FILE_COLUMN);
    let at = options.owner_at;
    (!is_said).then(|| ColumnSpec { name: FILE_COLUMN.to_owned(), data_type: DataType::Utf8, at, hidden: true })
}

/// The format of a source.
pub(super) fn read(options: &Options<'_>, columns: &[ColumnSpec]) -> Result<FormatSpec> {
    let format = options.required("format", "json")?;
    let names = ["json", "csv", "text", "regex", "parquet", "avro"].map(|name| (name, name));
    let name = options.pick(format, &names)?;
    check_options_fit(options, name)?;
    check_types_fit(options, name, columns)?;
    let kind = match name {
        "json" => FormatKind::Json { depth_max: depth_max(options)? },
        "csv" => FormatKind::Csv(csv(options)?),
        "parquet" => FormatKind::Parquet,
        "avro" => FormatKind::Avro,
        "text" => FormatKind::Text { column: text_column(options, format, columns)? },
        _ => FormatKind::Regex(regex(options, columns)?),
    };
    let records = records(options, name, columns)?;
    check_columns_apart(options, columns, &records, &kind)?;
    Ok(FormatSpec { records, kind })
}

/// A column has one thing to hold.
fn check_columns_apart(
    options: &Options<'_>,
    columns: &[ColumnSpec],
    records: &RecordOptions,
    kind: &FormatKind,
) -> Result<()> {
    let text = match kind {
        FormatKind::Text { column } => Some(*column),
        _ => None,
    };
    let taken =
        [("each line", text), ("unparsable lines", records.corrupt_column), ("the file's name", records.file_column)];
    for (at, (what, column)) in taken.iter().enumerate() {
        let Some(column) = column else { continue };
        if let Some((other, _)) = taken[at + 1..].iter().find(|(_, other)| *other == Some(*column)) {
            let column = &columns[*column];
            return Err(options
                .source
                .error(column.at, format!("column '{}' cannot hold {what} and {other}", column.name))
                .help("declare a column for each"));
        }
    }
    Ok(())
}

fn check_options_fit(options: &Options<'_>, format: &str) -> Result<()> {
    for (key, formats) in OF_SOME.iter().filter(|(_, formats)| !formats.contains(&format)) {
        if let Some(setting) = options.get(key) {
            return Err(options
                .source
                .error(setting.key_at, format!("option '{key}' does not belong to format '{format}'"))
                .because(format!("only {} has it", formats.join(" or ")))
                .help("leave it out, or change the format"));
        }
    }
    Ok(())
}

/// Values inside of values are read where fields are more than text.
fn check_types_fit(options: &Options<'_>, format: &str, columns: &[ColumnSpec]) -> Result<()> {
    match columns.iter().find(|column| column.data_type.is_nested()) {
        Some(column) if !["json", "parquet", "avro"].contains(&format) => Err(options
            .source
            .error(column.at, format!("format '{format}' has no ARRAY, MAP or STRUCT"))
            .because("a field of it is one value, written as text")
            .help("declare a STRING, and take it apart in the query")),
        _ => Ok(()),
    }
}

fn records(options: &Options<'_>, format: &str, columns: &[ColumnSpec]) -> Result<RecordOptions> {
    let default = RecordOptions::default();
    let corrupt_column = match format {
        // a row has no text: a column of that name is one of the file
        "parquet" | "avro" => None,
        _ => special_column(
            options,
            columns,
            ("corrupt_record_column", CORRUPT_COLUMN),
            "the text of lines that cannot be read",
        )?,
    };
    let modes =
        [("permissive", Mode::Permissive), ("dropmalformed", Mode::DropMalformed), ("failfast", Mode::FailFast)];
    Ok(RecordOptions {
        mode: options.choose("mode", &modes)?.unwrap_or(default.mode),
        corrupt_column,
        file_column: special_column(options, columns, ("file_column", FILE_COLUMN), "the name of the file")?,
        line_bytes_max: options
            .parse("max_line_bytes", "a size from 1 byte to 1 GiB, such as '16MB'", |text| {
                limited(parse_size(text), LINE_BYTES_MAX)
            })?
            .unwrap_or(default.line_bytes_max),
        bad_records_max: options.parse("max_bad_records", "a whole number from 0", |text| text.trim().parse().ok())?,
    })
}

fn depth_max(options: &Options<'_>) -> Result<usize> {
    let given = options
        .parse("max_depth", "a whole number from 1 to 1024", |text| limited(text.trim().parse().ok(), DEPTH_MAX))?;
    Ok(given.unwrap_or(JSON_DEPTH_MAX))
}

fn limited(value: Option<u64>, max: u64) -> Option<usize> {
    value.filter(|value| (1..=max).contains(value)).and_then(|value| usize::try_from(value).ok())
}

/// A declared column that does not come from the record: the one that the option names, or the one of the usual name.
fn special_column(
    options: &Options<'_>,
    columns: &[ColumnSpec],
    (key, usual): (&str, &str),
    takes: &str,
) -> Result<Option<usize>> {
    let setting = options.get(key);
    let name = setting.map_or(usual, |setting| setting.value.as_str());
    if name.is_empty() {
        return Ok(None);
    }
    let Some(index) = columns.iter().position(|column| column.name == name) else {
        let Some(setting) = setting else {
            return Ok(None);
        };
        let names = columns.iter().map(|column| column.name.as_str());
        return Err(options.bad_value(setting).because("the table declares no such column").help(
            nearest(name, names).map_or_else(
                || format!("declare the column: {} STRING", setting.shown.trim_matches('\'')),
                |near| format!("did you mean '{near}'?"),
            ),
        ));
    };
    if columns[index].data_type != DataType::Utf8 {
        return Err(options
            .source
            .error(columns[index].at, format!("column '{name}' must be a STRING"))
            .because(format!("it takes {takes}"))
            .help(format!("declare it so; or, if it is a field of the records, write {key} = ''")));
    }
    Ok(Some(index))
}

fn csv(options: &Options<'_>) -> Result<CsvOptions> {
    let one = "one ASCII character, or '\\t'";
    let quote = options.parse("quote", &format!("{one}, or '' for none"), optional_character)?;
    let delimiter = options.parse("delimiter", one, character)?.unwrap_or(b',');
    let csv = CsvOptions {
        header: options.parse("header", "true or false", parse_switch)?.unwrap_or(false),
        delimiter,
        quote: quote.unwrap_or(Some(b'"')),
        escape: options.parse("escape", &format!("{one}, or '' for none"), optional_character)?.flatten(),
        values: values(options, None)?,
    };
    if csv.quote == Some(csv.delimiter)
        && let Some(setting) = options.get("delimiter").or_else(|| options.get("quote"))
    {
        return Err(options.bad_value(setting).because("delimiter and quote are the same character"));
    }
    match options.get("escape") {
        Some(setting) if csv.escape.is_some() && csv.quote.is_none() => {
            Err(options.bad_value(setting).because("it works inside of quotes, and there are none"))
        }
        Some(setting) if csv.escape == Some(csv.delimiter) => {
            Err(options.bad_value(setting).because("delimiter and escape are the same character"))
        }
        _ => Ok(csv),
    }
}

fn character(text: &str) -> Option<u8> {
    match text.as_bytes() {
        b"\\t" => Some(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Some(*byte),
        _ => None,
    }
}

fn optional_character(text: &str) -> Option<Option<u8>> {
    if text.is_empty() { Some(None) } else { character(text).map(Some) }
}

/// `usual`: what a ready pattern brings along.
fn values(options: &Options<'_>, usual: Option<(&str, &str)>) -> Result<ValueOptions> {
    let null_value = options.get("null_value").map(|setting| setting.value.clone());
    let null_value = null_value.unwrap_or_else(|| usual.map_or_else(String::new, |(null, _)| null.to_owned()));
    let usual_time = || {
        let text = usual?.1.to_owned();
        Some(TimeFormat { text, holds: TimeParts::Moment })
    };
    let timestamp_format = match options.get("timestamp_format") {
        Some(setting) => Some(time_format(options, setting)?),
        None => usual_time(),
    };
    Ok(ValueOptions { null_value, timestamp_format })
}

/// A format, if it says enough for a time and nothing that would be passed over.
fn time_format(options: &Options<'_>, setting: &Setting) -> Result<TimeFormat> {
    let text = setting.value.clone();
    let items: Vec<Item<'_>> = StrftimeItems::new(&text).collect();
    let refuse = |why: &str| {
        Err(options
            .bad_value(setting)
            .because(why)
            .help("it must be as strftime has it, such as '%d/%b/%Y:%H:%M:%S %z'"))
    };
    if items.is_empty() || items.contains(&Item::Error) {
        return refuse("it is no format of times");
    }
    match time_parts(&items) {
        Ok(holds) => Ok(TimeFormat { text, holds }),
        Err(why) => refuse(why),
    }
}

/// What a format's items say of the time; why they say too little.
fn time_parts(items: &[Item<'_>]) -> std::result::Result<TimeParts, &'static str> {
    let number =
        |wanted: &[Numeric]| items.iter().any(|item| matches!(item, Item::Numeric(is, _) if wanted.contains(is)));
    let fixed = |wanted: &[Fixed]| items.iter().any(|item| matches!(item, Item::Fixed(is) if wanted.contains(is)));
    if fixed(&[Fixed::TimezoneName]) {
        return Err("the name of a time zone (%Z) does not say which offset is meant");
    }
    if number(&[Numeric::Timestamp]) || fixed(&[Fixed::RFC2822, Fixed::RFC3339]) {
        return Ok(TimeParts::Moment);
    }
    let half = fixed(&[Fixed::UpperAmPm, Fixed::LowerAmPm]);
    let (hour, minute) = (number(&[Numeric::Hour]) || (number(&[Numeric::Hour12]) && half), number(&[Numeric::Minute]));
    let offset = fixed(&[
        Fixed::TimezoneOffset,
        Fixed::TimezoneOffsetColon,
        Fixed::TimezoneOffsetColonZ,
        Fixed::TimezoneOffsetDoubleColon,
        Fixed::TimezoneOffsetTripleColon,
        Fixed::TimezoneOffsetZ,
    ]);
    let part_of_day =
        half || number(&[Numeric::Hour, Numeric::Hour12, Numeric::Minute, Numeric::Second, Numeric::Nanosecond]);
    match (hour && minute, offset) {
        (true, true) => Ok(TimeParts::Moment),
        (true, false) => Ok(TimeParts::DateTime),
        (false, false) if !part_of_day => Ok(TimeParts::Date),
        _ => Err("a time of day needs its hour and minute, and an hour of twelve (%I) also %p"),
    }
}

fn regex(options: &Options<'_>, columns: &[ColumnSpec]) -> Result<RegexOptions> {
    let setting = options.required("pattern", "combined_log")?;
    let usual = Some(("-", LOG_TIME));
    let (pattern, usual) = match setting.value.trim() {
        "common_log" => (COMMON_LOG.to_owned(), usual),
        "combined_log" => (format!("{COMMON_LOG}{COMBINED_TAIL}"), usual),
        _ => (setting.value.clone(), None),
    };
    let regex = RegexOptions { pattern, values: values(options, usual)? };
    let compiled = regex.compile().map_err(|why| {
        let help = "it must be a regular expression with named groups, like '(?<host>\\S+) (?<status>[0-9]+)', or common_log or combined_log";
        options.bad_value(setting).because(why).help(help)
    })?;
    if compiled.capture_names().flatten().next().is_none() {
        return Err(options
            .bad_value(setting)
            .because("no group of the pattern has a name, and groups become columns by their names")
            .help("name them, like (?<status>[0-9]+); or write common_log or combined_log"));
    }
    check_groups(options, columns, &compiled)?;
    Ok(regex)
}

/// A column that no group fills may be a folder's (`key=value`); one that nearly has a group's name is a slip.
fn check_groups(options: &Options<'_>, columns: &[ColumnSpec], pattern: &regex::Regex) -> Result<()> {
    let filled = RegexOptions::columns(pattern, columns.iter().map(|column| column.name.as_str()));
    let groups = || pattern.capture_names().flatten();
    for (index, column) in columns.iter().enumerate().filter(|(index, _)| !filled.contains(&Some(*index))) {
        let near = nearest(&column.name, groups()).filter(|near| columns.iter().all(|other| other.name != *near));
        if let Some(near) = near.filter(|_| ![CORRUPT_COLUMN, FILE_COLUMN].contains(&columns[index].name.as_str())) {
            return Err(options
                .source
                .error(column.at, format!("the pattern has no group '{}'", column.name))
                .help(format!("did you mean '{near}'? its groups are {}", groups().collect::<Vec<_>>().join(", "))));
        }
    }
    Ok(())
}

fn text_column(options: &Options<'_>, format: &Setting, columns: &[ColumnSpec]) -> Result<usize> {
    let column = columns.iter().position(|column| column.name == "value" && column.data_type == DataType::Utf8);
    column.ok_or_else(|| {
        options
            .source
            .error(format.value_at, "format 'text' needs the column value STRING")
            .because("each line is the value of that column")
            .help("declare it: (value STRING), and beside it only _file STRING and what the folders' names say")
    })
}
