//! Sessions by key: windows that grow and merge as rows come, until the watermark passes their end.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use datafusion::arrow::{
    array::{ArrayRef, AsArray, StructArray, TimestampMicrosecondArray},
    compute::concat,
    datatypes::{DataType, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};

use super::{
    columns::Columns,
    keyed::{KeyedState, Ordered, Touched},
    merge::{Merger, with_rows},
};
use crate::model::{Error, Result};

type Key = Arc<[u8]>;

/// How many sessions a part of a snapshot has.
const PART_ROWS: usize = 1 << 18;

/// A session of one key, from its start (its place in the map) to its end, both microseconds.
#[derive(Debug, Clone, Copy)]
struct Session {
    end: i64,
    /// Number of its row among the columns.
    row: u32,
}

/// One session as it is met: from a delta or from the state.
#[derive(Debug, Clone, Copy)]
struct Met {
    start: i64,
    end: i64,
    from: From,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Delta(usize),
    State(u32),
}

/// The sessions of all keys. Two sessions of a key become one when they overlap or touch, as in Spark and Flink.
pub struct Sessions {
    schema: SchemaRef,
    /// Which of the key columns is the session.
    session: usize,
    key_count: usize,
    converter: RowConverter,
    by_key: BTreeMap<Key, BTreeMap<i64, Session>>,
    /// Of the keys of `by_key`: counted as they come and go, since every batch asks.
    key_bytes: usize,
    by_end: BTreeMap<i64, BTreeSet<(Key, i64)>>,
    columns: Columns,
    /// Rows of the columns that no session has.
    free: Vec<u32>,
    rows: u32,
    /// For the order of deltas.
    empty: KeyedState,
}

/// What sessions became one, for all keys that a delta touches.
#[derive(Default)]
struct Merged {
    /// Key, start, end, and a row of the delta with its key.
    sessions: Vec<(Key, i64, i64, u32)>,
    /// Rows of the state that are in them, and in which.
    old: (Vec<u32>, Vec<usize>),
    /// In which the rows of the delta are.
    delta: Vec<usize>,
}

impl Sessions {
    /// An empty state; of the first `key_count` columns of `schema` the one numbered `session` is the session: a struct of
    /// `start` and `end`.
    ///
    /// # Errors
    /// Of kind `Usage` where a key's type cannot be compared.
    pub fn new(schema: &SchemaRef, key_count: usize, session: usize) -> Result<Sessions> {
        let others = schema.fields()[..key_count].iter().enumerate().filter(|(index, _)| *index != session);
        let fields = others.map(|(_, field)| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields)
            .map_err(|error| Error::usage("this type cannot be a grouping key").because(error.to_string()))?;
        Ok(Sessions {
            schema: schema.clone(),
            session,
            key_count,
            converter,
            by_key: BTreeMap::new(),
            key_bytes: 0,
            by_end: BTreeMap::new(),
            columns: Columns::new(&schema.fields()[key_count..]),
            free: Vec::new(),
            rows: 0,
            empty: KeyedState::new(schema, key_count)?,
        })
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        // each has a row: every batch asks, and they are too many to be counted
        self.rows as usize - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.columns.memory_bytes() + self.key_bytes + self.by_key.len() * 64 + self.len() * 96
    }

    /// Orders a delta by key and start, and makes sessions that overlap in it one.
    ///
    /// # Errors
    /// As [`Sessions::merge`].
    pub fn ordered(&self, merger: &Merger, delta: RecordBatch) -> Result<Ordered> {
        let ordered = self.empty.ordered(delta)?;
        let mut alone = Sessions::new(&self.schema, self.key_count, self.session)?;
        let merged = alone.merge(merger, &ordered.rows)?;
        self.empty.ordered(merged.state)
    }

