//! Any SQL over results that are there: `show --sql`, and the page's queries.

use std::sync::Arc;

use super::{
    errors::{Functions, Planning, running},
    now::BatchTime,
    session,
};
use crate::{
    job::At,
    model::{Error, Result},
};
use datafusion::{
    arrow::{datatypes::SchemaRef, record_batch::RecordBatch},
    catalog::MemTable,
    error::DataFusionError,
    execution::context::SQLOptions,
};

/// Any SQL over named results. Only queries: a statement that would change something is refused, not run on a copy.
///
/// # Errors
/// Of kind `Usage` where the SQL cannot be planned, `Failed` where it fails.
pub fn sql_over(
    sql: &str,
    tables: Vec<(String, SchemaRef, Vec<RecordBatch>)>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let context = session::context(&BatchTime::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
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
    let rows = runtime.block_on(frame.collect()).map_err(|error| running("--sql", error))?;
    Ok((schema, rows))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn nothing_can_be_changed_and_no_file_be_read() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let asked = |sql: &str| sql_over(sql, vec![("t".to_owned(), rows.schema(), vec![rows.clone()])]);
        assert!(asked("SELECT sum(n) FROM t").is_ok());
        for sql in [
            "CREATE TABLE x AS SELECT 1",
            "DROP TABLE t",
            "INSERT INTO t VALUES (1)",
            "SET a.b = 1",
            "COPY t TO '/tmp/highwater-copied.csv'",
            "CREATE EXTERNAL TABLE x (a TEXT) STORED AS CSV LOCATION '/etc/passwd'",
            "SELECT * FROM '/etc/passwd'",
        ] {
            assert!(asked(sql).is_err(), "{sql}");
        }
    }
}
