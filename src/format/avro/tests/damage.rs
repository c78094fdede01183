//! Files that are damaged, or hostile.

use proptest::prelude::*;

use super::*;
use crate::format::columnar::hostile;

const NUMBER: [(&str, DataType); 1] = [("n", DataType::Int64)];

fn numbers(count: i64) -> ArrayRef {
    ints(&(0..count).map(|n: i64| Some(n.wrapping_mul(2_654_435_761))).collect::<Vec<_>>())
}

/// Why it is damaged, alike whatever is read, in each mode.
fn damage(name: &str, bytes: &[u8]) -> String {
    let reads = [Mode::Permissive, Mode::DropMalformed, Mode::FailFast].map(|mode| {
        let read = read_in(mode, &NUMBER, vec![0], bytes).unwrap();
        assert_eq!((read.decoded.rows, read.decoded.batches.len()), (0, 0), "{name}");
        read.damage.unwrap_or_else(|| panic!("{name} is damaged"))
    });
    assert!(reads.iter().all(|why| *why == reads[0] && !why.is_empty()), "{name}");
    let [why, ..] = reads;
    why
}

#[test]
fn damage_of_any_kind_is_of_the_whole_file_in_each_mode() {
    let whole = file_in(vec![("n", numbers(5000))], 1000, "snappy");
    let schema = whole.windows(8).position(|window| window == b"\"record\"").unwrap();
    let with = |at: usize, byte: u8| {
        let mut damaged = whole.clone();
        damaged[at] ^= byte;
        damaged
    };
    for (name, damaged, part) in [
        ("text", b"{\"n\": 1}\n".to_vec(), "it does not begin with Obj"),
        ("short", b"Obj".to_vec(), "it does not begin with Obj"),
        ("magic", with(3, 2), "it does not begin with Obj"),
        ("beginning", whole[1..].to_vec(), "it does not begin with Obj"),
        ("header", whole[..100].to_vec(), "cut off or damaged"),
        ("cut", whole[..whole.len() - 100].to_vec(), "cut off or damaged"),
        ("schema", with(schema + 1, 1), "no type is called 'secord'"),
        ("last marker", with(whole.len() - 1, 1), "does not end with the file's marker"),
        ("middle", with(whole.len() / 2, 1), "a block cannot be unpacked: "),
        ("behind", [&whole[..], b"x"].concat(), "cut off or damaged"),
        ("long header", b"Obj\x01\x02\x80\x80\x80\x80\x80\x40".to_vec(), "its header has more than 4194304 bytes"),
        ("no schema", b"Obj\x01\x00sixteen bytes: #".to_vec(), "its header has no schema"),
        ("no columns", container(&json!("long"), "null", &[(1, vec![2])]), "is of no record"),
    ] {
        let why = damage(name, &damaged);
        assert!(why.contains(part), "{name}: {why}");
    }
}

#[test]
fn a_file_that_is_cut_off_has_no_rows_but_between_blocks() {
    for codec in CODECS {
        let whole = file_in(vec![("n", numbers(12))], 5, codec);
        let ends = [0, 5, 10, 12].map(|rows| file_in(vec![("n", numbers(12).slice(0, rows))], 5, codec).len());
        assert_eq!(ends[3], whole.len());
        for length in 1..whole.len() {
            let read = read(&NUMBER, &whole[..length]);
            match ends.iter().position(|end| *end == length) {
                // nothing in a file says how many blocks it has
                Some(blocks) => assert_eq!((read.decoded.rows, read.damage), (blocks as u64 * 5, None)),
                None => assert!(read.damage.is_some() && read.decoded.rows == 0, "{codec}, {length} bytes"),
            }
        }
    }
}

#[test]
fn a_block_holds_the_rows_it_claims() {
    let schema = json!({"type": "record", "name": "r", "fields": [{"name": "n", "type": "long"}]});
    let block = |rows| container(&schema, "null", &[(2, vec![2, 4]), (rows, vec![2, 4, 6])]);
    assert_eq!(shown(&read(&NUMBER, &block(3))), ["1", "2", "1", "2", "3"]);
    for rows in [0, 1, 2, 4, u64::from(u32::MAX)] {
        let why = damage("count", &block(rows));
        assert_eq!(why, format!("a block does not hold the {rows} rows that it claims"));
        let none = read_in(Mode::Permissive, &[("other", DataType::Int64)], vec![], &block(rows)).unwrap();
        assert!(none.damage.is_some(), "whatever is read");
    }
    assert_eq!(shown(&read(&NUMBER, &container(&schema, "null", &[(0, vec![])]))), [""; 0]);
    assert!(read(&NUMBER, &container(&schema, "null", &[(1, vec![])])).damage.is_some());
}

