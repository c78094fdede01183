//! The state of one stateful operator: rows by group key.

use datafusion::arrow::{
    array::{ArrayRef, UInt32Array},
    compute::{cast, take},
    datatypes::SchemaRef,
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};

use super::{
    columns::Columns,
    keys::{self, Index, Keys},
    merge::{Merger, with_rows},
};
use crate::model::{Error, Result};

/// A delta with its rows ordered by key, which is the form that is committed: the same rows give the same bytes however
/// the aggregation visited its groups.
#[derive(Debug)]
pub struct Ordered {
    pub rows: RecordBatch,
    /// One for each row; none for a global aggregate.
    keys: Option<Keys>,
}

/// How many groups a part of a snapshot has: few enough that no column overflows, and that a part is soon made.
const PART_ROWS: usize = 1 << 18;

/// Groups that a delta touched.
#[derive(Debug)]
pub struct Touched {
    /// Their state after the merge, one row each, ordered by key.
    pub state: RecordBatch,
    /// For each row of `state`: whether the group is new.
    pub new: Vec<bool>,
}

/// Group keys, and for each key its partial aggregates. Groups are numbered in the order in which they were first seen.
pub struct KeyedState {
    converter: RowConverter,
    key_count: usize,
    index: Index,
    /// Of all groups, by number.
    keys: Keys,
    columns: Columns,
    schema: SchemaRef,
}

impl KeyedState {
    /// An empty state; the first `key_count` columns of `schema` are the key.
    ///
    /// # Errors
    /// Of kind `Usage` where a key's type cannot be compared.
    pub fn new(schema: &SchemaRef, key_count: usize) -> Result<KeyedState> {
        let fields =
            schema.fields()[..key_count].iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields)
            .map_err(|error| Error::usage("this type cannot be a grouping key").because(error.to_string()))?;
        Ok(KeyedState {
            converter,
            key_count,
            index: Index::default(),
            keys: Keys::default(),
            columns: Columns::new(&schema.fields()[key_count..]),
            schema: schema.clone(),
        })
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the state holds in memory.
    pub fn memory_bytes(&self) -> usize {
        self.columns.memory_bytes() + self.keys.memory_bytes() + self.index.memory_bytes()
    }

    /// Orders a delta by key.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot reorder a type.
    pub fn ordered(&self, delta: RecordBatch) -> Result<Ordered> {
        let Some(keys) = self.rows(&delta)? else { return Ok(Ordered { rows: delta, keys: None }) };
        let Some(order) = keys::ascending(&keys) else {
            return Ok(Ordered { rows: delta, keys: Some(Keys::of(&keys, None)) });
        };
        let keys = Keys::of(&keys, Some(&order));
        let columns = taken(delta.columns(), &UInt32Array::from(order))?;
        let rows = with_rows(&self.schema, columns, delta.num_rows())?;
        Ok(Ordered { rows, keys: Some(keys) })
    }

    /// Merges an ordered delta: old state first, then the delta, for the groups that it touches.
    ///
    /// # Errors
    /// As [`Merger::merge`].
    pub fn merge(&mut self, merger: &Merger, delta: &Ordered) -> Result<Touched> {
        let known = self.len() as u32;
        let row_groups = self.intern(delta);
        // Delta rows are ordered by key, so rows of one group are neighbours: each run is one touched group.
        let mut groups: Vec<u32> = Vec::with_capacity(row_groups.len());
        let mut first_rows: Vec<u32> = Vec::with_capacity(row_groups.len());
        let mut delta_groups = Vec::with_capacity(row_groups.len());
        for (row, group) in row_groups.iter().enumerate() {
            if groups.last() != Some(group) {
                groups.push(*group);
                first_rows.push(row as u32);
            }
            delta_groups.push(groups.len() - 1);
        }
        let (old_groups, places): (Vec<u32>, Vec<usize>) = groups
            .iter()
            .enumerate()
            .filter(|(_, group)| **group < known)
            .map(|(place, group)| (*group, place))
            .unzip();
        let old = if old_groups.is_empty() { None } else { Some(self.columns.gather(&old_groups)?) };
        let keys = &delta.rows.columns()[..self.key_count];
        let keys = if first_rows.len() == delta.rows.num_rows() {
            keys.to_vec()
        } else {
            taken(keys, &UInt32Array::from(first_rows))?
        };
        let columns = merger.merge(
            groups.len(),
            old.as_ref().map(|old| (old.as_slice(), places.as_slice())),
            (&delta.rows.columns()[self.key_count..], &delta_groups),
        )?;
        let new = groups.iter().map(|group| *group >= known).collect();
        self.columns.write(&columns, &groups)?;
        let state = with_rows(&self.schema, [keys, columns].concat(), groups.len())?;
        Ok(Touched { state, new })
    }

