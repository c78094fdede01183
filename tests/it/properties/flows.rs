//! Lines of input: flows with nulls, values of odd types and extreme numbers, and lines that are no records.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::oracle::Type;

/// The columns of every job's source. `x` alone gets floats of any size, `d` those that a sum does not overflow with;
/// `seq` numbers the rows, so that an `ORDER BY` inside an aggregate leaves no tie.
pub const COLUMNS: [(&str, Type, &str); 9] = [
    ("k", Type::Text, "STRING"),
    ("p", Type::Text, "STRING"),
    ("n", Type::Integer(64), "BIGINT"),
    ("i", Type::Integer(32), "INT"),
    ("d", Type::Double, "DOUBLE"),
    ("x", Type::Double, "DOUBLE"),
    ("b", Type::Boolean, "BOOLEAN"),
    ("t", Type::Timestamp, "TIMESTAMP"),
    ("m", Type::Decimal(10), "DECIMAL(12, 2)"),
];

pub fn key() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "A", "ab", " a", "", "null", "ключ", "日本", "e\u{301}", "é", "😀"]).prop_map(Value::from),
        3 => prop::sample::select(vec!["\u{0}", "\u{7f}\u{1b}[2J", "a\"b\\c", "x,\ny", "\u{2028}", "\r", "\u{feff}a", "'"]).prop_map(Value::from),
        1 => any::<String>().prop_map(|text| text.chars().take(5).collect::<String>().into()),
        1 => prop::sample::select(vec![json!(80), json!(true), json!({"a": [1]}), json!(["a"]), json!(-5)]),
        1 => Just(Value::Null),
    ]
}

pub fn odd() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(""),
        json!("6"),
        json!([]),
        json!({}),
        json!("NaN"),
        json!("yesterday"),
        json!(1.5e3),
        Value::Null,
    ])
}

pub fn field(usual: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![12 => usual.prop_map(Some), 1 => odd().prop_map(Some), 1 => Just(None)]
}

pub fn flow() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        4 => prop::sample::select(vec!["80", "443", "53", "Port46272", "80.0", "", "9"]).prop_map(Value::from),
        1 => Just(json!(80)),
        1 => key(),
    ];
    let n = prop_oneof![
        6 => (-20_i64..20).prop_map(Value::from),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN, i64::MAX - 1, 1 << 53]).prop_map(Value::from),
        1 => Just(json!(u64::MAX)),
    ];
    let i = prop_oneof![8 => (-9_i64..9).prop_map(Value::from), 1 => prop::sample::select(vec![json!(i32::MAX), json!(i32::MIN), json!(1_i64 << 31)])];
    let d = prop_oneof![6 => (-70_000_i32..70_000).prop_map(|v| json!(f64::from(v) / 7.0)), 1 => Just(json!(3))];
    let x = prop_oneof![
        3 => any::<f64>().prop_filter("JSON has finite numbers only", |x| x.is_finite()).prop_map(Value::from),
        2 => prop::sample::select(vec![json!(0), json!(f64::MAX), json!(f64::MIN), json!(5e-324), json!(1e300)]),
    ];
    let t = prop_oneof![
        4 => (1_600_000_000_i64..1_600_020_000).prop_map(Value::from),
        1 => prop::sample::select(vec![json!("2020-09-13T12:26:40Z"), json!(-1), json!(0.5), json!("2020-09-13"), json!(8.3e12), json!(-6.3e10), json!(253_402_300_799_i64)]),
    ];
    let m = prop_oneof![6 => (-500_i64..500).prop_map(|cents| json!(cents as f64 / 4.0)), 1 => Just(json!(1e30)), 1 => Just(json!(9_999_999_999_i64))];
    (
        field(key()),
        field(port),
        field(n),
        field(i),
        field(d),
        field(x),
        field(any::<bool>().prop_map(Value::from)),
        field(t),
        field(m),
    )
        .prop_map(|(k, p, n, i, d, x, b, t, m)| {
            let fields = [("k", k), ("p", p), ("n", n), ("i", i), ("d", d), ("x", x), ("b", b), ("t", t), ("m", m)];
            Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
        })
}

/// A line of input; `SEQ` in it becomes the row's number.
pub fn line() -> impl Strategy<Value = String> {
    let numbered = || {
        flow().prop_map(|mut flow| {
            flow["seq"] = json!("SEQ");
            flow.to_string().replace("\"SEQ\"", "SEQ")
        })
    };
    prop_oneof![
        20 => numbered(),
        1 => numbered().prop_map(|line| line.replacen("\"n\":", "\"N\":", 1) + "\r"),
        1 => numbered().prop_map(|line| format!(" [{line} , {{\"seq\": SEQ, \"k\": \"second\"}}]")),
        1 => numbered().prop_map(|line| format!("[{line}, 5]")),
        1 => numbered().prop_map(|line| { let cut = line.floor_char_boundary(line.len() / 2); line[..cut].to_owned() }),
        1 => prop::sample::select(vec!["", "   ", "not json", "null", "{}", "[]", "\u{0}", "{\"d\": 1e999, \"seq\": SEQ}", "\"text\"", "{\"k\": \"a\"} x"]).prop_map(str::to_owned),
    ]
}
