use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
    util::display::array_value_to_string,
};
use proptest::prelude::*;

use super::*;
use crate::{
    format::Decoded,
    job::{FormatSpec, Mode, RecordOptions, RegexOptions, TimeFormat, TimeParts},
    model::ErrorKind,
};

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn csv(header: bool) -> CsvOptions {
    CsvOptions { header, delimiter: b',', quote: Some(b'"'), escape: None, values: ValueOptions::default() }
}

fn spec(kind: FormatKind) -> FormatSpec {
    FormatSpec { records: RecordOptions::default(), kind }
}

fn reader(columns: &[(&str, DataType)], spec: &FormatSpec) -> Reader {
    Reader::new(schema(columns), (0..columns.len()).collect(), spec).expect("the pattern is one")
}

/// Rows as text, nulls as `-`.
fn shown(decoded: &Decoded) -> Vec<String> {
    let cell = |column: &ArrayRef, row: usize| match column.is_null(row) {
        true => "-".to_owned(),
        false => array_value_to_string(column, row).expect("it can be shown"),
    };
    let row = |batch: &RecordBatch, row: usize| {
        batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("|")
    };
    decoded
        .batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>())
        .collect()
}

fn bad(decoded: &Decoded) -> Vec<String> {
    decoded.bad.iter().map(|bad| format!("{} {}: {}", bad.line, bad.byte, bad.reason)).collect()
}

#[test]
fn csv_becomes_typed_columns_and_bad_records_are_named() {
    let columns = [("a", DataType::Utf8), ("n", DataType::Int64), ("at", TIMESTAMP), ("b", DataType::Boolean)];
    let text = "x,007,1970-01-01T00:00:01Z,true\r\n\n\"\",,,\n\"y,\"\"z\"\"\",x,never,false\nonly,1\nopen,\"1,2,3\n1,2,3,true,5\n";
    let decoded = reader(&columns, &spec(FormatKind::Csv(csv(false)))).decode("f", text.as_bytes(), 1).unwrap();
    let rows = [
        "x|7|1970-01-01T00:00:01|true",
        "|-|-|-",
        "y,\"z\"|-|-|false",
        "only|1|-|-",
        "-|-|-|-",
        "1|2|1970-01-01T00:00:03|true",
    ];
    assert_eq!(shown(&decoded), rows);
    let wrong = [
        "4 40: field 'n': \"x\" is not a BIGINT (and 1 more)",
        "5 64: it has 2 fields, not 4",
        "6 71: a quote is not closed on its line",
        "7 83: it has 5 fields, not 4",
    ];
    assert_eq!(bad(&decoded), wrong);
    assert_eq!((decoded.rows, decoded.bad_rows, decoded.lines), (6, 4, 7));
}

#[test]
fn a_header_says_where_columns_are() {
    let columns = [("b", DataType::Int64), ("a", DataType::Utf8), ("c", DataType::Utf8)];
    let kind = FormatKind::Csv(csv(true));
    let decode = |text: &str, mode: Mode| {
        let mut spec = spec(kind.clone());
        spec.records.mode = mode;
        reader(&columns, &spec).decode("f", text.as_bytes(), 1)
    };
    let decoded = decode("\u{FEFF}a, B ,more\nx,1,y\n", Mode::Permissive).unwrap();
    assert_eq!(shown(&decoded), ["1|x|-"]);
    assert_eq!(bad(&decoded), ["1 3: the header: it has no column 'c'"]);
    assert_eq!((decoded.rows, decoded.bad_rows, decoded.lines), (2, 1, 2), "the header is no row, its damage is one");
    let error = decode("a,b\nx,1\n", Mode::FailFast).unwrap_err();
    assert!(error.kind() == ErrorKind::Data && error.to_string().contains("no column 'c'"), "{error}");
    let good = decode("c,a,b\n1,2,3\n", Mode::FailFast).unwrap();
    assert_eq!(shown(&good), ["3|2|1"]);
    assert_eq!(shown(&decode("", Mode::FailFast).unwrap()), [""; 0], "an empty file has no header, and no problem");
}

