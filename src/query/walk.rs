//! Goes through a plan: which parts of it are streams, and what each part of them means for state.

use std::collections::BTreeSet;

use datafusion::{
    common::{
        NullEquality,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Distinct, Join, JoinType, LogicalPlan, Union},
};

use super::{
    classify::{Refusal, Shape, expressions, one_order, refused_node},
    feed::Groups,
    marks::{Mark, Marked},
};

/// Whether a part of a plan reads any of these tables.
pub(super) fn is_stream(plan: &LogicalPlan, streams: &BTreeSet<String>) -> bool {
    let mut found = false;
    let visited = plan.apply(|node| {
        found |= match node {
            LogicalPlan::TableScan(scan) => streams.contains(scan.table_name.table()),
            LogicalPlan::Extension(extension) => extension.node.as_any().is::<Groups>(),
            _ => false,
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    // the visitor itself cannot fail
    visited.is_ok() && found
}

/// Decides what a plan (analysed by nobody yet, as the SQL planner made it) is.
pub(super) fn classify(plan: &LogicalPlan, streams: &BTreeSet<String>) -> Result<Shape, Refusal> {
    let mut shape = Shape::default();
    Walk { streams, shape: &mut shape }.walk(plan)?;
    statics(plan, streams, &mut shape);
    if shape.sources.is_empty() {
        return Err(Refusal::new("this query reads no source table", "select FROM a table that the job declares"));
    }
    Ok(shape)
}

/// Which static tables a plan reads, subqueries included.
fn statics(plan: &LogicalPlan, streams: &BTreeSet<String>, shape: &mut Shape) {
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table().to_owned();
            if !streams.contains(&name) && !shape.statics.contains(&name) {
                shape.statics.push(name);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = visited {
        tracing::debug!("a plan cannot be walked: {error}");
    }
}

/// Goes down the parts of a plan that are streams.
struct Walk<'a> {
    streams: &'a BTreeSet<String>,
    shape: &'a mut Shape,
}

impl Walk<'_> {
    fn walk(&mut self, node: &LogicalPlan) -> Result<(), Refusal> {
        if !is_stream(node, self.streams) {
            // as a whole it is read at the start: anything can be computed of it
            return no_volatile(node);
        }
        expressions(node, self.shape, self.streams)?;
        match node {
            LogicalPlan::Projection(projection) => self.walk(&projection.input),
            LogicalPlan::Filter(filter) => self.walk(&filter.input),
            LogicalPlan::SubqueryAlias(alias) => self.walk(&alias.input),
            LogicalPlan::Unnest(unnest) => self.walk(&unnest.input),
            LogicalPlan::Sort(sort) => {
                above_the_state(self.shape, "ORDER BY below an aggregate", "order")?;
                self.shape.sorted = true;
                self.walk(&sort.input)
            }
            LogicalPlan::Limit(limit) => {
                above_the_state(self.shape, "LIMIT below an aggregate", "limit")?;
                self.shape.limited = true;
                self.walk(&limit.input)?;
                // the rows that came so far are counted, where they are given out for good
                self.shape.stateful = true;
                Ok(())
            }
            LogicalPlan::Aggregate(aggregate) => {
                one_order(&aggregate.aggr_expr)?;
                self.keeps(true);
                self.walk(&aggregate.input)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                self.shape.distinct |= !self.shape.stateful;
                self.keeps(true);
                self.walk(input)
            }
            LogicalPlan::Distinct(Distinct::On(distinct)) => {
                // with an order another row may become the first one
                self.shape.first_may_change |= !self.shape.stateful;
                self.keeps(true);
                self.walk(&distinct.input)
            }
            LogicalPlan::Extension(_) => match Marked::of(node) {
                Some(marked) => {
                    if matches!(marked.mark, Mark::FirstOfKey { .. }) {
                        self.keeps(false);
                    }
                    self.walk(&marked.input)
                }
                None => Err(refused_node(node)),
            },
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::TableScan(scan) => {
                let name = scan.table_name.table().to_owned();
                if !self.shape.sources.contains(&name) {
                    self.shape.sources.push(name);
                }
                Ok(())
            }
            other => Err(refused_node(other)),
        }
    }

    fn union(&mut self, union: &Union) -> Result<(), Refusal> {
        let stateful = std::mem::replace(&mut self.shape.stateful, true);
        for input in &union.inputs {
            if has_state(input, self.streams) {
                return Err(Refusal::new(
                    "UNION ALL over what keeps state would put groups of different kinds into one result",
                    "aggregate above UNION ALL, or write one INSERT per input",
                )
                .at("union"));
            }
            self.walk(input)?;
        }
        self.shape.stateful = stateful;
        Ok(())
    }

    /// A part with state was met; the first one met is the one that makes the result.
    fn keeps(&mut self, aggregates: bool) {
        self.shape.aggregates |= aggregates && !self.shape.stateful;
        self.shape.stateful = true;
    }

    fn join(&mut self, join: &Join) -> Result<(), Refusal> {
        match [&join.left, &join.right].map(|side| is_stream(side, self.streams)) {
            [true, true] => {
                stream_join(join)?;
                self.shape.joins_streams = true;
                self.keeps(false);
                self.walk(&join.left)?;
                self.walk(&join.right)
            }
            [left, _] => {
                use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
                let keeps_the_stream = match join.join_type {
                    Inner => true,
                    Left | LeftSemi | LeftAnti | LeftMark => left,
                    Right | RightSemi | RightAnti | RightMark => !left,
                    JoinType::Full => false,
                };
                if !keeps_the_stream {
                    return Err(Refusal::new(
                        format!("a {} join gives out rows of the static table that no row of the stream meets, and that is known at the end of the stream only", join.join_type),
                        "use an inner join, or an outer join that keeps all rows of the stream",
                    )
                    .at("join"));
                }
                self.walk(&join.left)?;
                self.walk(&join.right)
            }
        }
    }
}

/// Joins of two streams that can be run.
fn stream_join(join: &Join) -> Result<(), Refusal> {
    use JoinType::{Full, Inner, Left, LeftSemi, Right};
    if join.null_equality == NullEquality::NullEqualsNull {
        return Err(Refusal::new(
            "rows of two streams are compared as if null were equal to null",
            "compare with =, which null never meets; INTERSECT and IS NOT DISTINCT FROM do otherwise",
        ));
    }
    if !matches!(join.join_type, Inner | Left | Right | Full | LeftSemi) {
        return Err(Refusal::new(
            format!("a {} join of two streams is known at their end only", join.join_type),
            "use an inner, left, right, full or left semi join",
        )
        .at("join"));
    }
    Ok(())
}

/// Whether a part of a plan keeps state over the stream.
pub(super) fn has_state(plan: &LogicalPlan, streams: &BTreeSet<String>) -> bool {
    let mut found = false;
    let visited = plan.apply(|node| {
        let keeps = match node {
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => true,
            LogicalPlan::Join(join) => is_stream(&join.left, streams) && is_stream(&join.right, streams),
            LogicalPlan::Extension(_) => {
                Marked::of(node).is_some_and(|marked| matches!(marked.mark, Mark::FirstOfKey { .. }))
            }
            _ => false,
        };
        found |= keeps && is_stream(node, streams);
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok() && found
}

/// Whether a part of a plan joins streams with each other.
pub(super) fn joins_streams(plan: &LogicalPlan, streams: &BTreeSet<String>) -> bool {
    let both = |node: &LogicalPlan| matches!(node, LogicalPlan::Join(join) if is_stream(&join.left, streams) && is_stream(&join.right, streams));
    plan.exists(|node| Ok(both(node))).unwrap_or(true)
}

/// What is computed of static tables must be the same each time.
pub(super) fn no_volatile(node: &LogicalPlan) -> Result<(), Refusal> {
    let mut shape = Shape::default();
    let mut refusal = None;
    let visited = node.apply(|node| {
        refusal = refusal.take().or(expressions(node, &mut shape, &BTreeSet::new()).err());
        Ok(TreeNodeRecursion::Continue)
    });
    match (visited, refusal) {
        (_, Some(refusal)) => Err(refusal),
        (Err(_), None) => Err(Refusal::new("a part of it cannot be looked into", "simplify the query")),
        (Ok(_), None) if shape.batch_time => Err(Refusal::new(
            "now() over a static table would change what the table is from batch to batch",
            "compare with now() where the stream is joined",
        )
        .at("now")),
        (Ok(_), None) => Ok(()),
    }
}

fn above_the_state(shape: &Shape, what: &str, word: &str) -> Result<(), Refusal> {
    if !shape.stateful {
        return Ok(());
    }
    let reason = format!("{what} would need the whole stream to be sorted or counted before the first group is known");
    Err(Refusal::new(reason, "move it outside, above GROUP BY").at(word))
}
