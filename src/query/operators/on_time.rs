//! Rows that have a time, and are not late.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, AsArray, BooleanArray},
        compute::filter_record_batch,
        datatypes::TimestampMicrosecondType,
        record_batch::RecordBatch,
    },
    physical_plan::ExecutionPlan,
};

use super::{Batch, Did, first_columns, run};
use crate::{
    model::{Error, Result},
    query::feed::{Rows, Slot},
};

pub(super) struct OnTime {
    /// Rows, and in their last column their time.
    pub input: Arc<dyn ExecutionPlan>,
    /// Whether late rows are dropped, or only those without a time.
    pub bounded: bool,
    pub counted: bool,
}

impl OnTime {
    pub fn step(&self, batch: &Batch<'_>, out: &Slot) -> Result<Did> {
        let late_us = batch.watermarks.late_us.filter(|_| self.bounded);
        let (mut kept, mut late) = (Vec::new(), 0);
        for rows in run(batch.query, batch.executor, &self.input)? {
            let on_time = on_time(&rows, late_us)?;
            let count = on_time.true_count();
            late += (rows.num_rows() - count) as u64;
            let rows = first_columns(&rows, rows.num_columns() - 1)?;
            kept.push(if count == rows.num_rows() {
                rows
            } else {
                filter_record_batch(&rows, &on_time)
                    .map_err(|error| Error::failed("late rows could not be dropped").because(error.to_string()))?
            });
        }
        out.fill(Rows::Batches(Arc::new(kept)));
        Ok(Did { rows_late: if self.counted { late } else { 0 }, ..Did::default() })
    }
}

/// Which rows have a time (in their last column) that is after the watermark.
fn on_time(rows: &RecordBatch, late_us: Option<i64>) -> Result<BooleanArray> {
    let times = rows.columns().last().and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| Error::failed("an event time is no TIMESTAMP"))?;
    let after = |time: i64| late_us.is_none_or(|late| time > late);
    Ok((0..times.len()).map(|row| Some(times.is_valid(row) && after(times.value(row)))).collect())
}
