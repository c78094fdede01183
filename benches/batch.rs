//! What a batch costs behind its reading, and what a start costs: `step` (partial aggregation and the merge into state
//! of different sizes), `commit` (to durable; beside them one write and fsync of 4 KiB), `log` (opening and closing logs of
//! different lengths) and `recovery` (all of a start that finds nothing to do, over as many commits: planning, opening, state
//! restored from a snapshot and the deltas since, the folder listed, closing).
//!
//! Commits go to a folder beside the build's results, so that an fsync means something; not to a tmpfs.

use std::{
    fs::{self, File},
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::{
    array::StringArray,
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
};
use highwater::{
    batch::{self, EngineOptions, RunOptions, Trigger},
    checkpoint::{Checkpoint, CommitDraft, Genesis, OpenOptions, Payload, PayloadKind},
    job::{self, SinkSpec, Variables},
    model::{BatchId, BatchPlan, Faults, FileRead, InputPath, PlannedFile, SourceInput, Watermarks},
    query::{JobQueries, Rows},
    sink::{self, ConsoleTarget},
};

const JOB: &str = "CREATE TABLE t (k STRING) WITH (connector = 'files', path = 'input', format = 'json');
    CREATE TABLE counts WITH (connector = 'memory', output_mode = 'update');
    INSERT INTO counts SELECT k, count(*) AS c FROM t GROUP BY k;";

/// Lengths of logs.
const COMMITS: [u64; 3] = [50, 1000, 10_000];

/// Rows whose keys are `keys` neighbours from `first` on, in a scrambled order.
fn rows(first: u64, keys: u64, rows: u64) -> Rows {
    let key = |row: u64| format!("Comp{:07}", first + row.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys);
    let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
    let batches = (0..rows).step_by(8192).map(|from| {
        let column = StringArray::from_iter_values((from..rows.min(from + 8192)).map(key));
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(column)]).expect("one column")
    });
    Rows::Batches(Arc::new(batches.collect()))
}

fn step(criterion: &mut Criterion) {
    let job = job::parse("job.sql", "job", JOB, &Variables::new(Default::default())).expect("a job");
    let mut group = criterion.benchmark_group("step");
    for (groups, rows_in_batch, keys_in_batch) in
        [(400, 10_000, 400), (20_000, 100_000, 20_000), (1_000_000, 100_000, 20_000), (4_000_000, 100_000, 20_000)]
    {
        let mut queries = JobQueries::plan(&job).expect("a plan");
        for first in (0..groups).step_by(100_000) {
            let count = 100_000.min(groups - first);
            queries.feed(0, rows(first, count, 3 * count));
            queries.step(&[false], (BatchId::FIRST, Watermarks::default()), 1).expect("a step");
        }
        group.throughput(Throughput::Elements(rows_in_batch)).sample_size(10);
        let name = BenchmarkId::new(format!("{rows_in_batch} rows, {keys_in_batch} of them groups"), groups);
        group.bench_function(name, |bencher| {
            let mut turn = 0;
            let next = || {
                turn += 1;
                rows(turn * 7919 % (groups - keys_in_batch + 1), keys_in_batch, rows_in_batch)
            };
            bencher.iter_batched(
                next,
                |rows| {
                    queries.feed(0, rows);
                    queries.step(&[false], (BatchId::FIRST, Watermarks::default()), 1).expect("a step")
                },
                BatchSize::LargeInput,
            );
        });
    }
}

fn plan(batch: u64) -> BatchPlan {
    let path = InputPath(format!("{batch}.json").into_bytes());
    let file = PlannedFile { identity: path.clone(), path, size_bytes: 1, modified_ns: 1 };
    let start = batch.checked_sub(1);
    let input = SourceInput { source: "t".to_owned(), start, end: Some(batch), files: vec![file] };
    BatchPlan { batch: BatchId(batch), batch_time_us: 1, watermark_us: None, inputs: vec![input] }
}

fn draft(batch: u64, delta_bytes: usize) -> CommitDraft {
    let plan = plan(batch);
    let read = |file: &PlannedFile| FileRead { file: file.clone(), content_hash: 1, rows: 1, bad_rows: 0 };
    let bytes = (0..delta_bytes).map(|at| (at as u64 * 31 + batch) as u8).collect();
    CommitDraft {
        files: vec![plan.inputs[0].files.iter().map(read).collect()],
        watermarks_us: vec![None],
        plan,
        run_id: "run".to_owned(),
        committed_at_us: 1,
        payloads: vec![Payload { query: "counts".to_owned(), kind: PayloadKind::Delta, bytes }],
        outputs: Vec::new(),
        rows: 1,
        bad_rows: 0,
        state_rows: 1,
        // about as long as a batch's progress
        progress: format!("{{\"batchId\":{batch},\"filler\":\"{}\"}}", "x".repeat(1500)),
        late_progress: None,
    }
}

