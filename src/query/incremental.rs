//! One query at work: a batch's rows in, its delta and its output out.

use std::sync::Arc;

use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    error::DataFusionError,
    physical_plan::{ExecutionPlan, displayable},
};

use super::{
    classify::{Refusal, Shape},
    cut::{Cut, Uncut},
    feed::Rows,
    identity::{self, Facts},
    late::LateRows,
    operators::{Batch, Builder, Did, Kept, OperatorStep, Stage, run},
    order,
    plan::{Analysed, Executor},
};
use crate::{
    job::{QuerySpec, fingerprint::QueryIdentity},
    model::{BatchId, BatchWindow, OutputMode, Result, Watermarks},
    state,
};

/// What one batch did to one query.
#[derive(Debug, Default)]
pub struct Step {
    /// What the batch adds to the state, encoded ([`state::encode`]), one for each of [`Query::state_schemas`].
    pub deltas: Vec<Vec<u8>>,
    /// What the sink gets, if it was wanted.
    pub output: Option<Vec<RecordBatch>>,
    /// Rows that passed the filters in front of the state (or of the sink).
    pub rows_filtered: u64,
    /// Late rows, and rows without a time where there must be one, that were dropped.
    pub rows_late: u64,
    /// The late rows themselves, where the job wants them: each with one of [`Query::late_schemas`].
    pub late: Vec<RecordBatch>,
    /// Operators with state, from the sink up.
    pub operators: Vec<OperatorStep>,
}

/// A planned query, with its state.
pub struct Query {
    name: String,
    /// Indexes of its sources in the job.
    sources: Vec<usize>,
    mode: OutputMode,
    shape: Shape,
    identity: QueryIdentity,
    output_schema: SchemaRef,
    key_columns: Vec<usize>,
    /// Whether every group key is an output column.
    shows_key: bool,
    /// Where the plan is cut, from the sources up.
    stages: Vec<Stage>,
    /// What is above all cuts.
    last: Arc<dyn ExecutionPlan>,
    /// Whether the last plan reads a static table.
    last_reads_statics: bool,
    /// What finds the late rows, where they are wanted.
    late: Option<LateRows>,
    /// Over which batches its result is; `None`: over all.
    window: Option<BatchWindow>,
}

/// Why a query was not built.
pub(super) enum Unbuilt {
    Refused(Refusal),
    Failed(DataFusionError),
    Ours(crate::model::Error),
}

impl From<DataFusionError> for Unbuilt {
    fn from(error: DataFusionError) -> Unbuilt {
        Unbuilt::Failed(error)
    }
}

impl From<Uncut> for Unbuilt {
    fn from(uncut: Uncut) -> Unbuilt {
        match uncut {
            Uncut::Refused(refusal) => Unbuilt::Refused(refusal),
            Uncut::Failed(error) => Unbuilt::Failed(error),
        }
    }
}

