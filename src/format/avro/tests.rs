mod damage;

use std::io::Write;

use datafusion::arrow::{
    array::{Array, ArrayRef, BooleanArray, Float64Array, ListArray, StringArray},
    datatypes::{Fields, Int64Type, TimeUnit},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    format::columnar::testing::{self, bad, ints, shown, texts},
    job::{FormatKind, Mode},
    model::{ErrorKind, Result},
};

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const CODECS: [&str; 4] = ["null", "deflate", "snappy", "zstandard"];

fn pack(codec: &str, bytes: &[u8]) -> Vec<u8> {
    match codec {
        "deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "snappy" => {
            let mut packed = snap::raw::Encoder::new().compress_vec(bytes).unwrap();
            packed.extend(crc32fast::hash(bytes).to_be_bytes());
            packed
        }
        "zstandard" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

/// A file of blocks, each of so many rows that are these bytes.
fn container(schema: &Value, codec: &str, blocks: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = b"Obj\x01".to_vec();
    put_number(2, &mut file);
    for text in ["avro.schema", &schema.to_string(), "avro.codec", codec] {
        put_number(text.len() as u64, &mut file);
        file.extend(text.as_bytes());
    }
    file.push(0);
    let marker = *b"sixteen bytes: #";
    file.extend(marker);
    for (rows, bytes) in blocks {
        let packed = pack(codec, bytes);
        put_number(*rows, &mut file);
        put_number(packed.len() as u64, &mut file);
        file.extend(packed);
        file.extend(marker);
    }
    file
}

/// A file of these columns, as the library writes it, with so many rows in a block.
fn file_in(columns: Vec<(&str, ArrayRef)>, block_rows: usize, codec: &str) -> Vec<u8> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = arrow_avro::writer::AvroWriter::new(Vec::new(), batch.schema().as_ref().clone()).unwrap();
    for start in (0..batch.num_rows()).step_by(block_rows) {
        writer.write(&batch.slice(start, block_rows.min(batch.num_rows() - start))).unwrap();
    }
    writer.finish().unwrap();
    let plain: Arc<dyn AnyBytes> = Arc::new(writer.into_inner());
    let (header, runs) = container::open(&plain, 0).unwrap();
    let block = |run: &Run| {
        let bytes = read_at(plain.as_ref(), run.offset, run.bytes as usize).unwrap();
        let block = next_block(&mut &bytes[..]).unwrap();
        (block.rows, block.packed.to_vec())
    };
    let schema = serde_json::from_slice(&header.schema).unwrap();
    container(&schema, codec, &runs.iter().map(block).collect::<Vec<_>>())
}

fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    file_in(columns, 1000, "null")
}

fn read_in(mode: Mode, columns: &[(&str, DataType)], projection: Vec<usize>, bytes: &[u8]) -> Result<WholeRead> {
    testing::read_in(FormatKind::Avro, mode, columns, projection, bytes)
}

/// All columns, as they are read in permissive mode.
fn read(columns: &[(&str, DataType)], bytes: &[u8]) -> WholeRead {
    read_in(Mode::Permissive, columns, (0..columns.len()).collect(), bytes).unwrap()
}

/// Rows of one column `c` of this type, each of these bytes.
fn one_column(of: &Value, values: &[&[u8]]) -> Vec<u8> {
    let schema = json!({"type": "record", "name": "r", "fields": [{"name": "c", "type": of}]});
    container(&schema, "null", &[(values.len() as u64, values.concat())])
}

/// What becomes of these values that are declared as `to`: texts, and the rows that are bad.
fn cast(of: &Value, values: &[&[u8]], to: DataType) -> (Vec<String>, Vec<u64>) {
    let read = read(&[("c", to)], &one_column(of, values));
    let rows = read.decoded.bad.iter().map(|bad| bad.line).collect();
    (shown(&read), rows)
}

/// As STRING, where nothing is bad.
fn as_text(of: &Value, values: &[&[u8]]) -> Vec<String> {
    let (texts, bad) = cast(of, values, DataType::Utf8);
    assert_eq!(bad, [0; 0], "{of}");
    texts
}

