//! Rows as SQLite's values: integers, numbers and texts, and a hash of them that reading a table back gives again.

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int64Type, UInt64Type},
    record_batch::RecordBatch,
};
use rusqlite::types::{Value, ValueRef};

use super::super::table::{hash, texts};
use crate::model::{Error, Result};

/// One row, its values in the order of the columns.
pub(in crate::sink) type Row = Vec<Value>;

/// The type that a column of a new table gets.
pub(super) fn column_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "INTEGER",
        integer if integer.is_integer() => "INTEGER",
        float if float.is_floating() => "REAL",
        DataType::Dictionary(_, values) => column_type(values),
        _ => "TEXT",
    }
}

/// Rows as they are bound to statements.
///
/// # Errors
/// Of kind `Data`, naming the column, for a number that SQLite has no place for; `Failed` where a type has no text.
pub(super) fn rows_of(batches: &[RecordBatch]) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (column, field) in batch.columns().iter().zip(batch.schema_ref().fields()) {
            columns.push(column_of(column, field)?.into_iter());
        }
        rows.extend((0..batch.num_rows()).map(|_| columns.iter_mut().filter_map(Iterator::next).collect::<Row>()));
    }
    Ok(rows)
}

fn column_of(column: &ArrayRef, field: &Field) -> Result<Vec<Value>> {
    let cannot = |why: String| {
        Error::data(format!("column '{}' holds a value that cannot be written to SQLite", field.name()))
            .because(why)
            .help("cast it to another type in the query: STRING takes any")
    };
    let wide = |to: DataType| cast(column, &to).map_err(|error| cannot(error.to_string()));
    match column.data_type() {
        DataType::Boolean => Ok(values(column.as_boolean().iter(), |value| Value::Integer(i64::from(value)))),
        DataType::UInt64 => {
            let numbers = column.as_primitive::<UInt64Type>();
            let number = |value: Option<u64>| match value.map(i64::try_from) {
                None => Ok(Value::Null),
                Some(Ok(value)) => Ok(Value::Integer(value)),
                Some(Err(_)) => Err(cannot("an integer is at most 9223372036854775807 there".to_owned())),
            };
            numbers.iter().map(number).collect()
        }
        integer if integer.is_integer() => {
            Ok(values(wide(DataType::Int64)?.as_primitive::<Int64Type>().iter(), Value::Integer))
        }
        float if float.is_floating() => Ok(values(wide(DataType::Float64)?.as_primitive::<Float64Type>().iter(), real)),
        DataType::Utf8 => Ok(values(column.as_string::<i32>().iter(), |text| Value::Text(text.to_owned()))),
        DataType::Utf8View => Ok(values(column.as_string_view().iter(), |text| Value::Text(text.to_owned()))),
        DataType::LargeUtf8 => Ok(values(column.as_string::<i64>().iter(), |text| Value::Text(text.to_owned()))),
        DataType::Dictionary(_, value_type) => column_of(&wide(value_type.as_ref().clone())?, field),
        _ => Ok(texts(column, field)?.into_iter().map(|text| text.map_or(Value::Null, Value::Text)).collect()),
    }
}

fn values<T>(from: impl Iterator<Item = Option<T>>, to: impl Fn(T) -> Value) -> Vec<Value> {
    from.map(|value| value.map_or(Value::Null, &to)).collect()
}

/// SQLite takes NaN for NULL, so it is the text that JSON lines have, too; and it knows no negative zero.
fn real(value: f64) -> Value {
    if value.is_nan() { Value::Text("NaN".to_owned()) } else { Value::Real(value + 0.0) }
}

/// A row as bytes: two rows have the same if and only if they are equal.
pub(super) fn encoded<'a>(row: impl Iterator<Item = ValueRef<'a>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in row {
        match value {
            ValueRef::Null => bytes.push(0),
            ValueRef::Integer(value) => {
                bytes.push(1);
                bytes.extend(value.to_le_bytes());
            }
            ValueRef::Real(value) => {
                bytes.push(2);
                bytes.extend(value.to_le_bytes());
            }
            ValueRef::Text(text) => sized(&mut bytes, 3, text),
            ValueRef::Blob(blob) => sized(&mut bytes, 4, blob),
        }
    }
    bytes
}

fn sized(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(value);
}

/// As [`encoded`], of rows that are not written yet.
pub(super) fn all_encoded(rows: &[Row]) -> Vec<Vec<u8>> {
    rows.iter().map(|row| encoded(row.iter().map(ValueRef::from))).collect()
}

