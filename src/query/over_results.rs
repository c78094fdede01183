//! Any SQL over results that are there: `show --sql`, and the page's queries.

use std::{sync::Arc, time::Duration};

use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    catalog::MemTable,
    error::DataFusionError,
    execution::context::SQLOptions,
};
use futures::StreamExt;

use super::{
    errors::{Functions, Planning, running},
    now::BatchTime,
    session,
};
use crate::{
    job::At,
    model::{Error, ErrorKind, Result},
};

/// What a question may take; by default there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SqlLimits {
    /// More rows than these are left out.
    pub rows_max: Option<usize>,
    /// It is given up after so long.
    pub longest: Option<Duration>,
    /// Memory that sorting, grouping and joining may take, beside the results themselves.
    pub memory_bytes_max: Option<usize>,
}

/// An answer.
#[derive(Debug)]
pub struct SqlRows {
    pub schema: SchemaRef,
    pub rows: Vec<RecordBatch>,
    /// Whether there were more rows than the limit.
    pub truncated: bool,
}

/// Any SQL over named results. Only queries: a statement that would change something is refused, not run on a copy.
///
/// # Errors
/// Of kind `Usage` where the SQL cannot be planned, `Failed` where it fails, `Refused` where it takes longer than it may.
pub fn sql_over(sql: &str, tables: Vec<(String, SchemaRef, Vec<RecordBatch>)>, limits: &SqlLimits) -> Result<SqlRows> {
    let context = session::limited(&BatchTime::default(), limits.memory_bytes_max)
        .map_err(|error| Error::failed("the query cannot start").because(error.strip_backtrace()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| Error::failed("the query runtime cannot start").because(error.to_string()))?;
    let names: Vec<String> = tables.iter().map(|(name, ..)| name.clone()).collect();
    for (name, schema, rows) in tables {
        let refused = |error: DataFusionError| {
            Error::failed(format!("the result of '{name}' cannot be a table")).because(error.strip_backtrace())
        };
        let table = MemTable::try_new(schema, vec![rows]).map_err(refused)?;
        context
            .register_table(datafusion::common::TableReference::bare(name.as_str()), Arc::new(table))
            .map_err(refused)?;
    }
    let functions = Functions::of(&context);
    let planning = Planning {
        file: "--sql",
        text: sql,
        sql,
        at: At(0),
        tables: names.iter().map(String::as_str).collect(),
        functions: &functions,
        runtime: &runtime,
        context: &context,
    };
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = runtime.block_on(context.sql_with_options(sql, options)).map_err(|error| planning.error(&error))?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let answer = async {
        let mut stream = frame.execute_stream().await?;
        collected(&mut stream, limits.rows_max.unwrap_or(usize::MAX)).await
    };
    let answered = runtime.block_on(async {
        match limits.longest {
            Some(longest) => tokio::time::timeout(longest, answer).await.map_err(|_| longest),
            None => Ok(answer.await),
        }
    });
    match answered {
        Ok(rows) => {
            let (rows, truncated) = rows.map_err(|error| failed(error, limits))?;
            Ok(SqlRows { schema, rows, truncated })
        }
        Err(longest) => {
            Err(Error::new(ErrorKind::Refused, format!("the query took longer than {} s", longest.as_secs()))
                .help("ask for less; `highwater show CHECKPOINT --sql` has no limit"))
        }
    }
}

fn failed(error: DataFusionError, limits: &SqlLimits) -> Error {
    match (error.find_root(), limits.memory_bytes_max) {
        (DataFusionError::ResourcesExhausted(_), Some(bytes)) => {
            Error::usage(format!("the query takes more than {} MiB of memory", bytes >> 20))
                .because("it sorts, groups or joins too many rows")
                .help("ask for less; `highwater show CHECKPOINT --sql` has no limit")
        }
        _ => running("--sql", error),
    }
}

/// The first rows of a stream, and whether there are more.
async fn collected(
    stream: &mut datafusion::execution::SendableRecordBatchStream,
    rows_max: usize,
) -> Result<(Vec<RecordBatch>, bool), DataFusionError> {
    let (mut rows, mut left) = (Vec::new(), rows_max);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() > left {
            rows.push(batch.slice(0, left));
            return Ok((rows, true));
        }
        left -= batch.num_rows();
        rows.push(batch);
    }
    Ok((rows, false))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn asked(sql: &str, limits: &SqlLimits) -> Result<SqlRows> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3000));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        sql_over(sql, vec![("t".to_owned(), rows.schema(), vec![rows])], limits)
    }

    #[test]
    fn rows_beyond_the_limit_are_left_out_and_said_so() {
        let limits = |rows_max| SqlLimits { rows_max: Some(rows_max), ..SqlLimits::default() };
        let count = |answer: &SqlRows| answer.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        for (rows_max, rows, truncated) in [(0, 0, true), (10, 10, true), (3000, 3000, false), (4000, 3000, false)] {
            let answer = asked("SELECT n FROM t", &limits(rows_max)).unwrap();
            assert_eq!((count(&answer), answer.truncated), (rows, truncated), "{rows_max}");
        }
    }

    #[test]
    fn what_takes_too_long_or_too_much_is_given_up() {
        let limits = SqlLimits { longest: Some(Duration::from_millis(50)), ..SqlLimits::default() };
        let endless = "SELECT count(*) FROM t a, t b, t c, t d WHERE a.n + b.n + c.n + d.n = 7";
        let error = asked(endless, &limits).unwrap_err();
        assert!(error.to_string().contains("took longer than"), "{error}");
        let small = SqlLimits { memory_bytes_max: Some(1 << 20), ..SqlLimits::default() };
        let large = "SELECT count(*) FROM (SELECT a.n, b.n FROM t a, t b WHERE a.n < 100 ORDER BY a.n + b.n, a.n * b.n LIMIT 290000) s";
        assert!(asked(large, &small).unwrap_err().to_string().contains("more than 1 MiB of memory"));
        assert!(asked("SELECT count(*) FROM t", &small).is_ok());
    }

    #[test]
    fn nothing_can_be_changed() {
        for sql in ["CREATE TABLE x AS SELECT 1", "DROP TABLE t", "INSERT INTO t VALUES (1)", "SET a.b = 1"] {
            assert!(asked(sql, &SqlLimits::default()).is_err(), "{sql}");
        }
    }
}
