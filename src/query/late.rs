//! The rows that came too late, whole, for the side output: found by plans of their own, which run only after a batch that
//! had some, so that what the query itself keeps and is known by stays the same.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, StructArray, TimestampMicrosecondArray},
        datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
        error::ArrowError,
        record_batch::RecordBatch,
    },
    common::tree_node::{TreeNode, TreeNodeRecursion},
    error::DataFusionError,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
    physical_plan::ExecutionPlan,
    prelude::SessionContext,
};

use super::{
    classify::Refusal,
    cut::{Cut, CutKind, Cutter},
    feed::Rows,
    incremental::Unbuilt,
    is_late::LateBy,
    marks::{Mark, Marked},
    operators::{Batch, Builder, Stage, run},
    walk::has_state,
};
use crate::model::{Error, Result};

/// The late rows of one place where they are dropped.
pub(super) struct OnTimePlan {
    /// Which of the query's marks it is.
    number: usize,
    late_by: LateBy,
    pub plan: LogicalPlan,
}

impl OnTimePlan {
    pub fn optimised(&self, context: &SessionContext) -> std::result::Result<LogicalPlan, DataFusionError> {
        context.state().optimize(&self.plan)
    }
}

/// The late rows of each place of a query where they are dropped. What an aggregate below gives out is left
/// out: the watermark that closed a group makes none of it late.
///
/// # Errors
/// Where rows can be late a second time.
pub(super) fn plans(plan: &LogicalPlan, streams: &BTreeSet<String>) -> std::result::Result<Vec<OnTimePlan>, Refusal> {
    let unclear = || Refusal::new("its late rows cannot be told apart", "leave late_rows out, or simplify the query");
    let mut found = Vec::new();
    let mut twice = false;
    let visited = plan.apply(|node| {
        if let Some(marked) = Marked::of(node)
            && let Mark::OnTime { counted: true, number, .. } = marked.mark
            && !has_state(&marked.input, streams)
        {
            twice |= marked.input.exists(|below| Ok(Marked::of(below).is_some()))?;
            let late_by = LateBy::default();
            let is_late = late_by.function().call(marked.expressions.clone());
            let plan = LogicalPlanBuilder::from(marked.input.clone()).filter(is_late)?.build()?;
            found.push(OnTimePlan { number, late_by, plan });
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = visited {
        tracing::debug!("a plan cannot be walked: {error}");
        return Err(unclear());
    }
    if twice {
        return Err(Refusal::new(
            "a row can be late by its window, and again by its event time: late_rows would show it by halves",
            "leave late_rows out, or join before the window is computed",
        )
        .at("window"));
    }
    Ok(found)
}

/// What finds a query's late rows.
pub(super) struct LateRows {
    places: Vec<Place>,
}

struct Place {
    /// Below the plan: unions.
    stages: Vec<Stage>,
    plan: Arc<dyn ExecutionPlan>,
    late_by: LateBy,
    /// Whether the watermark makes rows late there; otherwise only those without a time are dropped.
    bounded: bool,
    /// The columns of a row.
    fields: Fields,
    /// `row` and `watermark`.
    schema: SchemaRef,
}

impl LateRows {
    /// `cut`: the query's own; `cutter`: for the plans here.
    ///
    /// # Errors
    /// Where no row can be late, or of DataFusion.
    pub fn new<'a>(
        builder: &Builder<'_>,
        plans: &[OnTimePlan],
        cut: &Cut,
        cutter: impl Fn() -> Cutter<'a>,
    ) -> std::result::Result<LateRows, Unbuilt> {
        let is_bounded = |plan: &OnTimePlan| {
            cut.stages.iter().any(
                |stage| matches!(stage.kind, CutKind::OnTime { bounded: true, number, .. } if number == plan.number),
            )
        };
        if !plans.iter().any(is_bounded) {
            return Err(Unbuilt::Refused(Refusal::new(
                "late_rows is set, and no row of this query can be late: no watermark bounds it in this mode",
                "leave the option out; or declare event_time and watermark_delay on the source, and group or join by that time in append or update mode",
            )));
        }
        let places = plans.iter().map(|part| {
            let Cut { stages, last } = cutter().cut(&part.plan)?;
            let stages: std::result::Result<Vec<_>, Unbuilt> =
                stages.iter().map(|stage| builder.stage(stage)?.map_err(Unbuilt::Ours)).collect();
            let fields = fields(&part.plan);
            let row = Field::new("row", DataType::Struct(fields.clone()), false);
            let watermark = Field::new("watermark", DataType::Timestamp(TimeUnit::Microsecond, None), true);
            let schema = Arc::new(Schema::new(vec![row, watermark]));
            let (stages, plan, late_by) = (stages?, builder.physical(&last)?, part.late_by.clone());
            Ok(Place { stages, plan, late_by, bounded: is_bounded(part), fields, schema })
        });
        Ok(LateRows { places: places.collect::<std::result::Result<_, Unbuilt>>()? })
    }

    pub fn schemas(&self) -> impl Iterator<Item = &SchemaRef> {
        self.places.iter().map(|place| &place.schema)
    }

    /// The late rows of what the sources are fed, in their order.
    pub fn rows(&mut self, batch: &Batch<'_>) -> Result<Vec<RecordBatch>> {
        let mut late = Vec::new();
        for place in &mut self.places {
            place.late_by.set(batch.watermarks.late_us.filter(|_| place.bounded));
            for stage in &mut place.stages {
                stage.step(batch)?;
            }
            for rows in run(batch.query, batch.executor, &place.plan)? {
                let told = place.told(&rows, batch.watermarks.late_us)?;
                late.extend((told.num_rows() > 0).then_some(told));
            }
            place.stages.iter().for_each(|stage| stage.out.fill(Rows::None));
        }
        Ok(late)
    }
}

impl Place {
    fn told(&self, rows: &RecordBatch, late_us: Option<i64>) -> Result<RecordBatch> {
        let row = StructArray::try_new_with_length(self.fields.clone(), rows.columns().to_vec(), None, rows.num_rows());
        let row: ArrayRef = Arc::new(row.map_err(|error| failed(&error))?);
        let watermark: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![late_us; rows.num_rows()]));
        RecordBatch::try_new(self.schema.clone(), vec![row, watermark]).map_err(|error| failed(&error))
    }
}

/// The columns of a plan; those that have the same name are told apart by their tables.
fn fields(plan: &LogicalPlan) -> Fields {
    let schema = plan.schema();
    let columns = schema.fields();
    let field = |(index, field): (usize, &Arc<Field>)| {
        let is_alone = columns.iter().filter(|other| other.name() == field.name()).count() == 1;
        let (table, _) = schema.qualified_field(index);
        match table.filter(|_| !is_alone) {
            Some(table) => Arc::new(field.as_ref().clone().with_name(format!("{table}.{}", field.name()))),
            None => field.clone(),
        }
    };
    columns.iter().enumerate().map(field).collect()
}

fn failed(error: &ArrowError) -> Error {
    Error::failed("late rows could not be put together").because(error.to_string())
}
