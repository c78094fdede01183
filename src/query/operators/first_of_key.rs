//! `DISTINCT ON`: the first row of each key, for ever or as long as the watermark says.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray},
        compute::{concat_batches, take_record_batch},
        datatypes::{FieldRef, SchemaRef, TimestampMicrosecondType},
        record_batch::RecordBatch,
    },
    physical_plan::ExecutionPlan,
};

use super::{Batch, Did, first_columns, run};
use crate::{
    model::{Error, Result},
    query::feed::{Rows, Slot},
    state::SeenKeys,
};

pub(super) struct FirstOfKey {
    /// Rows, then their keys, then the time if it is none of them.
    pub input: Arc<dyn ExecutionPlan>,
    /// How many columns the rows have.
    columns: usize,
    keys: usize,
    /// Which of what is behind the rows says how long a key is kept; `None`: for ever.
    time: Option<usize>,
    /// How long after that time, microseconds.
    within_us: i64,
    state: SeenKeys,
}

impl FirstOfKey {
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        columns: usize,
        keys: usize,
        time: Option<usize>,
        within_us: i64,
    ) -> Result<FirstOfKey> {
        let state = SeenKeys::new(&key_fields(&input, columns, keys))?;
        Ok(FirstOfKey { input, columns, keys, time, within_us, state })
    }

    pub fn name(&self) -> &'static str {
        if self.time == Some(self.keys) { "dedupeWithinWatermark" } else { "dedupe" }
    }

    pub fn is_bounded(&self) -> bool {
        self.time.is_some()
    }

    pub fn step(&mut self, batch: &Batch<'_>, out: &Slot) -> Result<Did> {
        let rows = run(batch.query, batch.executor, &self.input)?;
        let rows = concat_batches(&self.input.schema(), &rows)
            .map_err(|error| Error::failed("rows could not be put together").because(error.to_string()))?;
        let keys = &rows.columns()[self.columns..self.columns + self.keys];
        let (first, delta) = self.state.first_rows(keys, &self.until(&rows)?)?;
        let fresh = take_record_batch(&first_columns(&rows, self.columns)?, &first)
            .map_err(|error| Error::failed("first rows could not be taken").because(error.to_string()))?;
        let rows_updated = delta.num_rows() as u64;
        out.fill(Rows::Batches(Arc::new(vec![fresh])));
        let rows_removed = self.evict(batch);
        Ok(Did { deltas: vec![delta], rows_in: Some(rows.num_rows() as u64), rows_updated, rows_removed, rows_late: 0 })
    }

    pub fn replay(&mut self, batch: &Batch<'_>, deltas: &[RecordBatch]) -> Result<()> {
        deltas.iter().try_for_each(|delta| self.state.load(delta))?;
        self.evict(batch);
        Ok(())
    }

    fn evict(&mut self, batch: &Batch<'_>) -> u64 {
        batch.watermarks.over_us.map_or(0, |over| self.state.evict(over) as u64)
    }

    /// When each row's key is let go.
    fn until(&self, rows: &RecordBatch) -> Result<Vec<i64>> {
        let Some(time) = self.time else { return Ok(vec![i64::MAX; rows.num_rows()]) };
        let times: &ArrayRef = rows.column(self.columns + time);
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| Error::failed("an event time is no TIMESTAMP"))?;
        Ok(times.iter().map(|time| time.map_or(i64::MAX, |time| time.saturating_add(self.within_us))).collect())
    }

    pub fn state_schema(&self) -> SchemaRef {
        self.state.schema().clone()
    }

    pub fn size(&self) -> (u64, u64) {
        (self.state.len() as u64, self.state.memory_bytes() as u64)
    }

    pub fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        self.state.load(rows)
    }

    pub fn whole(&self) -> Result<RecordBatch> {
        self.state.whole()
    }

    pub fn clear(&mut self) -> Result<()> {
        self.state = SeenKeys::new(&key_fields(&self.input, self.columns, self.keys))?;
        Ok(())
    }
}

fn key_fields(input: &Arc<dyn ExecutionPlan>, columns: usize, keys: usize) -> Vec<FieldRef> {
    input.schema().fields()[columns..columns + keys].to_vec()
}
