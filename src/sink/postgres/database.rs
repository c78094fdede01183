//! Transactions. One whose connection was lost is done again on another, and first of all asks whether what it did is there.

use std::time::Duration;

use datafusion::arrow::{datatypes::DataType, record_batch::RecordBatch};

use super::{
    super::{server, table},
    connection::Connection,
    failure::{Failure, Tried},
    keys,
    rows::Rows,
    table::Table,
    values,
};
use crate::{
    job::{Address, PostgresSpec},
    model::{Place, Result},
};

/// As it is at one moment, so that what is found fits together.
const TO_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Each statement sees what was committed before it, so what a lock was waited for is seen.
const TO_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// The server keeps milliseconds in 31 bits; what the job says of them is shorter.
const TIMEOUT_MS_MAX: u128 = i32::MAX as u128;

/// A database, called when it is needed.
pub(in crate::sink) struct Database {
    spec: PostgresSpec,
    address: Address,
    connection: Option<Connection>,
}

impl Database {
    fn transact<T>(
        &mut self,
        begin: &str,
        (table, what): (&str, &str),
        mut work: impl FnMut(&mut dyn table::Table<Database>) -> Tried<T>,
    ) -> Result<T> {
        let Database { spec, address, connection } = self;
        server::patiently((&spec.server, address, spec.patience), what, |within| {
            attempt((spec, address, within), connection, (begin, table), &mut work)
        })
    }
}

fn attempt<T>(
    (spec, address, within): (&PostgresSpec, &Address, Duration),
    kept: &mut Option<Connection>,
    (begin, table): (&str, &str),
    work: &mut impl FnMut(&mut dyn table::Table<Database>) -> Tried<T>,
) -> Tried<T> {
    let connection = match kept.take() {
        Some(connection) if !connection.is_closed() => connection,
        _ => Connection::open(spec, address, within)?,
    };
    connection.begin(&begun(spec, begin, &connection.schema, table))?;
    let mut open = Table { connection: &connection, name: table, writes: begin == TO_WRITE };
    // where anything fails the connection is closed, and with it what was done
    let done = work(&mut open)?;
    connection.batch("COMMIT")?;
    *kept = Some(connection);
    Ok(done)
}

/// The start of a transaction, in one statement to the server.
fn begun(spec: &PostgresSpec, begin: &str, schema: &str, table: &str) -> String {
    let limit = spec.patience.statement.as_millis();
    // a transaction of ours whose end of the line is dead holds its locks no longer than that
    let idle = (limit * 2).min(TIMEOUT_MS_MAX);
    let limits =
        format!("SET LOCAL statement_timeout = {limit}; SET LOCAL idle_in_transaction_session_timeout = {idle}");
    if begin == TO_READ {
        return format!("{begin}; {limits}");
    }
    // where nobody owns the table yet there is no row to lock
    let lock = format!("highwater {schema}.{table}").replace('\'', "''");
    format!(
        "{begin}; {limits}; \
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'; \
         SELECT pg_advisory_xact_lock(hashtextextended('{lock}', 0))"
    )
}

impl table::Database for Database {
    const CONNECTOR: &'static str = "postgres";
    const NAME: &'static str = "PostgreSQL";
    const ELSEWHERE: &'static str = "another table or schema";
    const BACK: &'static str = "set server, schema and table back";

    type Place = PostgresSpec;
    type Rows = Rows;
    type Failure = Failure;

    fn shown(spec: &PostgresSpec) -> String {
        spec.server.shown()
    }

    fn at(spec: &PostgresSpec) -> Place {
        Place::Server(spec.server.shown())
    }

    fn existing(spec: &PostgresSpec) -> Result<Option<Database>> {
        Database::made(spec).map(Some)
    }

    fn made(spec: &PostgresSpec) -> Result<Database> {
        let address = spec.server.address()?;
        Ok(Database { spec: spec.clone(), address, connection: None })
    }

    fn read<T>(
        &mut self,
        table: &str,
        what: &str,
        work: impl FnMut(&mut dyn table::Table<Database>) -> Tried<T>,
    ) -> Result<T> {
        self.transact(TO_READ, (table, what), work)
    }

    fn write<T>(
        &mut self,
        table: &str,
        what: &str,
        work: impl FnMut(&mut dyn table::Table<Database>) -> Tried<T>,
    ) -> Result<T> {
        self.transact(TO_WRITE, (table, what), work)
    }

    fn rows_of(batches: &[RecordBatch]) -> Result<Rows> {
        Rows::of(batches)
    }

    fn check_keys(batches: &[RecordBatch], key: &[usize]) -> Result<()> {
        keys::check_values(batches, key)
    }

    fn encoded(rows: &Rows) -> Vec<Vec<u8>> {
        rows.iter().map(|row| row.to_vec()).collect()
    }

    fn hash_of(rows: &Rows) -> (u64, [u8; 32]) {
        table::hash(rows.iter().collect())
    }

    fn column_type(data_type: &DataType) -> String {
        values::column_type(data_type)
    }

    fn is_same(one: &str, another: &str) -> bool {
        one == another
    }

    fn refuses_name(name: &str) -> Option<&'static str> {
        const SYSTEM: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];
        if SYSTEM.contains(&name) {
            return Some("every table of PostgreSQL has a column of this name");
        }
        (name.len() > 63).then_some("PostgreSQL keeps 63 bytes of a name, and cuts off the rest")
    }
}
