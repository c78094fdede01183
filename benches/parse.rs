//! How fast JSON lines become Arrow, on one thread: bytes of input per second.
//!
//! Records as in the LANL flows (11 fields, about 220 bytes), generated, so that the figure needs no data.

use std::{fmt::Write, hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use highwater::{format::JsonReader, job::JsonOptions};

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

/// One record a line; numbers are written by `number`.
fn flows(number: impl Fn(u64) -> String) -> String {
    let mut text = String::new();
    for row in 0..ROWS {
        // A few steps of a linear congruence: varied, and the same on every run.
        let random = row.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 20;
        let port = if random % 4 == 0 { "80".to_owned() } else { format!("Port{:05}", random % 65_536) };
        let values = [
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
        ];
        let fields: Vec<_> = FIELDS.iter().zip(values).map(|(name, value)| format!("\"{name}\": {value}")).collect();
        writeln!(text, "{{{}}}", fields.join(", ")).expect("writing to a string cannot fail");
    }
    text
}

fn parse(criterion: &mut Criterion) {
    let typed = |name: &&str| match *name {
        "srcdevice" | "dstdevice" | "srcport" | "dstport" => DataType::Utf8,
        _ => DataType::Float64,
    };
    let inputs = [
        ("strings", flows(|number| format!("\"{number}\"")), (|_| DataType::Utf8) as fn(&&str) -> DataType),
        ("numbers", flows(|number| format!("{number}.0")), typed),
    ];
    for (name, text, data_type) in inputs {
        let fields: Vec<_> = FIELDS.iter().map(|field| Field::new(*field, data_type(field), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
        for (columns, projection) in [("0 of 11", vec![]), ("2 of 11", vec![3, 6]), ("11 of 11", (0..11).collect())] {
            let reader = JsonReader::new(Arc::clone(&schema), projection, JsonOptions::default());
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

criterion_group!(benches, parse);
criterion_main!(benches);
