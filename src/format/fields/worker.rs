//! One thread's part of reading a file: lines to fields, fields to columns.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use regex::CaptureLocations;

use super::{
    Fields, Layout, Lines,
    csv::{Cell, Splitter},
};
use crate::{
    format::{
        json::{Kind, Parsed, TIMES},
        pieces::{Piece, PieceRead, Stop},
        reader::Reader,
        rows::{Line, Rows, each_line},
        shortened,
    },
    job::{TimeFormat, TimeParts},
};

/// A declared column that is read or checked.
struct Field {
    /// Index among the declared columns.
    column: usize,
    kind: Kind,
    /// Index among the columns produced, where it is one.
    output: Option<usize>,
}

/// Reads pieces of one file, one after the other.
pub(in crate::format) struct Worker<'r> {
    reader: &'r Reader,
    fields: &'r Fields,
    layout: &'r Layout,
    /// Number of the piece that the header is in.
    header_piece: usize,
    columns: Vec<Field>,
    split: Split<'r>,
    /// Of each of `columns`; `None`: it is of another type.
    values: Vec<Option<Parsed>>,
    rows: Rows<'r>,
}

/// What splits lines, and what the last one was split into: of each declared column its cell.
struct Split<'r> {
    lines: &'r Lines,
    csv: Option<Splitter>,
    locations: Option<CaptureLocations>,
    cells: Vec<Option<Cell>>,
}

/// A line that was split.
struct Cells<'s> {
    text: &'s [u8],
    /// Of each declared column.
    at: &'s [Option<Cell>],
    /// More or fewer fields than there should be.
    wrong: Option<String>,
}

impl<'r> Worker<'r> {
    pub fn new(
        reader: &'r Reader,
        fields: &'r Fields,
        (layout, header_piece): (&'r Layout, usize),
        except: &[usize],
    ) -> Worker<'r> {
        let declared = reader.schema.fields().iter().enumerate();
        let read = declared.filter(|(column, _)| reader.is_read(*column, except));
        let columns = read.map(|(column, field)| Field {
            column,
            kind: Kind::of(field.data_type()),
            output: reader.output_of(column),
        });
        let (csv, locations) = match &fields.lines {
            Lines::Csv(options) => (Some(Splitter::new(options)), None),
            Lines::Matching(regex, _) => (None, Some(regex.capture_locations())),
            Lines::Whole(_) => (None, None),
        };
        let cells = vec![None; reader.schema.fields().len()];
        Worker {
            reader,
            fields,
            layout,
            header_piece,
            columns: columns.collect(),
            split: Split { lines: &fields.lines, csv, locations, cells },
            values: Vec::new(),
            rows: Rows::new(reader, except),
        }
    }

    /// Reads a piece, the `number`th of its file.
    ///
    /// # Errors
    /// The first bad record in `failfast` mode.
    pub fn read(&mut self, number: usize, piece: Piece<'_>) -> Result<PieceRead, Stop> {
        let header = self.layout.header.filter(|_| number == self.header_piece);
        let lines = each_line(piece, self.reader.sizes.block_bytes, |line, utf8| {
            if header == Some(line.number) { Ok(()) } else { self.line(line, utf8) }
        })?;
        self.rows.finish(lines)
    }

    fn line(&mut self, line: Line<'_>, utf8: bool) -> Result<(), Stop> {
        if self.fields.is_blank(line.bytes) {
            return Ok(());
        }
        if let Some(reason) = self.rows.check(line, utf8)? {
            return self.rows.unparsable(line, reason);
        }
        let Worker { reader, fields, layout, columns, split, values, rows, header_piece: _ } = self;
        let cells = match split.split(layout, line.bytes) {
            Ok(cells) => cells,
            Err(reason) => return rows.unparsable(line, reason),
        };
        values.clear();
        values.extend(columns.iter().map(|field| match cells.at[field.column] {
            None => Some(Parsed::Null),
            Some(cell) => fields.value(field, &cells.text[cell.start..cell.end], cell.quoted),
        }));
        let misfits = columns.iter().zip(values.iter()).filter(|(_, value)| value.is_none()).map(|(field, _)| field);
        let wrong = cells.wrong.or_else(|| misfit(reader, misfits, cells.at, cells.text));
        let bad = wrong.is_some();
        if !rows.begin(line, wrong)? {
            return Ok(());
        }
        for (field, value) in columns.iter().zip(values.iter()) {
            let Some(output) = field.output else { continue };
            match (value.unwrap_or_default(), cells.at[field.column]) {
                (Parsed::Text, Some(cell)) => rows.column(output).push_text(&cells.text[cell.start..cell.end]),
                (value, _) => rows.column(output).push_other(value),
            }
        }
        rows.end(line, bad)
    }
}

