use std::{path::Path, sync::Arc};

use datafusion::arrow::{
    datatypes::{Field, SchemaRef},
    record_batch::RecordBatch,
};

use super::{
    reference::{Cell, JsonOptions, cells},
    *,
};
use crate::{
    format::{BAD_RECORDS_KEPT_MAX, Decoded},
    job::{Mode, RecordOptions},
    model::{ErrorKind, Place},
};

pub(super) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

pub(super) fn rows(decoded: &Decoded) -> Vec<Vec<Cell>> {
    decoded.batches.iter().flat_map(cells).collect()
}

/// Decodes with one column `v` of a type, in permissive mode.
fn one(data_type: DataType, text: &str) -> (Vec<Cell>, Vec<String>) {
    let reader = JsonOptions::default().reader(schema(&[("v", data_type)]), vec![0]);
    let decoded = reader.decode("f", text.as_bytes(), 1).unwrap();
    let cells = rows(&decoded).into_iter().map(|mut row| row.remove(0)).collect();
    (cells, decoded.bad.into_iter().map(|bad| bad.reason).collect())
}

#[test]
fn each_type_takes_what_it_should_and_nothing_else() {
    let text = |text: &str| Some(Cell::Text(text.to_owned()));
    let number = |value: i128| Some(Cell::Number(value));
    let float = |value: f64| Some(Cell::Float(value.to_bits()));
    for (data_type, value, expected) in [
        (DataType::Utf8, r#""a\nb""#, text("a\nb")),
        (DataType::Utf8, r#""""#, text("")),
        (DataType::Utf8, "1.50", text("1.50")),
        (DataType::Utf8, r#"{ "a": [1, "x"] }"#, text(r#"{ "a": [1, "x"] }"#)),
        (DataType::Utf8, "true", text("true")),
        (DataType::Utf8, "1e999", text("1e999")),
        (DataType::Utf8, "null", Some(Cell::Null)),
        (DataType::Int64, "9223372036854775807", number(i64::MAX.into())),
        (DataType::Int64, "9223372036854775808", None),
        (DataType::Int64, "6.0", None),
        (DataType::Int64, "1e2", None),
        (DataType::Int64, r#""6""#, None),
        (DataType::Int64, r#""""#, None),
        (DataType::Int64, "true", None),
        (DataType::Int64, "[1]", None),
        (DataType::Int64, "null", Some(Cell::Null)),
        (DataType::Int32, "-2147483648", number(i32::MIN.into())),
        (DataType::Int32, "2147483648", None),
        (DataType::Int16, "32768", None),
        (DataType::Int8, "-128", number(-128)),
        (DataType::Int8, "128", None),
        (DataType::Float64, "6", float(6.0)),
        (DataType::Float64, "-0.0", float(-0.0)),
        (DataType::Float64, "1e308", float(1e308)),
        (DataType::Float64, "1e309", None),
        (DataType::Float64, r#""1""#, None),
        (DataType::Float32, "0.1", float(f64::from(0.1_f32))),
        (DataType::Float32, "1e39", None),
        (DataType::Boolean, "false", Some(Cell::Boolean(false))),
        (DataType::Boolean, "0", None),
        (DataType::Decimal128(4, 2), "12.345", number(1235)),
        (DataType::Decimal128(4, 2), "99.995", None),
        (DataType::Decimal128(38, 0), "99999999999999999999999999999999999999", number(10_i128.pow(38) - 1)),
        (DataType::Date32, r#""1970-01-02""#, number(1)),
        (DataType::Date32, "1", None),
        (TIMESTAMP, "1.5", number(1_500_000)),
        (TIMESTAMP, "172800.0", number(172_800_000_000)),
        (TIMESTAMP, r#""1970-01-01T00:00:01Z""#, number(1_000_000)),
        (TIMESTAMP, r#""1970-01-01 00:00:01""#, number(1_000_000)),
        (TIMESTAMP, r#""""#, None),
        (TIMESTAMP, "1e300", None),
    ] {
        let (cells, bad) = one(data_type.clone(), &format!(r#"{{"v": {value}}}"#));
        assert_eq!(cells, [expected.clone().unwrap_or(Cell::Null)], "{value} as {data_type}");
        assert_eq!(bad.len(), usize::from(expected.is_none()), "{value} as {data_type}: {bad:?}");
        assert!(bad.iter().all(|reason| reason.starts_with("field 'v': ")), "{bad:?}");
    }
}

#[test]
fn a_reason_names_the_field_and_the_type() {
    let (_, bad) = one(DataType::Int64, r#"{"v":"abc"}"#);
    assert_eq!(bad, [r#"field 'v': "abc" is not a BIGINT"#]);
    let (_, bad) = one(DataType::Decimal128(4, 2), r#"{"v":123}"#);
    assert_eq!(bad, ["field 'v': 123 is not a DECIMAL(4,2)"]);
}

/// A file with one of everything; columns: a BIGINT, b STRING, raw (corrupt).
const MIXED: &[u8] = b"\xEF\xBB\xBF{\"a\":1,\"b\":\"x\"}\n\
    \n \t \r\n\
    {\"a\":\"no\",\"b\":\"y\"}\r\n\
    {\"a\":2\n\
    [{\"a\":3},{\"a\":4,\"b\":null}]\n\
    [{\"a\":5},{\"a\":\"no\"}]\n\
    []\n\
    7\n\
    {\"b\":\"\xFF\"}\n\
    {\"A\":6,\"raw\":\"never\"}";

fn mixed(mode: Mode, projection: Vec<usize>) -> Result<Decoded> {
    let columns = [("a", DataType::Int64), ("b", DataType::Utf8), ("raw", DataType::Utf8)];
    let records = RecordOptions { mode, corrupt_column: Some(2), ..RecordOptions::default() };
    JsonOptions { records, ..JsonOptions::default() }.reader(schema(&columns), projection).decode("in/x.json", MIXED, 1)
}

#[test]
fn permissive_keeps_what_it_can_and_names_the_rest() {
    let decoded = mixed(Mode::Permissive, vec![0, 1, 2]).unwrap();
    let (null, text) = (Cell::Null, |text: &str| Cell::Text(text.to_owned()));
    let good = |a, b| vec![Cell::Number(a), b, Cell::Null];
    let bad = |b, raw| vec![Cell::Null, b, text(raw)];
    let expected = vec![
        good(1, text("x")),
        bad(text("y"), r#"{"a":"no","b":"y"}"#),
        bad(null.clone(), r#"{"a":2"#),
        good(3, null.clone()),
        good(4, null.clone()),
        bad(null.clone(), r#"[{"a":5},{"a":"no"}]"#),
        bad(null.clone(), "7"),
        bad(null.clone(), "{\"b\":\"\u{FFFD}\"}"),
        good(6, null),
    ];
    assert_eq!(rows(&decoded), expected);
    assert_eq!((decoded.rows, decoded.bad_rows), (9, 5));
    let places: Vec<_> = decoded.bad.iter().map(|bad| (bad.line, bad.byte)).collect();
    assert_eq!(places, [(4, 25), (5, 45), (7, 79), (9, 103), (10, 105)]);
    for bad in &decoded.bad {
        let from = &MIXED[bad.byte as usize..];
        assert!(String::from_utf8_lossy(from).starts_with(&bad.text), "{bad:?}");
    }
}

#[test]
fn dropmalformed_drops_and_counts_failfast_stops_at_the_first() {
    let dropped = mixed(Mode::DropMalformed, vec![0]).unwrap();
    let kept: Vec<_> = rows(&dropped).into_iter().map(|mut row| row.remove(0)).collect();
    assert_eq!(kept, [1, 3, 4, 6].map(Cell::Number));
    assert_eq!((dropped.rows, dropped.bad_rows, dropped.bad.len()), (9, 5, 5));

    let error = mixed(Mode::FailFast, vec![]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(error.place(), Some(&Place::Input { file: "in/x.json".into(), line: 4, byte: 25 }));
    assert_eq!(error.why(), Some(r#"field 'a': "no" is not a BIGINT"#));
}

#[test]
fn an_empty_projection_still_counts_rows() {
    let decoded = mixed(Mode::Permissive, vec![]).unwrap();
    assert_eq!(decoded.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 9);
    assert_eq!((decoded.rows, decoded.bad_rows), (9, 5));
}

#[test]
fn equal_keys_and_other_spellings() {
    for (line, expected) in [
        (r#"{"v":1,"v":2}"#, Some(2)),
        (r#"{"v":"x","v":2}"#, Some(2)),
        (r#"{"v":2,"V":3}"#, Some(2)),
        (r#"{"V":3,"v":2}"#, Some(2)),
        (r#"{"V":3,"V":4}"#, Some(4)),
        (r#"{"\u0076":5}"#, Some(5)),
        (r#"{"v":2,"v":"x"}"#, None),
    ] {
        let (cells, bad) = one(DataType::Int64, line);
        assert_eq!(cells, [expected.map_or(Cell::Null, Cell::Number)], "{line}");
        assert_eq!(bad.len(), usize::from(expected.is_none()), "{line}");
    }
}

#[test]
fn lines_and_nesting_are_limited_with_a_reason() {
    let records = RecordOptions { line_bytes_max: 20, ..RecordOptions::default() };
    let reader = JsonOptions { records, depth_max: 3 }.reader(schema(&[("v", DataType::Utf8)]), vec![0]);
    let lines = "{\"v\":\"0123456789ab\"}\n{\"v\":\"0123456789abc\"}\n{\"v\":[[]]}\n{\"v\":[[[]]]}\n{\"w\":[{\"x\":{}}]}\n[{\"v\":[]}]\n[{\"v\":[[]]}]\n                         \n";
    let decoded = reader.decode("f", lines.as_bytes(), 1).unwrap();
    let bad: Vec<_> = decoded.bad.iter().map(|bad| bad.line).collect();
    assert_eq!(bad, [2, 4, 5, 7]);
    assert_eq!(decoded.rows, 7);
    assert!(decoded.bad[0].reason.contains("more than 20"), "{}", decoded.bad[0].reason);
    assert!(decoded.bad[1].reason.contains("too deep"), "{}", decoded.bad[1].reason);
}

#[test]
fn bad_records_are_described_up_to_a_limit_and_counted_beyond() {
    let mut reader = JsonOptions::default().reader(schema(&[("v", DataType::Utf8)]), vec![]);
    reader.sizes.piece_bytes = 1000;
    let decoded = reader.decode("f", "x\n".repeat(10_500).as_bytes(), 3).unwrap();
    assert_eq!((decoded.bad_rows, decoded.bad.len()), (10_500, BAD_RECORDS_KEPT_MAX));
    assert_eq!(decoded.bad.last().map(|bad| (bad.line, bad.byte)), Some((10_000, 19_998)));
}

#[test]
fn failfast_names_the_first_bad_record_at_any_thread_count() {
    let records = RecordOptions { mode: Mode::FailFast, ..RecordOptions::default() };
    let options = JsonOptions { records, ..JsonOptions::default() };
    let mut reader = options.reader(schema(&[("v", DataType::Utf8)]), vec![0]);
    reader.sizes.piece_bytes = 100;
    let mut text = "{\"v\":1}\n".repeat(1000);
    text.insert_str(8 * 700, "x\n");
    text.insert_str(8 * 701, "y\n");
    for threads in [1, 2, 7] {
        let error = reader.decode("f", text.as_bytes(), threads).unwrap_err();
        assert_eq!(error.place(), Some(&Place::Input { file: "f".into(), line: 701, byte: 5600 }));
    }
}

/// Where the reader cuts must not show but in the ends of batches.
#[test]
fn large_files_are_the_same_at_any_thread_count() {
    let mut text = Vec::new();
    for row in 0..60_000 {
        let line = match row % 5000 {
            17 => "{\"v\":\"cut".to_owned(),
            18 => format!("{{\"v\":\"{}\"}}", "long".repeat(5000)),
            _ => format!("{{\"v\": \"value {row}\", \"other\": [{row}, {{}}], \"n\": {row}}}"),
        };
        text.extend_from_slice(line.as_bytes());
        text.push(if row % 9000 == 20 { 0xFF } else { b' ' });
        text.push(b'\n');
    }
    let columns = [("v", DataType::Utf8), ("n", DataType::Int32)];
    let reader = JsonOptions::default().reader(schema(&columns), vec![0, 1]);
    let one = reader.decode("f", &text, 1).unwrap();
    assert_eq!((one.rows, one.bad_rows), (60_000, 12 + 7));
    for threads in [2, 3, 8] {
        let many = reader.decode("f", &text, threads).unwrap();
        assert_eq!((&many.batches, &many.bad, many.rows), (&one.batches, &one.bad, one.rows));
    }
}

#[test]
fn the_json_test_suite_is_judged_as_its_authors_judge_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/json-test-suite/test_parsing");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        // Past the capture of the test runner, so that a run can be asked what it skipped.
        let said = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: ../shared/data is not here\n");
        said.expect("standard error takes a line");
        return;
    };
    let reader = JsonOptions::default().reader(schema(&[("v", DataType::Utf8)]), vec![0]);
    let mut judged = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut document = std::fs::read(&path).unwrap();
        if name.starts_with("y_") {
            // White space is the only place where a good document can have a line end.
            document.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        }
        if !document.starts_with(b"{") {
            document = [b"{\"v\": ", &document[..], b"}"].concat();
        }
        let decoded = reader.decode(&name, &document, 2).unwrap();
        match name.split_once('_').map(|(kind, _)| kind) {
            Some("y") => assert_eq!((decoded.rows, decoded.bad_rows), (1, 0), "{name}: {:?}", decoded.bad),
            Some("n") => assert!(decoded.bad_rows >= 1, "{name} was accepted"),
            _ => assert!(decoded.rows >= 1, "{name} vanished"),
        }
        judged += 1;
    }
    assert!(judged > 300, "only {judged} documents in {}", folder.display());
}
