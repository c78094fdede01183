//! Random files, columns and cuts: the fast reader against the plain one.

use datafusion::arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use proptest::prelude::*;

use super::{
    reference::{JsonOptions, read},
    tests::{rows, schema},
    *,
};
use crate::{
    format::reader::Sizes,
    job::{Mode, RecordOptions},
    model::Place,
};

fn data_type() -> impl Strategy<Value = DataType> {
    prop::sample::select(vec![
        DataType::Utf8,
        DataType::Utf8,
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(6, 2),
        DataType::Decimal128(38, 10),
        DataType::Date32,
        TIMESTAMP,
    ])
}

const NAMES: [&str; 6] = ["a", "b", "Ab", "aB", "größe", "long_name_of_a_column"];

/// Well-formed values near some edge.
const ODD: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1.5",
    "6.0",
    "1e3",
    "1E-7",
    "1e400",
    "-1e400",
    "127",
    "128",
    "32768",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "1234.565",
    "9999.995",
    "0.00000049999",
    "99999999999999999999999999999999999999999",
    "3.4028235677973366e38",
    "\"\"",
    "\"2024-02-29\"",
    "\"2024-02-29T12:00:00.123Z\"",
    "\"2024-02-30\"",
    "\"2024- 2-29\"",
    "\"\\u0032024-01-01\"",
    "\"6\"",
    "\"a\\\"b\\\\\"",
    "\"\\ud834\\udd1e\"",
    "\"\u{1D11E}\"",
    "\"ends in a backslash \\\\\"",
    "[]",
    "{}",
    "[1, {\"a\": [null]}, \"]\"]",
    "{\"a\":{\"b\" : 2},\"a\":1}",
    "\"quite a long string without anything odd\"",
];

/// What is no JSON value.
const WRONG: &[&str] = &[
    "",
    "01",
    "+1",
    "1.",
    ".5",
    "1e",
    "-",
    "nul",
    "tru",
    "NaN",
    "'x'",
    "\"\\x\"",
    "\"\\ud834\"",
    "\"\\udd1e\"",
    "\"\\u12\"",
    "\"tab\there\"",
    "[1,]",
    "{\"a\"}",
    "{\"a\":1,}",
    "[[[[[[1]]]]]]",
    "1 2",
    "\"open",
    "\u{1}",
];

/// A value's text; most are well-formed, some are not JSON.
fn value() -> impl Strategy<Value = String> {
    let nested = "[ -~]{0,12}".prop_map(|text| format!("[{}, {{\"k\": null}}]", serde_json::json!(text)));
    prop_oneof![
        12 => prop::sample::select(ODD).prop_map(str::to_owned),
        2 => prop::sample::select(WRONG).prop_map(str::to_owned),
        4 => "\\PC{0,12}".prop_map(|text| serde_json::json!(text).to_string()),
        3 => any::<f64>().prop_map(|number| serde_json::json!(number).to_string()),
        3 => any::<i64>().prop_map(|number| number.to_string()),
        2 => "-?[0-9]{1,3}(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?",
        2 => nested,
    ]
}

fn key() -> impl Strategy<Value = String> {
    let keys = ["A", "AB", "ab", "GRÖSSE", "GRÖßE", "unknown", "", "\\u0061", "b\\n", "LONG_NAME_of_a_column"];
    let keys = NAMES.iter().chain(&keys).map(|key| (*key).to_owned()).collect::<Vec<_>>();
    prop::sample::select(keys)
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "", "", " ", "  ", "\t", "\r"])
}

fn object() -> impl Strategy<Value = String> {
    let member = (space(), key(), space(), space(), value(), space())
        .prop_map(|(a, key, b, c, value, d)| format!("{a}\"{key}\"{b}:{c}{value}{d}"));
    prop::collection::vec(member, 0..7).prop_map(|members| format!("{{{}}}", members.join(",")))
}