#[test]
fn columns_are_found_by_name_and_a_missing_one_is_null() {
    let bytes = file(vec![
        ("other", texts(&[Some("x"), Some("y")])),
        ("N", ints(&[Some(7), Some(8)])),
        ("Text", texts(&[Some("a"), None])),
        ("n", ints(&[Some(1), None])),
    ]);
    let columns = [("text", DataType::Utf8), ("missing", DataType::Float64), ("n", DataType::Int64)];
    let whole = read(&columns, &bytes);
    assert_eq!(shown(&whole), ["a|-|1", "-|-|-"], "an exact spelling is over others");
    assert_eq!((whole.decoded.rows, whole.decoded.lines, whole.decoded.bad_rows), (2, 2, 0));
    assert_eq!(shown(&read_in(Mode::Permissive, &columns, vec![2], &bytes).unwrap()), ["1", "-"]);
    let none = read_in(Mode::Permissive, &columns, vec![], &bytes).unwrap();
    assert_eq!((none.decoded.rows, none.decoded.batches[0].num_rows()), (2, 2), "rows without columns");
    assert_eq!(read(&columns, b"").decoded.rows, 0, "an empty file has no rows");
    let blocks = container(&json!({"type": "record", "name": "r", "fields": []}), "deflate", &[]);
    assert_eq!(shown(&read(&columns, &blocks)), [""; 0], "nor has one without blocks");
}

#[test]
fn every_codec_is_read_and_others_are_named() {
    let numbers: Vec<Option<i64>> = (0..100).map(|n| (n % 3 != 0).then_some(n)).collect();
    let columns = [("n", DataType::Int64)];
    let plain = shown(&read(&columns, &file(vec![("n", ints(&numbers))])));
    assert_eq!((plain.len(), plain[1].as_str(), plain[99].as_str()), (100, "1", "-"));
    for codec in CODECS {
        for block_rows in [1, 7, 100] {
            let bytes = file_in(vec![("n", ints(&numbers))], block_rows, codec);
            assert_eq!(shown(&read(&columns, &bytes)), plain, "{codec}");
        }
    }
    let damage = read(&columns, &file_in(vec![("n", ints(&numbers))], 10, "bzip2")).damage.unwrap();
    assert_eq!(damage, "codec 'bzip2' is not read, only null, deflate, snappy and zstandard");
}

#[test]
fn numbers_and_texts_are_cast_where_they_fit() {
    let long = json!("long");
    assert_eq!(cast(&long, &[b"\x02", b"\xFE\x01", b"\x80\x02"], DataType::Int8).1, [3], "128");
    assert_eq!(cast(&json!("int"), &[b"\x02"], DataType::Int64).0, ["1"]);
    assert_eq!(cast(&json!("double"), &[&1.5_f64.to_le_bytes()], DataType::Int64).1, [1]);
    assert_eq!(cast(&json!("float"), &[&1.5_f32.to_le_bytes()], DataType::Float64).0, ["1.5"]);
    assert_eq!(cast(&json!("boolean"), &[b"\x01", b"\0"], DataType::Boolean).0, ["true", "false"]);
    assert_eq!(cast(&json!("string"), &[b"\x026"], DataType::Int64).1, [1], "a STRING of digits is no BIGINT");
    assert_eq!(
        cast(&json!("bytes"), &[b"\x02a", b"\x02\xFF"], DataType::Utf8),
        (vec!["a".into(), "-".into()], vec![2])
    );
    assert_eq!(cast(&long, &[b"\x04"], TIMESTAMP).0, ["1970-01-01T00:00:02"], "numbers are seconds");
    assert_eq!(cast(&json!("null"), &[b"", b""], DataType::Int64), (vec!["-".into(), "-".into()], vec![]));
    assert_eq!(cast(&json!({"type": "fixed", "name": "f", "size": 0}), &[b"", b""], DataType::Int64).0, ["-", "-"]);
}

#[test]
fn logical_types_are_what_they_mean() {
    let of = |base: &str, logical: &str| json!({"type": base, "logicalType": logical});
    for (logical, one) in
        [("millis", &b"\xD0\x0F"[..]), ("micros", b"\x80\x89\x7A"), ("nanos", b"\x80\xA8\xD6\xB9\x07")]
    {
        for logical in [format!("timestamp-{logical}"), format!("local-timestamp-{logical}")] {
            assert_eq!(cast(&of("long", &logical), &[one], TIMESTAMP).0, ["1970-01-01T00:00:01"], "{logical}");
        }
    }
    assert_eq!(cast(&of("int", "date"), &[b"\x02", b"\x01"], DataType::Date32).0, ["1970-01-02", "1969-12-31"]);
    assert_eq!(as_text(&of("int", "time-millis"), &[b"\xD0\x0F"]), ["00:00:01"]);
    assert_eq!(as_text(&of("long", "time-micros"), &[b"\x02"]), ["00:00:00.000001"]);
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    let bytes = [b"\x48", uuid.as_bytes()].concat();
    assert_eq!(as_text(&of("string", "uuid"), &[&bytes]), [uuid]);
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2});
    assert_eq!(cast(&decimal, &[b"\x02\xFF", b"\x04\x30\x39"], DataType::Decimal128(5, 2)).0, ["-0.01", "123.45"]);
    assert_eq!(cast(&decimal, &[b"\x06\x01\x86\xA0"], DataType::Decimal128(5, 2)).1, [1], "1000.00 has six digits");
    let fixed = json!({"type": "fixed", "name": "d", "size": 2, "logicalType": "decimal", "precision": 4});
    assert_eq!(cast(&fixed, &[b"\x00\x07"], DataType::Int64).0, ["7"]);
    for (base, logical) in [("string", "date"), ("bytes", "decimal"), ("string", "decimal"), ("bytes", "duration")] {
        assert_eq!(as_text(&of(base, logical), &[b"\x02a"]), ["a"], "{logical} of {base} is passed over");
    }
    assert_eq!(as_text(&of("int", "timestamp-millis"), &[b"\x02"]), ["1"]);
    assert_eq!(as_text(&of("long", "timestamp-seconds"), &[b"\x02"]), ["1"]);
}

