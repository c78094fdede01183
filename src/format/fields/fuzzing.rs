//! Any bytes as lines of fields: however they are cut and shared, and whatever is projected, they are read alike.

use std::sync::Arc;

use datafusion::arrow::{
    array::ArrayRef,
    compute::concat,
    datatypes::{DataType, Field, Schema, TimeUnit},
};

use crate::{
    format::{
        Decoded,
        reader::{Reader, Sizes},
    },
    job::{CsvOptions, FormatKind, FormatSpec, Mode, RecordOptions, RegexOptions, TimeFormat, TimeParts, ValueOptions},
    model::Place,
};

/// Bytes before the file that choose the format, its options and where it is cut.
const CHOICES: usize = 6;

/// The first bytes choose format, options and cuts; the rest is the file.
pub(crate) fn cuts_change_nothing(bytes: &[u8]) {
    let Some((choices, file)) = bytes.split_first_chunk::<CHOICES>() else { return };
    let [format, csv, modes, lines, cuts, projected] = choices.map(usize::from);
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    let columns = [("value", DataType::Utf8), ("n", DataType::Int64), ("at", timestamp), ("bad", DataType::Utf8)];
    let fields = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let values = ValueOptions {
        null_value: if csv & 1 == 0 { String::new() } else { "-".to_owned() },
        timestamp_format: (csv & 2 == 0)
            .then(|| TimeFormat { text: "%d/%b/%Y:%H:%M:%S %z".to_owned(), holds: TimeParts::Moment }),
    };
    let kind = match format % 4 {
        0 => FormatKind::Text { column: 0 },
        1 => {
            FormatKind::Regex(RegexOptions { pattern: r"(?<value>\S+) \[(?<at>.*)\](?: (?<n>.*))?".to_owned(), values })
        }
        choice => FormatKind::Csv(CsvOptions {
            header: choice == 2,
            delimiter: if csv & 4 == 0 { b',' } else { b'\t' },
            quote: (csv & 8 == 0).then_some(b'"'),
            escape: (csv & 16 != 0).then_some(b'\\'),
            values,
        }),
    };
    let records = RecordOptions {
        mode: if modes % 2 == 0 { Mode::Permissive } else { Mode::DropMalformed },
        corrupt_column: (modes & 2 == 0).then_some(3),
        line_bytes_max: if lines % 4 == 0 { 1 + lines } else { 16 << 20 },
        ..RecordOptions::default()
    };
    let spec = FormatSpec { records, kind };
    let read = |projection: Vec<usize>, sizes: Option<Sizes>, threads: usize| {
        let mut reader = Reader::new(Arc::clone(&schema) as _, projection, &spec).expect("the pattern is one");
        reader.sizes = sizes.unwrap_or(reader.sizes);
        let decoded = reader.decode("f", file, threads).expect("a bad record fails nothing in these modes");
        check(&decoded, file);
        reader.records.mode = Mode::FailFast;
        let first = reader.decode("f", file, threads).err().map(|error| match error.place() {
            Some(Place::Input { line, .. }) => *line,
            other => panic!("a bad record is at a line, not at {other:?}"),
        });
        assert_eq!(first, decoded.bad.first().map(|bad| bad.line), "the record that fails fast");
        decoded
    };
    let whole = read((0..columns.len()).collect(), None, 1);
    let some: Vec<usize> = (0..columns.len()).filter(|column| projected >> column & 1 == 1).collect();
    let sizes = Sizes { piece_bytes: 1 + cuts, block_bytes: 1 + cuts / 3, batch_rows: 1 + cuts % 5 };
    let cut = read(some.clone(), Some(sizes), 1 + cuts % 2);
    assert_eq!(cut.bad, whole.bad, "bad records");
    let counts = |decoded: &Decoded| (decoded.rows, decoded.bad_rows, decoded.lines);
    assert_eq!(counts(&cut), counts(&whole), "records, bad ones, lines");
    let expected = some.iter().map(|column| joined(&whole, *column)).collect::<Vec<_>>();
    assert_eq!((0..some.len()).map(|output| joined(&cut, output)).collect::<Vec<_>>(), expected, "rows");
}

/// A column over all batches; `None`: there is none.
fn joined(decoded: &Decoded, column: usize) -> Option<ArrayRef> {
    let parts: Vec<_> = decoded.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
    (!parts.is_empty()).then(|| concat(&parts).expect("they are of one type"))
}

/// What holds of everything that was read.
fn check(decoded: &Decoded, file: &[u8]) {
    assert!(decoded.bad_rows <= decoded.rows && decoded.bad.len() as u64 == decoded.bad_rows);
    assert!(decoded.batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>() <= decoded.rows);
    for bad in &decoded.bad {
        let at = usize::try_from(bad.byte).expect("it is inside the file");
        let before = file[..at].iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert_eq!(before + 1, bad.line, "a bad record's byte is in its line");
    }
}
