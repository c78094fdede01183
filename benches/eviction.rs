//! Whether a batch costs more the more state there is: each batch brings 10,000 keys, and its watermark lets go of as many
//! that came before, out of 10,000, 100,000 or a million that are kept. `step` only: reading and commit are the same.
//!
//! All that is timed is the batch, eviction, the closed groups' result and the delta's encoding included.

use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::{
    array::{ArrayRef, Int64Array, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
    record_batch::RecordBatch,
};
use highwater::{
    job::{self, Variables},
    model::{BatchId, Watermarks},
    query::{JobQueries, Rows},
};

/// Keys that a batch brings, and lets go of.
const KEYS: i64 = 10_000;
/// Batches are a second of event time apart.
const SECOND_US: i64 = 1_000_000;

/// What keeps state by event time.
struct Work {
    name: &'static str,
    /// `KEPT` stands for how many seconds rows are kept.
    query: &'static str,
    /// Of which each gets its part of a batch's keys.
    sources: &'static [&'static str],
    /// Options of the sink.
    sink: &'static str,
    /// How many seconds the watermark is ahead of the batch, for as many batches to be kept as are meant: where what
    /// it brought ends.
    over_after_s: i64,
    /// Whether rows are kept since the watermark stays `KEPT` seconds behind, or since the query says for how long.
    watermark_waits: bool,
}

const WORKS: [Work; 4] = [
    Work {
        name: "windows",
        query: "SELECT k, window.start AS began, count(*) AS n FROM a GROUP BY k, window(time, '1 second')",
        sources: &["a"],
        sink: "",
        over_after_s: 1,
        watermark_waits: true,
    },
    Work {
        name: "sessions",
        query: "SELECT k, session_window.start AS began, count(*) AS n FROM a GROUP BY k, session_window(time, '1 second')",
        sources: &["a"],
        sink: "",
        over_after_s: 2,
        watermark_waits: true,
    },
    Work {
        name: "join of two streams",
        query: "SELECT a.k, a.time, b.time AS other FROM a JOIN b ON a.k = b.k \
                AND b.time >= a.time - INTERVAL 'KEPT seconds' AND b.time <= a.time + INTERVAL 'KEPT seconds'",
        sources: &["a", "b"],
        sink: "",
        over_after_s: 1,
        watermark_waits: false,
    },
    Work {
        name: "first rows within the watermark",
        query: "SELECT DISTINCT ON (k) k, time FROM a",
        sources: &["a"],
        sink: ", dedup_within_watermark = 'true'",
        over_after_s: 1,
        watermark_waits: false,
    },
];

/// A job over one of these, at the batch that comes next.
struct Running<'a> {
    work: &'a Work,
    queries: JobQueries,
    kept_s: i64,
    batch: i64,
}

impl Running<'_> {
    fn start(work: &Work, kept_s: i64) -> Running<'_> {
        // of first rows it is how long they are remembered; the others are told their watermark by `step`
        let delay = if work.watermark_waits { 0 } else { kept_s };
        let source = |name: &&str| {
            format!(
                "CREATE TABLE {name} (k BIGINT, time TIMESTAMP) WITH (connector = 'files', path = '{name}', format = 'json', \
                 event_time = 'time', watermark_delay = '{delay} seconds');\n"
            )
        };
        let tables: String = work.sources.iter().map(source).collect();
        let query = work.query.replace("KEPT", &kept_s.to_string());
        let sink = work.sink;
        let job = format!(
            "{tables}CREATE TABLE out WITH (connector = 'memory', output_mode = 'append'{sink});\nINSERT INTO out {query};"
        );
        let job = job::parse("job.sql", "job", &job, &Variables::new(Default::default()));
        let queries = job.and_then(|job| JobQueries::plan(&job)).unwrap_or_else(|error| panic!("{error}"));
        Running { work, queries, kept_s, batch: 0 }
    }

    /// After as many batches that so many keys are kept.
    fn full(work: &Work, kept: i64) -> Running<'_> {
        let mut running = Running::start(work, kept / KEYS);
        while running.batch < 2 * kept / KEYS {
            let rows = running.rows();
            running.step(&rows);
        }
        running
    }

    /// The rows of the next batch for each source: keys that were never seen, each once.
    fn rows(&self) -> Rows {
        let keys = KEYS / self.work.sources.len() as i64;
        // each at a moment of its own, all within the batch's second
        let times = (0..keys).map(|key| self.batch * SECOND_US + 1 + key * (SECOND_US / KEYS));
        // scrambled, so that state is not met in the order in which it lies; odd factors lose no key
        let keys = (0..keys).map(|key| (self.batch * KEYS + key).wrapping_mul(0x1E37_79B9_7F4A_7C15));
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times));
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let fields = vec![Field::new("k", DataType::Int64, true), Field::new("time", time, true)];
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![keys, times]).expect("two columns");
        Rows::Batches(Arc::new(vec![rows]))
    }

    /// One batch: as many keys are let go as come, once the state is full.
    fn step(&mut self, rows: &Rows) {
        for source in 0..self.work.sources.len() {
            self.queries.feed(source, rows.clone());
        }
        let waits_s = if self.work.watermark_waits { self.kept_s } else { 0 };
        let over_s = self.batch - waits_s + self.work.over_after_s;
        let over_us = Some(over_s * SECOND_US);
        let watermarks = Watermarks { late_us: None, over_us };
        let id = BatchId(self.batch as u64);
        self.queries.step(&[true], (id, watermarks), 1).expect("a step");
        self.batch += 1;
    }
}

fn eviction(criterion: &mut Criterion) {
    for work in &WORKS {
        let mut group = criterion.benchmark_group(format!("{}: {KEYS} come, {KEYS} go", work.name));
        group.throughput(Throughput::Elements(KEYS as u64)).sample_size(20);
        for kept in [KEYS, 10 * KEYS, 100 * KEYS] {
            // filled only where this one is asked for: what the others leave in memory would be measured, too
            let mut full = None;
            group.bench_function(BenchmarkId::new("kept", kept), |bencher| {
                let running = std::cell::RefCell::new(full.get_or_insert_with(|| Running::full(work, kept)));
                bencher.iter_batched(
                    || running.borrow().rows(),
                    |rows| running.borrow_mut().step(&rows),
                    BatchSize::PerIteration,
                );
            });
            let Some(running) = full else { continue };
            let rows = running.queries.queries[0].state_rows();
            assert_eq!(rows, kept as u64, "{}: as many as are to be kept", work.name);
        }
        group.finish();
    }
}

criterion_group!(benches, eviction);
criterion_main!(benches);
