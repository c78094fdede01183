//! How fast lines of JSON and of CSV become Arrow, on one thread: bytes of input per second (of 100,000 records, whatever
//! they take).
//!
//! Records as in the LANL flows (11 fields, about 220 bytes), generated, so that the figure needs no data. Beside it, in
//! the group `two strings`, other parsers that put the same two columns of the same records into Arrow builders: what
//! they leave out (types of the other columns, bad records, the place of an error) is theirs to gain from. `lines` only
//! finds the line ends.

use std::{fmt::Write, hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::{
    array::StringBuilder,
    csv::ReaderBuilder,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use highwater::{
    format::Reader,
    job::{CsvOptions, FormatKind, FormatSpec, ValueOptions},
};
use simd_json::prelude::*;
use sonic_rs::{JsonValueTrait as _, PointerTree};

const ROWS: u64 = 100_000;
const FIELDS: [&str; 11] = [
    "time",
    "duration",
    "srcdevice",
    "dstdevice",
    "protocol",
    "srcport",
    "dstport",
    "srcpackets",
    "dstpackets",
    "srcbytes",
    "dstbytes",
];

/// The fields of a record, numbers written by `number`, texts in quotes.
fn values(row: u64, number: impl Fn(u64) -> String) -> [String; 11] {
    // A few steps of a linear congruence: varied, and the same on every run.
    let random = row.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 20;
    let port = if random.is_multiple_of(4) { "80".to_owned() } else { format!("Port{:05}", random % 65_536) };
    [
        number(172_800 + row / 3000),
        number(random % 1000),
        format!("\"Comp{:06}\"", random % 300_000),
        format!("\"Comp{:06}\"", random % 9_001),
        number(6),
        format!("\"Port{:05}\"", random % 60_000),
        format!("\"{port}\""),
        number(random % 90),
        number(random % 110),
        number(random % 30_000),
        number(random % 1_000_000),
    ]
}

/// One record a line.
fn flows(number: impl Fn(u64) -> String) -> String {
    let mut text = String::new();
    for row in 0..ROWS {
        let values = values(row, &number);
        let fields: Vec<_> = FIELDS.iter().zip(values).map(|(name, value)| format!("\"{name}\": {value}")).collect();
        writeln!(text, "{{{}}}", fields.join(", ")).expect("writing to a string cannot fail");
    }
    text
}

/// The same records as CSV, below a line of names; nothing needs quotes.
fn flows_csv(number: impl Fn(u64) -> String) -> String {
    let lines = (0..ROWS).map(|row| values(row, &number).join(",").replace('"', "") + "\n");
    FIELDS.join(",") + "\n" + &lines.collect::<String>()
}

fn text_or_number(name: &str) -> DataType {
    match name {
        "srcdevice" | "dstdevice" | "srcport" | "dstport" => DataType::Utf8,
        _ => DataType::Float64,
    }
}

fn schema(data_type: impl Fn(&'static str) -> DataType) -> SchemaRef {
    let fields: Vec<_> = FIELDS.into_iter().map(|field| Field::new(field, data_type(field), true)).collect();
    Arc::new(Schema::new(fields))
}

fn parse(criterion: &mut Criterion) {
    let inputs = [
        ("strings", flows(|number| format!("\"{number}\"")), schema(|_| DataType::Utf8)),
        ("numbers", flows(|number| format!("{number}.0")), schema(text_or_number)),
    ];
    for (name, text, schema) in inputs {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
        for (columns, projection) in [("0 of 11", vec![]), ("2 of 11", vec![3, 6]), ("11 of 11", (0..11).collect())] {
            let reader =
                Reader::new(Arc::clone(&schema), projection, &FormatSpec::default()).expect("JSON has no pattern");
            group.bench_function(columns, |bencher| {
                bencher.iter(|| {
                    let decoded = reader.decode("flows", black_box(text.as_bytes()), 1).expect("permissive");
                    assert_eq!((decoded.rows, decoded.bad_rows), (ROWS, 0));
                    decoded
                });
            });
        }
    }
}

/// The records of `numbers` as CSV: here, and by arrow-csv, which makes the same columns.
fn csv(criterion: &mut Criterion) {
    let text = flows_csv(|number| format!("{number}.0"));
    let (text, schema) = (text.as_bytes(), schema(text_or_number));
    let options =
        CsvOptions { header: true, delimiter: b',', quote: Some(b'"'), escape: None, values: ValueOptions::default() };
    let format = FormatSpec { kind: FormatKind::Csv(options), ..FormatSpec::default() };
    let mut group = criterion.benchmark_group("csv");
    group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
    for (columns, projection) in [("2 of 11", vec![3, 6]), ("11 of 11", (0..11).collect::<Vec<_>>())] {
        let reader = Reader::new(Arc::clone(&schema), projection.clone(), &format).expect("CSV has no pattern");
        group.bench_function(columns, |bencher| {
            bencher.iter(|| {
                let decoded = reader.decode("flows", black_box(text), 1).expect("permissive");
                assert_eq!((decoded.rows, decoded.bad_rows), (ROWS, 0));
                decoded
            });
        });
        group.bench_function(format!("arrow-csv {columns}"), |bencher| {
            bencher.iter(|| {
                let builder = ReaderBuilder::new(Arc::clone(&schema)).with_header(true);
                let reader = builder.with_projection(projection.clone()).build_buffered(black_box(text));
                let batches: Vec<_> = reader.expect("a header").collect::<Result<_, _>>().expect("CSV");
                assert_eq!(batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), ROWS);
                batches
            });
        });
    }
}

/// Two columns being built, as each of the others fills them.
struct Two {
    device: StringBuilder,
    port: StringBuilder,
}

impl Two {
    fn of<'a>(lines: impl Iterator<Item = &'a [u8]>, mut fields: impl FnMut(&'a [u8], &mut Two)) -> Two {
        let builder = || StringBuilder::with_capacity(ROWS as usize, ROWS as usize * 10);
        let mut two = Two { device: builder(), port: builder() };
        lines.for_each(|line| fields(line, &mut two));
        two
    }

    fn push(&mut self, device: &str, port: &str) {
        self.device.append_value(device);
        self.port.append_value(port);
    }
}

/// Puts the two columns of a file into builders.
type Contender = fn(&[u8]) -> Two;

#[derive(serde::Deserialize)]
struct Fields<'a> {
    dstdevice: &'a str,
    dstport: &'a str,
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', text).map(move |end| {
        let line = &text[start..end];
        start = end + 1;
        line
    })
}