#[test]
fn few_bytes_of_many_values_stop_at_the_limit() {
    let too_much = "its rows take more than 67108864 bytes of memory, the limit for its size";
    let record = |of: Value| json!({"type": "record", "name": "r", "fields": [{"name": "n", "type": of}]});
    let number = |number: u64| {
        let mut bytes = Vec::new();
        put_number(number, &mut bytes);
        bytes
    };
    let large = json!({"type": "fixed", "name": "f", "size": i32::MAX});
    let long_word = json!({"type": "enum", "name": "e", "symbols": ["x".repeat(1000)]});
    for (name, file) in [
        ("rows of nothing", container(&record(json!("null")), "null", &[(1 << 40, vec![])])),
        (
            "items of nothing",
            container(
                &record(json!({"type": "array", "items": "null"})),
                "null",
                &[(1, [number(1 << 40), vec![0]].concat())],
            ),
        ),
        ("nulls of large values", container(&record(json!(["null", large])), "null", &[(1, vec![0])])),
        ("long symbols", container(&record(long_word), "zstandard", &[(70_000, vec![0; 70_000])])),
        ("zeros", container(&record(json!("bytes")), "zstandard", &[(70_000_000, vec![0; 70_000_000])])),
    ] {
        assert_eq!(damage(name, &file), too_much, "{name}");
    }
    let rows = container(&record(json!("null")), "null", &[(1_000_000, vec![])]);
    assert_eq!(read(&NUMBER, &rows).decoded.rows, 1_000_000);
}

#[test]
fn schemas_that_would_grow_without_end_are_refused() {
    let record = |name: &str, fields: Vec<Value>| {
        let fields = fields.into_iter().enumerate().map(|(at, of)| json!({"name": format!("f{at}"), "type": of}));
        json!({"type": "record", "name": name, "fields": fields.collect::<Vec<_>>()})
    };
    let why = |schema: &Value| schema::columns(schema.to_string().as_bytes()).map(drop).unwrap_err();
    let itself = record("r", vec![json!(["null", "r"])]);
    assert_eq!(why(&itself), "its schema has a type that contains itself, 'r', which is not read");
    let doubling = (1..30).fold(record("r0", vec![json!("int")]), |inner, level| {
        record(&format!("r{level}"), vec![inner, json!(format!("r{}", level - 1))])
    });
    assert_eq!(why(&doubling), "its schema has more than 10000 types");
    let mut chain = vec![record("r0", vec![json!("int")])];
    chain.extend((1..40).map(|level| record(&format!("r{level}"), vec![json!(format!("r{}", level - 1))])));
    assert_eq!(why(&record("all", chain)), "the types of its schema are more than 32 deep");
    let arrays = (0..100).fold(json!("int"), |of, _| json!({"type": "array", "items": of}));
    assert!(!why(&record("r", vec![arrays])).is_empty());
    let text = "[".repeat(100_000);
    assert!(schema::columns(text.as_bytes()).unwrap_err().contains("it is no JSON"));
    for wrong in [json!(7), json!({"name": "r"}), json!({"type": "array"}), json!({"type": "fixed", "name": "f"})] {
        assert!(why(&record("r", vec![wrong])).contains("its schema is damaged"));
    }
}

/// A file of the columns that the hostile reader has, in several blocks.
fn many_columns(rows: i64, block_rows: usize, codec: &str) -> Vec<u8> {
    let some = |n: i64| (n % 5 != 0).then_some(n);
    let lists = (0..rows).map(|n| some(n).map(|n| vec![Some(n), None, Some(1)]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new((0..rows).map(|n| some(n).map(|n| format!("{}", n % 37))).collect::<StringArray>())),
        ("flag", Arc::new((0..rows).map(|n| some(n).map(|n| n % 2 == 0)).collect::<BooleanArray>())),
        ("small", ints(&(0..rows).map(some).collect::<Vec<_>>())),
        ("NUMBER", ints(&(0..rows).map(some).collect::<Vec<_>>())),
        ("double", Arc::new((0..rows).map(|n| some(n).map(|n| n as f64 / 3.0)).collect::<Float64Array>())),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
    ];
    file_in(columns, block_rows, codec)
}

