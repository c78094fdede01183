//! Hostile files: whatever the bytes, a result, and the same one with any number of threads.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
#[cfg(test)]
use proptest::prelude::*;

use super::{Reader, WholeRead};
use crate::job::{FormatKind, FormatSpec, RecordOptions};

/// Columns of all types, of names that a file is likely to have.
pub(in crate::format) fn schema() -> SchemaRef {
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let columns = [
        ("text", DataType::Utf8),
        ("flag", DataType::Boolean),
        ("small", DataType::Int8),
        ("number", DataType::Int64),
        ("float", DataType::Float32),
        ("double", DataType::Float64),
        ("decimal", DataType::Decimal128(10, 2)),
        ("day", DataType::Date32),
        ("time", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("list", DataType::List(item)),
    ];
    Arc::new(Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

/// A reader of some of these columns, which checks the others.
pub(in crate::format) fn reader(kind: &FormatKind, schema: &SchemaRef, projection: Vec<usize>) -> Reader {
    let spec = FormatSpec { records: RecordOptions::default(), kind: kind.clone() };
    Reader::new(Arc::clone(schema), projection, &spec).expect("it has no pattern")
}

/// Reads the bytes with one thread and with three, all columns and one; whatever they are, it does not panic.
pub(in crate::format) fn any_bytes(kind: &FormatKind, bytes: &[u8]) {
    let schema = schema();
    for projection in [(0..schema.fields().len()).collect(), vec![3], vec![]] {
        let reader = reader(kind, &schema, projection);
        let read = |threads| {
            let read = reader.decode_whole("f", Arc::new(bytes.to_vec()), threads, &[]);
            read.expect("only in failfast mode it is an error")
        };
        let (one, three) = (read(1), read(3));
        assert_eq!(one.damage, three.damage, "as many threads as there may be");
        assert!(one.decoded.batches == three.decoded.batches && one.decoded.bad == three.decoded.bad);
        consistent(&one);
    }
}

/// For fuzzing: any bytes as a file of Parquet.
pub(crate) fn parquet(bytes: &[u8]) {
    unhooked(&FormatKind::Parquet, bytes);
}

/// For fuzzing: any bytes as a file of Avro.
pub(crate) fn avro(bytes: &[u8]) {
    unhooked(&FormatKind::Avro, bytes);
}

/// What a library panics over is caught where it is read; the fuzzer's hook would end it before.
fn unhooked(kind: &FormatKind, bytes: &[u8]) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    any_bytes(kind, bytes);
    std::panic::set_hook(hook);
}

fn consistent(read: &WholeRead) {
    let WholeRead { decoded, damage } = read;
    let rows: usize = decoded.batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(decoded.rows, rows as u64, "in permissive mode a bad row is one");
    assert!(decoded.bad_rows <= decoded.rows && decoded.bad.len() as u64 <= decoded.bad_rows);
    assert!(damage.is_none() || decoded.rows == 0, "a damaged file has no rows");
}

/// What is done to a file's bytes.
#[cfg(test)]
pub(in crate::format) fn mutation() -> impl Strategy<Value = (prop::sample::Index, u8, u8, u8)> {
    (any::<prop::sample::Index>(), 0..5_u8, any::<u8>(), prop_oneof![Just(1_u8), 1..60_u8])
}

#[cfg(test)]
pub(in crate::format) fn mutate(bytes: &mut Vec<u8>, (at, what, byte, length): (prop::sample::Index, u8, u8, u8)) {
    if bytes.is_empty() {
        return;
    }
    // half of them near the end, where a footer is
    let at = if byte % 2 == 0 { at.index(bytes.len()) } else { bytes.len() - 1 - at.index(bytes.len().min(600)) };
    let end = (at + usize::from(length)).min(bytes.len());
    match what {
        0 => bytes[at] = byte,
        1 => bytes[at] ^= 1 << (byte % 8),
        2 => bytes[at..end].fill(byte),
        3 => drop(bytes.drain(at..end)),
        _ => {
            let copied: Vec<u8> = bytes[at..end].to_vec();
            bytes.splice(at..at, copied);
        }
    }
}
