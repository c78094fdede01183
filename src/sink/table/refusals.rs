//! What a table may not be, or hold, and what the operator can do about it.

use datafusion::arrow::datatypes::SchemaRef;

use super::{
    TableSink,
    books::{BATCH_COLUMN, Column, Database, Found, Owner, quoted},
};
use crate::model::{BatchId, Error, Place, Result};

/// Why a table's rows cannot be taken back by their batch.
pub(super) const NO_BATCHES: &str =
    "the sink did not make it, and it has no column highwater_batch, which says of which batch a row is";

impl<D: Database> TableSink<D> {
    pub(super) fn owned_by(&self, owner: &Owner, we: &str) -> Error {
        let Owner { checkpoint, sink, .. } = owner;
        Error::refused(format!("table '{}' belongs to another checkpoint or sink", self.table))
            .at(D::at(&self.place))
            .because(format!("sink '{sink}' of checkpoint {checkpoint} writes here, {we}"))
            .help(format!(
                "give the sink {}; or, if its rows are no longer needed: DROP TABLE {}",
                D::ELSEWHERE,
                quoted(&self.table)
            ))
    }

    /// Rows in a table that no checkpoint owns.
    pub(super) fn check_no_strangers(&self, found: &Found) -> Result<()> {
        if !found.has_rows {
            return Ok(());
        }
        Err(Error::refused(format!("'{}' would write among rows that are not its own", self.name))
            .at(D::at(&self.place))
            .because(format!("table '{}' has rows, and belongs to no checkpoint", self.table))
            .help(format!(
                "give the sink {}; or, if they are no longer needed: DELETE FROM {}",
                D::ELSEWHERE,
                quoted(&self.table)
            )))
    }

    pub(super) fn not_the_place_before(&self) -> Error {
        Error::refused(format!("'{}' has published to another table than this one", self.name))
            .at(D::at(&self.place))
            .because(format!("table '{}' here has nothing that this checkpoint published", self.table))
            .help(format!(
                "{}; to publish elsewhere from some batch on, `highwater fork` with --set; if the output was removed for \
                 good, `highwater rewind --to start` and run again",
                D::BACK
            ))
    }

    pub(super) fn other_rows(&self, batch: BatchId) -> Error {
        Error::refused(format!("'{}' would publish other rows than were committed", self.name))
            .because(format!(
                "batch {batch} gave other rows this time, or the database has another batch of this number"
            ))
            .help("put checkpoint and database back as they were together, or rewind to the batch before")
    }

    /// The database lost a batch that it had confirmed, or another database answers in its place.
    pub(super) fn lacks(&self, batch: BatchId, newest: Option<BatchId>) -> Error {
        let (there, to) = match newest {
            Some(newest) => (format!("the newest before it is {newest}"), newest.to_string()),
            None => ("it has none before it either".to_owned(), "start".to_owned()),
        };
        Error::refused(format!("table '{}' lacks batch {batch}, which was published to it", self.table))
            .at(D::at(&self.place))
            .because(format!("{there}: the database was put back, or one that had not all of it took its place"))
            .help(format!(
                "bring the database back as it was; or `highwater rewind CHECKPOINT --to {to}`, and run again: what is missing is written again"
            ))
    }

    pub(super) fn cannot_take_back(&self, why: &str) -> Error {
        Error::refused(format!("rows of '{}' cannot be taken back from table '{}'", self.name, self.table))
            .because(why)
            .help(
                "go on without a rewind; a table that the sink makes itself, under a name that is free, can be rewound",
            )
    }

    pub(super) fn takes_for_zero(&self, column: &str, batch: BatchId) -> Error {
        Error::data(format!("the group key '{column}' is -0.0, which {} takes for 0.0", D::NAME))
            .at(Place::Batch(batch))
            .because("rows of two groups would replace one another")
            .help(format!("group by {column} + 0.0, which makes them one group"))
    }

    pub(super) fn takes_for_nan(&self, column: &str, batch: BatchId) -> Error {
        Error::data(format!("the group key '{column}' is a NaN with a sign, and {} has one NaN", D::NAME))
            .at(Place::Batch(batch))
            .because("rows of two groups would replace one another")
            .help(format!("group by CASE WHEN isnan({column}) THEN CAST('NaN' AS DOUBLE) ELSE {column} END"))
    }

    /// Whether a table that is there can take rows of these columns.
    ///
    /// # Errors
    /// Of kind `Refused`, naming the column that is missing, or that nothing fills.
    pub(super) fn check_columns(&self, found: &Found, schema: &SchemaRef) -> Result<()> {
        for field in schema.fields() {
            if found.column(field.name()).is_none() {
                let (table, column) = (quoted(&self.table), quoted(field.name()));
                let of_type = D::column_type(field.data_type());
                return Err(Error::refused(format!("table '{}' has no column '{}'", self.table, field.name()))
                    .at(D::at(&self.place))
                    .because("the query gives it, and a table that is there already is not changed")
                    .help(format!(
                        "ALTER TABLE {table} ADD COLUMN {column} {of_type}; or give the sink another table, which is made"
                    )));
            }
        }
        let is_ours = |column: &Column| {
            D::is_same(&column.name, BATCH_COLUMN)
                || schema.fields().iter().any(|field| D::is_same(field.name(), &column.name))
        };
        match found.columns.iter().find(|column| column.needed && !is_ours(column)) {
            None => Ok(()),
            Some(column) => Err(Error::refused(format!("table '{}' needs a column '{}'", self.table, column.name))
                .at(D::at(&self.place))
                .because("it is NOT NULL without a default, and the query does not give it")
                .help("give the column a default, select it in the query, or give the sink another table")),
        }
    }
}

/// What the database would take for one column, or the sink for its own.
pub(super) fn check_names<D: Database>(schema: &SchemaRef) -> Result<()> {
    for (at, field) in schema.fields().iter().enumerate() {
        let name = field.name();
        let why = if D::is_same(BATCH_COLUMN, name) {
            "the sink itself has a column of this name, for the batch that a row is of".to_owned()
        } else if schema.fields()[..at].iter().any(|before| D::is_same(before.name(), name)) {
            format!("{} takes names that differ in case only for the same", D::NAME)
        } else if let Some(why) = D::refuses_name(name) {
            why.to_owned()
        } else {
            continue;
        };
        let error = Error::usage(format!("a table of {} cannot have the column '{name}' of the query", D::NAME));
        return Err(error.because(why).help("give it another name: SELECT ... AS name"));
    }
    Ok(())
}
