//! Nodes of ours in a logical plan: where a streaming query is cut although plain SQL has nothing there.

use std::sync::Arc;

use datafusion::{
    common::{DFSchemaRef, Result},
    error::DataFusionError,
    logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore},
};

/// What is done at the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(super) enum Mark {
    /// Rows without a time are dropped and, where a watermark bounds what is above, late ones too.
    OnTime {
        /// Whether the time is made of a source's event time.
        bounded: bool,
        /// Whether rows that are dropped here count: a row of several windows is late when all are over.
        counted: bool,
        /// Whether it is a window that asks for a time, so that a row without one has none; otherwise only what the watermark
        /// bounds asks.
        window: bool,
        /// Which of the query's it is, through whatever the optimizer makes of the plan.
        number: usize,
    },
    /// The first row of each key; the keys are the node's expressions.
    FirstOfKey {
        /// Which expression is the event time that bounds how long a key is kept: one of the keys, or the one behind them.
        time: Option<usize>,
        keys: usize,
        /// With the time behind the keys: how long after it a key is kept, microseconds.
        within_us: i64,
    },
}

/// A mark over its input, whose rows and columns it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Marked {
    pub mark: Mark,
    pub input: LogicalPlan,
    pub expressions: Vec<Expr>,
}

impl Marked {
    pub fn node(mark: Mark, input: LogicalPlan, expressions: Vec<Expr>) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(Marked { mark, input, expressions }) })
    }

    /// The node that a plan is, if it is one.
    pub fn of(plan: &LogicalPlan) -> Option<&Marked> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Marked>(),
            _ => None,
        }
    }
}

impl PartialOrd for Marked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.mark.partial_cmp(&other.mark).filter(|order| order.is_ne() || self == other)
    }
}

impl UserDefinedLogicalNodeCore for Marked {
    fn name(&self) -> &str {
        match self.mark {
            Mark::OnTime { .. } => "OnTime",
            Mark::FirstOfKey { .. } => "FirstOfKey",
        }
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.expressions.clone()
    }

    fn fmt_for_explain(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list: Vec<String> = self.expressions.iter().map(ToString::to_string).collect();
        write!(f, "{}: {}", UserDefinedLogicalNodeCore::name(self), list.join(", "))
    }

    fn with_exprs_and_inputs(&self, expressions: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let [input] = <[LogicalPlan; 1]>::try_from(inputs)
            .map_err(|_| DataFusionError::Plan("a mark has one input".to_owned()))?;
        Ok(Marked { mark: self.mark, input, expressions })
    }

    /// The columns of the expressions are added by the optimizer itself.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}
