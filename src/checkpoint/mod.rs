//! The log on disk.

/// Only a commit can make one, and only with one can a sink publish.
#[derive(Debug)]
pub struct CommitPermit(());
