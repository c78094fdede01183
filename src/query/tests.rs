//! Streaming equals batch, for every aggregate and query shape: the same rows through [`JobQueries`] batch by batch and
//! through [`Baseline`] at once.

mod over_batches;

use std::{num::NonZeroU64, sync::Arc};

use datafusion::arrow::{
    array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, TimeUnit},
    record_batch::RecordBatch,
};

use super::*;
use crate::{
    job::{
        At, ColumnSpec, FilesOptions, FormatSpec, JobSpec, QuerySpec, Settings, SinkConnector, SinkSpec, SourceSpec,
        fingerprint::{self, Change},
    },
    model::{BatchId, BatchWindow, OutputMode, Result, Watermarks},
    state,
};

/// A job with one source `t(k STRING, y STRING, x BIGINT, f DOUBLE, b BOOLEAN, ts TIMESTAMP)` and one query.
fn job(sql: &str, mode: Option<OutputMode>) -> JobSpec {
    let column =
        |name: &str, data_type: DataType| ColumnSpec { name: name.into(), data_type, at: At(0), hidden: false };
    let columns = vec![
        column("k", DataType::Utf8),
        column("y", DataType::Utf8),
        column("x", DataType::Int64),
        column("f", DataType::Float64),
        column("b", DataType::Boolean),
        column("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ];
    let source = SourceSpec {
        name: "t".into(),
        at: At(0),
        columns,
        files: FilesOptions::default(),
        received: None,
        format: FormatSpec::default(),
        event_time: None,
        is_static: false,
    };
    JobSpec {
        name: "test".into(),
        file: "test.sql".into(),
        template: sql.into(),
        variables: Default::default(),
        text: sql.into(),
        sources: vec![source],
        statics: vec![],
        views: vec![],
        sinks: vec![SinkSpec {
            name: "out".into(),
            at: At(0),
            connector: SinkConnector::Memory,
            output_mode: mode,
            dedup_within_watermark: false,
            late_rows: None,
            batch_window: None,
        }],
        queries: vec![QuerySpec { name: "out".into(), sink: 0, sql: sql.into(), sql_at: At(0) }],
        settings: Settings::default(),
    }
}

/// Rows with nulls, repeated keys and odd values; a function of `seed` alone.
fn rows(job: &JobSpec, seed: u64, count: usize) -> RecordBatch {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let values: Vec<u64> = (0..count).map(|_| random() >> 16).collect();
    let unless = |null: bool, value: i64| (!null).then_some(value);
    let keys: StringArray = values.iter().map(|v| (v % 13 != 0).then(|| format!("key{}", v % 29))).collect();
    let ports: StringArray =
        values.iter().map(|v| Some(if v % 3 == 0 { (v % 90).to_string() } else { format!("Port{}", v % 7) })).collect();
    let ints: Int64Array =
        values.iter().map(|v| unless(v % 11 == 0 || (seed < 4 && v % 29 < 9), (v % 1000) as i64 - 500)).collect();
    let floats: Float64Array = values.iter().map(|v| Some((v % 100_003) as f64 / 7.0)).collect();
    let flags: BooleanArray = values.iter().map(|v| Some(v % 2 == 0)).collect();
    // Distinct times, so that an ORDER BY inside an aggregate leaves no tie.
    let times: TimestampMicrosecondArray = (0..count).map(|i| Some((seed as i64) * 1_000_000 + i as i64 * 7)).collect();
    let columns: Vec<datafusion::arrow::array::ArrayRef> =
        vec![Arc::new(keys), Arc::new(ports), Arc::new(ints), Arc::new(floats), Arc::new(flags), Arc::new(times)];
    RecordBatch::try_new(job.sources[0].schema(), columns).unwrap()
}

/// Runs the batches one by one, restoring from a snapshot and deltas half-way, and compares with the baseline.
fn streamed_equals_batch(sql: &str) -> Result<()> {
    let job = job(sql, None);
    let input: Vec<RecordBatch> = (1..8).map(|seed| rows(&job, seed, if seed == 4 { 0 } else { 500 })).collect();
    let baseline = Baseline::new(&job)?;
    baseline.feed(0, Rows::Batches(Arc::new(input.clone())));
    let expected = baseline.run_to_compare(&job, 0)?;
    assert!(!expected.rows_are_approximate);

    let mut live = JobQueries::plan(&job)?;
    let mut deltas = Vec::new();
    let mut snapshot = Vec::new();
    for (number, batch) in input.iter().enumerate() {
        live.feed(0, Rows::Batches(Arc::new(vec![batch.clone()])));
        let step = live.step(&[true], (BatchId::FIRST, Watermarks::default()), 1)?.remove(0);
        let schema = live.queries[0].state_schemas().remove(0);
        deltas.push(state::decode(&schema, &step.deltas[0])?.remove(0));
        if number == 2 {
            snapshot = live.queries[0].whole_state()?;
        }
    }
    let ours = live.queries[0].result(&live.executor())?;
    assert_eq!(expected.difference(&ours)?, None, "{sql}");

    let schema = live.queries[0].state_schemas().remove(0);
    let bytes = |query: &Query| state::encode(&schema, &query.whole_state().unwrap()[0]).unwrap();
    for from_snapshot in [true, false] {
        let mut restored = JobQueries::plan(&job)?;
        let executor = restored.executor();
        if from_snapshot {
            let saved = state::encode(&schema, &snapshot[0])?;
            state::decode(&schema, &saved)?.iter().try_for_each(|rows| restored.queries[0].load(0, rows))?;
        }
        for delta in &deltas[if from_snapshot { 3 } else { 0 }..] {
            restored.queries[0].replay(
                &executor,
                std::slice::from_ref(delta),
                (BatchId::FIRST, Watermarks::default()),
                false,
            )?;
        }
        assert_eq!(bytes(&restored.queries[0]), bytes(&live.queries[0]), "restored state differs: {sql}");
    }
    Ok(())
}

#[test]
fn every_aggregate_streams_to_the_batch_result() {
    let aggregates = [
        "count(*)",
        "count(x)",
        "min(x)",
        "max(y)",
        "avg(x)",
        "sum(x)",
        "min(ts)",
        "sum(f)",
        "avg(f)",
        "sum(x) FILTER (WHERE b)",
        "count(DISTINCT y)",
        "count(DISTINCT x)",
        "sum(DISTINCT x)",
        "approx_distinct(y)",
        "median(x)",
        "percentile_cont(0.9) WITHIN GROUP (ORDER BY f)",
        "array_agg(y)",
        "array_agg(x ORDER BY ts)",
        "array_agg(DISTINCT y ORDER BY y)",
        "approx_median(f)",
        "approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY x), sum(f) - avg(f) * 3 AS mixed",
        "string_agg(y, ',' ORDER BY ts)",
        "stddev(f)",
        "var_pop(f)",
        "corr(f, x)",
        "covar_samp(f, x)",
        "regr_slope(f, x)",
        "first_value(x ORDER BY ts)",
        "last_value(y ORDER BY ts)",
        "first_value(x)",
        "nth_value(x, 3 ORDER BY ts)",
        "bool_and(b)",
        "bool_or(b)",
        "bit_xor(x)",
        "bit_and(x)",
        "max(x), min(f), count(DISTINCT k), sum(f) / count(*)",
    ];
    for aggregate in aggregates {
        for sql in
            [format!("SELECT k, {aggregate} FROM t GROUP BY k"), format!("SELECT {aggregate} FROM t WHERE x > 0")]
        {
            streamed_equals_batch(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
}

#[test]
fn every_shape_streams_to_the_batch_result() {
    for sql in [
        "SELECT DISTINCT k, y FROM t",
        "SELECT k, y, count(*) AS c FROM t WHERE b GROUP BY k, y HAVING count(*) > 5 ORDER BY c DESC LIMIT 7",
        "SELECT upper(k) AS kk, count(*) * 2 AS c, sum(x) / count(x) FROM t WHERE y IN ('Port1', 'Port2') GROUP BY upper(k) ORDER BY 2 DESC LIMIT 5",
        "SELECT date_bin(INTERVAL '10 minutes', ts) AS w, k, count(*) AS c FROM t GROUP BY 1, 2 ORDER BY c DESC LIMIT 5",
        "SELECT k, y, count(*) FROM t GROUP BY GROUPING SETS ((k), (y), ())",
        "SELECT k, y, count(*) FROM t GROUP BY ROLLUP (k, y)",
        "SELECT count(*) AS c FROM t GROUP BY k ORDER BY c LIMIT 3",
        "SELECT array_agg(x ORDER BY ts) AS a FROM t GROUP BY k, y ORDER BY count(*) LIMIT 5",
        "SELECT array_agg(x ORDER BY ts) AS a FROM t GROUP BY upper(k), b HAVING count(*) > 2 LIMIT 5",
        "SELECT y, array_agg(x ORDER BY ts) AS a, count(*) AS c FROM t GROUP BY ROLLUP (k, y) ORDER BY c LIMIT 9",
        "SELECT y, c FROM (SELECT y, count(*) AS c FROM t GROUP BY y) WHERE c > 10 AND y LIKE 'Port1%'",
        "WITH big AS (SELECT * FROM t WHERE x > 100) SELECT k, count(*) FROM big GROUP BY k LIMIT 4",
        "SELECT k, count(*) FROM t WHERE false GROUP BY k",
        "SELECT count(*) FROM t WHERE y IN (80, 81, 3)",
        "SELECT count(*) FROM t WHERE y = 9 OR y <> 12",
        "SELECT count(*) FROM t WHERE y > 40 AND y BETWEEN 10 AND 80",
        "SELECT sum(y + 1), max(y * 2) FROM t",
    ] {
        streamed_equals_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// A new group without any value, in a batch that also touches a known one: its sum was 0, its minimum the largest
/// number there is.
#[test]
fn a_new_group_beside_a_known_one_keeps_its_nulls() {
    let job = job(
        "SELECT k, sum(x) AS s, min(x) AS low, max(f) AS high, avg(f) AS mean, bool_and(b) AS yes FROM t GROUP BY k",
        None,
    );
    let one = rows(&job, 1, 1);
    let with = |key: &str, empty: bool| {
        use datafusion::arrow::array::{ArrayRef, new_null_array};
        let mut columns: Vec<ArrayRef> = one.columns().to_vec();
        columns[0] = Arc::new(StringArray::from(vec![key]));
        columns[2] = Arc::new(Int64Array::from(vec![3]));
        if empty {
            columns[2..5].iter_mut().for_each(|column| *column = new_null_array(column.data_type(), 1));
        }
        RecordBatch::try_new(one.schema(), columns).unwrap()
    };
    let input = [
        vec![with("a", false)],
        vec![with("a", false), with("b", true)],
        vec![with("a", true), with("c", true), with("b", true)],
    ];
    let mut queries = JobQueries::plan(&job).unwrap();
    for batches in &input {
        queries.feed(0, Rows::Batches(Arc::new(batches.clone())));
        queries.step(&[true], (BatchId::FIRST, Watermarks::default()), 1).unwrap();
    }
    let baseline = Baseline::new(&job).unwrap();
    baseline.feed(0, Rows::Batches(Arc::new(input.concat())));
    let ours = queries.queries[0].result(&queries.executor()).unwrap();
    assert_eq!(baseline.run_to_compare(&job, 0).unwrap().difference(&ours).unwrap(), None);
}

#[test]
fn an_odd_value_is_compared_as_text_and_never_fails() {
    let job = job("SELECT count(*) AS n FROM t WHERE y IN (3, 6)", None);
    let baseline = Baseline::new(&job).unwrap();
    let batch = rows(&job, 9, 300);
    let expected = {
        use datafusion::arrow::array::AsArray;
        batch.column(1).as_string::<i32>().iter().flatten().filter(|y| ["3", "6"].contains(y)).count() as i64
    };
    baseline.feed(0, Rows::Batches(Arc::new(vec![batch])));
    let found = baseline.run(&job, 0).unwrap().rows;
    use datafusion::arrow::{array::AsArray, datatypes::Int64Type};
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), expected);
    assert!(expected > 0);
}

/// Each of these was cast to a number by DataFusion, and failed on the first `Port5`.
#[test]
fn every_comparison_of_text_with_a_number_takes_odd_values() {
    let rows_where = |condition: &str| {
        let job = job(&format!("SELECT count(*) AS n FROM t WHERE {condition}"), None);
        let baseline = Baseline::new(&job).unwrap();
        baseline.feed(0, Rows::Batches(Arc::new(vec![rows(&job, 9, 300)])));
        let found = baseline.run(&job, 0).unwrap_or_else(|error| panic!("{condition}: {error}")).rows;
        use datafusion::arrow::{array::AsArray, datatypes::Int64Type};
        found[0].column(0).as_primitive::<Int64Type>().value(0)
    };
    let all = rows_where("true");
    let (three, six) = (rows_where("y = '3'"), rows_where("y = '6'"));
    assert!(three > 0 && six > 0 && three + six < all);
    let as_number = "TRY_CAST(y AS DOUBLE)";
    for (condition, expected) in [
        ("CASE y WHEN 3 THEN true WHEN '6' THEN true WHEN 2 * 3 THEN true ELSE false END", three + six),
        ("CASE 3 WHEN y THEN true ELSE false END", three),
        ("3 IN (y, k)", three),
        ("3 NOT IN (y)", all - three),
        ("3 NOT IN (y, NULL)", 0),
        ("x IN (y, 7)", rows_where(&format!("x = {as_number} OR x = 7"))),
        ("y IN (3, 2 * 3)", three + six),
        ("y IN (3, '6', k)", three + six),
        ("y NOT IN (3, x)", rows_where(&format!("y <> '3' AND {as_number} <> x"))),
        ("y IS DISTINCT FROM 3", all - three),
        ("3 IS NOT DISTINCT FROM y", three),
        ("y IS NOT DISTINCT FROM x", rows_where(&format!("{as_number} = x"))),
        ("y IS DISTINCT FROM x", all - rows_where(&format!("{as_number} = x"))),
        ("nullif(k, 'none') IS NOT DISTINCT FROM nullif(x, x)", rows_where("k IS NULL")),
        ("30 BETWEEN y AND y + 9", rows_where(&format!("{as_number} <= 30 AND {as_number} + 9 >= 30"))),
        ("x NOT BETWEEN y AND 100", rows_where(&format!("x < {as_number} OR x > 100"))),
        ("y BETWEEN k AND 50", 0),
    ] {
        assert_eq!(rows_where(condition), expected, "{condition}");
    }
}

#[test]
fn what_cannot_be_incremental_is_refused_with_a_way_out() {
    let cases = [
        ("SELECT k, row_number() OVER (ORDER BY x) FROM t", None, "window function"),
        ("SELECT a.k FROM t a JOIN t b ON a.x < b.x", None, "needs an equality"),
        ("SELECT a.k FROM t a LEFT JOIN t b ON a.k = b.k", None, "nothing says when that is"),
        ("SELECT max(c) FROM (SELECT count(*) AS c FROM t GROUP BY k)", None, "aggregate over an aggregate"),
        ("SELECT k, random() FROM t", None, "another value each time"),
        ("SELECT k FROM t ORDER BY k", None, "only a whole result can be sorted"),
        ("SELECT k, count(*) FROM t GROUP BY k", Some(OutputMode::Append), "can always change"),
        (
            "SELECT k, count(*) FROM t GROUP BY k ORDER BY 2",
            Some(OutputMode::Update),
            "only a whole result can be sorted",
        ),
        ("SELECT k FROM t", Some(OutputMode::Complete), "keeps no result"),
        ("SELECT k, count(*) FROM t GROUP BY k UNION ALL SELECT y, x FROM t", None, "groups of different kinds"),
        ("SELECT count(*) FROM t GROUP BY window(ts, 'ten')", None, "no duration"),
        ("SELECT count(*) FROM t GROUP BY window(ts, '5 seconds', '6 seconds')", None, "more than its size"),
        ("SELECT window(k, '5 seconds') FROM t", None, "window() does not take"),
        (
            "SELECT count(*) FROM t GROUP BY session_window(ts, '5 seconds')",
            None,
            "merge by the event time of a source",
        ),
        ("SELECT 1", None, "reads no source table"),
        ("SELECT array_agg(x), array_agg(y ORDER BY ts) FROM t", None, "takes rows in input order"),
        ("SELECT array_agg(DISTINCT x) FROM t", None, "in no order of their own"),
        ("SELECT k, string_agg(DISTINCT y, ',') AS s FROM t GROUP BY k", None, "in no order of their own"),
        ("SELECT nosuch FROM t", None, "unknown column 'nosuch'"),
        ("SELECT nosuch(k) FROM t", None, "unknown function 'nosuch'"),
        ("SELECT k FROM nosuch", None, "unknown table 'nosuch'"),
        ("SELECT k FROM t WHERE x > (SELECT avg(x) FROM t)", None, "subquery"),
    ];
    for (sql, mode, expected) in cases {
        let error = JobQueries::plan(&job(sql, mode)).err().unwrap_or_else(|| panic!("accepted: {sql}"));
        assert_eq!(error.kind(), crate::model::ErrorKind::Usage, "{sql}");
        assert!(error.to_string().contains(expected), "{sql}: {error}");
    }
}

/// What verify compares how, and what it cannot compare.
#[test]
fn the_plan_tells_how_close_each_column_must_be() {
    use Closeness::{Approximate, Exact, Rounded};
    let result = |sql: &str| {
        let job = job(sql, None);
        let baseline = Baseline::new(&job).unwrap();
        baseline.feed(0, Rows::Batches(Arc::new(vec![rows(&job, 1, 50)])));
        baseline.run_to_compare(&job, 0).unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    for (select, closeness) in [
        ("k, count(*), min(f), median(f), sum(f)", vec![Exact, Exact, Exact, Exact, Rounded]),
        ("k, 2 * avg(x) + 1 AS a, approx_median(f) AS b", vec![Exact, Rounded, Approximate]),
        ("k, round(approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY f)) AS r", vec![Exact, Approximate]),
    ] {
        let sql = format!("SELECT {select} FROM t GROUP BY k");
        assert_eq!(result(&sql).closeness, closeness, "{sql}");
    }
    let sized = result("SELECT k, sum(f) / count(*) AS mean, max(f) AS high FROM t GROUP BY k HAVING sum(f) > 0");
    assert!(sized.sizes.iter().all(|sizes| sizes[0].is_none() && sizes[1].is_some() && sizes[2].is_none()));
    for (clauses, expected) in [
        ("GROUP BY k HAVING approx_median(f) > 3", true),
        ("GROUP BY k ORDER BY approx_median(f) LIMIT 3", true),
        ("GROUP BY k ORDER BY approx_median(f)", false),
        ("GROUP BY k ORDER BY count(*) LIMIT 3", false),
    ] {
        let sql = format!("SELECT k, approx_median(f) AS m FROM t {clauses}");
        assert_eq!(result(&sql).rows_are_approximate, expected, "{sql}");
    }
}

#[test]
fn update_gives_out_the_groups_that_received_rows() {
    let job = job("SELECT k, count(*) AS c FROM t GROUP BY k", Some(OutputMode::Update));
    let mut queries = JobQueries::plan(&job).unwrap();
    for seed in 1..4 {
        let batch = rows(&job, seed, 5);
        queries.feed(0, Rows::Batches(Arc::new(vec![batch.clone()])));
        let step = queries.step(&[true], (BatchId::FIRST, Watermarks::default()), 1).unwrap().remove(0);
        let distinct: std::collections::BTreeSet<_> = {
            use datafusion::arrow::array::AsArray;
            batch.column(0).as_string::<i32>().iter().collect()
        };
        let given: usize = step.output.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(given, distinct.len());
        assert_eq!(step.rows_filtered, 5);
    }
}

/// Queries share the threads, not their results: the same deltas and rows, and the same error, on one thread or many.
#[test]
fn queries_run_side_by_side_as_one_after_the_other() {
    let sqls = [
        "SELECT k, count(*) AS c, sum(f) AS s FROM t GROUP BY k",
        "SELECT arrow_cast(k, 'Dictionary(Int32, Utf8)') AS d, min(y) AS m FROM t GROUP BY d",
        "SELECT x FROM t WHERE b",
        "SELECT sum(f) AS s FROM t",
    ];
    let mut job = job(sqls[0], None);
    job.queries = (0..)
        .zip(sqls)
        .map(|(number, sql)| QuerySpec { name: format!("q{number}"), sink: 0, sql: sql.into(), sql_at: At(0) })
        .collect();
    let steps = |threads: usize| {
        let mut queries = JobQueries::plan(&job).unwrap();
        let mut found = Vec::new();
        for seed in 1..5 {
            queries.feed(0, Rows::Batches(Arc::new(vec![rows(&job, seed, 3000)])));
            for step in queries.step(&[true; 4], (BatchId::FIRST, Watermarks::default()), threads).unwrap() {
                let touched: u64 = step.operators.iter().map(|operator| operator.rows_updated).sum();
                found.push((step.deltas, step.output, step.rows_filtered, touched));
            }
        }
        let whole: Vec<_> = queries.queries.iter().map(|query| query.whole_state().unwrap()).collect();
        assert!(whole[1][0][0].num_rows() > 20, "keys that are dictionaries come back");
        (found, whole)
    };
    let one = steps(1);
    assert!(steps(2) == one && steps(8) == one);

    for (query, column) in [(1, "y"), (3, "k")] {
        job.queries[query].sql = format!("SELECT CAST({column} AS BIGINT) AS n FROM t WHERE k IS NOT NULL");
    }
    for threads in [1, 2, 8] {
        let mut queries = JobQueries::plan(&job).unwrap();
        queries.feed(0, Rows::Batches(Arc::new(vec![rows(&job, 1, 3000)])));
        let error = queries.step(&[true; 4], (BatchId::FIRST, Watermarks::default()), threads).unwrap_err().to_string();
        assert!(error.contains("Port"), "the first query's error is told: {error}");
    }
}

#[test]
fn now_is_the_time_of_the_batch() {
    let job = job("SELECT now() AS n, k FROM t", None);
    let mut queries = JobQueries::plan(&job).unwrap();
    assert!(queries.uses_batch_time());
    for time in [1_000_000, 2_000_000] {
        queries.set_batch_time(time);
        queries.feed(0, Rows::Batches(Arc::new(vec![rows(&job, 1, 3)])));
        let output =
            queries.step(&[true], (BatchId::FIRST, Watermarks::default()), 1).unwrap().remove(0).output.unwrap();
        use datafusion::arrow::{array::AsArray, datatypes::TimestampMicrosecondType};
        assert_eq!(output[0].column(0).as_primitive::<TimestampMicrosecondType>().value(0), time);
    }
}
