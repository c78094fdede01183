//! Which session each row of a stream is in, told row by row: what the streaming sessions are compared with.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray},
        compute::concat_batches,
        datatypes::{DataType, TimestampMicrosecondType},
        record_batch::RecordBatch,
    },
    common::Result,
    error::DataFusionError,
};

use super::replayed::encoded;

/// A session as it grows: where it begins and ends, and its rows.
struct Open {
    start: i64,
    end: i64,
    rows: Vec<usize>,
}

/// Rows of `width` columns with their group keys behind; the key numbered `session` becomes the whole session: all rows of the
/// other keys whose own spans overlap or touch, of those that came before the session was over. `batches`: rows, and up to
/// when sessions are over after them.
pub(super) fn with_sessions(
    batches: &[(RecordBatch, Option<i64>)],
    width: usize,
    session: usize,
) -> Result<RecordBatch> {
    let schema = batches.first().map(|(rows, _)| rows.schema());
    let schema = schema.ok_or_else(|| DataFusionError::Plan("there is no batch".to_owned()))?;
    let rows = concat_batches(&schema, batches.iter().map(|(rows, _)| rows))?;
    let own = rows.column(width + session).as_struct();
    let time = |name: &str| {
        let column = own.column_by_name(name).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        column.ok_or_else(|| DataFusionError::Plan("a session has no start and end".to_owned()))
    };
    let (starts, ends) = (time("start")?, time("end")?);
    let others = (width..rows.num_columns()).filter(|at| *at != width + session);
    let others: Vec<ArrayRef> = others.map(|at| rows.column(at).clone()).collect();
    let keys = if others.is_empty() { vec![Box::from([]); rows.num_rows()] } else { encoded(&others)? };
    let mut spans = vec![(0, 0); rows.num_rows()];
    let mut open: BTreeMap<&[u8], Vec<Open>> = BTreeMap::new();
    let mut first = 0;
    for (batch, over_us) in batches {
        for (row, key) in keys.iter().enumerate().skip(first).take(batch.num_rows()) {
            let of_key = open.entry(key).or_default();
            let (start, end) = (starts.value(row), ends.value(row));
            let (met, apart) =
                std::mem::take(of_key).into_iter().partition(|open: &Open| open.start <= end && start <= open.end);
            *of_key = apart;
            let mut joined = Open { start, end, rows: vec![row] };
            for other in met {
                (joined.start, joined.end) = (joined.start.min(other.start), joined.end.max(other.end));
                joined.rows.extend(other.rows);
            }
            of_key.push(joined);
        }
        first += batch.num_rows();
        for sessions in open.values_mut() {
            for over in sessions.extract_if(.., |open| over_us.is_some_and(|over| open.end <= over)) {
                over.rows.iter().for_each(|row| spans[*row] = (over.start, over.end));
            }
        }
    }
    for left in open.into_values().flatten() {
        left.rows.iter().for_each(|row| spans[*row] = (left.start, left.end));
    }
    let column = |time: fn(&(i64, i64)) -> i64| {
        Arc::new(TimestampMicrosecondArray::from_iter_values(spans.iter().map(time))) as ArrayRef
    };
    let DataType::Struct(fields) = own.data_type() else {
        return Err(DataFusionError::Plan("a session is no struct".to_owned()));
    };
    let sessions = StructArray::try_new(fields.clone(), vec![column(|span| span.0), column(|span| span.1)], None)?;
    let mut columns = rows.columns().to_vec();
    columns[width + session] = Arc::new(sessions);
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
