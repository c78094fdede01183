//! Objects and arrays that are columns: `STRUCT`, `ARRAY`, `MAP`.
//!
//! The text was scanned before, so that it is well-formed; what can be wrong is a type. A value inside that is not of its
//! declared type makes the whole column null for its record. Keys of a `STRUCT` are found as those of a record; a key that
//! is missing is null, one that is not declared is stepped over. The last of equal keys wins, in a `MAP` too.

use std::{borrow::Cow, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, ListArray, MapArray, StructArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Fields},
    error::ArrowError,
};

use super::{
    columns::Column,
    escape::unescape,
    scan::{self, Shape, Skipper, Token, skip_space},
    value::{Kind, Parsed},
};

/// A value of a declared type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    /// With the bytes of what is text.
    Scalar(Parsed, Vec<u8>),
    /// Of an array its elements, of a struct its fields in declared order.
    Items(Vec<Cell>),
    /// Of a map, in the order in which its keys came first.
    Entries(Vec<(Cell, Cell)>),
}

/// A column of nested values, until a batch is full.
#[derive(Debug)]
pub(in crate::format) struct Nested {
    data_type: DataType,
    cells: Vec<Cell>,
}

impl Nested {
    pub(super) fn new(data_type: &DataType, rows: usize) -> Nested {
        Nested { data_type: data_type.clone(), cells: Vec::with_capacity(rows) }
    }

    /// Appends the value that `token` of `line` is.
    pub(super) fn push(&mut self, token: Token, line: &[u8]) {
        self.cells.push(read(&self.data_type, token, line).unwrap_or(Cell::Null));
    }

    pub(super) fn push_null(&mut self) {
        self.cells.push(Cell::Null);
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let cells = std::mem::take(&mut self.cells);
        build(&self.data_type, &cells.iter().collect::<Vec<_>>())
    }
}

/// Whether a type is one of these.
pub(super) fn is_nested(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::Struct(_) | DataType::Map(..))
}

/// The type as job files write it.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("ARRAY<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => format!("MAP<STRING, {}>", type_name(pair[1].data_type())),
            other => type_name(other),
        },
        other => Kind::of(other).sql_name().into_owned(),
    }
}

/// The value of a type; `None`: it is of another one.
pub(super) fn read(data_type: &DataType, token: Token, line: &[u8]) -> Option<Cell> {
    Reading { text: line, at: token.start as usize }.value(data_type)
}

struct Reading<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Reading<'t> {
    fn value(&mut self, data_type: &DataType) -> Option<Cell> {
        self.at = skip_space(self.text, self.at);
        match (self.text.get(self.at)?, data_type) {
            (b'{', DataType::Struct(fields)) => self.record(fields),
            (b'{', DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(pair) => self.map(pair[1].data_type()),
                _ => None,
            },
            (b'[', DataType::List(item)) => self.array(item.data_type()),
            (b'{' | b'[', DataType::Utf8) => {
                let start = self.at;
                self.skip()?;
                Some(Cell::Scalar(Parsed::Text, self.text[start..self.at].to_vec()))
            }
            (b'{' | b'[', _) => None,
            _ => self.scalar(data_type),
        }
    }

    fn scalar(&mut self, data_type: &DataType) -> Option<Cell> {
        let (token, end) = scan::scalar(self.text, self.at).ok()?;
        self.at = end;
        if token.shape == Shape::Null {
            return Some(Cell::Null);
        }
        let mut parsed = Parsed::Null;
        if !Kind::of(data_type).parse(token, self.text, &mut parsed) {
            return None;
        }
        let text = if parsed == Parsed::Text { plain(token, self.text).into_owned() } else { Vec::new() };
        Some(Cell::Scalar(parsed, text))
    }

    fn array(&mut self, item: &DataType) -> Option<Cell> {
        let mut items = Vec::new();
        self.at = skip_space(self.text, self.at + 1);
        while self.text.get(self.at)? != &b']' {
            items.push(self.value(item)?);
            self.next_part()?;
        }
        self.at += 1;
        Some(Cell::Items(items))
    }

    fn record(&mut self, fields: &Fields) -> Option<Cell> {
        let mut values = vec![(false, Cell::Null); fields.len()];
        self.at = skip_space(self.text, self.at + 1);
        while self.text.get(self.at)? != &b'}' {
            let key = self.key()?;
            match find(fields, &key) {
                // an exact spelling over others, as in a record
                Some((field, exact)) if exact || !values[field].0 => {
                    values[field] = (exact, self.value(fields[field].data_type())?);
                }
                _ => self.skip()?,
            }
            self.next_part()?;
        }
        self.at += 1;
        Some(Cell::Items(values.into_iter().map(|(_, value)| value).collect()))
    }

    fn map(&mut self, data_type: &DataType) -> Option<Cell> {
        let mut entries: Vec<(Cell, Cell)> = Vec::new();
        self.at = skip_space(self.text, self.at + 1);
        while self.text.get(self.at)? != &b'}' {
            let key = Cell::Scalar(Parsed::Text, self.key()?.into_owned());
            let value = self.value(data_type)?;
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
            self.next_part()?;
        }
        self.at += 1;
        Some(Cell::Entries(entries))
    }

    /// A key, up to its value.
    fn key(&mut self) -> Option<Cow<'t, [u8]>> {
        let (end, escaped) = scan::string(self.text, self.at + 1).ok()?;
        let shape = if escaped { Shape::Escaped } else { Shape::Text };
        let key = plain(Token::new(shape, self.at + 1, end), self.text);
        self.at = scan::colon(self.text, end + 1).ok()?;
        Some(key)
    }

    /// Over a value of no matter which type.
    fn skip(&mut self) -> Option<()> {
        self.at = match self.text.get(self.at)? {
            b'{' | b'[' => Skipper::new(usize::MAX).skip(self.text, self.at, 0).ok()?,
            _ => scan::scalar(self.text, self.at).ok()?.1,
        };
        Some(())
    }

    /// From behind a value to the next key or value, or to the closing bracket.
    fn next_part(&mut self) -> Option<()> {
        self.at = skip_space(self.text, self.at);
        if self.text.get(self.at)? == &b',' {
            self.at = skip_space(self.text, self.at + 1);
        }
        Some(())
    }
}

