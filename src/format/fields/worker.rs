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
    /// Which of a line's cells it is.
    cell: Option<usize>,
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
    /// Of each of `columns`; null where it is of another type.
    values: Vec<Parsed>,
    rows: Rows<'r>,
}

/// What splits lines, and what the last one was split into, if it is no CSV: of each declared column its cell.
struct Split<'r> {
    lines: &'r Lines,
    csv: Option<Splitter>,
    locations: Option<CaptureLocations>,
    cells: Vec<Option<Cell>>,
}

/// A line that was split.
struct Cells<'s> {
    text: &'s [u8],
    /// Of CSV, field by field.
    fields: &'s [Cell],
    /// Of other lines, of each declared column.
    columns: &'s [Option<Cell>],
    /// More or fewer fields than there should be.
    wrong: Option<String>,
}

impl Cells<'_> {
    #[inline(always)]
    fn of(&self, field: &Field) -> Option<Cell> {
        let at = field.cell?;
        self.fields.get(at).copied().or_else(|| self.columns.get(at).copied().flatten())
    }
}

impl<'r> Worker<'r> {
    pub fn new(
        reader: &'r Reader,
        fields: &'r Fields,
        (layout, header_piece): (&'r Layout, usize),
        except: &[usize],
    ) -> Worker<'r> {
        let is_csv = matches!(fields.lines, Lines::Csv(_));
        let declared = reader.schema.fields().iter().enumerate();
        let read = declared.filter(|(column, _)| reader.is_read(*column, except)).map(|(column, field)| Field {
            column,
            kind: Kind::of(field.data_type()),
            cell: if is_csv { layout.fields.get(column).copied().flatten() } else { Some(column) },
            output: reader.output_of(column),
        });
        // Any text is a STRING: where nobody reads the column there is nothing to check.
        let columns: Vec<Field> = read.filter(|field| field.output.is_some() || field.kind != Kind::Text).collect();
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
            values: vec![Parsed::Null; columns.len()],
            columns,
            split: Split { lines: &fields.lines, csv, locations, cells },
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
        // the first that is not of its type, and how many are not
        let mut misfits: Option<(usize, usize)> = None;
        for (index, (field, value)) in columns.iter().zip(values.iter_mut()).enumerate() {
            let fits = match cells.of(field) {
                None => {
                    *value = Parsed::Null;
                    true
                }
                Some(cell) => fields.read(field, cells.text, cell, value),
            };
            if !fits {
                let (first, count) = misfits.unwrap_or((index, 0));
                misfits = Some((first, count + 1));
            }
        }
        let misfit = misfits.map(|(first, count)| misfit(reader, &columns[first], count, &cells));
        let bad = cells.wrong.is_some() || misfit.is_some();
        if !rows.begin(line, cells.wrong.clone().or(misfit))? {
            return Ok(());
        }
        for (field, value) in columns.iter().zip(values.iter()) {
            let Some(output) = field.output else { continue };
            let (start, end) = cells.of(field).map_or((0, 0), |cell| (cell.start, cell.end));
            rows.column(output).push_part(value, cells.text, start..end);
        }
        rows.end(line, bad)
    }
}

impl Split<'_> {
    fn split<'s>(&'s mut self, layout: &Layout, line: &'s [u8]) -> Result<Cells<'s>, String> {
        match self.lines {
            Lines::Whole(column) => {
                self.cells[*column] = Some(Cell { start: 0, end: line.len(), quoted: true });
                Ok(Cells { text: line, fields: &[], columns: &self.cells, wrong: None })
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
                Ok(Cells { text: line, fields: &[], columns: &self.cells, wrong: None })
            }
            Lines::Csv(_) => {
                let csv = self.csv.as_mut().expect("made beside the options");
                let found = csv.split(line, layout.count)?;
                let wrong = (found.count != layout.count)
                    .then(|| format!("it has {} fields, not {}", found.count, layout.count));
                Ok(Cells { text: found.text, fields: found.cells, columns: &[], wrong })
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

    /// Sets `value` to a cell's value in its column's type, to null where it is of another: then the result is false. Of
    /// a column that nobody reads the value may be left out.
    #[inline(always)]
    fn read(&self, field: &Field, text: &[u8], cell: Cell, value: &mut Parsed) -> bool {
        let bytes = &text[cell.start..cell.end];
        let is_whole = matches!(self.lines, Lines::Whole(_));
        if !cell.quoted && bytes == self.values.null_value.as_bytes() && !is_whole {
            *value = Parsed::Null;
            return true;
        }
        match (field.kind, &self.values.timestamp_format) {
            (Kind::Text, _) => {
                *value = Parsed::Text;
                true
            }
            (Kind::Timestamp, Some(format)) => {
                let micros = std::str::from_utf8(bytes).ok().and_then(|text| micros(text, format));
                *value = micros.map_or(Parsed::Null, Parsed::Integer);
                micros.is_some()
            }
            (kind, _) if field.output.is_none() => kind.accepts_part(text, cell.start..cell.end),
            (kind, _) => kind.parse_part(text, cell.start..cell.end, value),
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

/// `field 'n': "x" is not a BIGINT (and 1 more)`, where `count` fields are not of their types, this one first.
#[cold]
fn misfit(reader: &Reader, field: &Field, count: usize, cells: &Cells<'_>) -> String {
    let value = cells.of(field).map_or(&b""[..], |cell| &cells.text[cell.start..cell.end]);
    let name = reader.schema.field(field.column).name();
    let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    format!("field '{name}': \"{}\" is not a {}{more}", shortened(value, 100), field.kind.sql_name())
}
