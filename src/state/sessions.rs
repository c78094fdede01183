//! Sessions by key: windows that grow and merge as rows come, until the watermark passes their end.

use std::sync::Arc;

use datafusion::arrow::{
    array::{ArrayRef, AsArray, StructArray, TimestampMicrosecondArray},
    compute::concat,
    datatypes::{DataType, SchemaRef, TimestampMicrosecondType},
    error::ArrowError,
    record_batch::RecordBatch,
    row::{RowConverter, SortField},
};

use super::{
    columns::Columns,
    keyed::{KeyedState, Ordered, Touched, taken},
    keys::{self, Keys},
    merge::{Merger, with_rows},
    spans::{Span, Spans},
};
use crate::model::{Error, Result};

/// How many sessions a part of a snapshot has.
const PART_ROWS: usize = 1 << 18;

/// One session as it is met: from a delta or from the state.
#[derive(Debug, Clone, Copy)]
struct Met {
    span: Span,
    from: From,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Delta(u32),
    State(u32),
}

/// The sessions of all keys. Two sessions of a key become one when they overlap or touch, as in Spark and Flink.
pub struct Sessions {
    schema: SchemaRef,
    /// Which of the key columns is the session.
    session: usize,
    key_count: usize,
    converter: RowConverter,
    spans: Spans,
    columns: Columns,
    /// For the order of deltas.
    empty: KeyedState,
}

/// What sessions became one, for all keys that a delta touches: by key and start.
#[derive(Default)]
struct Merged {
    sessions: Vec<Became>,
    /// Rows of the state that are in them, and in which.
    old: (Vec<u32>, Vec<usize>),
    /// In which the rows of the delta are.
    delta: Vec<usize>,
}

struct Became {
    span: Span,
    /// Number of its key; 0 where there is no state.
    key: u32,
    /// A row of the delta with its key.
    key_row: u32,
}

impl Merged {
    fn keys(&self, delta: &RecordBatch, key_count: usize) -> Result<Vec<ArrayRef>> {
        let rows: Vec<u32> = self.sessions.iter().map(|session| session.key_row).collect();
        taken(&delta.columns()[..key_count], &rows.into())
    }

