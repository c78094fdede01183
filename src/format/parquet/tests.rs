use datafusion::arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
        ListArray, StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, UInt64Array,
    },
    datatypes::{Fields, Int64Type},
    record_batch::RecordBatch,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    data_type::{Int96, Int96Type},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use proptest::prelude::*;

use super::*;
use crate::{
    format::columnar::{
        hostile,
        testing::{self, bad, ints, shown, texts},
    },
    job::{FormatKind, Mode},
    model::{ErrorKind, Result},
};

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// A file of these columns with so many rows in a row group.
fn file_in(columns: Vec<(&str, ArrayRef)>, group_rows: usize, compression: Compression) -> Vec<u8> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    file_in(columns, 1000, Compression::SNAPPY)
}

fn read_in(mode: Mode, columns: &[(&str, DataType)], projection: Vec<usize>, bytes: &[u8]) -> Result<WholeRead> {
    testing::read_in(FormatKind::Parquet, mode, columns, projection, bytes)
}

/// All columns, as they are read in permissive mode.
fn read(columns: &[(&str, DataType)], bytes: &[u8]) -> WholeRead {
    read_in(Mode::Permissive, columns, (0..columns.len()).collect(), bytes).unwrap()
}

/// What becomes of one column that is declared as `to`: its values, and the rows that are bad.
fn cast(array: ArrayRef, to: DataType) -> (Vec<String>, Vec<u64>) {
    let read = read(&[("c", to)], &file(vec![("c", array)]));
    assert_eq!(read.decoded.bad_rows as usize, read.decoded.bad.len());
    let rows = read.decoded.bad.iter().map(|bad| bad.line).collect();
    (shown(&read), rows)
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
    assert_eq!((whole.decoded.rows, whole.decoded.bad_rows), (2, 0));
    assert_eq!(shown(&read_in(Mode::Permissive, &columns, vec![2], &bytes).unwrap()), ["1", "-"]);
    let none = read_in(Mode::Permissive, &columns, vec![], &bytes).unwrap();
    assert_eq!((none.decoded.rows, none.decoded.batches[0].num_rows()), (2, 2), "rows without columns");
    assert_eq!(read(&columns, b"").decoded.rows, 0, "an empty file has no rows");
}

#[test]
fn numbers_are_cast_where_they_fit() {
    let numbers = || ints(&[Some(-1), Some(127), Some(128), None, Some(i64::MAX)]);
    assert_eq!(cast(numbers(), DataType::Int8), (["-1", "127", "-", "-", "-"].map(String::from).to_vec(), vec![3, 5]));
    assert_eq!(cast(numbers(), DataType::Decimal128(5, 2)).1, [5], "128.00 has five digits");
    assert_eq!(cast(numbers(), DataType::Float64).0[4], "9.223372036854776e18");
    let unsigned = Arc::new(UInt64Array::from(vec![Some(1), Some(u64::MAX)]));
    assert_eq!(cast(unsigned.clone(), DataType::Int64), (vec!["1".into(), "-".into()], vec![2]));
    assert_eq!(cast(unsigned, DataType::Utf8).0, ["1", "18446744073709551615"]);
    let floats = || -> ArrayRef { Arc::new(Float64Array::from(vec![1.0, 0.5, f64::NAN, 1e300])) };
    assert_eq!(cast(floats(), DataType::Int64).1, [1, 2, 3, 4], "only integers are integers");
    assert_eq!(cast(floats(), DataType::Float32).1, [4]);
    assert_eq!(cast(floats(), DataType::Float64).1, [0; 0]);
    assert_eq!(
        cast(floats(), DataType::Decimal128(4, 1)),
        (["1.0", "0.5", "-", "-"].map(String::from).to_vec(), vec![3, 4])
    );
    assert_eq!(cast(floats(), DataType::Utf8).0, ["1.0", "0.5", "NaN", "1e+300"]);
    let single = Arc::new(Float32Array::from(vec![0.1]));
    assert_eq!(cast(single, DataType::Float64).0, ["0.10000000149011612"]);
    let decimals =
        || -> ArrayRef { Arc::new(Decimal128Array::from(vec![150, -55]).with_precision_and_scale(10, 1).unwrap()) };
    assert_eq!(cast(decimals(), DataType::Decimal128(10, 1)).0, ["15.0", "-5.5"]);
    assert_eq!(cast(decimals(), DataType::Decimal128(3, 0)).0, ["15", "-6"], "half away from zero");
    assert_eq!(cast(decimals(), DataType::Float64).0, ["15.0", "-5.5"]);
    assert_eq!(cast(decimals(), DataType::Int64).1, [1, 2]);
    let whole = Arc::new(Decimal128Array::from(vec![150]).with_precision_and_scale(10, 0).unwrap());
    assert_eq!(cast(whole, DataType::Int64).0, ["150"]);
}