    /// Takes over the rows of a snapshot; only into an empty state.
    ///
    /// # Errors
    /// Of kind `Refused` where a key stands twice, which no snapshot of ours has.
    pub fn load(&mut self, snapshot: &RecordBatch) -> Result<()> {
        let known = self.len();
        let keys = self.rows(snapshot)?.map(|keys| Keys::of(&keys, None));
        let snapshot = Ordered { rows: snapshot.clone(), keys };
        self.keys.reserve(snapshot.rows.num_rows());
        self.index.reserve(known + snapshot.rows.num_rows());
        let groups = self.intern(&snapshot);
        if self.len() != known + snapshot.rows.num_rows() {
            return Err(Error::refused("a snapshot holds the same group twice").because("it is damaged"));
        }
        self.columns.write(&snapshot.rows.columns()[self.key_count..], &groups)
    }

    /// The state in parts of at most [`PART_ROWS`] groups, in the order in which the groups were first seen.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn parts(&self) -> Result<Vec<RecordBatch>> {
        let firsts = (0..self.len().max(1)).step_by(PART_ROWS);
        firsts.map(|first| self.slice(first, PART_ROWS.min(self.len() - first))).collect()
    }

    /// The whole state, in the order in which its groups were first seen.
    ///
    /// # Errors
    /// As [`KeyedState::parts`], and where the keys are too long for one column.
    pub fn whole(&self) -> Result<RecordBatch> {
        if self.keys.bytes() > i32::MAX as usize {
            return Err(Error::failed("the result is too large to be made at once")
                .because(format!("its group keys have {} bytes", self.keys.bytes()))
                .help("use update mode, which needs the groups of one batch only"));
        }
        self.slice(0, self.len())
    }

    fn slice(&self, first: usize, rows: usize) -> Result<RecordBatch> {
        let groups: Vec<u32> = (first as u32..(first + rows) as u32).collect();
        let parser = self.converter.parser();
        let keys = groups.iter().map(|group| parser.parse(self.keys.get(*group as usize)));
        let mut columns = match self.key_count {
            0 => Vec::new(),
            _ => self.converter.convert_rows(keys).map_err(|error| failed(&error))?,
        };
        // A dictionary comes back as its values.
        for (column, field) in columns.iter_mut().zip(self.schema.fields()) {
            if column.data_type() != field.data_type() {
                *column = cast(column, field.data_type()).map_err(|error| failed(&error))?;
            }
        }
        columns.extend(self.columns.gather(&groups)?);
        with_rows(&self.schema, columns, rows)
    }

    /// The group of each row; unknown keys become groups, in row order.
    fn intern(&mut self, delta: &Ordered) -> Vec<u32> {
        let Some(keys) = &delta.keys else {
            // A global aggregate has one group, and a row converter over no columns yields no rows.
            if self.is_empty() && delta.rows.num_rows() > 0 {
                self.keys.push(b"");
            }
            return vec![0; delta.rows.num_rows()];
        };
        self.index.intern(&mut self.keys, keys)
    }

    /// Row-encoded keys, comparable as bytes; `None` for a global aggregate.
    fn rows(&self, batch: &RecordBatch) -> Result<Option<Rows>> {
        if self.key_count == 0 {
            return Ok(None);
        }
        self.converter.convert_columns(&batch.columns()[..self.key_count]).map(Some).map_err(|error| failed(&error))
    }
}

pub(super) fn taken(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|column| take(column, rows, None).map_err(|error| failed(&error))).collect()
}

fn failed(error: &datafusion::arrow::error::ArrowError) -> Error {
    Error::failed("group keys could not be compared").because(error.to_string())
}