fn moments(text: &str) -> TimeFormat {
    TimeFormat { text: text.to_owned(), holds: TimeParts::Moment }
}

/// A time that does not say what the format says is none; it is never read as half of one.
#[test]
fn times_are_read_in_one_way() {
    let read = |text: &str, holds: TimeParts, value: &str| {
        let format = TimeFormat { text: text.to_owned(), holds };
        let values = ValueOptions { timestamp_format: Some(format), ..ValueOptions::default() };
        let kind = FormatKind::Csv(CsvOptions { values, ..csv(false) });
        let decoded = reader(&[("at", TIMESTAMP)], &spec(kind)).decode("f", value.as_bytes(), 1).unwrap();
        (shown(&decoded).remove(0), decoded.bad_rows)
    };
    let good = |time: &str| (time.to_owned(), 0);
    let bad = ("-".to_owned(), 1);
    let (moment, time, date) = (TimeParts::Moment, TimeParts::DateTime, TimeParts::Date);
    assert_eq!(read("%Y-%m-%d %H:%M %z", moment, "2026-01-02 03:04 +0200"), good("2026-01-02T01:04:00"));
    assert_eq!(read("%Y-%m-%d %H:%M %z", moment, "2026-01-02 03:04 +9900"), bad);
    assert_eq!(read("%Y-%m-%d %H:%M %z", moment, "2026-01-02 03:04"), bad);
    assert_eq!(read("%s", moment, "86400"), good("1970-01-02T00:00:00"));
    assert_eq!(read("%d.%m.%Y %I:%M %p", time, "02.01.2026 03:04 PM"), good("2026-01-02T15:04:00"));
    assert_eq!(read("%Y%m%d", date, "20260102"), good("2026-01-02T00:00:00"));
    assert_eq!(read("%Y%m%d", date, "2026010203"), bad);
}

/// The header is the first line on which anything is; its names are found as JSON keys are.
#[test]
fn a_header_may_stand_behind_blank_lines() {
    let columns = [("a", DataType::Utf8), ("b", DataType::Int64)];
    let decode = |text: &str| {
        let decoded = reader(&columns, &spec(FormatKind::Csv(csv(true)))).decode("f", text.as_bytes(), 1).unwrap();
        (shown(&decoded), bad(&decoded), decoded.lines)
    };
    assert_eq!(decode("\n \r\nb,A\n\n1,x\n"), (vec!["x|1".to_owned()], Vec::new(), 5));
    assert_eq!(decode("b,A,a,b\n1,x,y,2\n").0, ["y|2"], "an exact spelling over others, the last of equal names");
    assert_eq!(decode("\nb\n1\n").1, ["2 1: the header: it has no column 'a'"]);
    assert_eq!(decode("\n\n"), (Vec::new(), Vec::new(), 2));
}

/// Where white space separates fields a line of it is a record.
#[test]
fn tabs_alone_are_a_record() {
    let columns = [("a", DataType::Utf8), ("b", DataType::Int64)];
    let kind = FormatKind::Csv(CsvOptions { delimiter: b'\t', ..csv(false) });
    let decoded = reader(&columns, &spec(kind)).decode("f", b"\t\n \nx\t1\n", 1).unwrap();
    assert_eq!((shown(&decoded), bad(&decoded)), (vec!["-|-".to_owned(), "x|1".to_owned()], Vec::new()));
}

/// What a dropped record leaves: nothing; a kept one: its text.
#[test]
fn bad_lines_of_csv_are_dropped_or_kept_with_their_text() {
    let columns = [("a", DataType::Int64), ("raw", DataType::Utf8)];
    for (mode, rows) in [(Mode::Permissive, &["1|-", "-|x", "2|2,3"][..]), (Mode::DropMalformed, &["1|-"])] {
        let records = RecordOptions { mode, corrupt_column: Some(1), ..RecordOptions::default() };
        let spec = FormatSpec { records, kind: FormatKind::Csv(csv(false)) };
        let decoded = reader(&columns, &spec).decode("f", b"1\nx\n2,3\n", 1).unwrap();
        assert_eq!((shown(&decoded), decoded.bad_rows), (rows.iter().map(|row| (*row).to_owned()).collect(), 2));
    }
}

