//! Every command and option. Completions and man pages are made from these definitions.

mod checkpoint;
mod trial;

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

pub use self::{
    checkpoint::{DiffArgs, ForkArgs, LogArgs, RewindArgs, ShowArgs, Target, TopArgs, VerifyArgs},
    trial::{
        CompletionsArgs, CrashTestArgs, DemoArgs, FlowsArgs, Generate, GenerateArgs, LiveArgs, LiveLines, ManArgs,
    },
};
use super::load::parse_setting;
use crate::model::Faults;

/// Runs SQL streaming jobs over files exactly once, batch by batch, from a checkpoint that can be listed, queried,
/// compared, verified, rewound and forked.
#[derive(Debug, Parser)]
#[command(
    name = "highwater",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  highwater demo\n  highwater run jobs/web_servers.sql --set INPUT=flows --available-now"
)]
pub struct Args {
    /// Say more on stderr: -v what happens, -vv in detail; RUST_LOG overrides it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job, creating or resuming its checkpoint
    Run(RunArgs),
    /// Run a job's queries once over all the input, without state or checkpoint: the baseline
    Batch(BatchArgs),
    /// Parse, plan and probe a job, touching nothing: what is incremental, how large state gets, what sinks promise
    #[command(
        after_help = "Examples:\n  highwater check jobs/web_servers.sql --set INPUT=flows\n  INPUT=flows highwater check jobs/port_traffic.sql"
    )]
    Check(JobArgs),
    /// Print the streaming plan of a job
    #[command(
        after_help = "Examples:\n  highwater explain jobs/web_servers.sql --set INPUT=flows\n  INPUT=flows highwater explain jobs/port_traffic.sql"
    )]
    Explain(JobArgs),
    /// Show a query's result as of any committed batch, or SQL over the results
    Show(ShowArgs),
    /// List the committed batches
    Log(LogArgs),
    /// Watch a job in a terminal: state, charts, batches, results
    Top(TopArgs),
    /// Show the groups that changed between two batches, with both values
    Diff(DiffArgs),
    /// Check records, chain, state and sinks; with --batch also against a recomputation from the input
    Verify(VerifyArgs),
    /// Let the job go on after an earlier batch
    Rewind(RewindArgs),
    /// Begin a new checkpoint with a batch's state and position
    Fork(ForkArgs),
    /// Kill a job at random, resume it each time, and compare with an uninterrupted run
    CrashTest(CrashTestArgs),
    /// Write input files like those of the demo
    Generate(GenerateArgs),
    /// Generate input, run the batch, run the stream while killing it, and show that both results are the same
    Demo(DemoArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print a man page
    Man(ManArgs),
}

impl Command {
    /// Whether stderr is for progress objects only.
    pub fn has_json_progress(&self) -> bool {
        matches!(self, Command::Run(RunArgs { progress: ProgressMode::Json, .. }))
    }
}

/// A job file and what fills it.
#[derive(Debug, Clone, clap::Args)]
pub struct JobArgs {
    /// The job file
    #[arg(value_name = "JOB.sql")]
    pub job: PathBuf,
    #[command(flatten)]
    pub set: SetArgs,
}

#[derive(Debug, Clone, Default, clap::Args)]
pub struct SetArgs {
    /// Fill ${NAME} in the job file; the environment is the fallback
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
}

impl SetArgs {
    /// The values by name; of one that is given twice the last.
    pub fn values(&self) -> BTreeMap<String, String> {
        self.settings.iter().cloned().collect()
    }
}

/// How rows are printed on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people
    #[default]
    Table,
    /// One object a line
    Json,
    /// RFC 4180, with a header line
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressMode {
    /// A bar and a line per batch on a terminal, else a line per batch
    #[default]
    Auto,
    /// One progress object per batch, and nothing else but errors
    Json,
    /// Nothing but warnings and errors
    None,
}