/// A token's text, decoded where it has escapes.
fn plain(token: Token, text: &[u8]) -> Cow<'_, [u8]> {
    if token.shape != Shape::Escaped {
        return Cow::Borrowed(token.bytes(text));
    }
    let mut decoded = Vec::with_capacity(token.bytes(text).len());
    unescape(token.bytes(text), &mut decoded);
    Cow::Owned(decoded)
}

/// The field that a key means, and whether it is spelled so; else the one field that differs in case only.
fn find(fields: &Fields, key: &[u8]) -> Option<(usize, bool)> {
    if let Some(exact) = fields.iter().position(|field| field.name().as_bytes() == key) {
        return Some((exact, true));
    }
    let key = std::str::from_utf8(key).ok()?.to_lowercase();
    let mut alike = fields.iter().enumerate().filter(|(_, field)| field.name().to_lowercase() == key);
    alike.next().filter(|_| alike.next().is_none()).map(|(field, _)| (field, false))
}

fn build(data_type: &DataType, cells: &[&Cell]) -> Result<ArrayRef, ArrowError> {
    let nulls = || Some(NullBuffer::from_iter(cells.iter().map(|cell| **cell != Cell::Null)));
    match data_type {
        DataType::List(item) => {
            let items = |cell: &'_ &Cell| match cell {
                Cell::Items(items) => items.len(),
                _ => 0,
            };
            let offsets = OffsetBuffer::from_lengths(cells.iter().map(items));
            let all: Vec<&Cell> = cells.iter().flat_map(|cell| parts(cell)).collect();
            let values = build(item.data_type(), &all)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls())?))
        }
        DataType::Struct(fields) => {
            let column = |field: usize| -> Vec<&Cell> {
                cells.iter().map(|cell| parts(cell).get(field).unwrap_or(&Cell::Null)).collect()
            };
            let columns = fields.iter().enumerate().map(|(index, field)| build(field.data_type(), &column(index)));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls(), cells.len())?))
        }
        DataType::Map(entries, ordered) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return Err(ArrowError::SchemaError("a map has entries of two columns".to_owned()));
            };
            let pairs = |cell: &'_ Cell| match cell {
                Cell::Entries(pairs) => pairs.len(),
                _ => 0,
            };
            let offsets = OffsetBuffer::from_lengths(cells.iter().map(|cell| pairs(cell)));
            let all = || {
                cells.iter().flat_map(|cell| match cell {
                    Cell::Entries(pairs) => pairs.as_slice(),
                    _ => &[],
                })
            };
            let keys = build(pair[0].data_type(), &all().map(|(key, _)| key).collect::<Vec<_>>())?;
            let values = build(pair[1].data_type(), &all().map(|(_, value)| value).collect::<Vec<_>>())?;
            let both = StructArray::try_new(pair.clone(), vec![keys, values], None)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, both, nulls(), *ordered)?))
        }
        _ => scalars(data_type, cells),
    }
}

/// An array's elements, or a struct's fields.
fn parts(cell: &Cell) -> &[Cell] {
    match cell {
        Cell::Items(items) => items,
        _ => &[],
    }
}

fn scalars(data_type: &DataType, cells: &[&Cell]) -> Result<ArrayRef, ArrowError> {
    let mut column = Column::new(data_type, cells.len());
    for cell in cells {
        match cell {
            Cell::Scalar(Parsed::Text, text) => column.push_text(text),
            Cell::Scalar(value, _) => column.push_other(*value),
            _ => column.push_other(Parsed::Null),
        }
    }
    column.finish(0)
}

#[cfg(test)]
mod tests;
