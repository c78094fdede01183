//! The log on disk.
mod activity;
mod archive;
mod bad_records;
mod chain;
mod codec;
mod commit;
mod disk;
mod fork;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzzing;
mod history;
mod layout;
mod lineage;
mod lock;
mod log_thread;
mod open;
mod part;
mod payloads;
mod policy;
mod reader;
mod received;
mod record;
mod recovery;
mod seal;
mod server;
mod sled_store;
mod store;
#[cfg(test)]
mod tests;
mod timeline;
mod verify;
mod wire;
mod witness;
mod writer;

pub use activity::Activity;
pub use commit::CommitDraft;
pub use history::History;
pub use open::Repair;
pub use reader::Reader;
pub use record::{
    Accepted, Branch, Commit, ForkOrigin, Genesis, Payload, PayloadKind, PayloadPlace, PayloadRef, SeenFile, Snapshot,
};
pub use recovery::Recovery;
pub use timeline::RestoreSteps;
pub use verify::{Finding, verify};
pub use writer::{Checkpoint, OpenOptions};

/// Only a commit can make one, and only with one can a sink publish.
#[derive(Debug)]
pub struct CommitPermit(());

#[cfg(test)]
impl CommitPermit {
    /// For tests of sinks alone.
    pub(crate) fn for_test() -> CommitPermit {
        CommitPermit(())
    }
}
