use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema},
    json::LineDelimitedWriter,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::format::json::reference::JsonOptions;

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(field("item", item)))
}

fn map(value: DataType) -> DataType {
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), field("value", value)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false)
}

fn record(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields.iter().map(|(name, data_type)| field(name, data_type.clone())).collect())
}

/// The rows of a table with the one column `v`, as JSON again, and why records are bad.
fn decoded(data_type: DataType, text: &str) -> (Vec<Value>, Vec<String>) {
    let schema = Arc::new(Schema::new(vec![field("v", data_type)]));
    let decoded = JsonOptions::default().reader(schema, vec![0]).decode("f", text.as_bytes(), 1).unwrap();
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write_batches(&decoded.batches.iter().collect::<Vec<&RecordBatch>>()).unwrap();
    writer.finish().unwrap();
    let lines = String::from_utf8(writer.into_inner()).unwrap();
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap().get("v").cloned().unwrap_or(Value::Null);
    (lines.lines().map(row).collect(), decoded.bad.into_iter().map(|bad| bad.reason).collect())
}

#[test]
fn values_are_read_by_their_types() {
    let person = record(&[("Name", DataType::Utf8), ("tags", list(DataType::Utf8)), ("n", map(DataType::Int64))]);
    for (data_type, text, expected) in [
        (list(DataType::Int64), "[1, 2,null ]", json!([1, 2, null])),
        (list(list(DataType::Boolean)), "[[], [true,false] , null]", json!([[], [true, false], null])),
        (list(DataType::Utf8), r#"["a\u00e9", 1.50, {"b": [1]}]"#, json!(["a\u{e9}", "1.50", "{\"b\": [1]}"])),
        (map(DataType::Float64), r#"{"a":1, "b" : 2.5, "a":3}"#, json!({"a": 3.0, "b": 2.5})),
        (
            person.clone(),
            r#"{"x":[{}], "tags":["t"],"name":"N", "n":{"k":null}}"#,
            json!({"Name": "N", "tags": ["t"], "n": {}}),
        ),
        (person.clone(), r#"{"Name":"exact","name":"other"}"#, json!({"Name": "exact"})),
        (person, "{}", json!({})),
        (list(DataType::Int64), "null", Value::Null),
        (list(DataType::Int64), "[]", json!([])),
    ] {
        let name = type_name(&data_type);
        let (rows, bad) = decoded(data_type, &format!("{{\"v\": {text} }}\n"));
        // the writer leaves nulls of a struct out
        assert_eq!((rows, bad), (vec![expected], Vec::new()), "{name}: {text}");
    }
}

#[test]
fn a_value_of_another_type_is_null_and_its_record_bad() {
    let person = record(&[("name", DataType::Utf8), ("age", DataType::Int64)]);
    for (data_type, text, reason) in [
        (list(DataType::Int64), "[1, \"2\"]", "field 'v': [1, \"2\"] is not a ARRAY<BIGINT>"),
        (list(DataType::Int64), "{}", "field 'v': {} is not a ARRAY<BIGINT>"),
        (list(DataType::Int64), "7", "field 'v': 7 is not a ARRAY<BIGINT>"),
        (person.clone(), "{\"age\":1.5}", "field 'v': {\"age\":1.5} is not a STRUCT<name STRING, age BIGINT>"),
        (person, "[]", "field 'v': [] is not a STRUCT<name STRING, age BIGINT>"),
        (map(DataType::Int8), "{\"a\":200}", "field 'v': {\"a\":200} is not a MAP<STRING, TINYINT>"),
    ] {
        let (rows, bad) = decoded(data_type, &format!("{{\"v\":{text}}}\n"));
        assert_eq!((rows, bad), (vec![Value::Null], vec![reason.to_owned()]), "{text}");
    }
}

/// A type, and values of it as JSON.
fn typed() -> impl Strategy<Value = DataType> {
    let leaf = prop::sample::select(vec![DataType::Utf8, DataType::Int64, DataType::Boolean]);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(list),
            inner.clone().prop_map(map),
            prop::collection::vec(inner, 1..4).prop_map(|types| {
                let names = ["a", "b\u{e9}", "C"];
                record(&types.into_iter().zip(names).map(|(data_type, name)| (name, data_type)).collect::<Vec<_>>())
            }),
        ]
    })
}

/// Some value of a type: `chance` chooses.
fn value(data_type: &DataType, chance: &mut impl FnMut() -> u8) -> Value {
    match data_type {
        DataType::Utf8 => Value::from(["", "x", "\u{1D11E}\n\"", "1"][usize::from(chance() % 4)]),
        DataType::Int64 => Value::from(i64::from(chance()) - 100),
        DataType::Boolean => Value::from(chance().is_multiple_of(2)),
        DataType::List(item) => (0..chance() % 3).map(|_| value(item.data_type(), chance)).collect(),
        DataType::Struct(fields) => {
            let pairs = fields.iter().map(|field| (field.name().clone(), value(field.data_type(), chance)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { unreachable!("a map has entries") };
            let keys = ["k", "\\", "l"].into_iter().take(usize::from(chance() % 4));
            Value::Object(keys.map(|key| (key.to_owned(), value(pair[1].data_type(), chance))).collect())
        }
        other => unreachable!("{other} is not generated"),
    }
}

proptest! {
    /// What is written of a type reads back as it was; with a type of its own.
    #[test]
    fn values_of_a_type_are_what_they_were(data_type in typed(), choices in prop::collection::vec(any::<u8>(), 1..40)) {
        let mut choices = choices.into_iter().cycle();
        let mut chance = || choices.next().unwrap_or_default();
        let values: Vec<Value> = (0..5).map(|_| value(&data_type, &mut chance)).collect();
        let text: String = values.iter().map(|value| format!("{}\n", json!({ "v": value }))).collect();
        let (rows, bad) = decoded(data_type, &text);
        prop_assert_eq!(bad, Vec::<String>::new());
        prop_assert_eq!(rows, values);
    }
}
