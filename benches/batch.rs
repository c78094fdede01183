//! What a batch costs behind its reading, and what a start costs: `step` (partial aggregation and the merge into state
//! of different sizes), `commit` (to durable, beside the same number of bare writes and fsyncs) and `recovery` (opening a
//! log of different lengths).
//!
//! Commits go to a folder beside the build's results, so that an fsync means something; not to a tmpfs.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::{
    array::StringArray,
    datatypes::{DataType, Field, Schema},
    record_batch::RecordBatch,
};
use highwater::{
    checkpoint::{Checkpoint, CommitDraft, Genesis, OpenOptions, Payload, PayloadKind},
    job::{self, Variables},
    model::{BatchId, BatchPlan, FileRead, InputPath, PlannedFile, SourceInput, Watermarks},
    query::{JobQueries, Rows},
};

const JOB: &str = "CREATE TABLE t (k STRING) WITH (connector = 'files', path = 'input', format = 'json');
    CREATE TABLE counts WITH (connector = 'memory', output_mode = 'update');
    INSERT INTO counts SELECT k, count(*) AS c FROM t GROUP BY k;";

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

fn recovery(criterion: &mut Criterion) {
    let folder = scratch();
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10);
    for commits in [50, 1000, 10_000] {
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

criterion_group!(benches, step, commit, recovery);
criterion_main!(benches);