    fn spans(&self) -> Vec<Span> {
        self.sessions.iter().map(|session| session.span).collect()
    }
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
            spans: Spans::default(),
            columns: Columns::new(&schema.fields()[key_count..]),
            empty: KeyedState::new(schema, key_count)?,
        })
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.columns.memory_bytes() + self.spans.memory_bytes()
    }

    /// Orders a delta by key and start, and makes sessions that overlap in it one.
    ///
    /// # Errors
    /// As [`Sessions::merge`].
    pub fn ordered(&self, merger: &Merger, delta: RecordBatch) -> Result<Ordered> {
        let delta = self.empty.ordered(delta)?.rows;
        let merged = find(&self.keys(&delta)?, &self.spans(&delta)?, None);
        let columns = merger.merge(merged.sessions.len(), None, (&delta.columns()[self.key_count..], &merged.delta))?;
        let keys = merged.keys(&delta, self.key_count)?;
        self.empty.ordered(self.with_spans(keys, &merged.spans(), columns)?)
    }

    /// Merges a delta: what it touches becomes one session with it.
    ///
    /// # Errors
    /// As [`Merger::merge`].
    pub fn merge(&mut self, merger: &Merger, delta: &RecordBatch) -> Result<Touched> {
        let (keys, spans) = (self.keys(delta)?, self.spans(delta)?);
        let merged = find(&keys, &spans, Some(&mut self.spans));
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
        let insert = |session: &Became| self.spans.insert(session.key, session.span);
        let rows: Vec<u32> = merged.sessions.iter().map(insert).collect();
        self.columns.write(&columns, &rows)?;
        let state = self.with_spans(merged.keys(delta, self.key_count)?, &merged.spans(), columns)?;
        Ok(Touched { state, new: vec![true; groups] })
    }

    /// Takes out all sessions that are over at `watermark_us`, the earliest first.
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn evict(&mut self, watermark_us: i64) -> Result<RecordBatch> {
        let rows = self.spans.over(watermark_us);
        let over = self.gather(&rows)?;
        self.spans.let_go(rows, watermark_us);
        if self.is_empty() {
            self.columns = Columns::new(&self.schema.fields()[self.key_count..]);
        }
        Ok(over)
    }

    /// Takes over the rows of a snapshot.
    ///
    /// # Errors
    /// As [`Sessions::merge`].
    pub fn load(&mut self, snapshot: &RecordBatch) -> Result<()> {
        let numbers = self.spans.numbers(&self.keys(snapshot)?);
        let spans = self.spans(snapshot)?;
        let rows = numbers.iter().zip(spans).map(|((key, _), span)| self.spans.insert(*key, span));
        let rows: Vec<u32> = rows.collect();
        self.columns.write(&snapshot.columns()[self.key_count..], &rows)
    }

    /// The state in parts, by key and start.
    ///
    /// # Errors
    /// As [`Sessions::evict`].
    pub fn parts(&self) -> Result<Vec<RecordBatch>> {
        if self.is_empty() {
            return Ok(vec![RecordBatch::new_empty(self.schema.clone())]);
        }
        self.spans.ordered().chunks(PART_ROWS).map(|rows| self.gather(rows)).collect()
    }

    fn gather(&self, rows: &[u32]) -> Result<RecordBatch> {
        let parser = self.converter.parser();
        let keys = rows.iter().map(|row| parser.parse(self.spans.key(*row)));
        let mut keys = match self.key_count {
            1 => Vec::new(),
            _ => self.converter.convert_rows(keys).map_err(|error| failed(&error))?,
        };
        let spans: Vec<Span> = rows.iter().map(|row| self.spans.span(*row)).collect();
        // its place; what stands there is replaced
        keys.insert(self.session, Arc::new(TimestampMicrosecondArray::from(vec![0; spans.len()])));
        self.with_spans(keys, &spans, self.columns.gather(rows)?)
    }

    /// Rows of the state's schema, with these sessions.
    fn with_spans(&self, mut keys: Vec<ArrayRef>, spans: &[Span], columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        let DataType::Struct(fields) = self.schema.field(self.session).data_type() else {
            return Err(Error::failed("a session is no struct of start and end"));
        };
        let times = |time: fn(&Span) -> i64| {
            Arc::new(TimestampMicrosecondArray::from_iter_values(spans.iter().map(time))) as ArrayRef
        };
        let session =
            StructArray::try_new(fields.clone(), vec![times(|span| span.start), times(|span| span.end)], None);
        keys[self.session] = Arc::new(session.map_err(|error| failed(&error))?);
        with_rows(&self.schema, [keys, columns].concat(), spans.len())
    }

    /// The keys but for the session.
    fn keys(&self, rows: &RecordBatch) -> Result<Keys> {
        let columns: Vec<ArrayRef> = rows.columns()[..self.key_count]
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != self.session)
            .map(|(_, column)| column.clone())
            .collect();
        if columns.is_empty() {
            // a converter over no columns yields no rows
            let mut keys_of_one = Keys::default();
            (0..rows.num_rows()).for_each(|_| keys_of_one.push(b""));
            return Ok(keys_of_one);
        }
        let keys = self.converter.convert_columns(&columns).map_err(|error| failed(&error))?;
        Ok(Keys::of(&keys, None))
    }

    fn spans(&self, rows: &RecordBatch) -> Result<Vec<Span>> {
        let times = |name: &str| {
            let column = rows.column(self.session).as_struct_opt()?.column_by_name(name)?;
            Some(column.as_primitive_opt::<TimestampMicrosecondType>()?.values().clone())
        };
        let (starts, ends) =
            times("start").zip(times("end")).ok_or_else(|| Error::failed("a session is no struct of start and end"))?;
        Ok(starts.iter().zip(&ends).map(|(start, end)| Span { start: *start, end: *end }).collect())
    }
}