fn checkpoint(dir: &Path) -> Checkpoint {
    let genesis = Genesis { checkpoint_id: "c".to_owned(), job_name: "job".to_owned(), ..Genesis::default() };
    Checkpoint::create(dir, genesis, OpenOptions::default()).expect("a checkpoint is made")
}

/// On the disk that the build is on.
fn scratch() -> tempfile::TempDir {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tempfile::tempdir_in(place).expect("a folder is made")
}

fn commit(criterion: &mut Criterion) {
    let folder = scratch();
    let mut group = criterion.benchmark_group("commit");
    for delta_bytes in [0, 8 << 10, 200 << 10, 4 << 20] {
        let mut checkpoint = checkpoint(&folder.path().join(delta_bytes.to_string()));
        let mut batch = 0;
        group.bench_function(BenchmarkId::new("delta bytes", delta_bytes), |bencher| {
            let next = || {
                batch += 1;
                draft(batch - 1, delta_bytes)
            };
            bencher.iter_batched(
                next,
                |draft| checkpoint.commit(draft).expect("it is committed"),
                BatchSize::PerIteration,
            );
        });
        checkpoint.close().expect("it is closed");
    }
    let mut file = File::create(folder.path().join("bare")).expect("a file is made");
    group.bench_function("write and fsync of 4 KiB, by itself", |bencher| {
        bencher.iter(|| {
            file.rewind().and_then(|()| file.write_all(&[7; 4096])).and_then(|()| file.sync_all()).expect("written");
        });
    });
}

fn log(criterion: &mut Criterion) {
    let folder = scratch();
    let mut group = criterion.benchmark_group("log");
    group.sample_size(10);
    for commits in COMMITS {
        let dir = folder.path().join(commits.to_string());
        let mut made = checkpoint(&dir);
        for batch in 0..commits {
            made.commit(draft(batch, 200)).expect("it is committed");
            if made.snapshot_due() {
                made.snapshot(Vec::new()).expect("a snapshot is kept");
            }
        }
        made.close().expect("it is closed");
        group.bench_function(BenchmarkId::new("open and close, commits", commits), |bencher| {
            bencher.iter(|| {
                let opened = Checkpoint::open(&dir, OpenOptions::default()).expect("it opens");
                opened.close().expect("it is closed");
            });
        });
    }
}

/// Runs [`JOB`] over the files that are in `dir`, one a batch; how many there were.
fn run(dir: &Path) -> u64 {
    let text = JOB.replace("'input'", &format!("'{}', max_files_per_trigger = '1'", dir.join("input").display()));
    let job = job::parse("job", "job", &text, &Variables::new(Default::default())).expect("a job");
    let engine =
        EngineOptions { checkpoint: dir.join("checkpoint"), threads: 1, accept_change: false, faults: Faults::none() };
    let stop = AtomicBool::new(false);
    let options = RunOptions { engine, trigger: Trigger::AvailableNow, batches_max: None, stop: &stop };
    let mut make_sink = |spec: &SinkSpec, mode| Ok(sink::make_sink(spec, mode, ConsoleTarget::nowhere));
    batch::run(job, options, &mut make_sink, &mut |_| {}).expect("it runs").batches
}

/// A batch has 20 of 1,000 groups.
fn recovery(criterion: &mut Criterion) {
    let folder = scratch();
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10);
    for commits in COMMITS {
        let dir = folder.path().join(commits.to_string());
        fs::create_dir_all(dir.join("input")).expect("a folder is made");
        for file in 0..commits {
            let rows = (0..20).map(|row| format!("{{\"k\":\"Comp{:07}\"}}\n", (file * 20 + row) * 7919 % 1000));
            let name = format!("{file:06}.json");
            fs::write(dir.join("input").join(name), rows.collect::<String>()).expect("a file is written");
        }
        // what was just written may still be being written
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(run(&dir), commits);
        group.bench_function(BenchmarkId::new("a start with nothing to do, commits", commits), |bencher| {
            bencher.iter(|| assert_eq!(run(&dir), 0));
        });
    }
}

criterion_group!(benches, step, commit, log, recovery);
criterion_main!(benches);
