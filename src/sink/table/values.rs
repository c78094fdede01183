//! What any database is told of rows in the same way.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Schema},
    record_batch::RecordBatch,
};

use super::super::rows;
use crate::model::{Error, Result};

/// Values as the JSON sink spells them: a string without its quotes, what is nested as JSON.
pub(in crate::sink) fn texts(column: &ArrayRef, field: &Field) -> Result<Vec<Option<String>>> {
    const BEFORE: &str = "{\"v\":";
    let one = Arc::new(Schema::new(vec![Field::new("v", field.data_type().clone(), true)]));
    let broken =
        |why: String| Error::failed(format!("column '{}' cannot be written as text", field.name())).because(why);
    let batch = RecordBatch::try_new(one, vec![Arc::clone(column)]).map_err(|error| broken(error.to_string()))?;
    let lines = String::from_utf8(rows::json_lines(&[batch])?).map_err(|error| broken(error.to_string()))?;
    let text = |line: &str| {
        let value = line.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix('}'));
        match value {
            None => Err(broken("its JSON is not a value".to_owned())),
            Some("null") => Ok(None),
            Some(value) if value.starts_with('"') => {
                serde_json::from_str(value).map(Some).map_err(|error| broken(error.to_string()))
            }
            Some(value) => Ok(Some(value.to_owned())),
        }
    };
    lines.lines().map(text).collect()
}

/// The column of a key that holds such a number, if one does: groups of a query tell some apart that databases do not. Asked of
/// the rows themselves.
pub(in crate::sink) fn float_key(batches: &[RecordBatch], keys: &[usize], is: impl Fn(f64) -> bool) -> Option<String> {
    for batch in batches {
        for key in keys {
            let column = batch.column(*key);
            let Some(numbers) = column.data_type().is_floating().then(|| cast(column, &DataType::Float64)) else {
                continue;
            };
            let Ok(numbers) = numbers else { continue };
            let mut found = numbers.as_primitive::<Float64Type>().iter().flatten();
            if found.any(&is) {
                return Some(batch.schema_ref().field(*key).name().clone());
            }
        }
    }
    None
}

/// The size and the hash of rows, in whatever order.
pub(in crate::sink) fn hash<R: AsRef<[u8]> + Ord>(mut rows: Vec<R>) -> (u64, [u8; 32]) {
    rows.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    for row in &rows {
        let row = row.as_ref();
        size += row.len() as u64;
        hasher.update(&(row.len() as u64).to_le_bytes());
        hasher.update(row);
    }
    (size, *hasher.finalize().as_bytes())
}
