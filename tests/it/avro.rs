//! Avro as a source: the rows are those that JSON would give, whatever happens on the way.

use std::{fs, sync::Arc};

use arrow_avro::writer::AvroWriter;
use datafusion::arrow::{
    array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray},
    datatypes::SchemaRef,
    json,
};
use highwater::model::{ErrorKind, Faults};
use serde_json::{Value, json};

use crate::{
    golden::{bad_rows, golden, job, result, run},
    parquet::{bad_records, flows, lines, verified},
    stream::Scratch,
};

/// A file of these rows, in blocks of seven.
fn avro(rows: &RecordBatch) -> Vec<u8> {
    let mut writer = AvroWriter::new(Vec::new(), rows.schema().as_ref().clone()).expect("it can be written");
    for start in (0..rows.num_rows()).step_by(7) {
        writer.write(&rows.slice(start, 7.min(rows.num_rows() - start))).expect("it can be written");
    }
    writer.finish().expect("it can be written");
    writer.into_inner()
}

/// A file of rows that are written as JSON, a line each.
fn of_lines(schema: &SchemaRef, lines: &str) -> Vec<u8> {
    let mut reader = json::ReaderBuilder::new(Arc::clone(schema)).build(lines.as_bytes()).expect("a schema");
    avro(&reader.next().expect("there are rows").expect("rows of these columns"))
}

const SQL: &str = "
    CREATE TABLE flows (at TIMESTAMP, device STRING, port STRING, bytes BIGINT, cost DECIMAL(10, 2), unused DOUBLE)
      WITH (connector = 'files', path = '${INPUT}', format = 'FORMAT', max_files_per_trigger = 1);
    CREATE TABLE web WITH (connector = 'memory');
    CREATE TABLE totals WITH (connector = 'memory', output_mode = 'complete');
    INSERT INTO web SELECT at, device, bytes, cost FROM flows WHERE port = '80';
    INSERT INTO totals SELECT device, count(*) AS count, sum(cost) AS cost, max(at) AS newest, sum(bytes) AS bytes,
      array_agg(port ORDER BY at) AS ports FROM flows GROUP BY device ORDER BY count DESC;";

/// Three files of rows and an empty one.
fn flows_in(format: &str) -> Scratch {
    let file = |number: usize| match (format, number) {
        (_, 1) => Vec::new(),
        ("avro", _) => of_lines(&flows(), &lines(number)),
        _ => lines(number).into_bytes(),
    };
    job(&SQL.replace("FORMAT", format), format, &(0..4).map(file).collect::<Vec<_>>())
}

#[test]
fn the_same_rows_give_the_same_tables_as_json() {
    let (of_json, of_avro) = (flows_in("json"), flows_in("avro"));
    run(&of_json);
    golden(&of_avro, 4);
    for query in ["web", "totals"] {
        assert_eq!(result(&of_avro, query), result(&of_json, query), "{query}");
        assert!(!result(&of_avro, query).is_empty(), "{query}");
    }
    assert_eq!(bad_rows(&of_avro), 0);
    verified(&of_json);
    let again = flows_in("avro");
    run(&again);
    verified(&again);
}

const SUMS: &str = "
    CREATE TABLE t (k STRING, n BIGINT, extra DOUBLE, _file STRING)
      WITH (connector = 'files', path = '${INPUT}', format = 'avro', max_files_per_trigger = 1, mode = 'MODE');
    CREATE TABLE sums WITH (connector = 'memory', output_mode = 'complete');
    INSERT INTO sums SELECT k, count(*) AS rows, sum(n) AS n, max(_file) AS newest FROM t GROUP BY k ORDER BY k;";

fn sums(mode: &str, files: &[Vec<u8>]) -> Scratch {
    job(&SUMS.replace("MODE", mode), "avro", files)
}

fn strings_and(numbers: ArrayRef) -> Vec<u8> {
    let keys: StringArray = (0..numbers.len()).map(|n| Some(["a", "b"][n % 2])).collect();
    avro(&RecordBatch::try_from_iter([("K", Arc::new(keys) as ArrayRef), ("n", numbers)]).expect("two columns"))
}

