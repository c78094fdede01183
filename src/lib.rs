//! Highwater runs SQL streaming jobs exactly once, in one binary.
pub mod batch;
pub mod checkpoint;
pub mod cli;
pub mod format;
pub mod job;
pub mod model;
pub mod progress;
pub mod query;
pub mod sink;
pub mod source;
pub mod state;
pub mod trial;