fn with_sonic_get(text: &[u8]) -> Two {
    let mut tree = PointerTree::new();
    tree.add_path(&["dstdevice"]);
    tree.add_path(&["dstport"]);
    Two::of(lines(text), |line, two| {
        let found = sonic_rs::get_many(line, &tree).expect("JSON");
        let text = |at: usize| found[at].as_ref().and_then(|value| value.as_str()).expect("a string");
        two.push(text(0), text(1));
    })
}

fn with_sonic_serde(text: &[u8]) -> Two {
    Two::of(lines(text), |line, two| {
        let fields: Fields = sonic_rs::from_slice(line).expect("JSON");
        two.push(fields.dstdevice, fields.dstport);
    })
}

fn with_serde_json(text: &[u8]) -> Two {
    Two::of(lines(text), |line, two| {
        let fields: Fields = serde_json::from_slice(line).expect("JSON");
        two.push(fields.dstdevice, fields.dstport);
    })
}

/// It works in place, so that each line is copied first.
fn with_simd_json(text: &[u8]) -> Two {
    let (mut buffers, mut copy) = (simd_json::Buffers::default(), Vec::new());
    Two::of(lines(text), |line, two| {
        copy.clear();
        copy.extend_from_slice(line);
        let tape = simd_json::to_tape_with_buffers(&mut copy, &mut buffers).expect("JSON");
        let value = tape.as_value();
        let text = |key: &str| value.get(key).and_then(|value| value.into_string()).expect("a string");
        two.push(text("dstdevice"), text("dstport"));
    })
}

fn others(criterion: &mut Criterion) {
    let text = flows(|number| format!("{number}.0"));
    let text = text.as_bytes();
    let mut group = criterion.benchmark_group("two strings");
    group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
    let contenders: [(&str, Contender); 4] = [
        ("sonic-rs get_many", with_sonic_get),
        ("sonic-rs serde", with_sonic_serde),
        ("simd-json tape", with_simd_json),
        ("serde_json", with_serde_json),
    ];
    for (name, parse) in contenders {
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(text))));
    }
    group.bench_function("lines", |bencher| bencher.iter(|| lines(black_box(text)).count()));
}

criterion_group!(benches, parse, csv, others);
criterion_main!(benches);
