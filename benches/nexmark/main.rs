//! The queries of [Nexmark](https://github.com/nexmark/nexmark) that can be run as a stream, each from its first batch to
//! its last commit: rows per second with every batch durable, and what the state takes.
//!
//! Each run is a process of its own with a fresh checkpoint, beside the build's results, so that an fsync means something;
//! not on a tmpfs. `README.md` of the folder above says which queries there are, and why others are not.
//!
//! ```sh
//! cargo bench --bench nexmark                                    # half a million events
//! HIGHWATER_NEXMARK_EVENTS=5000000 cargo bench --bench nexmark   # that many
//! cargo bench --bench nexmark -- 'nexmark/q8$'                   # one query
//! ```

mod events;
mod one_run;

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use criterion::{Criterion, SamplingMode, Throughput};

use one_run::Figures;

const QUERIES: [&str; 21] = [
    "q0", "q1", "q2", "q3", "q5", "q7", "q8", "q9", "q10", "q11", "q12", "q13", "q14", "q15", "q16", "q17", "q18",
    "q19", "q20", "q21", "q22",
];

/// A setting of the environment.
fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = env::var(name) else { return default };
    let number = u64::from_str(&text).ok().filter(|number| *number > 0);
    number.unwrap_or_else(|| panic!("{name} is '{text}', not a number of events"))
}

/// On the disk that the build is on.
fn scratch() -> tempfile::TempDir {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tempfile::tempdir_in(place).expect("a folder is made")
}

/// Rows that a query reads: those of the streams that its job declares.
fn rows_of(query: &str, rows: events::Rows) -> u64 {
    let job = std::fs::read_to_string(one_run::job_file(query)).expect("a job file");
    let read = events::STREAMS.iter().zip(rows).filter(|(stream, _)| job.contains(&format!("CREATE TABLE {stream} ")));
    read.map(|(_, rows)| rows).sum()
}

fn queries(criterion: &mut Criterion) {
    let scratch = scratch();
    let input = scratch.path().join("input");
    let events = setting("HIGHWATER_NEXMARK_EVENTS", 500_000);
    let rows = events::write(&input, events, setting("HIGHWATER_NEXMARK_EVENTS_PER_BATCH", 50_000)).expect("events");
    let mut group = criterion.benchmark_group("nexmark");
    // whole runs: one of them is a sample, and a process that has just started is what is measured
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(2));
    for query in QUERIES {
        let mut runs: Vec<Figures> = Vec::new();
        group.throughput(Throughput::Elements(rows_of(query, rows)));
        group.bench_function(query, |bencher| {
            bencher.iter_custom(|count| {
                let ran: Vec<_> = (0..count).map(|_| one_run::in_a_process(query, &input, scratch.path())).collect();
                let took = ran.iter().map(|figures| Duration::from_secs_f64(figures.seconds)).sum();
                runs.extend(ran);
                took
            });
        });
        runs.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        if let Some(figures) = runs.get(runs.len() / 2) {
            assert_eq!(figures.rows, rows_of(query, rows), "{query} read all of its streams");
            tell(query, figures).expect("stdout");
        }
    }
    group.finish();
}

/// The figures of the median run.
fn tell(query: &str, figures: &Figures) -> io::Result<()> {
    let Figures { rows, batches, seconds, state_rows_end, state_rows_max, .. } = figures;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let given = figures.rows_out.map_or(String::new(), |rows| format!(", {rows} given out"));
    writeln!(
        io::stdout().lock(),
        "{query}: {rows} rows{given}, {batches} batches, {seconds:.2} s, {:.0} rows/s; state {state_rows_end} rows, at most \
         {state_rows_max}, {:.1} MiB; process {:.0} MiB",
        *rows as f64 / seconds,
        mib(figures.state_bytes_max),
        mib(figures.resident_bytes_max),
    )
}

fn main() {
    if one_run::asked_for().is_some() {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    queries(&mut criterion);
    criterion.final_summary();
}
