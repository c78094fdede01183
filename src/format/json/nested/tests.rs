use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema},
    json::LineDelimitedWriter,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::{format::json::reference::JsonOptions, job::Mode};

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

/// Keys are looked up as those of a record, and what loses is not looked at.
#[test]
fn the_last_of_equal_keys_wins() {
    let one = record(&[("a", DataType::Int64)]);
    for (data_type, text, expected) in [
        (one.clone(), r#"{"a":"x","a":1}"#, json!({"a": 1})),
        (one.clone(), r#"{"A":{},"a":1}"#, json!({"a": 1})),
        (one.clone(), r#"{"a":1,"A":[]}"#, json!({"a": 1})),
        (one, r#"{"\u0061":2}"#, json!({"a": 2})),
        (map(DataType::Int64), r#"{"k":"x","k":1}"#, json!({"k": 1})),
    ] {
        assert_eq!(decoded(data_type, &format!("{{\"v\":{text}}}\n")), (vec![expected], Vec::new()), "{text}");
    }
}

/// However many keys an object has, and however many of them are declared.
#[test]
fn many_keys_take_time_in_proportion() {
    let keys: Vec<String> = (0..200_000).map(|key| format!("\"k{key}\":{key}")).collect();
    let text = format!("{{\"v\":{{{}}}}}\n", keys.join(","));
    let (rows, bad) = decoded(map(DataType::Int64), &text);
    assert_eq!((rows[0].as_object().map(Map::len), bad), (Some(200_000), Vec::new()));
    let (rows, bad) = decoded(record(&[("k7", DataType::Int64)]), &text);
    assert_eq!((rows, bad), (vec![json!({"k7": 7})], Vec::new()));
}

/// Lines that are arrays of records, columns that nobody reads, and bad records that are no rows.
#[test]
fn nested_columns_are_checked_like_others() {
    let schema = Arc::new(Schema::new(vec![field("v", list(DataType::Int64)), field("w", DataType::Int64)]));
    let text = "[{\"v\":[1],\"w\":1},{\"v\":[2,3],\"w\":2}]\n{\"v\":[\"x\"],\"w\":3}\n[{\"v\":{},\"w\":4}]\n";
    for projection in [vec![0, 1], vec![1]] {
        for mode in [Mode::Permissive, Mode::DropMalformed] {
            let mut options = JsonOptions::default();
            options.records.mode = mode;
            let decoded = options.reader(schema.clone(), projection.clone()).decode("f", text.as_bytes(), 1).unwrap();
            let rows: usize = decoded.batches.iter().map(RecordBatch::num_rows).sum();
            let expected = if mode == Mode::Permissive { 4 } else { 2 };
            assert_eq!((rows, decoded.rows, decoded.bad_rows), (expected, 4, 2), "{projection:?} {mode:?}");
        }
    }
}

/// Any JSON, its keys repeated and in any case.
#[derive(Debug, Clone)]
enum Json {
    Null,
    Truth(bool),
    Number(i64),
    Text(&'static str),
    Array(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    fn text(&self) -> String {
        let joined = |parts: Vec<String>| parts.join(" , ");
        match self {
            Json::Null => "null".to_owned(),
            Json::Truth(value) => value.to_string(),
            Json::Number(value) => value.to_string(),
            Json::Text(text) => Value::from(*text).to_string(),
            Json::Array(items) => format!("[{}]", joined(items.iter().map(Json::text).collect())),
            Json::Object(members) => {
                let member = |(key, value): &(&str, Json)| format!("{}: {}", Value::from(*key), value.text());
                format!("{{ {}}}", joined(members.iter().map(member).collect()))
            }
        }
    }

    /// What it is as a value of a type, nulls in objects left out as the writer does; `None`: it is of another type.
    fn typed(&self, data_type: &DataType) -> Option<Value> {
        match (self, data_type) {
            (Json::Null, _) => Some(Value::Null),
            (Json::Text(text), DataType::Utf8) => Some(Value::from(*text)),
            (other, DataType::Utf8) => Some(Value::from(other.text())),
            (Json::Number(number), DataType::Int64) => Some(Value::from(*number)),
            (Json::Truth(value), DataType::Boolean) => Some(Value::from(*value)),
            (Json::Array(items), DataType::List(item)) => {
                items.iter().map(|value| value.typed(item.data_type())).collect()
            }
            (Json::Object(members), DataType::Struct(fields)) => {
                let mut found: Map<String, Value> = Map::new();
                for field in fields {
                    let exact = members.iter().rev().find(|(key, _)| key == field.name());
                    let alike =
                        fields.iter().filter(|other| other.name().to_lowercase() == field.name().to_lowercase());
                    let folded = || {
                        let same = |key: &str| key.to_lowercase() == field.name().to_lowercase();
                        members.iter().rev().find(|(key, _)| same(key)).filter(|_| alike.count() == 1)
                    };
                    if let Some((_, value)) = exact.or_else(folded) {
                        found.insert(field.name().clone(), value.typed(field.data_type())?);
                    }
                }
                Some(without_nulls(found))
            }
            (Json::Object(members), DataType::Map(entries, _)) => {
                let (_, value_type) = pair(entries)?;
                let mut found = Map::new();
                for (at, (key, value)) in members.iter().enumerate() {
                    if members[at + 1..].iter().all(|(later, _)| later != key) {
                        found.insert((*key).to_owned(), value.typed(value_type)?);
                    }
                }
                Some(without_nulls(found))
            }
            _ => None,
        }
    }
}

fn without_nulls(mut object: Map<String, Value>) -> Value {
    object.retain(|_, value| !value.is_null());
    Value::Object(object)
}

const KEYS: [&str; 6] = ["a", "A", "b\u{e9}", "B\u{c9}", "\\", "c"];

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Truth),
        (-5..5_i64).prop_map(Json::Number),
        prop::sample::select(vec!["", "x", "\u{1D11E}\n\""]).prop_map(Json::Text),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let member = (prop::sample::select(KEYS.to_vec()), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Json::Array),
            prop::collection::vec(member, 0..5).prop_map(Json::Object),
        ]
    })
}

fn any_type() -> impl Strategy<Value = DataType> {
    let leaf = prop::sample::select(vec![DataType::Utf8, DataType::Int64, DataType::Boolean]);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let names = prop::sample::subsequence(KEYS.to_vec(), 1..4);
        prop_oneof![
            inner.clone().prop_map(list),
            inner.clone().prop_map(map),
            (names, prop::collection::vec(inner, 4))
                .prop_map(|(names, types)| { record(&names.into_iter().zip(types).collect::<Vec<_>>()) }),
        ]
    })
}

proptest! {
    /// Any JSON as any type, beside a plain reading of both.
    #[test]
    fn any_json_is_its_type_or_bad(data_type in any_type().prop_filter("nested", is_nested), value in any_json()) {
        let expected = value.typed(&data_type);
        let (rows, bad) = decoded(data_type, &format!("{{\"v\": {}}}\n", value.text()));
        prop_assert_eq!(bad.len(), usize::from(expected.is_none()));
        prop_assert_eq!(rows, vec![expected.unwrap_or(Value::Null)]);
    }
}
