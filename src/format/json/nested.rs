//! Objects and arrays that are columns: `STRUCT`, `ARRAY`, `MAP`.
//!
//! The text was scanned before, so that it is well-formed; what can be wrong is a type. A value is checked first and
//! appended afterwards, so that nothing has to be taken back: one inside that is not of its declared type makes the whole
//! column null for its record. Keys of a `STRUCT` are found as those of a record; one that is missing is null, one that is
//! not declared is stepped over. The last of equal keys wins, and only what wins is looked at. The entries of a `MAP` are in
//! the order of their keys, so that equal maps are one group however they were written.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, ListArray, MapArray, NullBufferBuilder, StructArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Fields},
    error::ArrowError,
};

use super::{
    columns::Column,
    escape::unescape,
    keys::KeyTable,
    scan::{self, Shape, Skipper, Token, skip_space},
    value::{Kind, Parsed},
};

/// A column of a nested type, or a part of one.
#[derive(Debug)]
pub(in crate::format) enum Nested {
    Scalar(Kind, Box<Column>),
    Array { item: Arc<Field>, items: Box<Nested>, extent: Extent },
    Record { fields: Fields, keys: KeyTable, columns: Vec<Nested>, nulls: NullBufferBuilder },
    Map { entries: Arc<Field>, keys: Box<Column>, values: Box<Nested>, extent: Extent },
}

/// Of each value of a list how many elements it has, and whether it is one.
#[derive(Debug)]
pub(in crate::format) struct Extent {
    lengths: Vec<usize>,
    nulls: NullBufferBuilder,
}

impl Extent {
    fn new() -> Extent {
        Extent { lengths: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    fn push(&mut self, length: Option<usize>) {
        self.lengths.push(length.unwrap_or(0));
        self.nulls.append(length.is_some());
    }

    fn offsets(&mut self) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths))
    }
}

/// Whether a type is one of these.
pub(super) fn is_nested(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::Struct(_) | DataType::Map(..))
}

/// The types of a map's keys and values.
fn pair(entries: &Field) -> Option<(&DataType, &DataType)> {
    match entries.data_type() {
        DataType::Struct(pair) if pair.len() == 2 => Some((pair[0].data_type(), pair[1].data_type())),
        _ => None,
    }
}

/// The type as job files write it.
pub(in crate::format) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("ARRAY<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => {
            let (key, value) = pair(entries).unwrap_or((&DataType::Null, &DataType::Null));
            format!("MAP<{}, {}>", type_name(key), type_name(value))
        }
        other => Kind::of(other).sql_name().into_owned(),
    }
}

impl Nested {
    /// An empty column.
    pub(super) fn new(data_type: &DataType) -> Nested {
        match data_type {
            DataType::List(item) => Nested::Array {
                item: Arc::clone(item),
                items: Box::new(Nested::new(item.data_type())),
                extent: Extent::new(),
            },
            DataType::Struct(fields) => Nested::Record {
                fields: fields.clone(),
                keys: KeyTable::new(fields.iter().map(|field| field.name().as_str())),
                columns: fields.iter().map(|field| Nested::new(field.data_type())).collect(),
                nulls: NullBufferBuilder::new(0),
            },
            DataType::Map(entries, _) => {
                let (key, value) = pair(entries).unwrap_or((&DataType::Null, &DataType::Null));
                Nested::Map {
                    entries: Arc::clone(entries),
                    keys: Box::new(Column::new(key, 0)),
                    values: Box::new(Nested::new(value)),
                    extent: Extent::new(),
                }
            }
            other => Nested::Scalar(Kind::of(other), Box::new(Column::new(other, 0))),
        }
    }

    /// Whether the value at `at` is of this type.
    pub(super) fn fits(&self, text: &[u8], at: usize) -> bool {
        match (text.get(at), self) {
            (Some(b'['), Nested::Array { items, .. }) => {
                let mut fit = true;
                elements(text, at, |start| fit = fit && items.fits(text, start));
                fit
            }
            (Some(b'{'), Nested::Record { keys, columns, .. }) => {
                let values = fields(text, at, keys, columns.len());
                let mut read = columns.iter().zip(values).filter_map(|(column, start)| Some((column, start?)));
                read.all(|(column, start)| column.fits(text, start))
            }
            (Some(b'{'), Nested::Map { values, .. }) => {
                entries_of(text, at).into_values().all(|start| values.fits(text, start))
            }
            (Some(b'{' | b'['), Nested::Scalar(kind, _)) => *kind == Kind::Text,
            (Some(b'{' | b'['), _) => false,
            (_, part) => scan::scalar(text, at).is_ok_and(|(token, _)| match part {
                Nested::Scalar(kind, _) => kind.accepts(token, text),
                _ => token.shape == Shape::Null,
            }),
        }
    }

