//! Parquet as a source and as the format of a sink: the rows are those that JSON would give, whatever happens on the way.

use std::{fs, path::Path, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    json,
};
use highwater::{
    batch::{self, VerifyOptions},
    job::RowFormat,
    model::{ErrorKind, Faults},
    sink::rows::{from_bytes, to_bytes},
};
use serde_json::{Value, json};

use crate::{
    golden::{bad_rows, golden, job, result, run},
    stream::{Scratch, rows},
};

/// A file of rows that are written as JSON, a line each.
fn parquet(schema: &SchemaRef, lines: &str) -> Vec<u8> {
    let reader = json::ReaderBuilder::new(Arc::clone(schema)).build(lines.as_bytes()).expect("a schema");
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("rows of these columns");
    to_bytes(RowFormat::Parquet, schema, &batches).expect("it can be written")
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The columns of the rows.
pub fn flows() -> SchemaRef {
    schema(&[
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("device", DataType::Utf8),
        ("port", DataType::Utf8),
        ("bytes", DataType::Int64),
        ("cost", DataType::Decimal128(10, 2)),
        ("unused", DataType::Float64),
    ])
}

/// The lines of one file.
pub fn lines(number: usize) -> String {
    let line = |n: usize| {
        let null = json!(null);
        let row = json!({
            "at": format!("2026-01-{:02}T00:00:00.{:06}", 1 + n % 28, n),
            "device": if n.is_multiple_of(7) { null } else { json!(format!("Comp{}", n * n % 5)) },
            "port": if n.is_multiple_of(3) { "80" } else { "443" },
            "bytes": n * 1000 + number,
            "cost": (n % 40) as f64 / 4.0,
            "unused": 0.1 * n as f64,
        });
        format!("{row}\n")
    };
    (number * 10..number * 10 + 20).map(line).collect()
}

fn sql(source: &str, sink: &str) -> String {
    format!(
        "CREATE TABLE flows (at TIMESTAMP, device STRING, port STRING, bytes BIGINT, cost DECIMAL(10, 2), unused DOUBLE)
           WITH (connector = 'files', path = '${{INPUT}}', format = '{source}', max_files_per_trigger = 1);
         CREATE TABLE web WITH (connector = 'files', path = '${{OUTPUT}}', format = '{sink}', output_mode = 'append');
         CREATE TABLE totals WITH (connector = 'files', path = '${{OUTPUT}}', format = '{sink}', output_mode = 'complete');
         CREATE TABLE changes WITH (connector = 'files', path = '${{OUTPUT}}', format = '{sink}', output_mode = 'update');
         CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
         INSERT INTO web SELECT at, device, bytes, cost FROM flows WHERE port = '80';
         INSERT INTO totals SELECT device, count(*) AS count, sum(cost) AS cost, max(at) AS newest FROM flows
           GROUP BY device ORDER BY count DESC;
         INSERT INTO changes SELECT device, array_agg(port ORDER BY at) AS ports FROM flows GROUP BY device;
         INSERT INTO counts SELECT port, count(*) AS count, sum(bytes) AS bytes FROM flows GROUP BY port ORDER BY port;"
    )
}

/// Three files of rows and an empty one.
fn flows_in(format: &str, sink: &str) -> Scratch {
    let file = |number: usize| match (format, number) {
        (_, 1) => Vec::new(),
        ("parquet", _) => parquet(&flows(), &lines(number)),
        _ => lines(number).into_bytes(),
    };
    job(&sql(format, sink), format, &(0..4).map(file).collect::<Vec<_>>())
}

pub fn verified(scratch: &Scratch) {
    let options = VerifyOptions { batch: true, every: true, threads: 2 };
    let report = batch::verify(&scratch.checkpoint(), &options, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((report.findings, report.notes), (vec![], vec![]));
}

#[test]
fn the_same_rows_give_the_same_tables_as_json() {
    let of_json = flows_in("json", "json");
    run(&of_json);
    for (source, sink) in [("parquet", "json"), ("json", "parquet"), ("parquet", "parquet")] {
        let scratch = flows_in(source, sink);
        run(&scratch);
        for query in ["web", "totals", "changes", "counts"] {
            assert_eq!(result(&scratch, query), result(&of_json, query), "{query} from {source} to {sink}");
        }
        assert_eq!(bad_rows(&scratch), 0);
        verified(&scratch);
    }
}

/// Crashed at every point, rewound to every batch: the published files are the same, byte for byte.
#[test]
fn crashes_and_rewinds_leave_no_trace() {
    golden(&flows_in("parquet", "parquet"), 4);
}

/// What a reader of the folder finds.
fn published(scratch: &Scratch, name: &str) -> Vec<Value> {
    let bytes = fs::read(scratch.output().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let query = name.split(['-', '.']).next().expect("a name");
    let view = scratch.view();
    let table = view.result(query, view.newest().expect("a batch")).unwrap_or_else(|error| panic!("{error}"));
    let batches = from_bytes(RowFormat::Parquet, &table.schema, bytes).unwrap_or_else(|error| panic!("{error}"));
    let shown = rows(&batch::Table { rows: batches, ..table });
    shown.iter().map(|row| serde_json::from_str(row).expect("an object")).collect()
}

#[test]
fn each_batch_is_a_file_and_a_complete_result_is_one() {
    let scratch = flows_in("json", "parquet");
    run(&scratch);
    let of_batches: Vec<Value> =
        (0..4).flat_map(|batch| published(&scratch, &format!("web-{batch:08}.parquet"))).collect();
    assert_eq!(of_batches, result(&scratch, "web"));
    assert_eq!(published(&scratch, "web-00000001.parquet"), [] as [Value; 0], "a batch without rows is one, too");
    assert_eq!(published(&scratch, "totals.parquet"), result(&scratch, "totals"));
    for threads in [1, 3] {
        let again = flows_in("parquet", "parquet");
        again.run(Faults::none(), threads).unwrap_or_else(|error| panic!("{error}"));
        for name in ["web-00000003.parquet", "totals.parquet", "changes-00000002.parquet"] {
            let bytes = |scratch: &Scratch| fs::read(scratch.output().join(name)).expect("it is published");
            assert!(bytes(&again) == bytes(&scratch), "{name} with {threads} threads");
        }
    }
}

#[test]
fn a_published_file_that_was_changed_is_found() {
    let scratch = flows_in("json", "parquet");
    run(&scratch);
    let file = scratch.output().join("web-00000002.parquet");
    let mut bytes = fs::read(&file).expect("it is published");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("it can be changed");
    let options = VerifyOptions { batch: false, every: false, threads: 1 };
    let report = batch::verify(&scratch.checkpoint(), &options, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.findings.len(), 1);
    assert!(report.findings[0].contains("web-00000002.parquet is not what batch 2 published"), "{:?}", report.findings);
}

const SUMS: &str = "
    CREATE TABLE t (k STRING, n BIGINT, extra DOUBLE)
      WITH (connector = 'files', path = '${INPUT}', format = 'parquet', max_files_per_trigger = 1, mode = 'MODE');
    CREATE TABLE sums WITH (connector = 'memory', output_mode = 'complete');
    INSERT INTO sums SELECT k, count(*) AS rows, sum(n) AS n FROM t GROUP BY k ORDER BY k;";

fn sums(mode: &str, files: &[Vec<u8>]) -> Scratch {
    job(&SUMS.replace("MODE", mode), "parquet", files)
}

fn strings_and(numbers: ArrayRef) -> Vec<u8> {
    let keys: StringArray = (0..numbers.len()).map(|n| Some(["a", "b"][n % 2])).collect();
    let batch = RecordBatch::try_from_iter([("K", Arc::new(keys) as ArrayRef), ("n", numbers)]).expect("two columns");
    to_bytes(RowFormat::Parquet, &batch.schema(), &[batch]).expect("it can be written")
}

/// The bad records of a batch.
pub fn bad_records(scratch: &Scratch, batch: u64) -> Vec<Value> {
    let path = scratch.checkpoint().join(format!("bad-records/{batch:012}-g1.jsonl"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// A file with a bad value, one that is damaged, and one of other types that fit.
fn good_and_bad() -> [Vec<u8>; 4] {
    let whole = strings_and(Arc::new(Int64Array::from(vec![1, 2, 3, 4])));
    let narrow = strings_and(Arc::new(datafusion::arrow::array::UInt8Array::from(vec![10, 20])));
    let wrong = strings_and(Arc::new(datafusion::arrow::array::UInt64Array::from(vec![5, u64::MAX, 7])));
    let cut = whole[..whole.len() - 20].to_vec();
    [whole, wrong, cut, narrow]
}

#[test]
fn bad_values_and_bad_files_are_counted_and_named() {
    let scratch = sums("permissive", &good_and_bad());
    golden(&scratch, 4);
    let expected = [json!({"k": "a", "rows": 5, "n": 26}), json!({"k": "b", "rows": 4, "n": 26})];
    assert_eq!(result(&scratch, "sums"), expected, "a bad value is null");
    assert_eq!(bad_rows(&scratch), 2);
    let bad = sums("permissive", &good_and_bad());
    run(&bad);
    let [value, file] = [1, 2].map(|batch| bad_records(&bad, batch));
    assert_eq!((value.len(), file.len()), (1, 1));
    assert_eq!((&value[0]["line"], &value[0]["file"]), (&json!(2), &json!("0001.parquet")));
    assert_eq!(value[0]["reason"], "field 'n': 18446744073709551615 is not a BIGINT");
    assert_eq!((&file[0]["line"], &file[0]["file"]), (&json!(1), &json!("0002.parquet")));
    assert!(file[0]["reason"].as_str().expect("text").contains("is no Parquet file, or is cut off"), "{}", file[0]);
    verified(&bad);

    let dropping = sums("dropmalformed", &good_and_bad());
    run(&dropping);
    let expected = [json!({"k": "a", "rows": 5, "n": 26}), json!({"k": "b", "rows": 3, "n": 26})];
    assert_eq!(result(&dropping, "sums"), expected, "a bad row is none");
    assert_eq!(bad_rows(&dropping), 2);
}

#[test]
fn failfast_stops_at_bad_values_and_bad_files_and_goes_on_once_they_are_mended() {
    let [whole, wrong, cut, narrow] = good_and_bad();
    for (bad, parts) in [
        (wrong, ["a bad record, and mode is 'failfast'", "line 2", "is not a BIGINT"]),
        (cut, ["an input file is damaged, and mode is 'failfast'", "0001.parquet", "cut off"]),
    ] {
        let scratch = sums("failfast", &[whole.clone(), bad, narrow.clone()]);
        let error = scratch.run(Faults::none(), 2).expect_err("it is bad");
        assert_eq!(error.kind(), ErrorKind::Data);
        for part in parts {
            assert!(error.to_string().contains(part), "no '{part}' in: {error}");
        }
        assert_eq!(result(&scratch, "sums").len(), 2, "the batch before stands");
        let file = scratch.input().join("0001.parquet");
        fs::write(&file, &whole).expect("it is mended");
        crate::stream::stamp(&file, 1);
        run(&scratch);
        let expected = [json!({"k": "a", "rows": 5, "n": 18}), json!({"k": "b", "rows": 5, "n": 32})];
        assert_eq!(result(&scratch, "sums"), expected);
    }
}

#[test]
fn folders_and_the_name_of_the_file_are_columns() {
    let sql = "
        CREATE TABLE t (day DATE, n BIGINT, _file STRING)
          WITH (connector = 'files', path = '${INPUT}', format = 'parquet');
        CREATE TABLE sums WITH (connector = 'memory', output_mode = 'complete');
        INSERT INTO sums SELECT day, _file AS file, sum(n) AS n FROM t GROUP BY day, _file ORDER BY file;";
    let scratch = job(sql, "parquet", &[]);
    let put = |name: &str, bytes: &[u8]| {
        let path = scratch.input().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        fs::write(&path, bytes).expect("it is written");
        crate::stream::stamp(&path, 0);
    };
    let file = strings_and(Arc::new(Int64Array::from(vec![1, 2])));
    put("day=2026-01-31/a.parquet", &file);
    put("day=2026-02-01/part-1.snappy.parquet", &file);
    put("day=2026-02-01/packed.parquet.gz", &file);
    run(&scratch);
    let expected = [
        json!({"day": "2026-01-31", "file": "day=2026-01-31/a.parquet", "n": 3}),
        json!({"day": "2026-02-01", "file": "day=2026-02-01/part-1.snappy.parquet", "n": 3}),
    ];
    assert_eq!(result(&scratch, "sums"), expected);
    let bad = bad_records(&scratch, 0);
    assert_eq!(bad.len(), 1);
    assert!(bad[0]["reason"].as_str().expect("text").contains("not read from .gz; unpack it"), "{}", bad[0]);
}

/// What was published is another job's input, of the same rows.
#[test]
fn a_sinks_files_are_a_source() {
    let first = flows_in("json", "parquet");
    run(&first);
    let sql = "
        CREATE TABLE web (at TIMESTAMP, device STRING, bytes BIGINT, cost DECIMAL(10, 2))
          WITH (connector = 'files', path = '${INPUT}/web-*.parquet', format = 'parquet');
        CREATE TABLE again WITH (connector = 'memory');
        INSERT INTO again SELECT at, device, bytes, cost FROM web;";
    let second = job(sql, "parquet", &[]);
    for entry in fs::read_dir(first.output()).expect("a folder") {
        let path = entry.expect("listed").path();
        if path.is_file() {
            fs::copy(&path, second.input().join(Path::new(path.file_name().expect("a name")))).expect("it is copied");
        }
    }
    run(&second);
    let sorted = |mut rows: Vec<Value>| {
        rows.sort_by_key(Value::to_string);
        rows
    };
    assert_eq!(sorted(result(&second, "again")), sorted(result(&first, "web")));
    assert_eq!(bad_rows(&second), 0);
}