/// A file with a bad value, one that is damaged, and one of another type that fits.
fn good_and_bad() -> [Vec<u8>; 4] {
    let whole = strings_and(Arc::new(Int64Array::from(vec![1, 2, 3, 4])));
    let narrow = strings_and(Arc::new(Int32Array::from(vec![10, 20])));
    let wrong = strings_and(Arc::new(StringArray::from(vec!["x", "2"])));
    let cut = whole[..whole.len() - 20].to_vec();
    [whole, wrong, cut, narrow]
}

fn row(k: &str, rows: u64, n: i64) -> Value {
    json!({"k": k, "rows": rows, "n": n, "newest": "0003.avro"})
}

#[test]
fn bad_values_and_bad_files_are_counted_and_named() {
    let scratch = sums("permissive", &good_and_bad());
    golden(&scratch, 4);
    assert_eq!(result(&scratch, "sums"), [row("a", 4, 14), row("b", 4, 26)], "a bad value is null");
    let bad = sums("permissive", &good_and_bad());
    run(&bad);
    assert_eq!(bad_rows(&bad), 3);
    let [values, file] = [1, 2].map(|batch| bad_records(&bad, batch));
    assert_eq!((values.len(), file.len()), (2, 1));
    assert_eq!((&values[1]["line"], &values[1]["file"]), (&json!(2), &json!("0001.avro")));
    assert_eq!(values[1]["reason"], "field 'n': \"2\" is not a BIGINT");
    assert_eq!((&file[0]["line"], &file[0]["file"]), (&json!(1), &json!("0002.avro")));
    assert!(file[0]["reason"].as_str().expect("text").contains("it is cut off or damaged"), "{}", file[0]);
    verified(&bad);

    let dropping = sums("dropmalformed", &good_and_bad());
    run(&dropping);
    assert_eq!(result(&dropping, "sums"), [row("a", 3, 14), row("b", 3, 26)], "a bad row is none");
    assert_eq!(bad_rows(&dropping), 3);
}

#[test]
fn failfast_stops_at_bad_values_and_bad_files_and_goes_on_once_they_are_mended() {
    let [whole, wrong, cut, narrow] = good_and_bad();
    let fraction = strings_and(Arc::new(Float64Array::from(vec![1.5])));
    for (bad, parts) in [
        (wrong, ["a bad record, and mode is 'failfast'", "line 1", "\"x\" is not a BIGINT"]),
        (fraction, ["a bad record, and mode is 'failfast'", "line 1", "1.5 is not a BIGINT"]),
        (cut, ["an input file is damaged, and mode is 'failfast'", "0001.avro", "cut off"]),
    ] {
        let scratch = sums("failfast", &[whole.clone(), bad, whole.clone(), narrow.clone()]);
        let error = scratch.run(Faults::none(), 2).expect_err("it is bad");
        assert_eq!(error.kind(), ErrorKind::Data);
        for part in parts {
            assert!(error.to_string().contains(part), "no '{part}' in: {error}");
        }
        assert_eq!(result(&scratch, "sums").len(), 2, "the batch before stands");
        let file = scratch.input().join("0001.avro");
        fs::write(&file, &whole).expect("it is mended");
        crate::stream::stamp(&file, 1);
        run(&scratch);
        assert_eq!(result(&scratch, "sums"), [row("a", 7, 22), row("b", 7, 38)]);
    }
}

#[test]
fn a_file_that_is_packed_once_more_is_refused() {
    let scratch = job(&SUMS.replace("MODE", "permissive"), "avro.gz", &[good_and_bad()[0].clone()]);
    run(&scratch);
    let bad = bad_records(&scratch, 0);
    assert_eq!((bad.len(), result(&scratch, "sums").len()), (1, 0));
    assert!(bad[0]["reason"].as_str().expect("text").contains("not read from .gz; unpack it"), "{}", bad[0]);
}
