//! A database file: opened, asked and changed in transactions, and what goes wrong told to the operator.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use datafusion::arrow::{datatypes::DataType, record_batch::RecordBatch};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::{
    super::{
        durable::create_folder,
        table::{self, Trouble},
    },
    table::Table,
    values::{self, Row},
};
use crate::model::{Error, Place, Result};

/// How long another process's lock is waited for.
const BUSY: Duration = Duration::from_secs(5);

impl From<rusqlite::Error> for Trouble<rusqlite::Error> {
    fn from(error: rusqlite::Error) -> Trouble<rusqlite::Error> {
        Trouble::Database(error)
    }
}

pub(super) type Tried<T> = table::Tried<T, rusqlite::Error>;

/// An open database.
#[derive(Debug)]
pub(in crate::sink) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    fn open(path: &Path, flags: OpenFlags) -> Result<Database> {
        let open = || -> Tried<Connection> {
            let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(BUSY)?;
            // FULL does not fsync the folder once the journal is removed: after a power loss it could be there again, and
            // undo a batch that the checkpoint knows to be published
            connection.pragma_update(None, "synchronous", "EXTRA")?;
            Ok(connection)
        };
        let connection = open().map_err(|trouble| told(trouble, "a database cannot be opened", path))?;
        Ok(Database { connection, path: path.to_owned() })
    }

    /// Changes the database: all of it, or nothing. At least one row must change, or nothing has to.
    pub(super) fn change<T>(&mut self, what: &str, work: impl FnOnce(&Transaction<'_>) -> Tried<T>) -> Result<T> {
        let write = || -> Tried<T> {
            // at once: a lock that is taken at the first change can fail in the middle
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let before = transaction.total_changes();
            let done = work(&transaction)?;
            // also to commit nothing SQLite wants to be alone, and waits for those who read
            if transaction.total_changes() == before {
                transaction.rollback()?
            } else {
                transaction.commit()?
            }
            Ok(done)
        };
        write().map_err(|trouble| told(trouble, what, &self.path))
    }

    /// Asks the database, as it is at one moment.
    pub(super) fn ask<T>(&mut self, what: &str, work: impl FnOnce(&Transaction<'_>) -> Tried<T>) -> Result<T> {
        let read = || work(&self.connection.transaction()?);
        read().map_err(|trouble| told(trouble, what, &self.path))
    }
}

impl table::Database for Database {
    const CONNECTOR: &'static str = "sqlite";
    const NAME: &'static str = "SQLite";
    const ELSEWHERE: &'static str = "another table or path";
    const BACK: &'static str = "set path and table back, or move the database to the new path";

    type Place = PathBuf;
    type Rows = Vec<Row>;
    type Failure = rusqlite::Error;

    fn shown(place: &PathBuf) -> String {
        place.display().to_string()
    }

    fn at(place: &PathBuf) -> Place {
        Place::Path(place.clone())
    }

    fn existing(path: &PathBuf) -> Result<Option<Database>> {
        // `symlink_metadata`, so that a link into the void is told by SQLite as what it is
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("a database cannot be looked at", path, &error)),
            // for writing, too: what another process left half done when it was killed has to be rolled back first
            Ok(_) => Database::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map(Some),
        }
    }

    fn made(path: &PathBuf) -> Result<Database> {
        create_folder(path.parent().unwrap_or(Path::new("")))?;
        Database::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    fn to_be_made(path: &PathBuf) -> Option<String> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())?;
        Some(format!("the folder {} is not there: the first run makes it, and the database in it", folder.display()))
    }

    fn read<T>(
        &mut self,
        table: &str,
        what: &str,
        mut work: impl FnMut(&mut dyn table::Table<Database>) -> Tried<T>,
    ) -> Result<T> {
        self.ask(what, |tx| work(&mut Table { name: table, tx }))
    }

    fn write<T>(
        &mut self,
        table: &str,
        what: &str,
        mut work: impl FnMut(&mut dyn table::Table<Database>) -> Tried<T>,
    ) -> Result<T> {
        self.change(what, |tx| work(&mut Table { name: table, tx }))
    }

    fn rows_of(batches: &[RecordBatch]) -> Result<Vec<Row>> {
        values::rows_of(batches)
    }

    fn encoded(rows: &Vec<Row>) -> Vec<Vec<u8>> {
        values::all_encoded(rows)
    }

    fn hash_of(rows: &Vec<Row>) -> (u64, [u8; 32]) {
        values::hash_of(rows)
    }

    fn column_type(data_type: &DataType) -> String {
        values::column_type(data_type).to_owned()
    }

    fn is_same(one: &str, another: &str) -> bool {
        one.eq_ignore_ascii_case(another)
    }

    fn refuses_name(_name: &str) -> Option<&'static str> {
        None
    }
}

