//! One connection, and how long it is waited for.

use std::{cell::Cell, future::Future, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt, pin_mut};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{
    Client, Config, NoTls, Row, Socket,
    config::SslMode as Tls,
    tls::{MakeTlsConnect, TlsConnect},
    types::{ToSql, Type},
};

use super::{
    super::table::Trouble,
    failure::{Failure, Tried},
    tls,
};
use crate::{
    job::{Address, PostgresSpec, SslMode},
    model::{Error, Result},
};

/// So much longer than the server lets a statement take, its answer is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// Bytes of a COPY that are sent at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A value for a statement, and its type.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// An open connection.
pub(super) struct Connection {
    /// Sockets are looked after on this thread, while an answer is waited for.
    runtime: Runtime,
    client: Client,
    /// The schema of the sink's tables.
    pub schema: String,
    /// So long a statement's answer is waited for.
    limit: Duration,
    /// Whether this transaction reads or changes the whole table, which takes as long as it is large.
    takes_time: Cell<bool>,
}

impl Connection {
    /// Calls the server, once, and waits so long at most until it has let us in.
    pub fn open(spec: &PostgresSpec, address: &Address, within: Duration) -> Tried<Connection> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| Error::failed("no connection can be made").because(error.to_string()))?;
        let config = config(spec, address);
        let client = match spec.ssl_mode(address)? {
            SslMode::Disable => connect(&runtime, config, (Tls::Disable, within), NoTls)?,
            SslMode::Prefer => connect(&runtime, config, (Tls::Prefer, within), tls::with_anyone()?)?,
            SslMode::Require => connect(&runtime, config, (Tls::Require, within), tls::with_anyone()?)?,
            SslMode::VerifyFull => {
                connect(&runtime, config, (Tls::Require, within), tls::verified(spec.sslrootcert.as_deref())?)?
            }
        };
        let limit = spec.patience.statement + GRACE;
        let mut connection = Connection { runtime, client, schema: String::new(), limit, takes_time: Cell::new(false) };
        connection.check_encoding()?;
        connection.schema = connection.find_schema(spec.schema.as_deref())?;
        Ok(connection)
    }

    /// Of texts, a database in another encoding would refuse some, and cut others in the middle of a character.
    fn check_encoding(&self) -> Tried<()> {
        let rows = self.query("SELECT current_setting('server_encoding')", &[])?;
        let encoding: String = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
        if encoding == "UTF8" {
            return Ok(());
        }
        Err(Error::refused(format!("the database keeps texts in the encoding {encoding}"))
            .because(
                "it has no place for every character that a query may give, and would refuse a batch after its commit",
            )
            .help("give the sink a database in UTF8: CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'")
            .into())
    }

    fn find_schema(&self, wanted: Option<&str>) -> Tried<String> {
        let find = "SELECT nspname::text FROM pg_namespace WHERE nspname = coalesce($1, current_schema())";
        match (self.query(find, &[(&wanted, Type::TEXT)])?.first(), wanted) {
            (Some(row), _) => Ok(row.try_get(0)?),
            (None, Some(name)) => Err(Error::refused(format!("the database has no schema '{name}'"))
                .help(format!("CREATE SCHEMA \"{name}\", or give the sink another schema"))
                .into()),
            (None, None) => Err(Error::refused("no schema of the search path is there")
                .help("give the sink the option schema = 'public', or set the user's search_path")
                .into()),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Tried<T> {
        if self.takes_time.get() {
            // a server that is gone is noticed by the connection
            return Ok(self.runtime.block_on(answer)?);
        }
        let answer = self.runtime.block_on(async { tokio::time::timeout(self.limit, answer).await });
        match answer {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Trouble::Database(Failure::NoAnswer(self.limit))),
        }
    }

    /// Begins a transaction by this statement.
    pub fn begin(&self, sql: &str) -> Tried<()> {
        self.takes_time.set(false);
        self.batch(sql)
    }

    /// What follows in this transaction reads or changes the whole table: only for locks it is not waited longer than for a
    /// statement.
    pub fn take_time(&self) -> Tried<()> {
        if !self.takes_time.get() {
            self.batch(
                "SELECT set_config('lock_timeout', current_setting('statement_timeout'), true);
                 SELECT set_config('statement_timeout', '0', true)",
            )?;
            self.takes_time.set(true);
        }
        Ok(())
    }

    /// Statements without values, whose rows nobody wants.
    pub fn batch(&self, sql: &str) -> Tried<()> {
        self.wait(self.client.batch_execute(sql))
    }

    pub fn query(&self, sql: &str, values: &[Param<'_>]) -> Tried<Vec<Row>> {
        self.wait(self.client.query_typed(sql, values))
    }

    /// How many rows a statement changed.
    pub fn execute(&self, sql: &str, values: &[Param<'_>]) -> Tried<u64> {
        self.wait(self.client.execute_typed(sql, values))
    }

    /// `COPY ... FROM STDIN`; `next` fills a buffer with more, until there is none.
    pub fn copy_in(&self, sql: &str, mut next: impl FnMut(&mut Vec<u8>, usize)) -> Tried<()> {
        self.wait(async {
            let sink = self.client.copy_in::<_, Bytes>(sql).await?;
            pin_mut!(sink);
            loop {
                let mut chunk = Vec::new();
                next(&mut chunk, CHUNK_BYTES);
                if chunk.is_empty() {
                    break;
                }
                if sink.send(Bytes::from(chunk)).await.is_err() {
                    // the end says why the server takes no more
                    break;
                }
            }
            sink.finish().await.map(|_| ())
        })
    }

    /// `COPY ... TO STDOUT`, whole.
    pub fn copy_out(&self, sql: &str) -> Tried<Vec<u8>> {
        self.wait(async {
            let stream = self.client.copy_out(sql).await?;
            let whole = |mut whole: Vec<u8>, part: Bytes| async move {
                whole.extend_from_slice(&part);
                Ok(whole)
            };
            stream.try_fold(Vec::new(), whole).await
        })
    }
}

fn config(spec: &PostgresSpec, address: &Address) -> Config {
    let mut config = Config::new();
    match address.host.starts_with('/') {
        true => config.host_path(&address.host),
        false => config.host(address.host.trim_start_matches('[').trim_end_matches(']')),
    };
    config.port(address.port()).application_name("highwater");
    // a server that is gone is noticed also while nothing is sent
    config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(spec.patience.statement + GRACE);
    if let Some(user) = &address.user {
        config.user(user);
    }
    if let Some(password) = &address.password {
        config.password(password);
    }
    if let Some(dbname) = &address.dbname {
        config.dbname(dbname);
    }
    config
}

/// `within`: until the server has let us in. What listens need not be one that answers.
fn connect<T>(runtime: &Runtime, mut config: Config, (mode, within): (Tls, Duration), tls: T) -> Tried<Client>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
    T::TlsConnect: TlsConnect<Socket>,
{
    config.ssl_mode(mode);
    let connected = runtime.block_on(async { tokio::time::timeout(within, config.connect(tls)).await });
    let Ok(connected) = connected else { return Err(Trouble::Database(Failure::NotReached(within))) };
    let (client, connection) = connected?;
    runtime.spawn(async move {
        if connection.await.is_err() {
            // whoever waits for an answer is told; what the error says may be secret
            tracing::debug!("a connection to PostgreSQL was lost");
        }
    });
    Ok(client)
}
