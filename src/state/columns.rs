//! The partial aggregates of all groups, column by column.
//!
//! Columns of a fixed width (counts, sums, minima of numbers and times) are plain vectors with one value per group,
//! written in place. The others (text, lists, distinct values) are rows of arenas: see [`super::arenas`].

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayData, ArrayRef, BooleanBufferBuilder, make_array},
    buffer::{BooleanBuffer, Buffer, NullBuffer},
    datatypes::{DataType, FieldRef, Schema},
    record_batch::RecordBatch,
};

use super::arenas::Arenas;
use crate::model::{Error, Result};

/// The values of a fixed-width column as plain words; what they mean is for its type to say.
#[derive(Debug)]
enum Words {
    One(Vec<u8>),
    Two(Vec<u16>),
    Four(Vec<u32>),
    Eight(Vec<u64>),
    Sixteen(Vec<i128>),
}

/// Does the same for words of each width.
macro_rules! each_width {
    ($words:expr, $values:ident => $body:expr) => {
        match $words {
            Words::One($values) => $body,
            Words::Two($values) => $body,
            Words::Four($values) => $body,
            Words::Eight($values) => $body,
            Words::Sixteen($values) => $body,
        }
    };
}

impl Words {
    fn new(data_type: &DataType) -> Option<Words> {
        match data_type.primitive_width()? {
            1 => Some(Words::One(Vec::new())),
            2 => Some(Words::Two(Vec::new())),
            4 => Some(Words::Four(Vec::new())),
            8 => Some(Words::Eight(Vec::new())),
            16 => Some(Words::Sixteen(Vec::new())),
            _ => None,
        }
    }

    fn memory_bytes(&self) -> usize {
        each_width!(self, values => size_of_val(values.as_slice()))
    }

    fn write(&mut self, rows: &ArrayData, groups: &[u32]) {
        each_width!(self, values => write_words(values, &rows.buffer(0)[..rows.len()], groups));
    }

    fn gather(&self, groups: &[u32]) -> Buffer {
        each_width!(self, values => groups.iter().map(|group| values[*group as usize]).collect::<Vec<_>>().into())
    }
}

fn write_words<T: Copy>(values: &mut Vec<T>, rows: &[T], groups: &[u32]) {
    for (value, group) in rows.iter().zip(groups) {
        match values.get_mut(*group as usize) {
            Some(place) => *place = *value,
            None => values.push(*value),
        }
    }
}

/// One fixed-width column.
#[derive(Debug)]
struct Fixed {
    data_type: DataType,
    words: Words,
    /// Which values are not null; `None`: no value was null so far.
    valid: Option<BooleanBufferBuilder>,
}

impl Fixed {
    fn write(&mut self, rows: &ArrayRef, groups: &[u32], len_before: usize) {
        self.words.write(&rows.to_data(), groups);
        if self.valid.is_none() && rows.null_count() > 0 {
            let mut valid = BooleanBufferBuilder::new(len_before);
            valid.append_n(len_before, true);
            self.valid = Some(valid);
        }
        let Some(valid) = &mut self.valid else { return };
        for (row, group) in groups.iter().enumerate() {
            let group = *group as usize;
            if group < valid.len() {
                valid.set_bit(group, rows.is_valid(row));
            } else {
                valid.append(rows.is_valid(row));
            }
        }
    }

    fn gather(&self, groups: &[u32]) -> Result<ArrayRef> {
        let nulls = self.valid.as_ref().map(|valid| {
            NullBuffer::new(BooleanBuffer::collect_bool(groups.len(), |row| valid.get_bit(groups[row] as usize)))
        });
        let data = ArrayData::builder(self.data_type.clone())
            .len(groups.len())
            .add_buffer(self.words.gather(groups))
            // the same rows give the same bytes, whatever was null before
            .nulls(nulls.filter(|nulls| nulls.null_count() > 0))
            .build();
        data.map(make_array)
            .map_err(|error| Error::failed("state rows could not be gathered").because(error.to_string()))
    }
}

/// Where a column is kept.
#[derive(Debug)]
enum Place {
    Fixed(Fixed),
    /// Index among the columns of the arenas.
    Arena(usize),
}

/// All columns; groups are numbered from 0 in the order in which they came.
#[derive(Debug)]
pub(super) struct Columns {
    places: Vec<Place>,
    arenas: Arenas,
    len: usize,
}

