//! Which field of a line is which column.

use super::csv::{Split, Splitter};
use crate::{
    format::{BadRecord, json::KeyTable, pieces::Piece, reader::Reader},
    job::CsvOptions,
};

/// What is known of a file's lines once its first is seen.
#[derive(Debug, Default)]
pub(in crate::format) struct Layout {
    /// Of each declared column the field that it is.
    pub fields: Vec<Option<usize>>,
    /// How many fields a line has.
    pub count: usize,
    /// The line of the first piece that is the header, from 1.
    pub header: Option<u64>,
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
        Layout { fields, count: read.len(), header: None, problem: None }
    }

    /// Where a file's first line that is not blank names its columns.
    pub(super) fn by_header(
        reader: &Reader,
        options: &CsvOptions,
        read: &[usize],
        first: Piece<'_>,
        is_blank: &dyn Fn(&[u8]) -> bool,
    ) -> Layout {
        let mut offset = first.offset;
        let mut header = None;
        for (number, line) in (1..).zip(first.bytes.split(|byte| *byte == b'\n')) {
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            if !is_blank(text) {
                header = Some((number, text));
                break;
            }
            offset += line.len() as u64 + 1;
        }
        // nothing but blank lines: there is no record either
        let Some((number, line)) = header else { return Layout::in_order(reader, read) };
        let mut fields = vec![None; reader.schema.fields().len()];
        let mut splitter = Splitter::new(options);
        let (count, wrong) = match splitter.split(line, usize::MAX) {
            Ok(split) => {
                find(reader, read, &split, &mut fields);
                (split.count, None)
            }
            Err(wrong) => (0, Some(wrong)),
        };
        let missing: Vec<String> = read
            .iter()
            .filter(|column| fields[**column].is_none())
            .map(|column| format!("'{}'", reader.schema.field(*column).name()))
            .collect();
        let missing = (!missing.is_empty()).then(|| format!("it has no column {}", missing.join(", ")));
        let problem = wrong.or(missing).map(|why| BadRecord::new(number, offset, format!("the header: {why}"), line));
        Layout { fields, count, header: Some(number), problem }
    }
}

/// Gives each column of `read` its field, by the rule of JSON's keys: the last of equal names, an exact spelling over others.
fn find(reader: &Reader, read: &[usize], header: &Split<'_>, fields: &mut [Option<usize>]) {
    let columns = KeyTable::new(read.iter().map(|column| reader.schema.field(*column).name().as_str()));
    let mut exactly = vec![false; read.len()];
    for (field, cell) in header.cells.iter().enumerate() {
        let name = String::from_utf8_lossy(&header.text[cell.start..cell.end]);
        if let Some((at, exact)) = columns.find(name.trim()).filter(|(at, exact)| *exact || !exactly[*at]) {
            exactly[at] = exact;
            fields[read[at]] = Some(field);
        }
    }
}
