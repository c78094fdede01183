//! Any bytes as JSON: the fast reader beside the plain one.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};

use super::{
    TIMESTAMP,
    reference::{JsonOptions, cells, read},
};
use crate::{
    format::reader::Sizes,
    job::{Mode, RecordOptions},
    model::Place,
};

/// Short names, since each must be found letter by letter; two differ in case only, one is not ASCII.
const NAMES: [&str; 6] = ["a", "b", "Ab", "aB", "é", "ts"];
const TYPES: [DataType; 12] = [
    DataType::Utf8,
    DataType::Int64,
    DataType::Float64,
    DataType::Boolean,
    TIMESTAMP,
    DataType::Decimal128(6, 2),
    DataType::Date32,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Float32,
    DataType::Decimal128(38, 10),
];
/// Bytes before the file that choose columns, options and cuts.
const CHOICES: usize = 10;

/// The first ten bytes choose columns, options and where the file is cut; the rest is the file. Both readers must
/// give the same rows and the same bad lines, and in `failfast` mode the first of these.
pub(crate) fn readers_agree(bytes: &[u8]) {
    let Some((choices, file)) = bytes.split_first_chunk::<CHOICES>() else { return };
    let [projected, modes, corrupt, lines, cuts, types @ ..] = choices.map(usize::from);
    let columns = 1 + modes / 4 % NAMES.len();
    let corrupt_column = Some(corrupt % 8).filter(|column| *column < columns);
    let field = |column: usize| {
        let data_type = if corrupt_column == Some(column) { &DataType::Utf8 } else { &TYPES[types[column % 5] % 12] };
        Field::new(NAMES[column], data_type.clone(), true)
    };
    let schema = Arc::new(Schema::new((0..columns).map(field).collect::<Vec<_>>()));
    let projection: Vec<usize> = (0..columns).filter(|column| projected >> column & 1 == 1).collect();
    let records = RecordOptions {
        mode: if modes % 2 == 0 { Mode::Permissive } else { Mode::DropMalformed },
        corrupt_column,
        line_bytes_max: if lines % 4 == 0 { 1 + lines } else { 16 << 20 },
        ..RecordOptions::default()
    };
    let options = JsonOptions { records, depth_max: if modes & 2 == 0 { 128 } else { 1 + corrupt / 8 % 8 } };
    let expected = read(&schema, &projection, &options, file);
    let mut reader = options.reader(schema, projection);
    if cuts > 0 {
        reader.sizes = Sizes { piece_bytes: cuts, block_bytes: 1 + cuts / 3, batch_rows: 1 + cuts % 5 };
    }
    let decoded = reader.decode("f", file, 1 + cuts % 2).expect("a bad record fails nothing in these modes");
    let rows: Vec<_> = decoded.batches.iter().flat_map(cells).collect();
    assert_eq!(rows, expected.rows, "rows");
    assert_eq!(decoded.rows, expected.records, "count of records");
    assert_eq!(decoded.bad_rows, expected.bad_lines.len() as u64, "count of bad records");
    let lines: Vec<u64> = decoded.bad.iter().map(|bad| bad.line).collect();
    assert_eq!(lines, expected.bad_lines, "lines of bad records");
    for bad in &decoded.bad {
        let at = usize::try_from(bad.byte).expect("it is inside the file");
        let before = file[..at].iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert_eq!(before + 1, bad.line, "a bad record's byte is in its line");
    }

    reader.records.mode = Mode::FailFast;
    let first = reader.decode("f", file, 1).err().map(|error| match error.place() {
        Some(Place::Input { line, .. }) => *line,
        other => panic!("a bad record is at a line, not at {other:?}"),
    });
    assert_eq!(first, expected.bad_lines.first().copied(), "the record that fails fast");
}