/// Finds what becomes one; the sessions of the state among it are taken out.
fn find(keys: &Keys, spans: &[Span], mut state: Option<&mut Spans>) -> Merged {
    let mut merged = Merged { delta: vec![0; spans.len()], ..Merged::default() };
    let numbers = state.as_mut().map(|state| state.numbers(keys));
    // the session may stand before the other keys: rows of one key need not be neighbours
    let order = keys::ascending_by(keys.len(), |row| keys.get(row as usize));
    let order = order.unwrap_or_else(|| (0..spans.len() as u32).collect());
    let (mut met, mut near) = (Vec::new(), Vec::new());
    for rows in order.chunk_by(|one, other| keys.get(*one as usize) == keys.get(*other as usize)) {
        met.extend(rows.iter().map(|row| Met { span: spans[*row as usize], from: From::Delta(*row) }));
        let mut key = 0;
        if let (Some(state), Some(numbers)) = (&mut state, &numbers) {
            let (number, new) = numbers[rows[0] as usize];
            key = number;
            if !new {
                state.near(key, hull(&met), &mut near);
                met.extend(near.drain(..).map(|row| Met { span: state.span(row), from: From::State(row) }));
            }
        }
        met.sort_by_key(|met| (met.span.start, met.span.end, matches!(met.from, From::Delta(_))));
        for together in runs(&met).filter(|together| together.iter().any(|met| matches!(met.from, From::Delta(_)))) {
            let place = merged.sessions.len();
            for met in together {
                match (met.from, &mut state) {
                    (From::Delta(row), _) => merged.delta[row as usize] = place,
                    (From::State(row), Some(state)) => {
                        merged.old.0.push(row);
                        merged.old.1.push(place);
                        state.remove(row);
                    }
                    (From::State(_), None) => {}
                }
            }
            merged.sessions.push(Became { span: hull(together), key, key_row: rows[0] });
        }
        met.clear();
    }
    merged
}

/// From the first start to the last end.
fn hull(met: &[Met]) -> Span {
    let none = Span { start: i64::MAX, end: i64::MIN };
    met.iter().fold(none, |all, met| Span { start: all.start.min(met.span.start), end: all.end.max(met.span.end) })
}

/// Cuts sessions that are ordered by start into those that overlap or touch.
fn runs(met: &[Met]) -> impl Iterator<Item = &[Met]> {
    let mut end = i64::MIN;
    met.chunk_by(move |one, next| {
        end = end.max(one.span.end);
        next.span.start <= end
    })
}

