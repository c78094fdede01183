//! Which of the declared columns the queries need, so that no others are read.

use std::collections::BTreeSet;

use datafusion::{common::tree_node::TreeNodeRecursion, logical_expr::LogicalPlan};

use crate::{
    job::{JobSpec, SourceSpec},
    model::{Error, Result},
};

/// Which of the declared columns some query needs, ascending.
#[derive(Debug, Clone)]
pub struct Needed {
    /// By source.
    pub sources: Vec<Vec<usize>>,
    /// By static table.
    pub statics: Vec<Vec<usize>>,
}

impl Needed {
    /// Of each source its event time, whoever needs it: the watermark does.
    pub(super) fn of(job: &JobSpec) -> Needed {
        let event_time = |source: &SourceSpec| source.event_time.map(|spec| spec.column).into_iter().collect();
        Needed { sources: job.sources.iter().map(event_time).collect(), statics: vec![Vec::new(); job.statics.len()] }
    }

    /// Adds what an optimised plan needs, and says which sources it reads.
    pub(super) fn add(&mut self, job: &JobSpec, optimised: &LogicalPlan) -> Result<Vec<usize>> {
        let mut sources = BTreeSet::new();
        for (table, columns) in columns_by_table(optimised)? {
            let named = |source: &SourceSpec| source.name == table;
            let needed = match job.sources.iter().position(named) {
                Some(source) => {
                    sources.insert(source);
                    &mut self.sources[source]
                }
                None => match job.statics.iter().position(named) {
                    Some(table) => &mut self.statics[table],
                    None => continue,
                },
            };
            needed.extend(columns);
            needed.sort_unstable();
            needed.dedup();
        }
        Ok(sources.into_iter().collect())
    }
}

/// Indexes of the declared columns that the optimised plan's scans yield, by table.
pub(super) fn columns_by_table(plan: &LogicalPlan) -> Result<Vec<(String, Vec<usize>)>> {
    let mut found = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let all = || (0..scan.source.schema().fields().len()).collect();
            let columns = scan.projection.clone().unwrap_or_else(all);
            found.push((scan.table_name.table().to_owned(), columns));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(|error| Error::failed("a plan could not be walked").because(error.strip_backtrace()))?;
    Ok(found)
}
