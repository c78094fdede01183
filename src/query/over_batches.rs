//! Windows over batches (`window_batches`): which queries can have them.

use std::collections::BTreeSet;

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::LogicalPlan,
};

use super::{
    classify::Refusal,
    cut::Closes,
    marks::{Mark, Marked},
    times::Time,
    walk::is_stream,
};
use crate::model::{BatchWindow, OutputMode};

const LEAVE_OUT: &str = "leave window_batches out";

/// Lets a query pass whose state is that of one `GROUP BY`: its deltas are all that a window has to keep.
///
/// # Errors
/// Why it cannot have such a window, in this mode or in any.
pub(super) fn check(
    plan: &LogicalPlan,
    mode: OutputMode,
    window: BatchWindow,
    streams: &BTreeSet<String>,
) -> Result<(), Refusal> {
    let kept = Stateful::of(plan, streams);
    let refuse = |reason: &str, way_out: &str| Err(Refusal::new(reason, way_out));
    if kept.distinct {
        let way_out = format!("write GROUP BY in place of DISTINCT, or {LEAVE_OUT}");
        return refuse("window_batches is for one GROUP BY, and DISTINCT keeps keys of all batches", &way_out)
            .map_err(|refusal| refusal.at("distinct"));
    }
    if kept.joins {
        let reason = "window_batches is for one GROUP BY, and a join of streams keeps rows of all batches";
        let way_out = format!("write the join to a sink of its own, and aggregate that; or {LEAVE_OUT}");
        return refuse(reason, &way_out).map_err(|refusal| refusal.at("join"));
    }
    match kept.aggregates {
        0 => {
            let way_out = format!("add an aggregate or GROUP BY, or {LEAVE_OUT}");
            return refuse(
                "window_batches aggregates over the last batches, and this query has no aggregate",
                &way_out,
            );
        }
        1 => {}
        _ => {
            let reason =
                "window_batches is for one GROUP BY, and an aggregate over an aggregate would need retractions";
            let way_out = format!("write the inner one to a sink of its own, and aggregate that; or {LEAVE_OUT}");
            return refuse(reason, &way_out);
        }
    }
    match mode {
        OutputMode::Update => refuse(
            "as batches leave a window groups change that got no rows, and update mode gives out those that got some",
            "declare output_mode = 'append' on the sink (each window once, when its last batch is there), or 'complete'",
        ),
        OutputMode::Complete if window.slide.get() > 1 => refuse(
            "complete mode gives out the result as of each batch, and with slide_batches not every batch has one",
            "declare output_mode = 'append' on the sink, or leave slide_batches out",
        ),
        OutputMode::Complete | OutputMode::Append => Ok(()),
    }
}

/// Refuses groups that a watermark closes, which would be a second window around the same rows.
pub(super) fn check_times(window: Option<BatchWindow>, mode: OutputMode, closing: &[Closes]) -> Result<(), Refusal> {
    let session = closing.iter().any(|closes| closes.time == Time::Session);
    if window.is_none() || closing.is_empty() || (mode == OutputMode::Complete && !session) {
        return Ok(());
    }
    let reason = "these groups end by event time, and window_batches ends them by batches";
    Err(Refusal::new(reason, format!("group by something else than event time, or {LEAVE_OUT}")).at("group"))
}

/// What of a plan keeps state.
#[derive(Default)]
struct Stateful {
    aggregates: usize,
    distinct: bool,
    joins: bool,
}

impl Stateful {
    fn of(plan: &LogicalPlan, streams: &BTreeSet<String>) -> Stateful {
        let mut kept = Stateful::default();
        let visited = plan.apply(|node| {
            match node {
                _ if !is_stream(node, streams) => return Ok(TreeNodeRecursion::Jump),
                LogicalPlan::Aggregate(_) => kept.aggregates += 1,
                LogicalPlan::Distinct(_) => kept.distinct = true,
                LogicalPlan::Join(join) => {
                    kept.joins |= is_stream(&join.left, streams) && is_stream(&join.right, streams);
                }
                _ => {
                    let mark = Marked::of(node).map(|marked| marked.mark);
                    kept.distinct |= matches!(mark, Some(Mark::FirstOfKey { .. }));
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        if let Err(error) = visited {
            tracing::debug!("a plan cannot be walked: {error}");
        }
        kept
    }
}
