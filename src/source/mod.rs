//! What has arrived: replayable ranges of input. Files lie there; what other connectors receive is made such files first.
//!
//! A source lists ([`FilesSource::list`]), finds out purely what is new ([`next_files`]), of which batches take their parts
//! ([`Backlog`]), and reads exactly
//! what was planned, or says why it cannot ([`FilesSource::read`]). It keeps no position of its own: what was
//! committed comes from the log, as [`Seen`].

mod ahead;
pub mod files;
mod received;
pub mod watch;

pub use ahead::{ReadAhead, Wanted};
pub use files::{
    Backlog, Change, Changed, FilesSource, Limits, Listing, Next, ReadFile, Seen, Settling, Skipped, next_files,
};
pub use received::{Clock, Receiver, ReceiverOptions, check_received, verify as verify_received};
pub use watch::Watch;