/// A file of types that the library does not write.
fn odd_types(codec: &str) -> Vec<u8> {
    let inner = json!({"type": "record", "name": "inner", "fields": [{"name": "x", "type": ["null", "int"]}]});
    let fields = [
        ("number", json!(["null", "string", "long", inner])),
        ("time", json!({"type": "long", "logicalType": "timestamp-millis"})),
        ("day", json!({"type": "int", "logicalType": "date"})),
        ("text", json!({"type": "enum", "name": "e", "symbols": ["A", "B"]})),
        ("decimal", json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 1})),
        ("small", json!({"type": "map", "values": "inner"})),
        ("list", json!({"type": "array", "items": {"type": "fixed", "name": "f", "size": 2}})),
        ("flag", json!("null")),
    ];
    let fields = fields.map(|(name, of)| json!({"name": name, "type": of}));
    let schema = json!({"type": "record", "name": "r", "fields": fields});
    let first = b"\x06\x02\x02\x02\x02\x02\x02\x05\x02\x02k\x00\x00\x03\x08abcd\x00";
    let second = b"\x02\x02a\x04\x04\x00\x00\x00\x00";
    container(&schema, codec, &[(2, [first.as_slice(), second].concat()), (1, second.to_vec())])
}

#[test]
#[ignore = "writes the first inputs of the fuzzing corpus"]
fn seeds_are_kept() {
    for codec in CODECS {
        crate::fuzzing::keep_seed("avro", &format!("odd-{codec}"), &odd_types(codec));
        crate::fuzzing::keep_seed("avro", &format!("columns-{codec}"), &many_columns(12, 5, codec));
    }
}

#[test]
fn a_file_is_read_alike_by_any_number_of_threads() {
    let bytes = many_columns(45_000, 700, "null");
    assert!(bytes.len() > 2 * (512 << 10), "it has several runs: {}", bytes.len());
    hostile::any_bytes(&FormatKind::Avro, &bytes);
    let schema = hostile::schema();
    let reader = hostile::reader(&FormatKind::Avro, &schema, (0..schema.fields().len()).collect());
    let whole = reader.decode_whole("f", Arc::new(bytes), 8, &[]).unwrap();
    assert_eq!((whole.damage, whole.decoded.rows), (None, 45_000));
    assert_eq!(whole.decoded.bad_rows, 45_000 - 128 - (45_000 - 128) / 5, "what is no TINYINT");
    let odd = odd_types("null");
    hostile::any_bytes(&FormatKind::Avro, &odd);
    let whole = reader.decode_whole("f", Arc::new(odd), 8, &[]).unwrap();
    assert_eq!((whole.damage, whole.decoded.rows), (None, 3));
}

proptest! {
    #[test]
    fn no_bytes_end_the_process(mut bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        if magic {
            bytes.splice(0..0, *b"Obj\x01");
        }
        hostile::any_bytes(&FormatKind::Avro, &bytes);
    }

    #[test]
    fn no_damage_of_a_file_ends_the_process(
        rows in 0..40_i64,
        is_odd in any::<bool>(),
        codec in prop::sample::select(CODECS.to_vec()),
        mutations in prop::collection::vec(hostile::mutation(), 1..4),
    ) {
        let mut bytes = if is_odd { odd_types(codec) } else { many_columns(rows, 15, codec) };
        mutations.into_iter().for_each(|mutation| hostile::mutate(&mut bytes, mutation));
        hostile::any_bytes(&FormatKind::Avro, &bytes);
    }

    /// The schema stays: what is random are the values.
    #[test]
    fn no_values_end_the_process(rows in 0..6_u64, values in prop::collection::vec(0..40_u8, 0..60)) {
        let bytes = odd_types("null");
        let plain: Arc<dyn AnyBytes> = Arc::new(bytes);
        let (header, _) = container::open(&plain, 0).unwrap();
        let schema = serde_json::from_slice(&header.schema).unwrap();
        hostile::any_bytes(&FormatKind::Avro, &container(&schema, "null", &[(rows, values)]));
    }
}
