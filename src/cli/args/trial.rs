//! Options of the commands that try the product on itself, and of those that tell about it.

use std::path::PathBuf;

use clap::Subcommand;

use super::{JobArgs, ThreadsArgs};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater crash-test jobs/web_servers.sql --set INPUT=flows --kills 20\n  highwater crash-test jobs/port_traffic.sql --set INPUT=flows --kills 20 --seed 7"
)]
pub struct CrashTestArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// How often the job is killed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub kills: u32,
    /// The same seed draws the same moments
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Let this sink write where the job says, or run its program; all others are moved into the scratch folder
    #[arg(long = "allow-sink", value_name = "NAME")]
    pub allow_sinks: Vec<String>,
    #[command(flatten)]
    pub threads: ThreadsArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater generate flows flows\n  highwater generate flows many --files 100 --rows 100000 --unique"
)]
pub struct GenerateArgs {
    #[command(subcommand)]
    pub what: Generate,
}

#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Network flows, one JSON object a line
    #[command(
        after_help = "Examples:\n  highwater generate flows flows\n  highwater generate flows many --files 100 --rows 100000 --unique"
    )]
    Flows(FlowsArgs),
    /// What a web server logs, in Apache's combined format; for jobs/log_analyzer.sql
    #[command(
        after_help = "Examples:\n  highwater generate access-log logs\n  highwater generate access-log logs --files 20 --rows 1000"
    )]
    AccessLog(FilesArgs),
    /// Sentences, one a line; for jobs/word_count.sql
    #[command(
        after_help = "Examples:\n  highwater generate text texts\n  highwater generate text texts --files 20 --rows 1000"
    )]
    Text(FilesArgs),
    /// Messages with hashtags, one JSON object a line; for jobs/hashtags.sql
    #[command(
        after_help = "Examples:\n  highwater generate messages messages\n  highwater generate messages messages --files 20 --rows 1000"
    )]
    Messages(FilesArgs),
    /// Readings of pumps, and two CSV tables about the pumps; for jobs/sensor_alerts.sql
    #[command(
        after_help = "Examples:\n  highwater generate sensors sensors\n  highwater generate sensors sensors --files 20 --rows 1000"
    )]
    Sensors(FilesArgs),
    /// What users of a site look at, one JSON object a line; for jobs/sessions.sql
    #[command(
        after_help = "Examples:\n  highwater generate clicks clicks\n  highwater generate clicks clicks --files 20 --rows 1000"
    )]
    Clicks(FilesArgs),
    /// Orders and payments for them, in a folder each; for jobs/orders_join.sql
    #[command(
        after_help = "Examples:\n  highwater generate orders shop\n  highwater generate orders shop --files 20 --rows 1000"
    )]
    Orders(FilesArgs),
    /// Lines for whoever connects to a port, at a steady pace; for jobs/hashtags_live.sql and jobs/word_count_socket.sql
    #[command(
        after_help = "Examples:\n  highwater generate live --port 9999\n  highwater generate live --port 9999 --lines text --rows 1000 --rows-per-second 50"
    )]
    Live(LiveArgs),
}

#[derive(Debug, clap::Args)]
pub struct LiveArgs {
    /// Where to listen, on this machine only
    #[arg(long, default_value_t = 9999)]
    pub port: u16,
    /// Messages with hashtags as JSON, ten for each second of their own time; or sentences
    #[arg(long, value_enum, default_value_t = LiveLines::Messages)]
    pub lines: LiveLines,
    /// Lines in all; then it ends
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: u64,
    #[arg(long, default_value_t = std::num::NonZeroU32::new(100).expect("not zero"))]
    pub rows_per_second: std::num::NonZeroU32,
    /// The same seed gives the same lines
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LiveLines {
    Messages,
    Text,
}

#[derive(Debug, clap::Args)]
pub struct FlowsArgs {
    #[command(flatten)]
    pub files: FilesArgs,
    /// Nearly every device is different, so that state grows with the input
    #[arg(long)]
    pub unique: bool,
}

#[derive(Debug, clap::Args)]
pub struct FilesArgs {
    /// A new or empty folder
    pub dir: PathBuf,
    #[arg(long, default_value_t = 50)]
    pub files: u32,
    /// Rows in each file
    #[arg(long, default_value_t = 10_000)]
    pub rows: u32,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  highwater demo\n  highwater demo --kills 20 --keep demo")]
pub struct DemoArgs {
    /// How often the stream is killed
    #[arg(long, default_value_t = 5)]
    pub kills: u32,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub files: u32,
    /// Rows in each file
    #[arg(long, default_value_t = 10_000)]
    pub rows: u32,
    /// The same seed gives the same input, and draws the same moments
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep everything in this new or empty folder
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    #[command(flatten)]
    pub threads: ThreadsArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater completions bash > ~/.local/share/bash-completion/completions/highwater\n  highwater completions fish > ~/.config/fish/completions/highwater.fish"
)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  highwater man | man -l -\n  highwater man run > highwater-run.1")]
pub struct ManArgs {
    /// The page of this command [default: the page of highwater itself]
    pub command: Option<String>,
}
