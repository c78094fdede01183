//! What the catalog says of a table: its columns, whether the server keeps its rows, and whether it takes the query's.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use tokio_postgres::Row;

use super::{
    super::{
        Columns, RowKey,
        table::{Column, Found, Trouble},
    },
    connection::Connection,
    failure::Tried,
    table::text,
    values::type_name,
};
use crate::model::Error;

/// SQLSTATE: a value of the one type cannot be made one of the other.
const CANNOT_COERCE: &str = "42846";

/// One table, or none yet, by its name.
#[derive(Clone, Copy)]
pub(super) struct Catalog<'a> {
    pub connection: &'a Connection,
    pub name: &'a str,
}

impl Catalog<'_> {
    pub fn columns(&self) -> Tried<Vec<Column>> {
        let columns = "SELECT a.attname::text, format_type(a.atttypid, -1), a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
              a.attgenerated <> '' OR a.attidentity = 'a'
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
        let names = [text(&self.connection.schema), text(&self.name)];
        let column = |row: &Row| -> Tried<Column> {
            let (name, of_type) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Column { name, of_type, needed: row.try_get(2)?, generated: row.try_get(3)? })
        };
        self.connection.query(columns, &names)?.iter().map(column).collect()
    }

    /// Whether it is a table.
    ///
    /// # Errors
    /// Of kind `Refused`, where the name is a view's or the like.
    pub fn is_there(&self) -> Tried<bool> {
        let kind = "SELECT c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = $1 AND c.relname = $2";
        let kinds = self.connection.query(kind, &[text(&self.connection.schema), text(&self.name)])?;
        let Some(kind) = kinds.first() else { return Ok(false) };
        if !["r", "p"].contains(&kind.try_get(0)?) {
            return Err(Error::refused(format!("'{}' is a view, a foreign table or the like", self.name))
                .because("its rows could not be changed with their batch, or not in this database")
                .help("give the sink another table")
                .into());
        }
        Ok(true)
    }

    /// Checks that a crash of the server leaves the rows as they are: those of an unlogged table are gone then, without a word,
    /// while the other tables of the same transactions stay.
    ///
    /// # Errors
    /// Of kind `Refused`, naming the table, the partition, or the table that batches are written down in.
    pub fn check_lasting(&self, sql_name: &str) -> Tried<()> {
        let fleeting =
            "SELECT c.relname::text, c.relkind = 'f' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE (c.relpersistence <> 'p' OR c.relkind = 'f') AND c.relkind IN ('r', 'p', 'f')
              AND (n.nspname = $1 AND c.relname IN ($2, 'highwater_tables', 'highwater_batches')
                OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass($3))))
            ORDER BY 1 LIMIT 1";
        let names = [text(&self.connection.schema), text(&self.name), text(&sql_name)];
        let found = self.connection.query(fleeting, &names)?;
        let Some(row) = found.first() else { return Ok(()) };
        let name: String = row.try_get(0)?;
        let error = match row.try_get(1)? {
            true => Error::refused(format!("'{name}' is a foreign table"))
                .because("rows of that partition would be changed by another server, and not with their batch")
                .help("give the sink a table without it"),
            false => Error::refused(format!("table '{name}' is unlogged, or temporary"))
                .because(
                    "a crash of the server empties it, and what is kept beside it would say that all rows are there",
                )
                .help(format!("ALTER TABLE {name} SET LOGGED; or give the sink another table")),
        };
        Err(error.into())
    }

    pub fn check_types(&self, found: &Found, schema: &SchemaRef) -> Tried<()> {
        for field in schema.fields() {
            let ours = type_name(field.data_type());
            let Some(column) = found.column(field.name()).filter(|column| column.of_type != ours) else { continue };
            match self.connection.query(&format!("SELECT NULL::{ours}::{}", column.of_type), &[]) {
                Err(Trouble::Database(failure)) if failure.code().is_some_and(|code| code.code() == CANNOT_COERCE) => {
                    return Err(Error::refused(format!(
                        "table '{}' has a column '{}' of another type",
                        self.name, column.name
                    ))
                    .because(format!("it is {}, which cannot be made of the query's {ours}", column.of_type))
                    .help("cast it in the query, or give the sink another table, which is made")
                    .into());
                }
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Checks that the columns of a key keep apart all values that the query keeps apart: of two groups whose keys become one,
    /// the later would take the earlier one's place.
    pub fn check_key(&self, columns: &Columns<'_>) -> Tried<()> {
        let RowKey::Columns(key) = columns.key else { return Ok(()) };
        let kept =
            "SELECT a.attname::text, format_type(a.atttypid, -1), a.atttypmod, format_type(a.atttypid, a.atttypmod),
              coalesce(l.collisdeterministic, true)
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_collation l ON l.oid = a.attcollation
            WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
        let rows = self.connection.query(kept, &[text(&self.connection.schema), text(&self.name)])?;
        for field in key.iter().map(|at| columns.schema.field(*at)) {
            for row in &rows {
                let (name, of_type): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                let is_exact = keeps_apart(field.data_type(), &of_type, row.try_get(2)?) && row.try_get(4)?;
                if name != *field.name() || is_exact {
                    continue;
                }
                let (ours, theirs): (_, String) = (super::values::column_type(field.data_type()), row.try_get(3)?);
                return Err(Error::refused(format!(
                    "table '{}' would take different keys for one in its column '{name}'",
                    self.name
                ))
                .because(format!(
                    "it is {theirs}, where the query's group key is {ours}: rounded, cut or without case, one group would replace another"
                ))
                .help(format!(
                    "ALTER TABLE {} ALTER COLUMN \"{name}\" TYPE {ours}; or group by what the column can hold; or give the sink another table, which is made",
                    self.name
                ))
                .into());
            }
        }
        Ok(())
    }
}

/// Whether two values of the one type that differ also differ in a column of the other; a value that does not fit there is an
/// error, and no other value. `modifier`: precision, scale or length, as the catalog has it; negative: none.
fn keeps_apart(ours: &DataType, theirs: &str, modifier: i32) -> bool {
    // of eleven bits, the highest of them the sign
    let scale = (((modifier - 4) & 0x7ff) ^ 0x400) - 0x400;
    match (type_name(ours), theirs) {
        ("numeric", "numeric") => modifier < 0 || scale >= i32::from(scale_of(ours)),
        ("bigint", "numeric") => modifier < 0 || scale >= 0,
        ("bigint", "integer" | "smallint") | ("real", "double precision") => true,
        // spaces at the end are cut without an error where there is a length
        ("bigint" | "text", "text" | "character varying") => modifier < 0,
        (ours, theirs) if ours.starts_with("time") => ours == theirs && !(0..6).contains(&modifier),
        (ours, theirs) => ours == theirs && modifier < 0,
    }
}

fn scale_of(decimal: &DataType) -> i8 {
    match decimal {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale,
        DataType::Dictionary(_, values) => scale_of(values),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    /// As the catalog has NUMERIC(precision, scale).
    fn modifier(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn only_what_loses_nothing_keeps_keys_apart() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let money = DataType::Decimal128(10, 2);
        for (ours, theirs, modifier, apart) in [
            (&DataType::Utf8, "text", -1, true),
            (&DataType::Utf8, "character varying", -1, true),
            (&DataType::Utf8, "character varying", 24, false),
            (&DataType::Utf8, "citext", -1, false),
            (&DataType::Utf8, "integer", -1, false),
            (&DataType::Utf8, "uuid", -1, false),
            (&DataType::Int64, "bigint", -1, true),
            (&DataType::Int64, "integer", -1, true),
            (&DataType::Int64, "boolean", -1, false),
            (&DataType::Int64, "real", -1, false),
            (&DataType::Int64, "numeric", modifier(10, 0), true),
            (&DataType::Int64, "numeric", modifier(3, -2), false),
            (&DataType::Float64, "integer", -1, false),
            (&DataType::Float64, "real", -1, false),
            (&DataType::Float32, "double precision", -1, true),
            (&money, "numeric", -1, true),
            (&money, "numeric", modifier(10, 2), true),
            (&money, "numeric", modifier(10, 1), false),
            (&stamp, "timestamp without time zone", -1, true),
            (&stamp, "timestamp without time zone", 6, true),
            (&stamp, "timestamp without time zone", 0, false),
            (&stamp, "date", -1, false),
        ] {
            assert_eq!(keeps_apart(ours, theirs, modifier), apart, "{ours} {theirs} {modifier}");
        }
    }
}
