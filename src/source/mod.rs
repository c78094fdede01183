//! What has arrived: replayable ranges of input. One folder per connector; so far files.
//!
//! A source lists ([`FilesSource::list`]), finds out purely what is new ([`next_files`]), of which batches take their parts
//! ([`Backlog`]), and reads exactly
//! what was planned, or says why it cannot ([`FilesSource::read`]). It keeps no position of its own: what was
//! committed comes from the log, as [`Seen`].

mod ahead;
pub mod files;
pub mod watch;

pub use ahead::{ReadAhead, Wanted};
pub use files::{
    Backlog, Change, Changed, FilesSource, Limits, Listing, Next, ReadFile, Seen, Settling, Skipped, next_files,
};
pub use watch::Watch;
