//! Leaves of the plans: where a batch's rows, or finalised groups, enter.
//!
//! A plan is made once and executed for each batch; what its leaf yields is put into a shared slot before.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    catalog::Session,
    common::{DFSchemaRef, Result},
    datasource::{TableProvider, TableType},
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext, context::QueryPlanner},
    logical_expr::{
        Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
    physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner},
};

use crate::model;

/// Batches as they come, for a baseline that must not hold all of them.
pub type RowsIterator = Box<dyn Iterator<Item = model::Result<RecordBatch>> + Send>;

/// What a leaf yields when the plan is executed.
#[derive(Clone, Default)]
pub enum Rows {
    #[default]
    None,
    /// The same batches at each execution.
    Batches(Arc<Vec<RecordBatch>>),
    /// A fresh pass at each execution.
    Pass(Arc<dyn Fn() -> RowsIterator + Send + Sync>),
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rows::None => f.write_str("None"),
            Rows::Batches(batches) => write!(f, "{} batches", batches.len()),
            Rows::Pass(_) => f.write_str("Pass"),
        }
    }
}

/// The place that is filled before a plan is executed.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Rows>>);

impl Slot {
    pub fn fill(&self, rows: Rows) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// Whether it is this very slot.
    pub fn is(&self, other: &Slot) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Rows that the leaf yields; 0 where it is not known before a pass.
    pub fn row_count(&self) -> u64 {
        match self.rows() {
            Rows::Batches(batches) => batches.iter().map(|batch| batch.num_rows() as u64).sum(),
            Rows::None | Rows::Pass(_) => 0,
        }
    }

    fn rows(&self) -> Rows {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A source table; its columns are found by name, so that a reader may yield only those that are needed.
#[derive(Debug)]
pub(super) struct StreamTable {
    pub schema: SchemaRef,
    pub slot: Slot,
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        leaf(schema, self.slot.clone(), limit, false)
    }
}

fn leaf(schema: SchemaRef, slot: Slot, limit: Option<usize>, by_place: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let partition: Arc<dyn PartitionStream> = Arc::new(Leaf { schema: Arc::clone(&schema), slot, by_place });
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![partition], None, None, false, limit)?))
}

#[derive(Debug)]
struct Leaf {
    schema: SchemaRef,
    slot: Slot,
    /// Whether columns are found by their place: those of a part of a plan may have the same names.
    by_place: bool,
}

impl PartitionStream for Leaf {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let by_place = self.by_place;
        let project =
            move |batch: &RecordBatch| if by_place { renamed(batch, &schema) } else { project(batch, &schema) };
        let schema = Arc::clone(&self.schema);
        let rows = self.slot.rows();
        match rows {
            Rows::None => Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::empty())),
            Rows::Batches(batches) => {
                let projected: Vec<_> = batches.iter().map(project).collect();
                Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(projected)))
            }
            Rows::Pass(pass) => {
                let rows = pass().map(move |batch| match batch {
                    Ok(batch) => project(&batch),
                    Err(error) => Err(DataFusionError::External(Box::new(error))),
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows)))
            }
        }
    }
}

/// The same columns under the names of `schema`.
fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = datafusion::arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

/// The columns of `schema` out of `batch`, by name.
fn project(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if Arc::ptr_eq(&batch.schema(), schema) {
        return Ok(batch.clone());
    }
    let found = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .map(|field| found.index_of(field.name()).map(|index| Arc::clone(batch.column(index))))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let options = datafusion::arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Stands for the finalised groups in the plan above an aggregate.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    pub schema: DFSchemaRef,
    pub slot: Slot,
}

impl Groups {
    pub fn node(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        self.schema == other.schema
    }
}

impl Eq for Groups {}

impl PartialOrd for Groups {
    fn partial_cmp(&self, _other: &Self) -> Option<std::cmp::Ordering> {
        None
    }
}

impl Hash for Groups {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.schema.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Groups {
    fn name(&self) -> &str {
        "Groups"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Groups: finalised state")
    }

    fn with_exprs_and_inputs(&self, _expressions: Vec<Expr>, _inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// DataFusion's planner, which also knows [`Groups`].
#[derive(Debug)]
pub(super) struct StreamPlanner;

#[async_trait]
impl QueryPlanner for StreamPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(GroupsPlanner)])
            .create_physical_plan(plan, session)
            .await
    }
}

struct GroupsPlanner;

#[async_trait]
impl ExtensionPlanner for GroupsPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        _physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(groups) = node.as_any().downcast_ref::<Groups>() else { return Ok(None) };
        let schema: SchemaRef = Arc::new(groups.schema.as_arrow().clone());
        leaf(schema, groups.slot.clone(), None, true).map(Some)
    }
}