#[test]
fn text_is_text_and_bytes_are_it_where_they_can() {
    let words = || texts(&[Some("6"), Some("true"), Some("2024-02-29"), Some("1970-01-01T00:00:01Z"), Some("")]);
    for number in [DataType::Int64, DataType::Float64, DataType::Decimal128(5, 0), DataType::Boolean] {
        assert_eq!(cast(words(), number.clone()).1, [1, 2, 3, 4, 5], "{number}");
    }
    assert_eq!(cast(words(), DataType::Date32).1, [1, 2, 4, 5]);
    assert_eq!(cast(words(), TIMESTAMP).0[3], "1970-01-01T00:00:01");
    let bytes = || -> ArrayRef { Arc::new(BinaryArray::from(vec![&b"abc"[..], b"\xFF"])) };
    assert_eq!(cast(bytes(), DataType::Utf8), (vec!["abc".into(), "-".into()], vec![2]));
    assert_eq!(cast(bytes(), DataType::Int64).1, [1, 2]);
    let flags = Arc::new(BooleanArray::from(vec![Some(true), None]));
    assert_eq!(cast(flags.clone(), DataType::Utf8).0, ["true", "-"]);
    assert_eq!(cast(flags, DataType::Int64).1, [1]);
}

#[test]
fn times_are_microseconds_of_years_that_have_a_text() {
    let nanos = Arc::new(TimestampNanosecondArray::from(vec![1999, -1]).with_timezone("UTC"));
    assert_eq!(cast(nanos, TIMESTAMP).0, ["1970-01-01T00:00:00.000001", "1969-12-31T23:59:59.999999"]);
    let millis = || -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![86_400_000, 1, i64::MAX])) };
    assert_eq!(cast(millis(), TIMESTAMP).1, [3]);
    assert_eq!(cast(millis(), DataType::Date32), (["1970-01-02", "-", "-"].map(String::from).to_vec(), vec![2, 3]));
    assert_eq!(cast(millis(), DataType::Utf8).0, ["1970-01-02T00:00:00", "1970-01-01T00:00:00.001", "-"]);
    assert_eq!(cast(millis(), DataType::Int64).1, [1, 2, 3]);
    let micros = Arc::new(TimestampMicrosecondArray::from(vec![253_402_300_799_999_999, 253_402_300_800_000_000]));
    assert_eq!(cast(micros, TIMESTAMP).1, [2]);
    let days = || -> ArrayRef { Arc::new(Date32Array::from(vec![0, 2_932_896, 2_932_897, i32::MIN, -719_528])) };
    assert_eq!(cast(days(), DataType::Date32).1, [3, 4]);
    assert_eq!(
        cast(days(), TIMESTAMP).0,
        ["1970-01-01T00:00:00", "9999-12-31T00:00:00", "-", "-", "0000-01-01T00:00:00"]
    );
    assert_eq!(cast(days(), DataType::Utf8).1, [3, 4]);
    assert_eq!(cast(ints(&[Some(2)]), TIMESTAMP).0, ["1970-01-01T00:00:02"], "numbers are seconds");
}