#[test]
fn text_is_a_row_a_line() {
    let columns = [("value", DataType::Utf8)];
    let spec = spec(FormatKind::Text { column: 0 });
    let decoded = reader(&columns, &spec).decode("f", b"a \"b\"\r\n\n\xFF\n  c", 1).unwrap();
    assert_eq!(shown(&decoded), ["a \"b\"", "", "-", "  c"]);
    assert_eq!(bad(&decoded), ["3 8: not UTF-8, from byte 0 of the line on"]);
    let more = [("value", DataType::Utf8), ("day", DataType::Int64)];
    let decoded = reader(&more, &spec).decode("f", b"a\n", 1).unwrap();
    assert_eq!(bad(&decoded), ["1 0: a line of text has no column 'day', and neither has the file's path"]);
}

#[test]
fn groups_of_a_pattern_are_columns() {
    let columns = [("word", DataType::Utf8), ("n", DataType::Int32), ("at", TIMESTAMP)];
    let values = ValueOptions { null_value: "-".to_owned(), timestamp_format: Some(moments("%d/%b/%Y:%H:%M:%S %z")) };
    let options = RegexOptions { pattern: r"(?<word>\w+)(?: (?<n>\S+))? \[(?<at>.*)\]".to_owned(), values };
    let text = "a 1 [17/May/2015:10:05:03 +0000]\nb [17/May/2015:12:05:03 +0200]\nc - [-]\nd x [never]\n!! 1 []\n\na 1 [-] more\n";
    let spec = spec(FormatKind::Regex(options));
    let decoded = reader(&columns, &spec).decode("f", text.as_bytes(), 1).unwrap();
    let rows = ["a|1|2015-05-17T10:05:03", "b|-|2015-05-17T10:05:03", "c|-|-", "d|-|-", "-|-|-", "-|-|-"];
    assert_eq!(shown(&decoded), rows);
    let wrong = [
        "4 72: field 'n': \"x\" is not a INT (and 1 more)",
        "5 84: the line does not match the pattern",
        "7 93: the line does not match the pattern",
    ];
    assert_eq!(bad(&decoded), wrong);
}

proptest! {
    /// However a file is cut and shared by threads, and whatever is projected: the same rows, the same bad records.
    #[test]
    fn cuts_change_nothing(
        choices in any::<[u8; 6]>(),
        header in prop::sample::select(vec!["", "n,value,at,bad\n", "\u{FEFF}at\tn\n"]),
        lines in prop::collection::vec("[a1,\"\\-\\[\\] \t\\\\]{0,12}", 0..30),
    ) {
        fuzzing::cuts_change_nothing(&[&choices[..], header.as_bytes(), lines.join("\n").as_bytes()].concat());
    }

    /// Any bytes in any format: no panic, and no more bad records than records.
    #[test]
    fn no_bytes_make_it_panic(file in prop::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
        let values = ValueOptions::default();
        let kinds = [
            FormatKind::Csv(csv(header)),
            FormatKind::Text { column: 0 },
            FormatKind::Regex(RegexOptions { pattern: "(?<value>.)(?<n>.*)".to_owned(), values }),
        ];
        for kind in kinds {
            let columns = [("value", DataType::Utf8), ("n", DataType::Int64)];
            let decoded = reader(&columns, &spec(kind)).decode("f", &file, 2).unwrap();
            prop_assert!(decoded.bad_rows <= decoded.rows);
            let rows: usize = decoded.batches.iter().map(RecordBatch::num_rows).sum();
            prop_assert!(rows as u64 <= decoded.rows);
        }
    }
}
