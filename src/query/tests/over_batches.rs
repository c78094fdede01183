//! Windows over batches.

use super::*;

/// A job whose query aggregates over the last `batches`.
fn windowed(sql: &str, batches: u64) -> JobSpec {
    let batches = NonZeroU64::new(batches).unwrap();
    let mut job = job(sql, Some(OutputMode::Complete));
    job.sinks[0].batch_window = Some(BatchWindow { batches, slide: NonZeroU64::MIN });
    job
}

/// The merge of the last deltas equals the query over the rows of those batches; so does one that was restored from a
/// snapshot of the batch before.
#[test]
fn a_window_over_batches_equals_the_batch_result_over_its_rows() {
    let sqls = [
        "SELECT k, count(*) AS c, sum(f) AS s, min(x) AS least, max(ts) AS latest, median(x) AS m FROM t GROUP BY k",
        "SELECT arrow_cast(k, 'Dictionary(Int32, Utf8)') AS d, array_agg(x) AS xs, corr(f, x) AS r FROM t GROUP BY d",
        "SELECT corr(f, x) AS c, count(DISTINCT y) AS d, first_value(y ORDER BY ts) AS y FROM t WHERE b",
        "SELECT k, b, sum(x) AS s FROM t GROUP BY ROLLUP (k, b) ORDER BY s DESC LIMIT 5",
    ];
    for sql in sqls {
        let job = windowed(sql, 3);
        let rows_of = |seed: u64| rows(&job, seed, if (4..7).contains(&seed) { 0 } else { 400 });
        let input: Vec<RecordBatch> = (1..10).map(rows_of).collect();
        let baseline = Baseline::new(&job).unwrap();
        let (mut live, mut restored) = (JobQueries::plan(&job).unwrap(), JobQueries::plan(&job).unwrap());
        let (schema, executor) = (live.queries[0].state_schemas().remove(0), restored.executor());
        for (number, batch) in input.iter().enumerate() {
            let at = (BatchId(number as u64), Watermarks::default());
            live.feed(0, Rows::Batches(Arc::new(vec![batch.clone()])));
            let step = live.step(&[true], at, 1).unwrap().remove(0);
            let delta = state::decode(&schema, &step.deltas[0]).unwrap().remove(0);
            restored.queries[0].replay(&executor, &[delta], at, false).unwrap();
            let whole = restored.queries[0].whole_state().unwrap().remove(0);
            assert!(whole == live.queries[0].whole_state().unwrap()[0], "{sql}, batch {number}");
            let saved = state::encode(&schema, &whole).unwrap();
            restored.queries[0].clear().unwrap();
            for rows in state::decode(&schema, &saved).unwrap() {
                restored.queries[0].load(0, &rows).unwrap();
            }
            let last = input[number.saturating_sub(2)..=number].to_vec();
            baseline.feed(0, Rows::Batches(Arc::new(last)));
            let expected = baseline.run_to_compare(&job, 0).unwrap();
            for ours in [step.output.unwrap(), restored.queries[0].result(&executor).unwrap()] {
                assert_eq!(expected.difference(&ours).unwrap(), None, "{sql}, batch {number}");
            }
        }
    }
}

#[test]
fn another_window_over_batches_is_another_state() {
    let sql = "SELECT k, count(*) AS c FROM t GROUP BY k";
    let identities = |job: &JobSpec| JobQueries::plan(job).unwrap().identities();
    let (two, without) = (identities(&windowed(sql, 2)), identities(&job(sql, Some(OutputMode::Complete))));
    for other in [&identities(&windowed(sql, 3)), &without] {
        let differences = fingerprint::differences(&two, other);
        assert_eq!(differences[0].change, Change::Refused, "{differences:?}");
        assert!(differences.iter().any(|difference| difference.what == "window_batches"), "{differences:?}");
    }
    assert_eq!(fingerprint::differences(&two, &identities(&windowed(sql, 2))), []);
}