    /// Merges a delta: what it touches becomes one session with it.
    ///
    /// # Errors
    /// As [`Merger::merge`].
    pub fn merge(&mut self, merger: &Merger, delta: &RecordBatch) -> Result<Touched> {
        let merged = self.find(delta)?;
        let groups = merged.sessions.len();
        let fresh = &delta.columns()[self.key_count..];
        let columns = if merged.old.0.is_empty() {
            merger.merge(groups, None, (fresh, &merged.delta))?
        } else {
            let old = self.columns.gather(&merged.old.0)?;
            let pairs = old.iter().zip(fresh);
            let both =
                pairs.map(|(old, fresh)| concat(&[old.as_ref(), fresh.as_ref()]).map_err(|error| failed(&error)));
            let places = [merged.old.1.as_slice(), merged.delta.as_slice()].concat();
            merger.merge(groups, None, (&both.collect::<Result<Vec<_>>>()?, &places))?
        };
        self.free.extend(&merged.old.0);
        let rows: Vec<u32> = (0..groups).map(|_| self.take_row()).collect();
        self.columns.write(&columns, &rows)?;
        for ((key, start, end, _), row) in merged.sessions.iter().zip(rows) {
            self.insert(key.clone(), *start, Session { end: *end, row });
        }
        let first: Vec<u32> = merged.sessions.iter().map(|session| session.3).collect();
        let keys = super::keyed::taken(&delta.columns()[..self.key_count], &first.into())?;
        let spans: Vec<(i64, i64)> = merged.sessions.iter().map(|session| (session.1, session.2)).collect();
        let state = self.with_spans(keys, &spans, columns)?;
        Ok(Touched { state, new: vec![true; groups] })
    }

    /// Finds what becomes one; the sessions of the state among it are taken out.
    fn find(&mut self, delta: &RecordBatch) -> Result<Merged> {
        let keys = self.keys(delta)?;
        let (starts, ends) = self.spans(delta)?;
        let mut merged = Merged::default();
        // the session may stand before the other keys: rows of one key need not be neighbours
        let mut by_key: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        let encoded: Vec<_> = (0..delta.num_rows()).map(|row| keys.row(row)).collect();
        encoded.iter().enumerate().for_each(|(row, key)| by_key.entry(key.as_ref()).or_default().push(row));
        for (key, rows) in by_key {
            let met = rows.iter().map(|row| Met { start: starts[*row], end: ends[*row], from: From::Delta(*row) });
            self.find_of_key(&key.into(), rows[0] as u32, met.collect(), &mut merged);
        }
        Ok(merged)
    }

    fn find_of_key(&mut self, key: &Key, delta_row: u32, mut met: Vec<Met>, merged: &mut Merged) {
        let (from, to) =
            met.iter().fold((i64::MAX, i64::MIN), |(from, to), met| (from.min(met.start), to.max(met.end)));
        if let Some(known) = self.by_key.get(key) {
            // sessions of a key do not overlap: going back, the first that ends before is behind all others
            let near = known.range(..=to).rev().take_while(|(_, session)| session.end >= from);
            met.extend(near.map(|(start, session)| Met {
                start: *start,
                end: session.end,
                from: From::State(session.row),
            }));
        }
        met.sort_by_key(|met| (met.start, met.end, matches!(met.from, From::Delta(_))));
        for together in runs(&met) {
            if !together.iter().any(|met| matches!(met.from, From::Delta(_))) {
                continue;
            }
            let place = merged.sessions.len();
            let end = together.iter().map(|met| met.end).max().unwrap_or(i64::MIN);
            for met in together {
                match met.from {
                    From::Delta(row) => {
                        merged.delta.resize(merged.delta.len().max(row + 1), 0);
                        merged.delta[row] = place;
                    }
                    From::State(row) => {
                        merged.old.0.push(row);
                        merged.old.1.push(place);
                        self.remove(key, met.start);
                    }
                }
            }
            merged.sessions.push((key.clone(), together[0].start, end, delta_row));
        }
    }

