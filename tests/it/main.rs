//! The one integration-test binary: DataFusion links slowly, so all modules share one link.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)] // tests may look at the clock and say what they skip

mod architecture;
mod binary;
mod cli;
mod crash_points;
mod damage;
mod endurance;
mod faults;
mod folders;
mod golden;
mod golden_cases;
mod golden_jobs;
mod json_suite;
mod kills;
mod moving_input;
mod oracle;
mod parquet;
mod power_loss;
mod properties;
mod published;
mod read_ahead;
mod readme;
mod repairs;
mod restarts;
mod rewinds;
mod stream;
mod syscalls;
mod trace;
