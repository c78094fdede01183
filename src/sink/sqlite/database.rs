//! A database file: opened, asked and changed in transactions, and what goes wrong told to the operator.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::model::{Error, Place, Result};

/// How long another process's lock is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// What can go wrong inside of a transaction.
#[derive(Debug)]
pub(super) enum Trouble {
    Sqlite(rusqlite::Error),
    Ours(Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        Trouble::Sqlite(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Ours(error)
    }
}

pub(super) type Tried<T> = std::result::Result<T, Trouble>;

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens the database of this path, if there is one.
    ///
    /// # Errors
    /// Of kind `Failed`, where it cannot be opened.
    pub fn existing(path: &Path) -> Result<Option<Database>> {
        // `symlink_metadata`, so that a link into the void is told by SQLite as what it is
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("a database cannot be looked at", path, &error)),
            // for writing, too: what another process left half done when it was killed has to be rolled back first
            Ok(_) => Database::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map(Some),
        }
    }

    /// As [`Database::existing`]; makes it where there is none.
    pub fn made(path: &Path) -> Result<Database> {
        Database::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

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
    ///
    /// # Errors
    /// As `work` has it; of kind `Failed` where SQLite fails, with `what`.
    pub fn write<T>(&mut self, what: &str, work: impl FnOnce(&Transaction<'_>) -> Tried<T>) -> Result<T> {
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
    ///
    /// # Errors
    /// As [`Database::write`].
    pub fn read<T>(&mut self, what: &str, work: impl FnOnce(&Transaction<'_>) -> Tried<T>) -> Result<T> {
        let read = || work(&self.connection.transaction()?);
        read().map_err(|trouble| told(trouble, what, &self.path))
    }
}

/// What SQLite says, as something to deal with.
fn told(trouble: Trouble, what: &str, path: &Path) -> Error {
    let cause = match trouble {
        Trouble::Ours(error) => return error.at_if_none(Place::Path(path.to_owned())),
        Trouble::Sqlite(cause) => cause,
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
        assert!(Database::existing(&path).unwrap().is_none());
        assert!(!path.exists());
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        let count = |database: Database| {
            let mut database = database;
            database
                .read("it cannot be read", |tx| Ok(tx.query_row("SELECT count(*) FROM sqlite_master", (), |_| Ok(()))?))
        };
        let error = Database::existing(&path).and_then(|database| count(database.unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.why().unwrap().contains("no database of SQLite"), "{error}");
        let error = Database::made(&dir.path().join("none/x.db")).unwrap_err();
        assert!(error.to_string().contains("writable"), "{error}");
    }

    #[test]
    fn what_fails_leaves_nothing_of_its_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::made(&dir.path().join("x.db")).unwrap();
        database
            .write("no", |tx| Ok(tx.execute_batch("CREATE TABLE t (n INTEGER NOT NULL); INSERT INTO t VALUES (0)")?))
            .unwrap();
        let error = database.write("the rows cannot be written", |tx| {
            tx.execute("INSERT INTO t VALUES (1)", ())?;
            Ok(tx.execute("INSERT INTO t VALUES (NULL)", ())?)
        });
        let error = error.unwrap_err();
        assert_eq!(error.what(), "the rows cannot be written");
        assert!(error.why().unwrap().contains("NOT NULL"), "{error}");
        let count =
            database.read("no", |tx| Ok(tx.query_row("SELECT count(*) FROM t", (), |row| row.get::<_, i64>(0))?));
        assert_eq!(count.unwrap(), 1);
    }
}