fn failed(error: &ArrowError) -> Error {
    Error::failed("sessions could not be put together").because(error.to_string())
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::{
            array::{ListArray, StringArray},
            datatypes::{Field, Fields, Int64Type, Schema, TimeUnit},
        },
        functions_aggregate::array_agg::array_agg_udaf,
        physical_expr::{aggregate::AggregateExprBuilder, expressions::col},
    };
    use proptest::prelude::*;

    use super::*;

    /// Key, start, end, and the values that came, in this order.
    type Row = (Option<u8>, i64, i64, Vec<i64>);

    /// Sessions of a key, or of none, beside it in each order; all values of a session in the order in which they were merged.
    fn sessions(keys: [&str; 2], key_count: usize) -> (Sessions, Merger) {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let span = Fields::from(["start", "end"].map(|name| Field::new(name, time.clone(), true)).to_vec());
        let key = |name: &str| match name {
            "session" => Field::new(name, DataType::Struct(span.clone()), true),
            name => Field::new(name, DataType::Utf8, true),
        };
        let keys: Vec<Field> = keys[..key_count].iter().map(|name| key(name)).collect();
        let input: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let all = AggregateExprBuilder::new(array_agg_udaf(), vec![col("n", &input).unwrap()]);
        let all = Arc::new(all.schema(input).alias("all").build().unwrap());
        let of_state: Vec<Field> = all.state_fields().unwrap().iter().map(|field| field.as_ref().clone()).collect();
        let schema: SchemaRef = Arc::new(Schema::new([keys.clone(), of_state].concat()));
        let result = Arc::new(Schema::new([keys.clone(), vec![all.field().as_ref().clone()]].concat()));
        let session = keys.iter().position(|key| key.name() == "session").unwrap();
        let merger = Merger::new(vec![all], key_count, schema.clone(), result).unwrap();
        (Sessions::new(&schema, key_count, session).unwrap(), merger)
    }

    fn batch(sessions: &Sessions, rows: &[Row]) -> RecordBatch {
        let text = |key: u8| format!("{key:02}{}", "long".repeat(usize::from(key % 3) * 9));
        let spans: Vec<Span> = rows.iter().map(|(_, start, end, _)| Span { start: *start, end: *end }).collect();
        let keys: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|(key, ..)| key.map(text))));
        let lists = rows.iter().map(|(.., values)| Some(values.iter().map(|value| Some(*value))));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
        sessions.with_spans(vec![keys; sessions.key_count], &spans, vec![lists]).unwrap()
    }

    /// Rows of a key whose spans overlap or touch become one; the values of those that stand before come first.
    fn together(mut rows: Vec<Row>) -> Vec<Row> {
        rows.sort_by_key(|(key, start, end, _)| (*key, *start, *end));
        let mut joined: Vec<Row> = Vec::new();
        for (key, start, end, values) in rows {
            match joined.last_mut().filter(|last| last.0 == key && start <= last.2) {
                Some(last) => {
                    last.2 = last.2.max(end);
                    last.3.extend(values);
                }
                None => joined.push((key, start, end, values)),
            }
        }
        joined
    }

    fn touch(one: &Row, other: &Row) -> bool {
        one.0 == other.0 && one.1 <= other.2 && other.1 <= one.2
    }

    /// What naive sessions give out for one batch: those that a delta touched.
    fn merged(model: &mut Vec<Row>, delta: &[Row]) -> Vec<Row> {
        let mut spans: Vec<Row> = model.iter().chain(delta).map(|row| (row.0, row.1, row.2, Vec::new())).collect();
        spans = together(spans);
        spans.retain(|span| delta.iter().any(|row| touch(span, row)));
        let (old, kept) =
            std::mem::take(model).into_iter().partition::<Vec<_>, _>(|row| spans.iter().any(|span| touch(span, row)));
        // old state first, then the delta
        for span in &mut spans {
            let values = |rows: &[Row]| {
                rows.iter().filter(|row| touch(span, row)).flat_map(|row| row.3.clone()).collect::<Vec<_>>()
            };
            span.3 = [values(&old), values(delta)].concat();
        }
        *model = together([kept, spans.clone()].concat());
        spans
    }

    /// For each batch: rows (key, start, length), watermark, whether the state is written and read again.
    type Batches = Vec<(Vec<(Option<u8>, i64, i64)>, i64, bool)>;

    fn batches() -> impl Strategy<Value = Batches> {
        let rows = prop::collection::vec((prop::option::weighted(0.9, 0..12_u8), 0..200_i64, 0..12_i64), 0..40);
        prop::collection::vec((rows, prop_oneof![9 => 0..200_i64, 1 => Just(i64::MAX)], any::<bool>()), 1..16)
    }

    fn check(keys: [&str; 2], key_count: usize, batches: Batches) -> std::result::Result<(), TestCaseError> {
        let (mut found, merger) = sessions(keys, key_count);
        let (mut model, mut next) = (Vec::<Row>::new(), 0);
        for (rows, watermark_us, reload) in batches {
            let mut number = |(key, start, len): (Option<u8>, i64, i64)| {
                next += 1;
                (key.filter(|_| key_count == 2), start, start + len, vec![next])
            };
            let rows: Vec<Row> = rows.into_iter().map(&mut number).collect();
            let expected = together(rows.clone());
            let mut written = expected.clone();
            if found.session == 0 {
                written.sort_by_key(|(key, start, end, _)| (*start, *end, *key));
            }
            let delta = found.ordered(&merger, batch(&found, &rows)).unwrap();
            prop_assert_eq!(&delta.rows, &batch(&found, &written));
            prop_assert_eq!(found.ordered(&merger, delta.rows.clone()).unwrap().rows, delta.rows.clone());
            let touched = merged(&mut model, &expected);
            prop_assert_eq!(found.merge(&merger, &delta.rows).unwrap().state, batch(&found, &touched));
            let (mut over, open) = model.into_iter().partition::<Vec<_>, _>(|row| row.2 <= watermark_us);
            over.sort_by_key(|(key, start, end, _)| (*end, *key, *start));
            model = open;
            prop_assert_eq!(found.evict(watermark_us).unwrap(), batch(&found, &over));
            let parts = found.parts().unwrap();
            prop_assert_eq!(&parts, &[batch(&found, &model)]);
            prop_assert_eq!((found.len(), found.memory_bytes() == 0), (model.len(), model.is_empty()));
            if reload {
                found = sessions(keys, key_count).0;
                found.load(&parts[0]).unwrap();
                prop_assert_eq!(found.parts().unwrap(), parts);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn sessions_are_those_of_a_naive_model(batches in batches()) {
            check(["key", "session"], 2, batches)?;
        }

        #[test]
        fn the_session_may_stand_before_the_key(batches in batches()) {
            check(["session", "key"], 2, batches)?;
        }

        #[test]
        fn sessions_need_no_key(batches in batches()) {
            check(["session", ""], 1, batches)?;
        }
    }
}
