//! `LIMIT` over a stream: the first rows of all, whatever batch they come in.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{AsArray, Int64Array},
        datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
        record_batch::RecordBatch,
    },
    physical_plan::ExecutionPlan,
};

use super::{Batch, Did, rows_in, run};
use crate::{
    model::{Error, Result},
    query::feed::{Rows, Slot},
};

pub(super) struct Limit {
    pub input: Arc<dyn ExecutionPlan>,
    /// Rows that are left out at the beginning.
    skip: u64,
    /// Rows that follow; `None`: all.
    fetch: Option<u64>,
    /// Rows that came so far.
    seen: u64,
    schema: SchemaRef,
}

impl Limit {
    pub fn new(input: Arc<dyn ExecutionPlan>, skip: u64, fetch: Option<u64>) -> Limit {
        let schema = Arc::new(Schema::new(vec![Field::new("rows", DataType::Int64, false)]));
        Limit { input, skip, fetch, seen: 0, schema }
    }

    pub fn step(&mut self, batch: &Batch<'_>, out: &Slot) -> Result<Did> {
        let rows = run(batch.query, batch.executor, &self.input)?;
        let count = rows_in(&rows);
        let mut given = Vec::new();
        for rows in rows {
            let came = rows.num_rows() as u64;
            let end = self.fetch.map_or(u64::MAX, |fetch| self.skip.saturating_add(fetch));
            let from = self.skip.saturating_sub(self.seen).min(came);
            let to = end.saturating_sub(self.seen).min(came).max(from);
            given.push(rows.slice(from as usize, (to - from) as usize));
            self.seen += came;
        }
        out.fill(Rows::Batches(Arc::new(given)));
        let delta = self.rows(count)?;
        Ok(Did { deltas: vec![delta], rows_in: Some(count), rows_updated: u64::from(count > 0), ..Did::default() })
    }

    /// Takes over rows that came: of a delta or of a snapshot.
    pub fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        for count in rows.column(0).as_primitive::<Int64Type>().values() {
            self.seen += u64::try_from(*count).map_err(|_| Error::refused("a count of rows is negative"))?;
        }
        Ok(())
    }

    pub fn whole(&self) -> Result<RecordBatch> {
        self.rows(self.seen)
    }

    pub fn clear(&mut self) {
        self.seen = 0;
    }

    pub fn state_schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn rows(&self, count: u64) -> Result<RecordBatch> {
        let count = i64::try_from(count).map_err(|_| Error::failed("there are more rows than can be counted"))?;
        RecordBatch::try_new(self.schema.clone(), vec![Arc::new(Int64Array::from(vec![count]))])
            .map_err(|error| Error::failed("a count of rows cannot be kept").because(error.to_string()))
    }
}
