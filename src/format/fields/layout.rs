//! Which field of a line is which column.

use super::csv::{Cell, Splitter};
use crate::{
    format::{BadRecord, pieces::Piece, reader::Reader},
    job::CsvOptions,
};

/// What is known of a file's lines once its first is seen.
#[derive(Debug, Default)]
pub(in crate::format) struct Layout {
    /// Of each declared column the field that it is.
    pub fields: Vec<Option<usize>>,
    /// How many fields a line has.
    pub count: usize,
    /// Whether the first line is no record.
    pub has_header: bool,
    /// What is wrong with the header.
    pub problem: Option<BadRecord>,
}

impl Layout {
    /// `read`: the declared columns that stand in records; here these `columns` can.
    pub(super) fn of_columns(
        reader: &Reader,
        read: &[usize],
        columns: &[Option<usize>],
        what: &str,
        first: Piece<'_>,
    ) -> Layout {
        let missing = read.iter().filter(|column| !columns.contains(&Some(**column)));
        let names: Vec<String> = missing.map(|column| format!("'{}'", reader.schema.field(*column).name())).collect();
        let why = format!("{what} has no column {}, and neither has the file's path", names.join(", "));
        let problem = (!names.is_empty()).then(|| BadRecord::new(1, first.offset, why, b""));
        Layout { problem, ..Layout::default() }
    }

    pub(super) fn in_order(reader: &Reader, read: &[usize]) -> Layout {
        let mut fields = vec![None; reader.schema.fields().len()];
        read.iter().enumerate().for_each(|(field, column)| fields[*column] = Some(field));
        Layout { fields, count: read.len(), has_header: false, problem: None }
    }

    /// Where a file's first line names its columns.
    pub(super) fn by_header(reader: &Reader, options: &CsvOptions, read: &[usize], first: Piece<'_>) -> Layout {
        let line = first.bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut splitter = Splitter::new(options);
        let (names, wrong) = match splitter.split(line) {
            Ok((text, cells)) => {
                let name = |cell: &Cell| String::from_utf8_lossy(&text[cell.start..cell.end]).trim().to_owned();
                (cells.iter().map(name).collect(), None)
            }
            Err(wrong) => (Vec::new(), Some(wrong)),
        };
        let mut fields = vec![None; reader.schema.fields().len()];
        let mut missing = Vec::new();
        for column in read {
            let name = reader.schema.field(*column).name();
            fields[*column] = find(&names, name);
            if fields[*column].is_none() {
                missing.push(format!("'{name}'"));
            }
        }
        let missing = (!missing.is_empty()).then(|| format!("it has no column {}", missing.join(", ")));
        let problem = wrong.or(missing).map(|why| BadRecord::new(1, first.offset, format!("the header: {why}"), line));
        Layout { fields, count: names.len(), has_header: true, problem }
    }
}

/// The first with exactly this name, else the only one that differs in case.
fn find(names: &[String], name: &str) -> Option<usize> {
    let exact = names.iter().position(|found| found == name);
    exact.or_else(|| {
        let lower = name.to_lowercase();
        let mut alike = names.iter().enumerate().filter(|(_, found)| found.to_lowercase() == lower);
        alike.next().filter(|_| alike.next().is_none()).map(|(at, _)| at)
    })
}