    /// Appends the value at `at`, which fits; a null where there is none.
    pub(super) fn append(&mut self, text: &[u8], at: Option<usize>) {
        let at = at.filter(|at| text.get(*at).is_some_and(|first| *first != b'n'));
        match self {
            Nested::Scalar(kind, column) => append_scalar(*kind, column, text, at),
            Nested::Array { items, extent, .. } => {
                let mut length = 0;
                if let Some(at) = at {
                    elements(text, at, |start| {
                        items.append(text, Some(start));
                        length += 1;
                    });
                }
                extent.push(at.map(|_| length));
            }
            Nested::Record { keys, columns, nulls, .. } => {
                let values = at.map_or_else(|| vec![None; columns.len()], |at| fields(text, at, keys, columns.len()));
                columns.iter_mut().zip(values).for_each(|(column, start)| column.append(text, start));
                nulls.append(at.is_some());
            }
            Nested::Map { keys, values, extent, .. } => {
                let entries = at.map(|at| entries_of(text, at));
                extent.push(entries.as_ref().map(BTreeMap::len));
                for (key, start) in entries.into_iter().flatten() {
                    keys.push_text(&key);
                    values.append(text, Some(start));
                }
            }
        }
    }

    /// The values so far; the column is empty afterwards.
    ///
    /// # Errors
    /// Where Arrow refuses them.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Nested::Scalar(_, column) => column.finish(0)?,
            Nested::Array { item, items, extent } => {
                let (offsets, nulls) = (extent.offsets(), extent.nulls.finish());
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, items.finish()?, nulls)?)
            }
            Nested::Record { fields, columns, nulls, .. } => {
                let (rows, nulls) = (nulls.len(), nulls.finish());
                let columns = columns.iter_mut().map(Nested::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)?)
            }
            Nested::Map { entries, keys, values, extent } => {
                let (offsets, nulls) = (extent.offsets(), extent.nulls.finish());
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("a map has entries of two columns".to_owned()));
                };
                let both = StructArray::try_new(pair.clone(), vec![keys.finish(0)?, values.finish()?], None)?;
                Arc::new(MapArray::try_new(Arc::clone(entries), offsets, both, nulls, false)?)
            }
        })
    }
}

fn append_scalar(kind: Kind, column: &mut Column, text: &[u8], at: Option<usize>) {
    let token = at.and_then(|at| match text.get(at) {
        Some(b'{' | b'[') => end_of(text, at).map(|end| Token::new(Shape::Nested, at, end)),
        _ => scan::scalar(text, at).ok().map(|(token, _)| token),
    });
    let mut value = Parsed::Null;
    match token {
        Some(token) if kind.parse(token, text, &mut value) => column.push(&value, &token, text),
        _ => column.push_other(Parsed::Null),
    }
}

/// Calls `each` with where each element of an array begins.
fn elements(text: &[u8], array: usize, mut each: impl FnMut(usize)) {
    let mut at = skip_space(text, array + 1);
    while text.get(at).is_some_and(|byte| *byte != b']') {
        each(at);
        let Some(end) = end_of(text, at) else { return };
        at = next_part(text, end);
    }
}

/// Calls `each` with each key of an object, and where its value begins.
fn members<'t>(text: &'t [u8], object: usize, mut each: impl FnMut(Cow<'t, [u8]>, usize)) {
    let mut at = skip_space(text, object + 1);
    while text.get(at) == Some(&b'"') {
        let Ok((end, escaped)) = scan::string(text, at + 1) else { return };
        let key = match escaped {
            false => Cow::Borrowed(&text[at + 1..end]),
            true => {
                let mut decoded = Vec::with_capacity(end - at);
                unescape(&text[at + 1..end], &mut decoded);
                Cow::Owned(decoded)
            }
        };
        let Ok(value) = scan::colon(text, end + 1) else { return };
        each(key, value);
        let Some(end) = end_of(text, value) else { return };
        at = next_part(text, end);
    }
}

/// Where the values of a struct's fields begin: the last of equal keys, an exact spelling over others.
fn fields(text: &[u8], object: usize, keys: &KeyTable, count: usize) -> Vec<Option<usize>> {
    let mut found: Vec<(bool, Option<usize>)> = vec![(false, None); count];
    members(text, object, |key, start| {
        let target = std::str::from_utf8(&key).ok().and_then(|key| keys.find(key));
        if let Some((field, exact)) = target.filter(|(field, exact)| *exact || !found[*field].0) {
            found[field] = (exact, Some(start));
        }
    });
    found.into_iter().map(|(_, start)| start).collect()
}

/// A map's keys, and where their values begin.
fn entries_of(text: &[u8], object: usize) -> BTreeMap<Cow<'_, [u8]>, usize> {
    let mut entries = BTreeMap::new();
    members(text, object, |key, start| {
        entries.insert(key, start);
    });
    entries
}

/// The offset behind a value.
fn end_of(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'{' | b'[' => Skipper::new(usize::MAX).skip(text, at, 0).ok(),
        _ => scan::scalar(text, at).ok().map(|(_, end)| end),
    }
}

/// From behind a value to the next key or value, or to the closing bracket.
fn next_part(text: &[u8], end: usize) -> usize {
    let at = skip_space(text, end);
    if text.get(at) == Some(&b',') { skip_space(text, at + 1) } else { at }
}

#[cfg(test)]
mod tests;