/// As [`hash`], of rows that are not written yet.
pub(super) fn hash_of(rows: &[Row]) -> (u64, [u8; 32]) {
    hash(all_encoded(rows))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::{
        array::{
            BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int64Array, ListArray,
            StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
        },
        datatypes::{Fields, Int64Type as I64},
    };

    use super::{super::super::table::float_key, *};
    use crate::model::ErrorKind;

    /// A column of two values as SQLite gets it, and its type.
    fn column(array: impl Array + 'static) -> (&'static str, Vec<Value>) {
        let array: ArrayRef = Arc::new(array);
        let of_type = column_type(array.data_type());
        let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
        (of_type, rows_of(&[batch]).unwrap().into_iter().flatten().collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn each_type_has_its_value_and_null_is_null() {
        let (yes, one) = (Value::Integer(1), Value::Integer(-1));
        assert_eq!(column(BooleanArray::from(vec![Some(true), None])), ("INTEGER", vec![yes, Value::Null]));
        assert_eq!(column(Int8Array::from(vec![Some(-1), None])), ("INTEGER", vec![one, Value::Null]));
        let least = Value::Integer(i64::MIN);
        assert_eq!(column(Int64Array::from(vec![Some(i64::MIN), None])), ("INTEGER", vec![least, Value::Null]));
        assert_eq!(column(UInt64Array::from(vec![Some(7), None])), ("INTEGER", vec![Value::Integer(7), Value::Null]));
        assert_eq!(column(Float32Array::from(vec![Some(0.5), None])), ("REAL", vec![Value::Real(0.5), Value::Null]));
        assert_eq!(column(StringArray::from(vec![Some(""), None])), ("TEXT", vec![text(""), Value::Null]));
    }

    #[test]
    fn what_sqlite_has_no_type_for_is_text_as_json_lines_have_it() {
        let decimals = Decimal128Array::from(vec![Some(-150), None]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(column(decimals), ("TEXT", vec![text("-1.50"), Value::Null]));
        assert_eq!(column(Date32Array::from(vec![Some(1), None])), ("TEXT", vec![text("1970-01-02"), Value::Null]));
        let times = TimestampMicrosecondArray::from(vec![Some(1_500_000), None]);
        assert_eq!(column(times), ("TEXT", vec![text("1970-01-01T00:00:01.500"), Value::Null]));
        let list = ListArray::from_iter_primitive::<I64, _, _>([Some(vec![Some(1), None]), None]);
        assert_eq!(column(list), ("TEXT", vec![text("[1,null]"), Value::Null]));
        let fields = Fields::from(vec![Field::new("a\"", DataType::Utf8, true)]);
        let nested = StructArray::new(fields, vec![Arc::new(StringArray::from(vec!["x\ny"]))], None);
        assert_eq!(column(nested), ("TEXT", vec![text("{\"a\\\"\":\"x\\ny\"}")]));
    }

    #[test]
    fn numbers_that_sqlite_would_change_are_told_apart_or_refused() {
        let numbers = Float64Array::from(vec![f64::NAN, f64::INFINITY, -0.0, 0.1]);
        let expected = [text("NaN"), Value::Real(f64::INFINITY), Value::Real(0.0), Value::Real(0.1)];
        assert_eq!(column(numbers.clone()), ("REAL", expected.to_vec()));
        let batch = |array: ArrayRef| RecordBatch::try_from_iter([("c", array)]).unwrap();
        let is_negative_zero = |value: f64| value == 0.0 && value.is_sign_negative();
        assert_eq!(float_key(&[batch(Arc::new(numbers))], &[0], is_negative_zero).as_deref(), Some("c"));
        assert_eq!(float_key(&[batch(Arc::new(Float64Array::from(vec![0.0])))], &[0], is_negative_zero), None);
        let error = rows_of(&[batch(Arc::new(UInt64Array::from(vec![u64::MAX])))]).unwrap_err();
        assert_eq!((error.kind(), error.what().contains("'c'")), (ErrorKind::Data, true));
    }

    #[test]
    fn a_hash_is_of_the_rows_and_not_of_their_order() {
        let row = |key: &str, n: i64| vec![text(key), Value::Integer(n)];
        let of = |rows: &[Row]| hash_of(rows).1;
        assert_eq!(of(&[row("a", 1), row("b", 2)]), of(&[row("b", 2), row("a", 1)]));
        assert_ne!(of(&[row("a", 1), row("b", 2)]), of(&[row("a", 2), row("b", 1)]));
        assert_ne!(of(&[row("a", 1)]), of(&[row("a", 1), row("a", 1)]));
        assert_ne!(of(&[vec![text("ab"), text("")]]), of(&[vec![text("a"), text("b")]]));
        assert_ne!(of(&[vec![Value::Null]]), of(&[vec![text("")]]));
        assert_ne!(of(&[vec![Value::Integer(1)]]), of(&[vec![Value::Real(1.0)]]));
    }

    #[test]
    fn rows_of_several_batches_come_in_their_order() {
        let batch =
            |n: i64| RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![n])) as ArrayRef)]).unwrap();
        assert_eq!(rows_of(&[batch(1), batch(2)]).unwrap(), [[Value::Integer(1)], [Value::Integer(2)]]);
        assert!(rows_of(&[]).unwrap().is_empty());
    }
}