impl Query {
    pub(super) fn build(
        builder: &Builder<'_>,
        spec: &QuerySpec,
        sources: Vec<usize>,
        analysed: Analysed,
        cut: &Cut,
        late: Option<LateRows>,
        facts: &Facts,
    ) -> std::result::Result<Query, Unbuilt> {
        let Analysed { shape, mode, optimised, .. } = analysed;
        let output_schema: SchemaRef = Arc::new(optimised.schema().as_arrow().clone());
        let key_columns = order::output_keys(&optimised);
        let mut stages = Vec::with_capacity(cut.stages.len());
        for stage in &cut.stages {
            stages.push(builder.stage(stage)?.map_err(Unbuilt::Ours)?);
        }
        let shows_key = cut.result().is_none_or(|aggregate| order::group_keys(aggregate) == key_columns.len());
        let identity = identity::of(&spec.name, mode, cut, &stages, facts);
        Ok(Query {
            name: spec.name.clone(),
            sources,
            mode,
            shape,
            identity,
            output_schema,
            key_columns,
            shows_key,
            stages,
            last: builder.physical(&cut.last)?,
            last_reads_statics: facts.reads_statics(&cut.last),
            late,
            window: cut.window(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Indexes of its sources in the job.
    pub fn sources(&self) -> &[usize] {
        &self.sources
    }

    pub fn mode(&self) -> OutputMode {
        self.mode
    }

    /// Append mode: a row once, never changed; its rows are in no state.
    pub fn gives_out_for_good(&self) -> bool {
        // Rows of a query without a result never change: update mode is append mode to it, as in Spark.
        self.mode == OutputMode::Append || !self.shape.aggregates
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn identity(&self) -> &QueryIdentity {
        &self.identity
    }

    pub fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }

    /// What late rows look like, one schema for each place where they are told: the row and the watermark. None: they
    /// are not wanted.
    pub fn late_schemas(&self) -> impl Iterator<Item = &SchemaRef> {
        self.late.iter().flat_map(LateRows::schemas)
    }

    /// The output columns that are the group key, in the order of the key.
    pub fn key_columns(&self) -> &[usize] {
        &self.key_columns
    }

    /// Whether [`Query::key_columns`] are the whole group key, so that a row is known by them.
    pub fn shows_key(&self) -> bool {
        self.shows_key
    }

    /// The schemas of what is kept for each batch and in snapshots, in this order; empty without state.
    pub fn state_schemas(&self) -> Vec<SchemaRef> {
        self.stages.iter().flat_map(Stage::state_schemas).collect()
    }

    /// How many keys the groups of its result have; `None`: it has no such result.
    pub fn key_count(&self) -> Option<usize> {
        self.stages.iter().rev().find_map(Stage::aggregate).map(|aggregate| aggregate.merger.key_count())
    }

    /// Whether the watermark changes what the query holds or gives out, so that a batch without data has to follow when it
    /// rises.
    pub fn is_bounded(&self) -> bool {
        self.stages.iter().any(Stage::is_bounded)
    }

    /// What each operator with state keeps, from the sources up.
    pub fn kept(&self) -> impl Iterator<Item = Kept> {
        self.stages.iter().filter_map(Stage::kept)
    }

    /// Whether a result is computed with static tables, so that these must be there to show it.
    pub fn shows_statics(&self) -> bool {
        self.last_reads_statics
    }

    /// Over which of the last batches its result is; `None`: over all.
    pub fn window(&self) -> Option<BatchWindow> {
        self.window
    }

    /// Number of keys in the state of all operators.
    pub fn state_rows(&self) -> u64 {
        self.stages.iter().map(|stage| stage.size().0).sum()
    }

    /// The streaming plan as text, for `explain`.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let text = displayable(self.last.as_ref()).indent(false).to_string();
        let last = match (self.stages.is_empty(), self.shape.aggregates) {
            (true, _) => "each batch",
            (false, true) => "over the groups that it touched, or all",
            (false, false) => "over the rows that come out",
        };
        let stages = self.stages.iter().flat_map(Stage::describe);
        stages.chain([(last, text)]).collect()
    }

    /// Runs the query over what its sources were fed (`rows_fed` in all), and merges what it adds into the state.
    ///
    /// # Errors
    /// Of kind `Failed` where an expression or an aggregate fails on the data. The state is then not to be used
    /// any more: the batch is not committed, and recovery restores it.
    pub(super) fn step(
        &mut self,
        executor: &Executor,
        rows_fed: u64,
        (id, watermarks): (BatchId, Watermarks),
        want_output: bool,
    ) -> Result<Step> {
        let mut step = Step::default();
        let (mut rows_in, mut late, mut filtered) = (rows_fed, 0, None);
        let result = self.stages.iter().rposition(|stage| stage.name().is_some());
        for (at, stage) in self.stages.iter_mut().enumerate() {
            // what is below another operator is its input, wanted or not
            let wanted = want_output || result != Some(at);
            let did = stage.step(&Batch { query: &self.name, id, executor, watermarks, wanted })?;
            late += did.rows_late;
            step.rows_late += did.rows_late;
            if let Some(name) = stage.name() {
                filtered = filtered.or(Some(did.rows_in.unwrap_or(rows_in)));
                step.operators.insert(0, operator_step(name, stage, &did, std::mem::take(&mut late)));
            }
            for (schema, delta) in stage.state_schemas().iter().zip(&did.deltas) {
                step.deltas.push(state::encode(schema, std::slice::from_ref(delta))?);
            }
            rows_in = stage.out.row_count();
        }
        if want_output || result.is_none() {
            step.output = Some(run(&self.name, executor, &self.last)?);
        }
        let output_rows = || step.output.iter().flatten().map(|batch| batch.num_rows() as u64).sum();
        step.rows_filtered = filtered.unwrap_or_else(output_rows);
        self.empty_slots();
        if let Some(late) = self.late.as_mut().filter(|_| step.rows_late > 0) {
            step.late = late.rows(&Batch { query: &self.name, id, executor, watermarks, wanted: true })?;
        }
        Ok(step)
    }

    /// Merges what a committed batch added; what the batch gave out is computed again where it is wanted.
    ///
    /// # Errors
    /// As [`Query::step`].
    pub fn replay(
        &mut self,
        executor: &Executor,
        deltas: &[RecordBatch],
        (id, watermarks): (BatchId, Watermarks),
        want_output: bool,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let want_output = want_output && self.shape.aggregates;
        let mut rest = deltas;
        for stage in &mut self.stages {
            let (own, others) = rest.split_at(stage.state_schemas().len().min(rest.len()));
            rest = others;
            let batch = Batch { query: &self.name, id, executor, watermarks, wanted: want_output };
            stage.replay(&batch, own)?;
        }
        let output = if want_output { Some(run(&self.name, executor, &self.last)?) } else { None };
        self.empty_slots();
        Ok(output)
    }

    /// Takes over rows of a snapshot, of the state with this number among [`Query::state_schemas`]; only into an empty state.
    ///
    /// # Errors
    /// Of kind `Refused`, where they cannot be a snapshot of it.
    pub fn load(&mut self, state: usize, rows: &RecordBatch) -> Result<()> {
        let mut before = 0;
        for stage in &mut self.stages {
            let own = stage.state_schemas().len();
            if state < before + own {
                return stage.load(state - before, rows);
            }
            before += own;
        }
        Ok(())
    }

    /// The whole state in parts, for a snapshot, one list for each of [`Query::state_schemas`].
    ///
    /// # Errors
    /// Of kind `Failed` where Arrow cannot gather a type.
    pub fn whole_state(&self) -> Result<Vec<Vec<RecordBatch>>> {
        let mut whole = Vec::new();
        for stage in &self.stages {
            whole.extend(stage.whole()?);
        }
        Ok(whole)
    }

    /// Forgets the state.
    ///
    /// # Errors
    /// As the state was made.
    pub fn clear(&mut self) -> Result<()> {
        self.stages.iter_mut().try_for_each(Stage::clear)
    }

    /// The result as of the state: the finalised groups through the rest of the query. Empty without such a state.
    ///
    /// # Errors
    /// As [`Query::step`].
    pub fn result(&self, executor: &Executor) -> Result<Vec<RecordBatch>> {
        let Some((stage, aggregate)) = self
            .stages
            .iter()
            .rev()
            .find_map(|stage| Some((stage, stage.aggregate()?)))
            .filter(|_| self.shape.aggregates)
        else {
            return Ok(Vec::new());
        };
        stage.out.fill(Rows::Batches(Arc::new(vec![aggregate.result()?])));
        let output = run(&self.name, executor, &self.last);
        self.empty_slots();
        output
    }

    fn empty_slots(&self) {
        self.stages.iter().for_each(|stage| stage.out.fill(Rows::None));
    }
}

fn operator_step(name: &'static str, stage: &Stage, did: &Did, rows_late: u64) -> OperatorStep {
    let (rows_total, memory_bytes) = stage.size();
    let Did { rows_updated, rows_removed, .. } = *did;
    OperatorStep { name, rows_updated, rows_removed, rows_late, rows_total, memory_bytes }
}
