//! The log on disk.

/// Only a commit can make one, and only with one can a sink publish.
#[derive(Debug)]
pub struct CommitPermit(());

impl CommitPermit {
    /// A permit without a commit.
    #[cfg(test)]
    pub(crate) fn for_test() -> CommitPermit {
        CommitPermit(())
    }
}