/// Spark writes times so unless told otherwise: nanoseconds of a day, and the day.
#[test]
fn old_times_reach_beyond_nanoseconds() {
    let schema = Arc::new(parse_message_type("message m { optional int96 at; required int32 n; }").unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let epoch = 2_440_588;
    let time = |nanos: u64, days: i64| Int96::from(vec![nanos as u32, (nanos >> 32) as u32, (epoch + days) as u32]);
    let mut column = group.next_column().unwrap().unwrap();
    let times = [time(1_000_000_999, 0), time(0, 2_932_896), time(0, -1)];
    column.typed::<Int96Type>().write_batch(&times, Some(&[1, 0, 1, 1]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<parquet::data_type::Int32Type>().write_batch(&[1, 2, 3, 4], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    let bytes = writer.into_inner().unwrap();
    let whole = read(&[("n", DataType::Int64), ("at", TIMESTAMP)], &bytes);
    assert_eq!(shown(&whole), ["1|1970-01-01T00:00:01", "2|-", "3|9999-12-31T00:00:00", "4|1969-12-31T00:00:00"]);
}

#[test]
fn nested_values_are_what_their_json_would_be() {
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![Some(300)]),
    ]));
    let fields = Fields::from(vec![
        Field::new("x", DataType::Int32, true),
        Field::new("Y", DataType::Utf8, true),
        Field::new("z", DataType::Float64, true),
    ]);
    let structs: ArrayRef = Arc::new(StructArray::new(
        fields,
        vec![
            Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])),
            texts(&[Some("a\"b"), Some(""), None]),
            Arc::new(Float64Array::from(vec![0.1, 1e300, f64::NAN])),
        ],
        None,
    ));
    let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
    let declared = Fields::from(vec![Field::new("y", DataType::Utf8, true), Field::new("z", DataType::Float64, true)]);
    let columns = [("l", list(DataType::Int8)), ("s", DataType::Struct(declared))];
    let bytes = file(vec![("l", lists), ("s", structs)]);
    let whole = read(&columns, &bytes);
    assert_eq!(shown(&whole), ["[1, ]|{y: a\"b, z: 0.1}", "-|{y: , z: 1e300}", "-|-"]);
    assert_eq!(bad(&whole), ["3: field 'l': [300] is not a ARRAY<TINYINT> (and 1 more)"]);
    let text = read(&[("s", DataType::Utf8), ("l", DataType::Int64)], &bytes);
    assert_eq!(shown(&text)[0], r#"{"x":1,"Y":"a\"b","z":0.1}|-"#);
    assert_eq!(text.decoded.bad_rows, 2, "a list is no number");
}

#[test]
fn bad_rows_are_counted_and_named_in_each_mode() {
    let numbers: Vec<Option<i64>> = (0..2500).map(|n| Some(if n % 1000 == 999 { 1000 + n } else { n % 100 })).collect();
    let words: Vec<Option<&str>> = (0..2500).map(|n| Some(if n == 1999 { "x" } else { "1970-01-01" })).collect();
    let bytes = file(vec![("n", ints(&numbers)), ("day", texts(&words)), ("k", texts(&words))]);
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
    let whole = read(&columns, &bytes);
    assert_eq!(shown(&whole)[999], "1970-01-01|1970-01-01|-", "the other values stay");
    assert_eq!(shown(&whole)[1999], "x|-|-");
}

#[test]
fn damage_of_any_kind_is_of_the_whole_file_in_each_mode() {
    let numbers: Vec<Option<i64>> = (0..5000).map(|n: i64| Some(n.wrapping_mul(2_654_435_761))).collect();
    let whole = file_in(vec![("n", ints(&numbers))], 1000, Compression::SNAPPY);
    let mut flipped = whole.clone();
    // the header of the third group's first page
    let third = whole.len() / 5 * 2;
    flipped[third..third + 2000].fill(0xFF);
    let mut tail = whole.clone();
    let length = tail.len();
    tail[length - 8..length - 4].copy_from_slice(&u32::MAX.to_le_bytes());
    for (name, damaged) in [
        ("text", b"{\"n\": 1}\n".to_vec()),
        ("short", b"PAR1".to_vec()),
        ("cut", whole[..whole.len() - 100].to_vec()),
        ("beginning", whole[100..].to_vec()),
        ("middle", flipped),
        ("length", tail),
        ("empty footer", b"PAR1\0\0\0\0PAR1".to_vec()),
        ("encrypted", b"PAR1\0\0\0\0PARE".to_vec()),
    ] {
        for mode in [Mode::Permissive, Mode::DropMalformed, Mode::FailFast] {
            let read = read_in(mode, &[("n", DataType::Int64)], vec![0], &damaged).unwrap();
            let why = read.damage.as_deref().unwrap_or_else(|| panic!("{name} is damaged"));
            assert!(!why.is_empty() && !why.contains('\n'), "{name}: {why}");
            assert_eq!((read.decoded.rows, read.decoded.batches.len()), (0, 0), "{name}");
        }
    }
}

