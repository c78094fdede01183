//! A fold of its own over the input, independent of the project's reader and of DataFusion: what counts and sums are.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// `count(*)`, `count(n)`, `sum(n)`, `min(n)`, `max(n)` of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub rows: i64,
    pub count: i64,
    /// Wraps around, as SQL engines over 64-bit integers do.
    pub sum: Option<i64>,
    pub min: Option<i64>,
    pub max: Option<i64>,
}

/// The groups by `k`, a null key included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oracle {
    pub groups: BTreeMap<Option<String>, Group>,
    pub records: u64,
    pub bad: u64,
}

/// What a column accepts, as the job declares it.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    Text,
    Integer(u32),
    Double,
    Boolean,
    Timestamp,
    /// Digits before the point.
    Decimal(i32),
}

impl Oracle {
    /// Adds a file. `drop_malformed`: a bad record is no row.
    pub fn add(&mut self, columns: &[(&str, Type)], drop_malformed: bool, file: &[u8]) {
        let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
        for line in file.split(|byte| *byte == b'\n') {
            if line.iter().all(|byte| b" \t\r".contains(byte)) {
                continue;
            }
            // No 64-bit float, and so no number for serde_json: as text it is as wrong for every numeric column.
            let line = String::from_utf8_lossy(line).replace("1e999", "\"1e999\"");
            let value: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
            for (row, bad) in records(columns, &value) {
                self.records += 1;
                self.bad += u64::from(bad);
                if !bad || !drop_malformed {
                    self.count(&row);
                }
            }
        }
    }

    fn count(&mut self, row: &Map<String, Value>) {
        let key = row.get("k").filter(|key| !key.is_null()).map(text);
        let group = self.groups.entry(key).or_default();
        group.rows += 1;
        if let Some(n) = row.get("n").and_then(Value::as_i64) {
            group.count += 1;
            group.sum = Some(group.sum.unwrap_or(0).wrapping_add(n));
            group.min = Some(group.min.map_or(n, |min| min.min(n)));
            group.max = Some(group.max.map_or(n, |max| max.max(n)));
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The rows of a line, each with whether it is bad.
fn records(columns: &[(&str, Type)], value: &Value) -> Vec<(Map<String, Value>, bool)> {
    match value {
        Value::Object(fields) => vec![checked(columns, fields)],
        Value::Array(items) => {
            let rows: Option<Vec<_>> = items.iter().map(|item| Some(checked(columns, item.as_object()?))).collect();
            match rows {
                Some(rows) if rows.iter().all(|(_, bad)| !bad) => rows,
                _ => vec![(Map::new(), true)],
            }
        }
        _ => vec![(Map::new(), true)],
    }
}

/// The fields that fit their columns.
fn checked(columns: &[(&str, Type)], fields: &Map<String, Value>) -> (Map<String, Value>, bool) {
    let mut row = Map::new();
    let mut bad = false;
    for (name, data_type) in columns {
        let alike = || fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        match fields.get(*name).or_else(alike) {
            None | Some(Value::Null) => {}
            Some(value) if data_type.accepts(value) => {
                row.insert((*name).to_owned(), value.clone());
            }
            Some(_) => bad = true,
        }
    }
    (row, bad)
}

impl Type {
    fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (Type::Text, _) | (Type::Boolean, Value::Bool(_)) | (Type::Double, Value::Number(_)) => true,
            (Type::Integer(bits), Value::Number(number)) => {
                number.as_i64().is_some_and(|number| number >> (bits - 1) == number >> 63)
            }
            (Type::Decimal(digits), Value::Number(number)) => {
                number.as_f64().is_some_and(|number| number.abs() < 10_f64.powi(digits))
            }
            // years 0000 to 9999
            (Type::Timestamp, Value::Number(number)) => {
                number.as_f64().is_some_and(|seconds| (-62_167_219_200.0..253_402_300_800.0).contains(&seconds))
            }
            (Type::Timestamp, Value::String(text)) => text.starts_with("20"),
            _ => false,
        }
    }
}

#[test]
fn the_oracle_knows_a_small_answer() {
    let columns = [("k", Type::Text), ("n", Type::Integer(64)), ("i", Type::Integer(32))];
    let file = "{\"k\":\"a\",\"n\":9223372036854775807}\n\n{\"K\":\"a\",\"n\":1}\r\n{\"k\":\"a\",\"n\":\"6\"}\nnot json\n[{\"k\":5},{\"n\":-2}]\n[1]\n{\"i\":2147483648}";
    let mut oracle = Oracle::default();
    oracle.add(&columns, false, file.as_bytes());
    let group = |rows, count, sum, min, max| Group { rows, count, sum, min, max };
    assert_eq!((oracle.records, oracle.bad), (8, 4));
    assert_eq!(oracle.groups[&Some("a".to_owned())], group(3, 2, Some(i64::MIN), Some(1), Some(i64::MAX)));
    assert_eq!(oracle.groups[&Some("5".to_owned())], group(1, 0, None, None, None));
    assert_eq!(oracle.groups[&None], group(4, 1, Some(-2), Some(-2), Some(-2)));
    let mut dropped = Oracle::default();
    dropped.add(&columns, true, file.as_bytes());
    assert_eq!(dropped.groups[&Some("a".to_owned())].rows, 2);
    assert_eq!(dropped.groups[&None].rows, 1);
}
