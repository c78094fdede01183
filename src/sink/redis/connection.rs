//! How the server is called, and what it says, as something to deal with.

use std::time::Duration;

use redis::{Client, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError};

use super::super::{
    server,
    table::{self, Trouble},
};
use crate::{
    job::{Address, RedisSpec},
    model::Error,
};

/// What can go wrong with a command.
#[derive(Debug)]
pub(super) enum Failure {
    Driver(RedisError),
    /// For so long no server has let us in.
    NotReached(Duration, RedisError),
}

impl Failure {
    fn error(&self) -> &RedisError {
        match self {
            Failure::Driver(error) | Failure::NotReached(_, error) => error,
        }
    }
}

impl From<RedisError> for Trouble<Failure> {
    fn from(error: RedisError) -> Trouble<Failure> {
        Trouble::Database(Failure::Driver(error))
    }
}

pub(super) type Tried<T> = table::Tried<T, Failure>;

/// Calls the server, once, and waits so long at most until it has let us in.
pub(super) fn connect(spec: &RedisSpec, address: &Address, within: Duration) -> Tried<Connection> {
    let (host, port) = (address.host.trim_start_matches('[').trim_end_matches(']').to_owned(), address.port());
    let place = match (address.scheme.as_str(), host.starts_with('/')) {
        (_, true) => ConnectionAddr::Unix(host.into()),
        // the server's certificate must be its own, signed by one of the system's authorities
        ("rediss", _) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        _ => ConnectionAddr::Tcp(host, port),
    };
    let number = address.dbname.as_deref().unwrap_or("0");
    let database =
        number.parse().map_err(|_| RedisError::from((ErrorKind::InvalidClientConfig, "the database is no number")))?;
    let mut settings = RedisConnectionInfo::default().set_db(database);
    if let Some(user) = &address.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &address.password {
        settings = settings.set_password(password);
    }
    let client = Client::open(place.into_connection_info()?.set_redis_settings(settings))?;
    let connected = client.get_connection_with_timeout(within);
    let connection = connected.map_err(|error| match error.is_timeout() {
        true => Failure::NotReached(within, error),
        false => Failure::Driver(error),
    });
    let connection = connection.map_err(Trouble::Database)?;
    let limit = Some(spec.patience.statement.max(Duration::from_millis(1)));
    connection.set_read_timeout(limit)?;
    connection.set_write_timeout(limit)?;
    Ok(connection)
}

impl server::Failure for Failure {
    fn is_passing(&self) -> bool {
        let error = match self {
            Failure::Driver(error) => error,
            Failure::NotReached(..) => return true,
        };
        let starts = error.code().is_some_and(|code| ["LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN"].contains(&code));
        starts || !error.is_timeout() && (error.is_io_error() || error.is_connection_dropped())
    }

    fn lasted(&self) -> Duration {
        if let Failure::NotReached(limit, _) = self { *limit } else { Duration::ZERO }
    }

    fn text(&self) -> String {
        match self {
            Failure::Driver(error) => error.to_string(),
            Failure::NotReached(limit, error) => {
                format!("no server has answered within {} ms: {error}", limit.as_millis())
            }
        }
    }

    fn told(&self, what: &str, text: String) -> Error {
        const THEN: &str = "a committed batch is published then";
        let (cause, error) = (self.error(), Error::failed(what).because(text));
        match cause.code() {
            _ if cause.kind() == ErrorKind::AuthenticationFailed => {
                error.help(format!("mend user and password of the url, then run again: {THEN}"))
            }
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => {
                error.help(format!("mend user and password, or what the user may do (ACL), then run again: {THEN}"))
            }
            Some("READONLY") => error.help("it is a replica: let the url name the primary, then run again"),
            Some("OOM" | "EXECABORT") => {
                error.help(format!("give the server more memory (maxmemory), then run again: {THEN}"))
            }
            Some(_) => error.help(format!("mend it, then run again: {THEN}")),
            None => error.help(format!(
                "start the server, or mend the way to it (host, port, redis:// or rediss://), then run again: {THEN}; \
                 retry_timeout says how long it is waited for"
            )),
        }
    }
}