    /// Takes out all sessions that are over at `watermark_us`, the earliest first.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn evict(&mut self, watermark_us: i64) -> Result<RecordBatch> {
        let open = match watermark_us.checked_add(1) {
            Some(after) => self.by_end.split_off(&after),
            None => BTreeMap::new(),
        };
        let over = std::mem::replace(&mut self.by_end, open);
        let mut sessions = Vec::new();
        for (key, start) in over.into_values().flatten() {
            let Some(of_key) = self.by_key.get_mut(&key) else { continue };
            if let Some(session) = of_key.remove(&start) {
                sessions.push((key.clone(), start, session));
            }
            if of_key.is_empty() {
                self.by_key.remove(&key);
                self.key_bytes -= key.len();
            }
        }
        let rows = self.gather(&sessions)?;
        self.free.extend(sessions.iter().map(|(_, _, session)| session.row));
        Ok(rows)
    }

    /// Takes over the rows of a snapshot.
    ///
    /// # Errors
    /// As [`Sessions::merge`].
    pub fn load(&mut self, snapshot: &RecordBatch) -> Result<()> {
        let keys = self.keys(snapshot)?;
        let (starts, ends) = self.spans(snapshot)?;
        let rows: Vec<u32> = (0..snapshot.num_rows()).map(|_| self.take_row()).collect();
        self.columns.write(&snapshot.columns()[self.key_count..], &rows)?;
        for (at, row) in rows.into_iter().enumerate() {
            self.insert(keys.row(at).as_ref().into(), starts[at], Session { end: ends[at], row });
        }
        Ok(())
    }

    /// The state in parts, by key and start.
    ///
    /// # Errors
    /// As [`Sessions::evict`].
    pub fn parts(&self) -> Result<Vec<RecordBatch>> {
        let of_key = |(key, sessions): (&Key, &BTreeMap<i64, Session>)| {
            sessions.iter().map(|(start, session)| (key.clone(), *start, *session)).collect::<Vec<_>>()
        };
        let all: Vec<_> = self.by_key.iter().flat_map(of_key).collect();
        if all.is_empty() {
            return Ok(vec![RecordBatch::new_empty(self.schema.clone())]);
        }
        all.chunks(PART_ROWS).map(|part| self.gather(part)).collect()
    }

    fn gather(&self, sessions: &[(Key, i64, Session)]) -> Result<RecordBatch> {
        let parser = self.converter.parser();
        let keys = sessions.iter().map(|(key, ..)| parser.parse(key));
        let mut keys = match self.key_count {
            1 => Vec::new(),
            _ => self.converter.convert_rows(keys).map_err(|error| failed(&error))?,
        };
        let spans: Vec<(i64, i64)> = sessions.iter().map(|(_, start, session)| (*start, session.end)).collect();
        // its place; what stands there is replaced
        keys.insert(self.session, Arc::new(TimestampMicrosecondArray::from(vec![0; spans.len()])));
        let rows: Vec<u32> = sessions.iter().map(|(_, _, session)| session.row).collect();
        self.with_spans(keys, &spans, self.columns.gather(&rows)?)
    }

    /// Rows of the state's schema, with these sessions.
    fn with_spans(&self, mut keys: Vec<ArrayRef>, spans: &[(i64, i64)], columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        let DataType::Struct(fields) = self.schema.field(self.session).data_type() else {
            return Err(Error::failed("a session is no struct of start and end"));
        };
        let times = |time: fn(&(i64, i64)) -> i64| {
            Arc::new(TimestampMicrosecondArray::from_iter_values(spans.iter().map(time))) as ArrayRef
        };
        let session = StructArray::try_new(fields.clone(), vec![times(|span| span.0), times(|span| span.1)], None);
        keys[self.session] = Arc::new(session.map_err(|error| failed(&error))?);
        with_rows(&self.schema, [keys, columns].concat(), spans.len())
    }

    fn insert(&mut self, key: Key, start: i64, session: Session) {
        self.by_end.entry(session.end).or_default().insert((key.clone(), start));
        match self.by_key.entry(key) {
            Entry::Occupied(mut sessions) => {
                sessions.get_mut().insert(start, session);
            }
            Entry::Vacant(place) => {
                self.key_bytes += place.key().len();
                place.insert(BTreeMap::from([(start, session)]));
            }
        }
    }

    fn remove(&mut self, key: &Key, start: i64) {
        let Some(session) = self.by_key.get_mut(key).and_then(|sessions| sessions.remove(&start)) else { return };
        if let Some(ends) = self.by_end.get_mut(&session.end) {
            ends.remove(&(key.clone(), start));
            if ends.is_empty() {
                self.by_end.remove(&session.end);
            }
        }
    }

    fn take_row(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.rows += 1;
            self.rows - 1
        })
    }

    fn keys(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = rows.columns()[..self.key_count]
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != self.session)
            .map(|(_, column)| column.clone())
            .collect();
        if columns.is_empty() {
            // a converter over no columns yields no rows
            let mut rows_of_one_key = self.converter.empty_rows(rows.num_rows(), 0);
            let one = self.converter.parser();
            (0..rows.num_rows()).for_each(|_| rows_of_one_key.push(one.parse(b"")));
            return Ok(rows_of_one_key);
        }
        self.converter.convert_columns(&columns).map_err(|error| failed(&error))
    }

    fn spans(&self, rows: &RecordBatch) -> Result<(Vec<i64>, Vec<i64>)> {
        let times = |name: &str| {
            let column = rows.column(self.session).as_struct_opt()?.column_by_name(name)?;
            Some(column.as_primitive_opt::<TimestampMicrosecondType>()?.values().to_vec())
        };
        let spans = times("start").zip(times("end"));
        spans.ok_or_else(|| Error::failed("a session is no struct of start and end"))
    }
}

