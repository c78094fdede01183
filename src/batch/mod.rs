//! The batch loop: the only module that knows the order of things.
//!
//! ```text
//! plan      next input within the limits, batch time, watermark      pure
//! intend    the plan becomes durable, where something outside the checkpoint is staged or now() is used
//! read      files -> Arrow record batches, only the columns the queries need
//! step      queries over the new rows: delta per stateful operator, rows for each sink
//! stage     sinks write what they will publish: durable, invisible
//! commit    offsets + deltas + staged outputs: one atomic, durable write; the batch has happened
//! publish   staged output becomes visible, with the permit that only the commit can give
//! report    progress
//! ```

mod bad_records;
mod baseline;
mod changes;
mod check;
mod clean;
pub mod clock;
mod engine;
mod event_time;
mod expected;
mod facts;
mod fork;
mod input;
mod kept_job;
mod live;
mod notices;
mod one_batch;
mod open;
mod outputs;
mod receive;
mod recover;
mod report;
mod restore;
mod rewind;
mod run;
mod shown;
mod statics;
mod trigger;
mod verify;
mod verify_sinks;
mod view;
mod waiting;

pub use baseline::baseline;
pub use check::{QueryCheck, check, explain};
pub use engine::{Engine, EngineOptions, MakeSink};
pub use facts::{JobFacts, QueryFacts, SinkFacts, SourceFacts};
pub use fork::fork;
pub use rewind::{RewindOptions, RewindReport, rewind};
pub use run::{Event, RunOptions, Summary, run};
pub use shown::Results;
pub use trigger::Trigger;
pub use verify::{VerifyOptions, VerifyReport, verify};
pub use view::{Diff, LogRow, Table, View};