#[derive(Debug, Clone, clap::Args)]
pub struct FormatArgs {
    /// How rows are printed
    #[arg(long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ThreadsArgs {
    /// Threads that decode input and run queries; as many again read ahead (default: one per processor)
    #[arg(long, hide = true, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

impl ThreadsArgs {
    pub fn count(&self) -> usize {
        // where the system cannot tell, one thread is always right
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }
}

#[derive(Debug, Clone, clap::Args)]
pub struct CrashArgs {
    /// Kill this process at the nth time that it reaches a point (for tests)
    #[arg(long, hide = true, env = "HIGHWATER_CRASH_AT", value_name = "POINT:N", value_parser = Faults::from_text)]
    crash_at: Option<Faults>,
}

impl CrashArgs {
    pub fn faults(&self) -> Faults {
        self.crash_at.clone().unwrap_or_default()
    }
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater run jobs/web_servers.sql --set INPUT=flows --ui 127.0.0.1:4040\n  highwater run job.sql --interval 10s --progress json 2>> progress.jsonl"
)]
pub struct RunArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// Where the job's log and state live [default: checkpoints/<job file's stem>]
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    /// Take what is there now, batch by batch within the limits, then end
    #[arg(long, group = "trigger")]
    pub available_now: bool,
    /// Take one batch without limits, then end
    #[arg(long, group = "trigger")]
    pub once: bool,
    /// Start batches at the multiples of an interval, for instance 10s
    #[arg(long, group = "trigger", value_name = "DURATION", value_parser = parse_interval)]
    pub interval: Option<Duration>,
    /// Stop after this many commits, batches without data included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_batches: Option<u64>,
    #[command(flatten)]
    pub format: FormatArgs,
    /// What stderr tells of each batch
    #[arg(long, value_enum, default_value_t)]
    pub progress: ProgressMode,
    /// Serve a page that shows what the job does, and its figures as JSON and for Prometheus, for instance on 127.0.0.1:4040
    /// (port 0: a free one, which stderr tells). An address that others reach needs a token in HIGHWATER_UI_TOKEN
    #[arg(long, value_name = "ADDRESS")]
    pub ui: Option<String>,
    /// A name that the page may be asked by, besides localhost and addresses; for a proxy in front of it
    #[arg(long, value_name = "NAME", requires = "ui")]
    pub ui_host: Vec<String>,
    /// Accept changed filters and projections in front of state, and record in the log since which batch
    #[arg(long)]
    pub accept_change: bool,
    /// Say nothing on stderr but warnings and errors
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub threads: ThreadsArgs,
    #[command(flatten)]
    pub crash: CrashArgs,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  highwater batch jobs/web_servers.sql --set INPUT=flows\n  highwater batch jobs/port_traffic.sql --set INPUT=flows --query top_ports --output csv"
)]
pub struct BatchArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// Print this query only
    #[arg(long, value_name = "NAME")]
    pub query: Option<String>,
    #[command(flatten)]
    pub format: FormatArgs,
    #[command(flatten)]
    pub threads: ThreadsArgs,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not an interval: write 10s, or '5 minutes'");
    crate::job::parse_duration(text).filter(|interval| !interval.is_zero()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::model::BatchId;

    fn parse(words: &str) -> Result<Command, clap::Error> {
        Args::try_parse_from(["highwater"].into_iter().chain(words.split(' '))).map(|args| args.command)
    }

    fn refused(words: &str) -> String {
        parse(words).expect_err(words).to_string()
    }

    #[test]
    fn definitions_are_sound_and_every_help_ends_with_two_examples() {
        Args::command().debug_assert();
        let mut commands = vec![Args::command()];
        while let Some(command) = commands.pop() {
            let help = command.clone().render_help().to_string();
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("no examples:\n{help}"));
            assert_eq!(examples.lines().count(), 2, "{help}");
            assert!(examples.lines().all(|line| line.contains("highwater ")), "{help}");
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn what_a_run_is_told() {
        let Ok(Command::Run(run)) =
            parse("run a.sql --set A=1 --set B=x=y --set A=2 --interval 10s --max-batches 3 --output json --quiet -v")
        else {
            panic!("it parses")
        };
        assert_eq!(
            run.job.set.values().into_iter().collect::<Vec<_>>(),
            [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "x=y".to_owned())]
        );
        assert_eq!(run.interval, Some(Duration::from_secs(10)));
        assert_eq!((run.max_batches, run.format.output, run.quiet), (Some(3), OutputFormat::Json, true));
        assert_eq!(run.progress, ProgressMode::Auto);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        assert!(refused("run a.sql --once --available-now").contains("cannot be used with"));
        assert!(refused("run a.sql --interval 10").contains("write 10s"));
        assert!(refused("run a.sql --interval 0s").contains("is not an interval"));
        assert!(refused("run a.sql --max-batches 0").contains("0 is not in 1.."));
        assert!(refused("run a.sql --set A").contains("NAME=VALUE"));
        assert!(refused("show c --at x").contains("write 17, or 17@1"));
        assert!(refused("rewind c --to 17@1").contains("write 17, or start"));
        assert!(refused("verify c --every").contains("--batch"));
        assert!(refused("crash-test a.sql --kills 0").contains("0 is not in 1.."));
        assert!(refused("show c --sql x --query y").contains("cannot be used with"));
    }

    #[test]
    fn a_rewind_goes_after_a_batch_or_to_the_start() {
        let to = |words| match parse(words) {
            Ok(Command::Rewind(rewind)) => rewind.to,
            other => panic!("{other:?}"),
        };
        assert_eq!(to("rewind c --to start"), Target::Start);
        assert_eq!(to("rewind c --to 17"), Target::After(BatchId(17)));
    }
}
