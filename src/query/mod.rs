//! Incremental SQL: the only place that plans with DataFusion. It knows no log, no file and no clock.
//!
//! A query's optimised logical plan is cut wherever something keeps state. Below an aggregate, *partial* aggregation of one
//! batch's rows yields the batch's delta; above it, the rest of the plan (`HAVING`, projection, `ORDER BY`, `LIMIT`) runs
//! over finalised groups. Other cuts are the first rows of keys, joins of two streams, limits, and, without state, late rows and
//! `UNION ALL`. All parts are planned once per job and executed once per batch, from the sources up.
//!
//! - [`session`]: DataFusion, set up so that results are a function of the input
//! - [`classify`] and [`walk`]: what can be run incrementally, and why the rest cannot
//! - [`over_batches`]: which queries can aggregate over the last batches
//! - [`spellings`] and [`rewrite`]: windows and deduplication, written out; [`times`]: which columns hold event times
//! - [`cut`]: the parts of a plan, and [`operators`]: what is done between them; [`bounds`]: how long a join keeps a row
//! - [`plan`]: a job's queries, planned; [`incremental`]: one query at work
//! - [`baseline`]: the same queries over all the input at once, for comparison; [`replayed`] (and [`row_sessions`]): where a watermark drops rows
//! - [`equal`]: what "equals the batch result" means; [`closeness`] and [`floors`]: how close, column by column

mod baseline;
mod bounds;
mod classify;
mod closeness;
mod cut;
mod equal;
mod errors;
mod feed;
mod floors;
mod hidden;
mod identity;
mod incremental;
mod is_late;
mod json_text;
mod late;
mod marks;
mod needed;
mod now;
mod operators;
mod order;
mod over_batches;
mod over_results;
mod plan;
mod replayed;
mod rewrite;
mod row_sessions;
mod session;
mod spellings;
#[cfg(test)]
mod tests;
mod text_numbers;
mod times;
mod urls;
mod walk;
mod window_keys;
mod windows;

pub use baseline::{Baseline, BatchResult};
pub use classify::Shape;
pub use closeness::Closeness;
pub use equal::{Expected, FLOAT_TOLERANCE, GroupChange, diff_groups, difference};
pub use feed::{Rows, RowsIterator};
pub use incremental::{Query, Step};
pub use needed::Needed;
pub use operators::{Kept, OperatorStep};
pub use over_results::sql_over;
pub use plan::JobQueries;
pub use replayed::BatchInput;
