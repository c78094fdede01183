//! Values as they go over the wire, and back.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int64Array,
        ListArray, StringArray, TimestampNanosecondArray, UInt64Array,
    },
    datatypes::Int64Type as I64,
    record_batch::RecordBatch,
};

use super::{
    super::rows::{Rows, cells},
    *,
};
use crate::model::ErrorKind;

fn batch(array: impl Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("c", Arc::new(array) as ArrayRef, true)]).unwrap()
}

/// The type of a column, and the bytes of its values.
fn column(array: impl Array + 'static) -> (String, Vec<Option<Vec<u8>>>) {
    let batch = batch(array);
    let rows = Rows::of(std::slice::from_ref(&batch)).unwrap();
    let values = rows.iter().flat_map(|row| cells(row).map(|cell| cell.map(<[u8]>::to_vec)).collect::<Vec<_>>());
    (column_type(batch.column(0).data_type()), values.collect())
}

fn some(bytes: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    Some(bytes.as_ref().to_vec())
}

#[test]
fn each_type_has_its_own_and_null_is_null() {
    let of = |name: &str, value: Option<Vec<u8>>| (name.to_owned(), vec![value, None]);
    assert_eq!(column(BooleanArray::from(vec![Some(true), None])), of("BOOLEAN", some([1])));
    assert_eq!(column(Int8Array::from(vec![Some(-1), None])), of("BIGINT", some((-1_i64).to_be_bytes())));
    assert_eq!(column(Int64Array::from(vec![Some(i64::MIN), None])), of("BIGINT", some(i64::MIN.to_be_bytes())));
    assert_eq!(column(Float32Array::from(vec![Some(0.1), None])), of("REAL", some(0.1_f32.to_be_bytes())));
    assert_eq!(column(StringArray::from(vec![Some("é"), None])), of("TEXT", some("é")));
    assert_eq!(column(BinaryArray::from(vec![Some(&b"\0x"[..]), None])), of("BYTEA", some(b"\0x")));
    assert_eq!(column(Date32Array::from(vec![Some(10_958), None])), of("DATE", some(1_i32.to_be_bytes())));
    let times = TimestampNanosecondArray::from(vec![Some(946_684_800_000_001_500), None]);
    assert_eq!(column(times), of("TIMESTAMP", some(1_i64.to_be_bytes())));
    let list = ListArray::from_iter_primitive::<I64, _, _>([Some(vec![Some(1), None]), None]);
    assert_eq!(column(list), of("TEXT", some("[1,null]")));
}

#[test]
fn numbers_keep_what_they_are() {
    let numbers = Float64Array::from(vec![f64::INFINITY, -0.0, 0.1, -f64::NAN]);
    let values = [f64::INFINITY, -0.0, 0.1, f64::NAN].map(|value| some(value.to_be_bytes()));
    assert_eq!(column(numbers), ("DOUBLE PRECISION".to_owned(), values.to_vec()));
    let most = column(UInt64Array::from(vec![u64::MAX]));
    assert_eq!(most.0, "NUMERIC(20, 0)");
    assert_eq!(most.1[0].as_deref(), Some(&*numeric("18446744073709551615")));
    let decimals = Decimal128Array::from(vec![-150]).with_precision_and_scale(10, 2).unwrap();
    let (name, values) = column(decimals);
    assert_eq!((name.as_str(), values[0].as_deref()), ("NUMERIC(10, 2)", Some(&*numeric("-1.50"))));
}

/// Digits, weight, sign and scale, as PostgreSQL 15 sends them.
#[test]
fn a_decimal_is_in_groups_of_four_digits() {
    let of = |text: &str| numeric(text).chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect::<Vec<_>>();
    assert_eq!(of("0"), [0, 0, 0, 0]);
    assert_eq!(of("-0.00"), [0, 0, 0, 2]);
    assert_eq!(of("1"), [1, 0, 0, 0, 1]);
    assert_eq!(of("10000"), [1, 1, 0, 0, 1]);
    assert_eq!(of("-12345.678"), [3, 1, 0x4000, 3, 1, 2345, 6780]);
    assert_eq!(of("0.0001"), [1, 0xffff, 0, 4, 1]);
    assert_eq!(of("0.00001"), [1, 0xfffe, 0, 5, 1000]);
}

#[test]
fn what_has_no_place_is_named() {
    let error = Rows::of(&[batch(StringArray::from(vec!["a", "b"])), batch(StringArray::from(vec!["c", "d\0"]))]);
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.what()), (ErrorKind::Data, "column 'c' of row 3 holds the character NUL"));
    let error = Rows::of(&[batch(Date32Array::from(vec![i32::MIN]))]).unwrap_err();
    assert!(error.to_string().contains("row 0"), "{error}");
}