impl Columns {
    pub fn new(fields: &[FieldRef]) -> Columns {
        let (mut places, mut others) = (Vec::with_capacity(fields.len()), Vec::new());
        for field in fields {
            places.push(match Words::new(field.data_type()) {
                Some(words) => Place::Fixed(Fixed { data_type: field.data_type().clone(), words, valid: None }),
                None => {
                    others.push(Arc::clone(field));
                    Place::Arena(others.len() - 1)
                }
            });
        }
        Columns { places, arenas: Arenas::new(Arc::new(Schema::new(others))), len: 0 }
    }

    /// Bytes in memory, bookkeeping included.
    pub fn memory_bytes(&self) -> usize {
        let fixed = |place: &Place| match place {
            Place::Fixed(fixed) => {
                fixed.words.memory_bytes() + fixed.valid.as_ref().map_or(0, |valid| valid.as_slice().len())
            }
            Place::Arena(_) => 0,
        };
        self.places.iter().map(fixed).sum::<usize>() + self.arenas.memory_bytes()
    }

    /// Makes these rows those of `groups` (distinct; `len`, `len + 1`, ... add groups, in this order).
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn write(&mut self, columns: &[ArrayRef], groups: &[u32]) -> Result<()> {
        let mut others = Vec::new();
        for (place, column) in self.places.iter_mut().zip(columns) {
            match place {
                Place::Fixed(fixed) => fixed.write(column, groups, self.len),
                Place::Arena(_) => others.push(Arc::clone(column)),
            }
        }
        if !others.is_empty() {
            let rows = RecordBatch::try_new(self.arenas.schema(), others);
            let rows = rows.map_err(|error| {
                Error::failed("the state's columns do not fit its schema").because(error.to_string())
            })?;
            self.arenas.push(rows, groups.to_vec())?;
        }
        let end = groups.iter().max().map_or(0, |group| *group as usize + 1);
        self.len = self.len.max(end);
        Ok(())
    }

    /// The rows of `groups`, in this order.
    ///
    /// # Errors
    /// As [`Columns::write`].
    pub fn gather(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let others = if self.arenas.schema().fields().is_empty() { None } else { Some(self.arenas.gather(groups)?) };
        let column = |place: &Place| match place {
            Place::Fixed(fixed) => fixed.gather(groups),
            Place::Arena(index) => others
                .as_ref()
                .map(|others| Arc::clone(others.column(*index)))
                .ok_or_else(|| Error::failed("a column of the state has no rows")),
        };
        self.places.iter().map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::arrow::{
        array::{BooleanArray, Decimal128Array, Float64Array, Int8Array, Int16Array, Int32Array, StringArray},
        datatypes::Field,
    };
    use proptest::prelude::*;

    use super::*;

    /// One row, spread over columns of each width and of none; `None`: all null.
    fn columns(rows: &[Option<i8>]) -> Vec<ArrayRef> {
        let all = || rows.iter().copied();
        vec![
            Arc::new(Int8Array::from_iter(all())),
            Arc::new(Int16Array::from_iter(all().map(|value| value.map(i16::from)))),
            Arc::new(Int32Array::from_iter(all().map(|value| value.map(i32::from)))),
            Arc::new(Float64Array::from_iter(all().map(|value| value.map(f64::from)))),
            Arc::new(Decimal128Array::from_iter(all().map(|value| value.map(i128::from)))),
            Arc::new(BooleanArray::from_iter(all().map(|value| value.map(|value| value > 0)))),
            Arc::new(StringArray::from_iter(all().map(|value| value.map(|value| value.to_string())))),
        ]
    }

    proptest! {
        #[test]
        fn each_group_has_what_was_written_last(
            nulls in any::<bool>(),
            batches in prop::collection::vec(prop::collection::btree_map(0..40_u32, any::<(bool, i8)>(), 0..20), 0..30),
        ) {
            let fields: Vec<FieldRef> = columns(&[]).iter().map(|column| Arc::new(Field::new("c", column.data_type().clone(), true))).collect();
            let mut state = Columns::new(&fields);
            let (mut ids, mut model) = (BTreeMap::new(), BTreeMap::new());
            for batch in batches {
                let (mut groups, mut rows) = (Vec::new(), Vec::new());
                for (key, (null, value)) in batch {
                    let next = ids.len() as u32;
                    groups.push(*ids.entry(key).or_insert(next));
                    rows.push((!(nulls && null)).then_some(value));
                }
                model.extend(groups.iter().copied().zip(rows.iter().copied()));
                state.write(&columns(&rows), &groups).unwrap();
                let all: Vec<u32> = (0..ids.len() as u32).rev().collect();
                let expected: Vec<Option<i8>> = all.iter().map(|group| model[group]).collect();
                prop_assert_eq!(state.gather(&all).unwrap(), columns(&expected));
            }
        }
    }
}
