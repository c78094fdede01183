//! What the server, or the way to it, says, as something to deal with.

use std::{error::Error as _, io, time::Duration};

use tokio_postgres::error::SqlState;

use super::super::{
    server,
    table::{self, Trouble},
};
use crate::model::Error;

/// What can go wrong with a statement.
#[derive(Debug)]
pub(in crate::sink) enum Failure {
    Driver(tokio_postgres::Error),
    /// It was not answered for so long.
    NoAnswer(Duration),
    /// For so long no server has let us in.
    NotReached(Duration),
}

impl From<tokio_postgres::Error> for Trouble<Failure> {
    fn from(error: tokio_postgres::Error) -> Trouble<Failure> {
        Trouble::Database(Failure::Driver(error))
    }
}

pub(super) type Tried<T> = table::Tried<T, Failure>;

/// What the operator can do about it.
enum Cure {
    Reach,
    Trust,
    LogIn,
    Grant,
    Wait,
    Primary,
    Space,
    Table,
    Other,
}

impl Failure {
    /// The SQLSTATE of what the server said.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Failure::Driver(error) => error.code(),
            Failure::NoAnswer(_) | Failure::NotReached(_) => None,
        }
    }

    fn io(&self) -> Option<&io::Error> {
        let Failure::Driver(error) = self else { return None };
        error.source().and_then(|source| source.downcast_ref())
    }

    fn cure(&self) -> Cure {
        let Some(code) = self.code() else {
            return if self.io().is_some_and(is_mistrust) { Cure::Trust } else { Cure::Reach };
        };
        match code.code() {
            "25006" => Cure::Primary,
            "42501" => Cure::Grant,
            "53100" => Cure::Space,
            "55P03" | "57014" => Cure::Wait,
            code if code.starts_with("28") || code == "3D000" => Cure::LogIn,
            code if code.starts_with("22") || code.starts_with("23") || code.starts_with("428") => Cure::Table,
            _ if server::Failure::is_passing(self) => Cure::Reach,
            _ => Cure::Other,
        }
    }
}

impl server::Failure for Failure {
    fn is_passing(&self) -> bool {
        let error = match self {
            Failure::Driver(error) => error,
            Failure::NoAnswer(_) => return false,
            Failure::NotReached(_) => return true,
        };
        match error.code() {
            Some(code) => {
                let passing = [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::CANNOT_CONNECT_NOW,
                    SqlState::TOO_MANY_CONNECTIONS,
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    SqlState::IDLE_SESSION_TIMEOUT,
                ];
                code.code().starts_with("08") || passing.contains(code)
            }
            None => error.is_closed() || matches!(self.io(), Some(error) if !is_mistrust(error)),
        }
    }

    fn lasted(&self) -> Duration {
        if let Failure::NotReached(limit) = self { *limit } else { Duration::ZERO }
    }

    fn text(&self) -> String {
        match self {
            Failure::NotReached(limit) => format!("no server has answered within {} ms", limit.as_millis()),
            Failure::NoAnswer(limit) => format!("the server has not answered for {} seconds", limit.as_secs()),
            Failure::Driver(error) => match error.as_db_error() {
                Some(said) => {
                    let detail = said.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
                    format!("{}{detail} (SQLSTATE {})", said.message(), said.code().code())
                }
                None => {
                    let mut text = error.to_string();
                    let mut cause = error.source();
                    while let Some(error) = cause {
                        text += &format!(": {error}");
                        cause = error.source();
                    }
                    text
                }
            },
        }
    }

    fn told(&self, what: &str, text: String) -> Error {
        const THEN: &str = "a committed batch is published then";
        let error = Error::failed(what).because(text);
        match self.cure() {
            Cure::Reach => error.help(format!(
                "start the server, or mend the way to it (host, port, sslmode), then run again: {THEN}; retry_timeout says how long it is waited for"
            )),
            Cure::Trust => error.help(
                "let sslrootcert name a file of those who signed the server's certificate, and host be the name that it is for; \
                 sslmode = 'require' asks nobody who the server is",
            ),
            Cure::LogIn => {
                error.help(format!("mend user, password, dbname, or who may log in (pg_hba.conf), then run again: {THEN}"))
            }
            Cure::Grant => error.help(format!(
                "let the user make and change tables here (GRANT CREATE, USAGE ON SCHEMA ...), also highwater_tables and highwater_batches, then run again: {THEN}"
            )),
            Cure::Wait => error.help(format!(
                "end what holds the table (pg_stat_activity), or raise statement_timeout, then run again: {THEN}"
            )),
            Cure::Primary => error.help("it is a standby: let host name the primary, then run again"),
            Cure::Space => error.help(format!("free some space on the server, then run again: {THEN}")),
            Cure::Table => error.help(format!("the table does not take these rows: change it, then run again: {THEN}")),
            Cure::Other => error.help(format!("mend it, then run again: {THEN}")),
        }
    }
}

/// Whether a server was not taken for who it says it is.
fn is_mistrust(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