#[test]
fn few_bytes_of_many_rows_stop_at_the_limit() {
    let zeros = vec![Some(0); 10_000_000];
    let bytes = file_in(vec![("n", ints(&zeros))], 20_000_000, Compression::ZSTD(ZstdLevel::default()));
    assert!(bytes.len() < 64 << 10, "{}", bytes.len());
    let whole = read(&[("n", DataType::Int64)], &bytes);
    let why = "its rows take more than 67108864 bytes of memory, the limit for its size";
    assert_eq!(whole.damage.as_deref(), Some(why));
    let none = read_in(Mode::Permissive, &[("n", DataType::Int64)], vec![], &bytes).unwrap();
    assert_eq!((none.decoded.rows, none.damage), (10_000_000, None));
}

#[test]
fn codecs_of_other_writers_are_read() {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
    ];
    for codec in codecs {
        let bytes = file_in(vec![("n", ints(&[Some(1), None]))], 10, codec);
        assert_eq!(shown(&read(&[("n", DataType::Int64)], &bytes)), ["1", "-"], "{codec}");
    }
}

/// A file of the columns that the fuzz target reads, in several row groups.
fn many_columns(rows: i64, group_rows: usize, compression: Compression) -> Vec<u8> {
    let some = |n: i64| (n % 5 != 0).then_some(n);
    let names = || (0..rows).map(|n| some(n).map(|n| format!("{}", n % 37)));
    let lists = (0..rows).map(|n| some(n).map(|n| vec![Some(n), None, Some(1)]));
    let decimals = Decimal128Array::from_iter((0..rows).map(|n| some(n).map(i128::from)));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(names().collect::<StringArray>())),
        ("flag", Arc::new((0..rows).map(|n| some(n).map(|n| n % 2 == 0)).collect::<BooleanArray>())),
        ("small", ints(&(0..rows).map(some).collect::<Vec<_>>())),
        ("NUMBER", ints(&(0..rows).map(some).collect::<Vec<_>>())),
        ("float", Arc::new((0..rows).map(|n| some(n).map(|n| n as f64 / 3.0)).collect::<Float64Array>())),
        ("double", Arc::new((0..rows).map(|n| some(n).map(|n| n as f64)).collect::<Float64Array>())),
        ("decimal", Arc::new(decimals.with_precision_and_scale(12, 2).unwrap())),
        ("day", Arc::new((0..rows).map(|n| some(n).map(|n| n as i32)).collect::<Date32Array>())),
        ("time", Arc::new((0..rows).map(some).collect::<TimestampNanosecondArray>())),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
    ];
    file_in(columns, group_rows, compression)
}

#[test]
#[ignore = "writes the first inputs of the fuzzing corpus"]
fn seeds_are_kept() {
    for (name, codec) in [("plain", Compression::UNCOMPRESSED), ("snappy", Compression::SNAPPY)] {
        crate::fuzzing::keep_seed("parquet", name, &many_columns(12, 5, codec));
    }
}

#[test]
fn a_file_is_read_alike_by_any_number_of_threads() {
    let bytes = many_columns(3000, 700, Compression::SNAPPY);
    hostile::any_bytes(&FormatKind::Parquet, &bytes);
    let schema = hostile::schema();
    let reader = hostile::reader(&FormatKind::Parquet, &schema, (0..schema.fields().len()).collect());
    let whole = reader.decode_whole("f", Arc::new(bytes), 8, &[]).unwrap();
    let sizes: Vec<usize> = whole.decoded.batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [700, 700, 700, 700, 200]);
    assert_eq!((whole.damage, whole.decoded.bad_rows), (None, 3000 - 128 - (3000 - 128) / 5));
}

proptest! {
    #[test]
    fn no_bytes_end_the_process(mut bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        if magic {
            let length = bytes.len() as u32;
            bytes.splice(0..0, *b"PAR1");
            bytes.extend(length.to_le_bytes());
            bytes.extend(b"PAR1");
        }
        hostile::any_bytes(&FormatKind::Parquet, &bytes);
    }

    #[test]
    fn no_damage_of_a_file_ends_the_process(
        rows in 0..40_i64,
        codec in prop::sample::select(vec![Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::LZ4_RAW]),
        mutations in prop::collection::vec(hostile::mutation(), 1..4),
    ) {
        let mut bytes = many_columns(rows, 15, codec);
        mutations.into_iter().for_each(|mutation| hostile::mutate(&mut bytes, mutation));
        hostile::any_bytes(&FormatKind::Parquet, &bytes);
    }
}