impl Split<'_> {
    fn split<'s>(&'s mut self, layout: &Layout, line: &'s [u8]) -> Result<Cells<'s>, String> {
        match self.lines {
            Lines::Whole(column) => {
                self.cells[*column] = Some(Cell { start: 0, end: line.len(), quoted: true });
                Ok(Cells { text: line, at: &self.cells, wrong: None })
            }
            Lines::Matching(regex, columns) => {
                let locations = self.locations.as_mut().expect("made beside the pattern");
                let line_text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
                if regex.captures_read(locations, line_text).is_none() {
                    return Err("the line does not match the pattern".to_owned());
                }
                for (group, column) in columns.iter().enumerate() {
                    if let Some(column) = column {
                        let cell = |(start, end)| Cell { start, end, quoted: false };
                        self.cells[*column] = locations.get(group).map(cell);
                    }
                }
                Ok(Cells { text: line, at: &self.cells, wrong: None })
            }
            Lines::Csv(_) => {
                let csv = self.csv.as_mut().expect("made beside the options");
                let found = csv.split(line, layout.count)?;
                for (cell, field) in self.cells.iter_mut().zip(&layout.fields) {
                    *cell = field.and_then(|field| found.cells.get(field).copied());
                }
                let wrong = (found.count != layout.count)
                    .then(|| format!("it has {} fields, not {}", found.count, layout.count));
                Ok(Cells { text: found.text, at: &self.cells, wrong })
            }
        }
    }
}

impl Fields {
    /// Whether a line is no record: nothing is on it but white space that separates nothing.
    pub fn is_blank(&self, line: &[u8]) -> bool {
        match &self.lines {
            Lines::Whole(_) => false,
            Lines::Matching(..) => line.trim_ascii().is_empty(),
            Lines::Csv(options) => line.iter().all(|byte| byte.is_ascii_whitespace() && *byte != options.delimiter),
        }
    }

    /// A field's text as a value of its type; `None`: it is none.
    fn value(&self, field: &Field, text: &[u8], quoted: bool) -> Option<Parsed> {
        if !quoted && text == self.values.null_value.as_bytes() && !matches!(self.lines, Lines::Whole(_)) {
            return Some(Parsed::Null);
        }
        if field.kind == Kind::Text {
            return Some(Parsed::Text);
        }
        let text = std::str::from_utf8(text).ok()?;
        match &self.values.timestamp_format {
            Some(format) if field.kind == Kind::Timestamp => micros(text, format).map(Parsed::Integer),
            _ => field.kind.parse_plain(text),
        }
    }
}

/// Microseconds since the Unix epoch.
fn micros(text: &str, format: &TimeFormat) -> Option<i64> {
    let TimeFormat { text: format, holds } = format;
    let time = match holds {
        TimeParts::Moment => DateTime::parse_from_str(text, format).ok()?.to_utc(),
        TimeParts::DateTime => NaiveDateTime::parse_from_str(text, format).ok()?.and_utc(),
        TimeParts::Date => NaiveDate::parse_from_str(text, format).ok()?.and_time(NaiveTime::MIN).and_utc(),
    };
    let micros = time.timestamp_micros();
    TIMES.contains(&micros).then_some(micros)
}

/// `field 'n': "x" is not a BIGINT (and 1 more)`, if any is not of its type.
fn misfit<'f>(
    reader: &Reader,
    mut misfits: impl Iterator<Item = &'f Field>,
    at: &[Option<Cell>],
    text: &[u8],
) -> Option<String> {
    let field = misfits.next()?;
    let value = at[field.column].map_or(&b""[..], |cell| &text[cell.start..cell.end]);
    let name = reader.schema.field(field.column).name();
    let more = match misfits.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!("field '{name}': \"{}\" is not a {}{more}", shortened(value, 100), field.kind.sql_name()))
}