#[test]
fn unions_enums_and_names_are_followed() {
    assert_eq!(as_text(&json!(["null", "string"]), &[b"\0", b"\x02\x02a"]), ["-", "a"]);
    assert_eq!(as_text(&json!(["string", "null"]), &[b"\x02", b"\0\x02a"]), ["-", "a"]);
    let three = json!(["null", "string", "long"]);
    let values: [&[u8]; 3] = [b"\0", b"\x02\x02a", b"\x04\x06"];
    assert_eq!(as_text(&three, &values), ["-", "a", "3"]);
    assert_eq!(cast(&three, &values, DataType::Int64), (["-", "-", "3"].map(String::from).to_vec(), vec![2]));
    let kind = json!({"type": "enum", "name": "kind", "symbols": ["A", "B"]});
    assert_eq!(as_text(&kind, &[b"\x02", b"\0"]), ["B", "A"]);
    assert_eq!(as_text(&json!(["null", kind]), &[b"\x02\x02", b"\0"]), ["B", "-"]);
    assert_eq!(as_text(&json!({"type": "fixed", "name": "f", "size": 2}), &[b"\x01\xAB"]), ["01ab"]);

    let point = json!({"type": "record", "name": "a.Point", "fields": [
        {"name": "X", "type": "int"}, {"name": "y", "type": ["null", {"type": "array", "items": "long"}]}]});
    let schema = json!({"type": "record", "name": "r", "namespace": "a", "fields": [
        {"name": "unread", "type": point},
        {"name": "p", "type": ["null", "Point"]},
        {"name": "m", "type": {"type": "map", "values": "a.Point"}}]});
    let rows = [b"\x02\0".as_slice(), b"\x02\x04\x02\x03\x02\x06\x08\0", b"\x02\x02k\x0A\0\0", b"\0\0", b"\0", b"\0"];
    let bytes = container(&schema, "null", &[(2, rows.concat())]);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let fields = Fields::from(vec![Field::new("x", DataType::Int64, true), Field::new("y", list, true)]);
    let whole = read(&[("p", DataType::Struct(fields)), ("m", DataType::Utf8)], &bytes);
    assert_eq!(shown(&whole), [r#"{x: 2, y: [3, 4]}|{"k":{"X":5,"y":null}}"#, "-|{}"]);
}

#[test]
fn bad_rows_are_counted_and_named_in_each_mode() {
    let numbers: Vec<Option<i64>> = (0..2500).map(|n| Some(if n % 1000 == 999 { 1000 + n } else { n % 100 })).collect();
    let words: Vec<Option<&str>> = (0..2500).map(|n| Some(if n == 1999 { "x" } else { "1970-01-01" })).collect();
    let bytes = file_in(vec![("n", ints(&numbers)), ("day", texts(&words)), ("k", texts(&words))], 300, "deflate");
    let columns = [("k", DataType::Utf8), ("day", DataType::Date32), ("n", DataType::Int8)];
    let wrong = ["1000: field 'n': 1999 is not a TINYINT", "2000: field 'day': \"x\" is not a DATE (and 1 more)"];
    for projection in [vec![0, 1, 2], vec![0], vec![]] {
        let whole = read_in(Mode::Permissive, &columns, projection.clone(), &bytes).unwrap();
        assert_eq!(bad(&whole), wrong, "whatever a query reads");
        assert_eq!((whole.decoded.rows, whole.decoded.bad_rows, whole.decoded.lines), (2500, 2, 2500));
        let dropped = read_in(Mode::DropMalformed, &columns, projection.clone(), &bytes).unwrap();
        assert_eq!((bad(&dropped), dropped.decoded.rows), (wrong.map(String::from).to_vec(), 2500));
        assert_eq!(dropped.decoded.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2498);
        let error = read_in(Mode::FailFast, &columns, projection, &bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("f, line 1000"), "{error}");
    }
    assert_eq!(shown(&read(&columns, &bytes))[1999], "x|-|-", "the other values stay");
}
