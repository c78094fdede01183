//! Merging and evaluating partial aggregates, vectorised, in fresh accumulators.

use std::{ops::Range, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, new_empty_array},
        compute::concat,
        datatypes::SchemaRef,
        record_batch::{RecordBatch, RecordBatchOptions},
    },
    error::DataFusionError,
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{GroupsAccumulatorAdapter, aggregate::AggregateFunctionExpr},
};

use crate::model::{Error, Result};

/// How the rows of one query's state are merged and evaluated.
#[derive(Debug)]
pub struct Merger {
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    /// Which columns of the state hold each aggregate's partial state.
    columns: Vec<Range<usize>>,
    key_count: usize,
    state_schema: SchemaRef,
    result_schema: SchemaRef,
}

impl Merger {
    /// `state_schema`: `key_count` key columns, then each aggregate's state columns in order. `result_schema`: the
    /// key columns, then one column per aggregate.
    ///
    /// # Errors
    /// Of kind `Failed` where the schemas do not fit the aggregates.
    pub fn new(
        aggregates: Vec<Arc<AggregateFunctionExpr>>,
        key_count: usize,
        state_schema: SchemaRef,
        result_schema: SchemaRef,
    ) -> Result<Merger> {
        let mut columns = Vec::with_capacity(aggregates.len());
        let mut next = key_count;
        for aggregate in &aggregates {
            let width = aggregate.state_fields().map_err(|error| failed(&error))?.len();
            columns.push(next..next + width);
            next += width;
        }
        if next != state_schema.fields().len() || key_count + aggregates.len() != result_schema.fields().len() {
            return Err(Error::failed("an aggregate's state has columns that its plan does not have"));
        }
        Ok(Merger { aggregates, columns, key_count, state_schema, result_schema })
    }

    pub fn state_schema(&self) -> &SchemaRef {
        &self.state_schema
    }

    pub fn key_count(&self) -> usize {
        self.key_count
    }

    /// The partial aggregates of `group_count` groups: `old` rows first, then the `delta`'s (of both the columns behind the
    /// key). `old_groups` and `delta_groups` say for each row which of the groups it belongs to.
    ///
    /// # Errors
    /// Of kind `Failed` where an aggregate cannot merge (an overflowing sum, for instance).
    pub fn merge(
        &self,
        group_count: usize,
        old: Option<(&[ArrayRef], &[usize])>,
        (delta, delta_groups): (&[ArrayRef], &[usize]),
    ) -> Result<Vec<ArrayRef>> {
        if group_count == 0 {
            // An accumulator that never saw a group does not know its own columns.
            let fields = self.state_schema.fields()[self.key_count..].iter();
            return Ok(fields.map(|field| new_empty_array(field.data_type())).collect());
        }
        let mut columns = Vec::with_capacity(delta.len());
        for (aggregate, range) in self.aggregates.iter().zip(&self.columns) {
            let range = range.start - self.key_count..range.end - self.key_count;
            let mut accumulator = self.accumulator(aggregate)?;
            let mut merge = |columns: &[ArrayRef], groups: &[usize]| {
                accumulator.merge_batch(columns, groups, group_count).map_err(|error| failed(&error))
            };
            let fresh = &delta[range.clone()];
            match old {
                None => merge(fresh, delta_groups)?,
                Some((old, old_groups)) if old_groups.len() == group_count => {
                    merge(&old[range], old_groups)?;
                    merge(fresh, delta_groups)?;
                }
                // An accumulator takes every group that it is told of as met: old rows alone, which say nothing of the
                // new groups, would make the null of a new group a number.
                Some((old, old_groups)) => {
                    merge(&joined(&old[range], fresh)?, &[old_groups, delta_groups].concat())?;
                }
            }
            columns.extend(accumulator.state(EmitTo::All).map_err(|error| failed(&error))?);
        }
        Ok(columns)
    }

    /// The finalised aggregates of each row of `state`.
    ///
    /// # Errors
    /// Of kind `Failed` where an aggregate cannot be evaluated.
    pub fn evaluate(&self, state: &RecordBatch) -> Result<RecordBatch> {
        if state.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.result_schema)));
        }
        let groups: Vec<usize> = (0..state.num_rows()).collect();
        let mut columns = state.columns()[..self.key_count].to_vec();
        for (aggregate, range) in self.aggregates.iter().zip(&self.columns) {
            let mut accumulator = self.accumulator(aggregate)?;
            accumulator
                .merge_batch(&state.columns()[range.clone()], &groups, groups.len())
                .map_err(|error| failed(&error))?;
            columns.push(accumulator.evaluate(EmitTo::All).map_err(|error| failed(&error))?);
        }
        with_rows(&self.result_schema, columns, groups.len())
    }

    /// A fresh accumulator whose partial state has the layout that the plan's own partial aggregation writes: some
    /// aggregates (`corr`) lay it out differently by group and globally.
    fn accumulator(&self, aggregate: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
        if self.key_count > 0 && aggregate.groups_accumulator_supported() {
            return aggregate.create_groups_accumulator().map_err(|error| failed(&error));
        }
        let aggregate = Arc::clone(aggregate);
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
    }
}

/// Rows of `first`, then those of `second`.
fn joined(first: &[ArrayRef], second: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let pairs = first.iter().zip(second);
    let columns: std::result::Result<Vec<ArrayRef>, _> =
        pairs.map(|(a, b)| concat(&[a.as_ref(), b.as_ref()])).collect();
    columns.map_err(|error| Error::failed("partial aggregates could not be merged").because(error.to_string()))
}

/// A batch that may have no column at all.
pub(super) fn with_rows(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::failed("the state's columns do not fit its schema").because(error.to_string()))
}

pub(super) fn failed(error: &DataFusionError) -> Error {
    Error::failed("an aggregate could not be merged").because(error.strip_backtrace())
}