/// Cuts sessions that are ordered by start into those that overlap or touch.
fn runs(met: &[Met]) -> Vec<&[Met]> {
    let mut runs = Vec::new();
    let (mut first, mut end) = (0, i64::MIN);
    for (at, session) in met.iter().enumerate() {
        if at > first && session.start > end {
            runs.push(&met[first..at]);
            first = at;
            end = session.end;
        }
        end = end.max(session.end);
    }
    if first < met.len() {
        runs.push(&met[first..]);
    }
    runs
}

fn failed(error: &ArrowError) -> Error {
    Error::failed("sessions could not be put together").because(error.to_string())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{Int64Array, StringArray},
        datatypes::{Field, Fields, Schema, TimeUnit},
    };

    use super::*;

    #[test]
    fn what_is_counted_is_what_is_there() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let span = Fields::from(["start", "end"].map(|name| Field::new(name, time.clone(), true)).to_vec());
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("key", DataType::Utf8, true),
            Field::new("session", DataType::Struct(span.clone()), true),
            Field::new("n", DataType::Int64, true),
        ]));
        let times = |times: [i64; 3]| Arc::new(TimestampMicrosecondArray::from(times.to_vec())) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["a", "a", "longer"])),
            Arc::new(StructArray::new(span, vec![times([0, 10, 0]), times([5, 15, 20])], None)),
            Arc::new(Int64Array::from(vec![1, 2, 3])),
        ];
        let mut sessions = Sessions::new(&schema, 2, 1).unwrap();
        sessions.load(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
        for (watermark_us, left) in [(0, 3), (5, 2), (15, 1), (20, 0)] {
            sessions.evict(watermark_us).unwrap();
            let keys: usize = sessions.by_key.keys().map(|key| key.len()).sum();
            let found = sessions.by_key.values().map(BTreeMap::len).sum::<usize>();
            assert_eq!((sessions.len(), found, sessions.key_bytes), (left, left, keys), "at {watermark_us}");
        }
    }
}
