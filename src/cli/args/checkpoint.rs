//! Options of the commands that take a checkpoint.

use std::path::PathBuf;

use super::{CrashArgs, FormatArgs, OutputFormat, SetArgs, ThreadsArgs};
use crate::model::{BatchAddress, BatchId};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater show checkpoints/web_servers --at 17\n  highwater show checkpoints/web_servers --sql 'SELECT sum(count) FROM counts'"
)]
pub struct ShowArgs {
    /// The checkpoint; its job may be running
    pub checkpoint: PathBuf,
    /// Show this query only
    #[arg(long, value_name = "NAME")]
    pub query: Option<String>,
    /// As of this batch, for instance 17, or 17@1 as committed in generation 1 [default: the newest]
    #[arg(long, value_name = "BATCH")]
    pub at: Option<BatchAddress>,
    /// Run SQL over the results, which are tables by query name
    #[arg(long, value_name = "SELECT", conflicts_with = "query")]
    pub sql: Option<String>,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "How long a batch took is known after its commit, and kept with the next commit of the same run: for the last batch of each run the table has -, JSON null, CSV nothing.\n\nExamples:\n  highwater log checkpoints/web_servers --output csv\n  highwater log checkpoints/web_servers --json | jq .numInputRows"
)]
pub struct LogArgs {
    /// The checkpoint; its job may be running
    pub checkpoint: PathBuf,
    /// Print one progress object per batch and line: the same as --output json
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Keys: q ends it, tab shows the next query's result, left and right those of other batches, n the newest; m marks a batch and shows what changed since, until m is pressed again; t a table or bars, p the plan.\nFor programs there are `log --json` and `show`.\n\nExamples:\n  highwater top checkpoints/web_servers\n  highwater top checkpoints/web_servers --interval 5s"
)]
pub struct TopArgs {
    /// The checkpoint; its job may be running
    pub checkpoint: PathBuf,
    /// Read it anew this often
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = super::parse_interval)]
    pub interval: std::time::Duration,
}

impl LogArgs {
    pub fn output(&self) -> OutputFormat {
        if self.json { OutputFormat::Json } else { self.format.output }
    }
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater diff checkpoints/web_servers --from 17 --to 20\n  highwater diff checkpoints/web_servers --from 25@1 --to 25@2 --output json"
)]
pub struct DiffArgs {
    /// The checkpoint; its job may be running
    pub checkpoint: PathBuf,
    /// The earlier batch
    #[arg(long, value_name = "BATCH")]
    pub from: BatchAddress,
    /// The later batch
    #[arg(long, value_name = "BATCH")]
    pub to: BatchAddress,
    /// Compare this query only
    #[arg(long, value_name = "NAME")]
    pub query: Option<String>,
    #[command(flatten)]
    pub format: FormatArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater verify checkpoints/web_servers\n  highwater verify checkpoints/web_servers --batch --every"
)]
pub struct VerifyArgs {
    /// The checkpoint
    pub checkpoint: PathBuf,
    /// Also recompute the results from the input, and compare
    #[arg(long)]
    pub batch: bool,
    /// Recompute and compare at every batch, not only at the newest
    #[arg(long, requires = "batch")]
    pub every: bool,
    #[command(flatten)]
    pub threads: ThreadsArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater rewind checkpoints/web_servers --to 17 --dry-run\n  highwater rewind checkpoints/web_servers --to start --replan"
)]
pub struct RewindArgs {
    /// The checkpoint; its job must be stopped
    pub checkpoint: PathBuf,
    /// The batch after which the job goes on, or `start`
    #[arg(long, value_name = "BATCH", value_parser = parse_target)]
    pub to: Target,
    /// Only print what would become invisible
    #[arg(long)]
    pub dry_run: bool,
    /// Plan anew what follows, instead of replaying the retracted plans
    #[arg(long)]
    pub replan: bool,
    #[command(flatten)]
    pub threads: ThreadsArgs,
    #[command(flatten)]
    pub crash: CrashArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater fork checkpoints/web_servers --at 17 checkpoints/what_if\n  highwater fork checkpoints/port_traffic --at 17 checkpoints/copy --set OUTPUT=out/copy"
)]
pub struct ForkArgs {
    /// The checkpoint to begin from
    pub checkpoint: PathBuf,
    /// The batch whose state and position the new checkpoint begins with
    #[arg(long, value_name = "BATCH")]
    pub at: BatchAddress,
    /// The new checkpoint
    pub new: PathBuf,
    #[command(flatten)]
    pub set: SetArgs,
}

/// Where a rewind goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Before the first batch.
    Start,
    After(BatchId),
}

fn parse_target(text: &str) -> Result<Target, String> {
    if text == "start" {
        return Ok(Target::Start);
    }
    let batch =
        text.parse().map_err(|_| format!("'{text}' is not a batch of the live timeline: write 17, or start"))?;
    Ok(Target::After(BatchId(batch)))
}