/// One line's bytes: records, arrays of records, anything else, and damaged ones.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        12 => object(),
        3 => prop::collection::vec(object(), 0..4).prop_map(|objects| format!("[{}]", objects.join(" , "))),
        1 => value(),
        1 => space().prop_map(str::to_owned),
    ];
    let bytes = prop::sample::select(b"\"\\{}[]:,x0-.e \t\x00\x7F\x80\xC3\xFF".to_vec());
    (space(), whole, space(), 0..8_u8, any::<prop::sample::Index>(), bytes).prop_map(
        |(before, whole, after, damage, place, byte)| {
            let mut line = format!("{before}{whole}{after}").into_bytes();
            let at = place.index(line.len() + 1);
            match damage {
                0 => line.truncate(at),
                1 => line.insert(at, byte),
                2 if at < line.len() => line[at] = byte,
                3 if at < line.len() => drop(line.remove(at)),
                _ => {}
            }
            line
        },
    )
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    let ending = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\n\n"]);
    let lines = prop::collection::vec((line(), ending), 0..12);
    (any::<bool>(), lines, any::<bool>()).prop_map(|(mark, lines, cut)| {
        let mut bytes = if mark { b"\xEF\xBB\xBF".to_vec() } else { Vec::new() };
        for (line, ending) in lines {
            bytes.extend(line);
            bytes.extend(ending.as_bytes());
        }
        if cut {
            bytes.pop();
        }
        bytes
    })
}

#[derive(Debug)]
struct Case {
    schema: SchemaRef,
    projection: Vec<usize>,
    options: JsonOptions,
    file: Vec<u8>,
    sizes: Sizes,
}

fn case() -> impl Strategy<Value = Case> {
    let columns = prop::collection::vec((data_type(), any::<bool>()), NAMES.len());
    let limits =
        (prop::option::of(0..NAMES.len()), any::<bool>(), 1..12_usize, prop::sample::select(vec![30, 80, 9999]));
    let sizes = (1..200_usize, 1..100_usize, 1..5_usize);
    (columns, 1..=NAMES.len(), limits, file(), sizes).prop_map(|(columns, count, limits, file, sizes)| {
        let mut fields: Vec<_> =
            NAMES.iter().zip(&columns).take(count).map(|(name, (data_type, _))| (*name, data_type.clone())).collect();
        let corrupt_column = limits.0.filter(|column| *column < count);
        if let Some(column) = corrupt_column {
            fields[column].1 = DataType::Utf8;
        }
        Case {
            schema: schema(&fields),
            projection: (0..count).filter(|column| columns[*column].1).collect(),
            options: JsonOptions {
                records: RecordOptions {
                    mode: if limits.1 { Mode::Permissive } else { Mode::DropMalformed },
                    corrupt_column,
                    line_bytes_max: limits.3,
                    ..RecordOptions::default()
                },
                depth_max: if limits.2 > 6 { 128 } else { limits.2 },
            },
            file,
            sizes: Sizes { piece_bytes: sizes.0, block_bytes: sizes.1, batch_rows: sizes.2 },
        }
    })
}

proptest! {
    /// Rows, counts and bad lines are those of the plain reader, whatever is projected and however it is cut.
    #[test]
    fn the_fast_reader_reads_what_the_plain_one_reads(case in case(), threads in 1..4_usize) {
        let expected = read(&case.schema, &case.projection, &case.options, &case.file);
        let mut reader = case.options.reader(case.schema, case.projection);
        reader.sizes = case.sizes;
        let decoded = reader.decode("f", &case.file, threads).unwrap();
        prop_assert_eq!(rows(&decoded), expected.rows.clone());
        prop_assert_eq!(decoded.rows, expected.records);
        prop_assert_eq!(decoded.bad_rows, expected.bad_lines.len() as u64);
        let lines: Vec<_> = decoded.bad.iter().map(|bad| bad.line).collect();
        prop_assert_eq!(lines, expected.bad_lines.clone());
        let given: usize = decoded.batches.iter().map(RecordBatch::num_rows).sum();
        prop_assert_eq!(given, expected.rows.len());

        reader.records.mode = Mode::FailFast;
        let first = match reader.decode("f", &case.file, threads) {
            Ok(_) => None,
            Err(error) => match error.place() {
                Some(Place::Input { line, .. }) => Some(*line),
                other => panic!("{other:?}"),
            },
        };
        prop_assert_eq!(first, expected.bad_lines.first().copied());
    }

    /// Any bytes at all: no panic, and every line that is not blank is accounted for.
    #[test]
    fn no_bytes_make_it_panic(file in prop::collection::vec(any::<u8>(), 0..300)) {
        let reader = JsonOptions::default().reader(schema(&[("a", DataType::Int64)]), vec![0]);
        let decoded = reader.decode("f", &file, 2).unwrap();
        prop_assert!(decoded.bad_rows <= decoded.rows);
    }
}
