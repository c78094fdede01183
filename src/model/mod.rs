//! Plain values at the bottom of the tree: ids, offsets, plans, errors, crash points.
//!
//! Nothing here does I/O, knows SQL or reads a clock.

pub mod batch_window;
pub mod crash;
pub mod error;
pub mod ids;
pub mod notice;
pub mod plan;
pub mod watermark;

pub use batch_window::BatchWindow;
pub use crash::{CrashPoint, Faults};
pub use error::{Error, ErrorKind, Place, Result};
pub use ids::{BatchAddress, BatchId, Generation};
pub use notice::Notice;
pub use plan::{BatchPlan, FileRead, InputPath, OutputMode, PlannedFile, SourceInput, StagedOutput};
pub use watermark::{WatermarkPolicy, Watermarks};

/// The variable of the environment that the page's token comes from: arguments can be seen by all users of a machine. No program
/// that is started inherits it.
pub const UI_TOKEN_VARIABLE: &str = "HIGHWATER_UI_TOKEN";
