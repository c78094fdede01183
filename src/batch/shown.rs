//! What is asked of a [`View`] by people and programs: all results at once, SQL over them, a batch's line.

use datafusion::arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use serde::Serialize;

use super::view::{LogRow, Table, View};
use crate::{
    model::{BatchAddress, Error, ErrorKind, Result},
    progress::Progress,
    query,
};

/// The results of all queries at a batch, as far as they can be had.
#[derive(Debug)]
pub struct Results {
    /// In the order of the job file.
    pub tables: Vec<Table>,
    /// Why the results of other queries cannot be had.
    pub refused: Vec<Error>,
}

impl View {
    /// The results of all queries that can be asked.
    ///
    /// # Errors
    /// Where none can, why the first cannot; and anything else that went wrong.
    pub fn results(&self, at: BatchAddress) -> Result<Results> {
        let mut results = Results { tables: Vec::new(), refused: Vec::new() };
        for query in self.queries() {
            match self.result(&query, at) {
                Ok(table) => results.tables.push(table),
                // a console, for instance, cannot be asked what it printed
                Err(error) if error.kind() == ErrorKind::Usage => results.refused.push(error),
                Err(error) => return Err(error),
            }
        }
        if results.tables.is_empty() && !results.refused.is_empty() {
            return Err(results.refused.swap_remove(0));
        }
        Ok(results)
    }

    /// SQL over the results at a batch, which are tables of their queries' names.
    ///
    /// # Errors
    /// As [`View::results`] and [`query::sql_over`]; one about a table names those that there are.
    pub fn sql(&self, at: BatchAddress, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let Results { tables, refused } = self.results(at)?;
        let names: Vec<String> = tables.iter().map(|table| table.query.clone()).collect();
        let named = tables.into_iter().map(|table| (table.query, table.schema, table.rows)).collect();
        query::sql_over(sql, named).map_err(|error| match refused.first() {
            Some(missing) => error.help_if_none(format!("the tables are {}; {}", names.join(", "), missing.what())),
            None => error.help_if_none(format!("the tables are: {}", names.join(", "))),
        })
    }
}

/// A batch's progress object, and its place in the log.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    progress: &'a Progress,
    /// `17@1`
    address: String,
    generation: Option<u32>,
    #[serde(skip_serializing_if = "is_false")]
    retracted: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl LogRow {
    /// The batch as one line of JSON: its progress object, and its place in the log.
    ///
    /// # Errors
    /// Of kind `Failed`; none is expected.
    pub fn json_line(&self) -> Result<String> {
        let line = Line {
            progress: &self.progress,
            address: self.address.to_string(),
            generation: self.address.generation.map(|generation| generation.0),
            retracted: self.retracted,
        };
        serde_json::to_string(&line).map_err(|cause| {
            Error::failed(format!("batch {} cannot be written as JSON", self.address)).because(cause.to_string())
        })
    }
}
