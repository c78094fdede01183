//! Keyed state: columnar partial aggregates, one row per group, and what one batch adds to them.
//!
//! A *delta* is what partial aggregation of one batch yields: group keys and partial-state columns. The state
//! after a batch is the merge of all deltas up to it. Only the groups that a delta touches are merged; nothing
//! here depends on how many groups there are, except a snapshot and the evaluation of the whole result.
//!
//! The same sequence of deltas gives the same state to the bit, whether it was merged batch by batch, restored
//! from a snapshot half-way, or folded from the start: every merge is *old state first, then the delta*, per
//! group, in fresh accumulators (`state` and `evaluate` consume what they emit, so none is kept alive).

mod arenas;
mod calendar;
mod columns;
mod ipc;
mod join_rows;
mod key_table;
mod keyed;
mod keys;
mod merge;
mod panes;
mod ring;
mod seen;
mod sessions;
mod side;
mod spans;

pub use ipc::{decode, encode};
pub use join_rows::JoinRows;
pub use keyed::{KeyedState, Ordered, Touched};
pub use merge::Merger;
pub use panes::{OverAt, Panes};
pub use ring::Ring;
pub use seen::SeenKeys;
pub use sessions::Sessions;
pub use side::Taken;