/// What SQLite says, as something to deal with.
fn told(trouble: Trouble<rusqlite::Error>, what: &str, path: &Path) -> Error {
    let cause = match trouble {
        Trouble::Ours(error) => return error.at_if_none(Place::Path(path.to_owned())),
        Trouble::Database(cause) => cause,
    };
    let error = Error::failed(what).at(Place::Path(path.to_owned()));
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => error
            .because(format!("another process has kept it locked for {} seconds", BUSY.as_secs()))
            .help("end what holds it (an open transaction, a backup), then run again: a committed batch is published then"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => error
            .because(format!("it is damaged, or no database of SQLite: {cause}"))
            .help("put a sound copy in its place, or move it away and `highwater rewind --to start`"),
        Some(ErrorCode::DiskFull) => {
            error.because(cause.to_string()).help("free some space, then run the job again: nothing committed is lost")
        }
        Some(ErrorCode::SystemIoFailure) => error
            .because(cause.to_string())
            .help("check the disk and the system's log, then run again: nothing committed is lost"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => error
            .because(cause.to_string())
            .help("make the file and its folder readable and writable by this user, then run again"),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => error
            .because(format!("the table does not take these rows: {cause}"))
            .help("change the table, then run again: a committed batch is published then"),
        _ => error.because(cause.to_string()).help("mend it, then run again: nothing committed is lost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    #[test]
    fn what_is_no_database_is_an_error_and_nothing_is_made_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        assert!(<Database as table::Database>::existing(&path).unwrap().is_none());
        assert!(!path.exists());
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        let count = |database: Database| {
            let mut database = database;
            database.ask("it cannot be read", |tx| {
                Ok(tx.query_row("SELECT count(*) FROM sqlite_master", (), |_| Ok(()))?)
            })
        };
        let error =
            <Database as table::Database>::existing(&path).and_then(|database| count(database.unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.why().unwrap().contains("no database of SQLite"), "{error}");
        let create = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let error = Database::open(&dir.path().join("none/x.db"), create).unwrap_err();
        assert!(error.to_string().contains("writable"), "{error}");
    }

    #[test]
    fn what_fails_leaves_nothing_of_its_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = <Database as table::Database>::made(&dir.path().join("x.db")).unwrap();
        database
            .change("no", |tx| Ok(tx.execute_batch("CREATE TABLE t (n INTEGER NOT NULL); INSERT INTO t VALUES (0)")?))
            .unwrap();
        let error = database.change("the rows cannot be written", |tx| {
            tx.execute("INSERT INTO t VALUES (1)", ())?;
            Ok(tx.execute("INSERT INTO t VALUES (NULL)", ())?)
        });
        let error = error.unwrap_err();
        assert_eq!(error.what(), "the rows cannot be written");
        assert!(error.why().unwrap().contains("NOT NULL"), "{error}");
        let count =
            database.ask("no", |tx| Ok(tx.query_row("SELECT count(*) FROM t", (), |row| row.get::<_, i64>(0))?));
        assert_eq!(count.unwrap(), 1);
    }
}
