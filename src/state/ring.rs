//! The deltas of the last batches, each kept by itself: what a window over batches is merged from.
//!
//! A window's groups are merged anew from the deltas that it has, the oldest first. Nothing is ever taken out of a merge,
//! so that no aggregate needs an inverse, and a key that no batch of the window has is gone.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type},
    record_batch::RecordBatch,
};

use super::{
    keyed::{KeyedState, Ordered},
    merge::{Merger, with_rows},
};
use crate::model::{BatchId, Error, Result};

/// Name of the last column of deltas and snapshots: the batch that a row is of.
const BATCH: &str = "__batch";

/// Deltas by batch; those without rows are not kept.
pub struct Ring {
    /// Of what is written: the columns of a delta, and behind them the batch.
    schema: SchemaRef,
    delta_schema: SchemaRef,
    deltas: BTreeMap<BatchId, RecordBatch>,
    /// For the order of deltas.
    empty: KeyedState,
}

impl Ring {
    /// An empty ring of deltas that are of `delta_schema`, whose first `key_count` columns are the key.
    ///
    /// # Errors
    /// As [`KeyedState::new`].
    pub fn new(delta_schema: &SchemaRef, key_count: usize) -> Result<Ring> {
        let batch = Arc::new(Field::new(BATCH, DataType::UInt64, false));
        let fields = delta_schema.fields().iter().cloned().chain([batch]);
        Ok(Ring {
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            delta_schema: delta_schema.clone(),
            deltas: BTreeMap::new(),
            empty: KeyedState::new(delta_schema, key_count)?,
        })
    }

    /// The schema of what is written of it: deltas and snapshots alike.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of rows: a group counts in each batch that has it.
    pub fn len(&self) -> usize {
        self.deltas.values().map(RecordBatch::num_rows).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        // of what was read, the columns are slices of one buffer
        let bytes = |column: &ArrayRef| {
            column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
        };
        self.deltas.values().flat_map(RecordBatch::columns).map(bytes).sum()
    }

    /// # Errors
    /// As [`KeyedState::ordered`].
    pub fn ordered(&self, delta: RecordBatch) -> Result<Ordered> {
        self.empty.ordered(delta)
    }

    /// A batch's delta as it is written.
    ///
    /// # Errors
    /// Of kind `Failed` where it is of another schema.
    pub fn written(&self, batch: BatchId, delta: &RecordBatch) -> Result<RecordBatch> {
        let ids: ArrayRef = Arc::new(UInt64Array::from_value(batch.0, delta.num_rows()));
        with_rows(&self.schema, [delta.columns(), &[ids]].concat(), delta.num_rows())
    }

    /// Adds a batch's delta.
    pub fn add(&mut self, batch: BatchId, delta: RecordBatch) {
        if delta.num_rows() > 0 {
            self.deltas.insert(batch, delta);
        }
    }

    /// Takes over rows of a snapshot.
    ///
    /// # Errors
    /// Of kind `Refused` where a batch stands twice, which no snapshot of ours has.
    pub fn load(&mut self, written: &RecordBatch) -> Result<()> {
        let ids = written.columns().last().and_then(|ids| ids.as_primitive_opt::<UInt64Type>());
        let ids = ids.ok_or_else(|| Error::refused("a snapshot does not say of which batch its groups are"))?.values();
        let columns = &written.columns()[..written.num_columns() - 1];
        let mut from = 0;
        for rows in ids.chunk_by(|one, other| one == other) {
            let columns = columns.iter().map(|column| column.slice(from, rows.len())).collect();
            let delta = with_rows(&self.delta_schema, columns, rows.len())?;
            if self.deltas.insert(BatchId(rows[0]), delta).is_some() {
                return Err(Error::refused("a snapshot holds the same batch twice").because("it is damaged"));
            }
            from += rows.len();
        }
        Ok(())
    }

    /// Lets go of the batches before `first`; returns how many rows they had.
    pub fn let_go(&mut self, first: BatchId) -> u64 {
        let kept = self.deltas.split_off(&first);
        let gone = std::mem::replace(&mut self.deltas, kept);
        gone.values().map(|delta| delta.num_rows() as u64).sum()
    }

    /// The groups of all batches that are there.
    ///
    /// # Errors
    /// As [`Merger::merge`] and [`KeyedState::whole`].
    pub fn merged(&self, merger: &Merger) -> Result<RecordBatch> {
        let mut groups = KeyedState::new(&self.delta_schema, merger.key_count())?;
        for delta in self.deltas.values() {
            let delta = groups.ordered(delta.clone())?;
            groups.merge(merger, &delta)?;
        }
        groups.whole()
    }

    /// All of it for a snapshot, a part for each batch.
    ///
    /// # Errors
    /// As [`Ring::written`].
    pub fn parts(&self) -> Result<Vec<RecordBatch>> {
        if self.deltas.is_empty() {
            return Ok(vec![RecordBatch::new_empty(self.schema.clone())]);
        }
        self.deltas.iter().map(|(batch, delta)| self.written(*batch, delta)).collect()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;
    use crate::state::{decode, encode};

    fn schema() -> SchemaRef {
        let fields = vec![Field::new("k", DataType::Utf8, true), Field::new("n", DataType::Int64, false)];
        Arc::new(Schema::new(fields))
    }

    fn delta(rows: &[(&str, i64)]) -> RecordBatch {
        let keys = StringArray::from_iter_values(rows.iter().map(|(key, _)| key));
        let counts = Int64Array::from_iter_values(rows.iter().map(|(_, count)| *count));
        RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(counts)]).expect("valid rows")
    }

    #[test]
    fn batches_are_let_go_by_their_ids_and_not_by_how_many_have_rows() {
        let mut ring = Ring::new(&schema(), 1).expect("a ring");
        ring.add(BatchId(3), delta(&[("a", 1), ("b", 2)]));
        ring.add(BatchId(4), delta(&[]));
        ring.add(BatchId(6), delta(&[("a", 5)]));
        assert_eq!(ring.len(), 3);
        assert_eq!(ring.let_go(BatchId(3)), 0);
        assert_eq!(ring.let_go(BatchId(4)), 2);
        assert_eq!(ring.parts().expect("parts"), [ring.written(BatchId(6), &delta(&[("a", 5)])).expect("written")]);
        assert_eq!(ring.let_go(BatchId(7)), 1);
        assert!(ring.is_empty());
    }

    #[test]
    fn a_snapshot_gives_each_batch_its_rows_back() {
        let mut ring = Ring::new(&schema(), 1).expect("a ring");
        assert_eq!(ring.parts().expect("parts").len(), 1, "an empty snapshot has its schema");
        ring.add(BatchId(7), delta(&[("a", 1), ("b", 2)]));
        ring.add(BatchId(9), delta(&[("b", 4)]));
        let parts = ring.parts().expect("parts");
        let read = decode(ring.schema(), &encode(ring.schema(), &parts).expect("encodes")).expect("decodes");
        let mut again = Ring::new(&schema(), 1).expect("a ring");
        for rows in &read {
            again.load(rows).expect("a part is taken over");
        }
        assert_eq!(again.parts().expect("parts"), parts);
        let twice = again.load(&read[1]).expect_err("the same batch again");
        assert!(twice.to_string().contains("the same batch twice"), "{twice}");
        again.let_go(BatchId(8));
        assert_eq!((again.len(), ring.len()), (1, 3));
    }
}
