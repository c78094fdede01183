//! Sinks that write to servers, beside real ones: exactly once, whatever is killed, the server included.
//!
//! `tests/servers` starts a server of each kind for all tests. Tests that kill one start their own, from the same programs.

mod cut;
pub mod held;
mod kills;
mod lost;
mod postgres;
mod redis;
mod refused;
mod secrets;
mod tables;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::binary::{Ended, Folder, Running, skip};

/// No server of these tests takes this long to start, or to come back from a crash.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// How to get the servers, for whoever reads that a test was left out.
pub const NO_SERVER: &str = "no server: run the tests with tests/servers, which installs and starts them";

/// The job of a folder, run over all that is there.
pub fn run_command(folder: &Folder, options: &[&str]) -> Command {
    let job = ["run", "job.sql", "--checkpoint", "checkpoint", "--available-now", "--set", "INPUT=input"];
    folder.command(&[&job[..], options].concat())
}

/// Runs it to its end.
#[track_caller]
pub fn run(folder: &Folder, options: &[&str]) -> Ended {
    Running::start(&mut run_command(folder, options)).wait().sober()
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

/// A schema of its own in the server that all tests share; `None`: there is no server, which is said.
pub fn schema(test: &str) -> Option<Place> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Ok(url) = std::env::var("HIGHWATER_POSTGRES_URL") else {
        skip(test, NO_SERVER);
        return None;
    };
    let place = Place { url, schema: format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)) };
    place.execute(&format!("CREATE SCHEMA {}", place.schema));
    Some(place)
}

/// A schema of a database.
#[derive(Debug, Clone)]
pub struct Place {
    pub url: String,
    pub schema: String,
}

impl Place {
    /// The options of a sink here.
    pub fn options(&self) -> String {
        format!("connector = 'postgres', url = '{}', schema = '{}', retry_timeout = '3 seconds'", self.url, self.schema)
    }

    /// The first column of each row, as text.
    pub fn ask(&self, sql: &str) -> Vec<String> {
        self.try_ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn execute(&self, sql: &str) {
        drop(self.ask(sql));
    }

    fn try_ask(&self, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
            let connection = tokio::spawn(connection);
            client.batch_execute(&format!("SET search_path = {}", self.schema)).await?;
            let answers = client.simple_query(sql).await?;
            drop(client);
            drop(connection.await);
            let row = |answer| match answer {
                SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
                _ => None,
            };
            Ok(answers.into_iter().filter_map(row).collect())
        })
    }

    /// Waits until the server does not only listen, but answers.
    pub fn await_answer(&self) {
        let begun = Instant::now();
        while let Err(error) = self.try_ask("SELECT 1") {
            assert!(begun.elapsed() < STARTS_WITHIN, "the server does not answer: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Rows of a table as JSON, without the batch, sorted.
    pub fn rows(&self, table: &str) -> Vec<String> {
        self.ask(&format!("SELECT (to_jsonb(t) - 'highwater_batch')::text AS r FROM {table} t ORDER BY r"))
    }

    /// All rows, batches and what is written down of them, without the checkpoint's id.
    pub fn contents(&self, tables: &[&str]) -> Vec<String> {
        let mut all = self.ask("SELECT concat_ws(' ', name, batch, rows, hash) AS r FROM highwater_batches ORDER BY r");
        for table in tables {
            all.extend(self.ask(&format!("SELECT to_jsonb(t)::text AS r FROM {table} t ORDER BY r")));
        }
        all
    }

    pub fn clear(&self) {
        self.execute(&format!("DROP SCHEMA {0} CASCADE; CREATE SCHEMA {0}", self.schema));
    }
}

/// A server of this test's own, to be killed. Ended when it is dropped.
pub struct Server {
    child: Child,
    command: Vec<String>,
    pub port: u16,
    log: PathBuf,
    folder: tempfile::TempDir,
}

impl Server {
    /// A PostgreSQL server; `None`: there are no programs for one, which is said.
    pub fn postgres(test: &str) -> Option<Server> {
        let Some(bin) = std::env::var_os("HIGHWATER_POSTGRES_BIN") else {
            skip(test, NO_SERVER);
            return None;
        };
        let (bin, folder, port) = (PathBuf::from(bin), tempfile::tempdir().expect("a folder"), free_port());
        // SAFETY: geteuid(2) has no arguments and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        let user: &[&str] = match is_root {
            true => &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"],
            false => &[],
        };
        if is_root {
            let owned = Command::new("chown").arg("postgres:").arg(folder.path()).status();
            assert!(owned.is_ok_and(|status| status.success()), "the folder is given to PostgreSQL");
        }
        let data = folder.path().join("data").to_string_lossy().into_owned();
        let program = |name: &str| bin.join(name).to_string_lossy().into_owned();
        let words = |words: &[&str]| user.iter().chain(words).map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let init =
            words(&[&program("initdb"), "-D", &data, "-U", "postgres", "--auth=trust", "--locale=C", "-E", "UTF8"]);
        let made = Command::new(&init[0]).args(&init[1..]).arg("--no-sync").output().expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut command = words(&[&program("postgres"), "-D", &data, "-p", &port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=on", "shared_buffers=16MB"] {
            command.extend(["-c".to_owned(), setting.to_owned()]);
        }
        Some(Server::start(command, port, folder))
    }

    fn start(command: Vec<String>, port: u16, folder: tempfile::TempDir) -> Server {
        let log = folder.path().with_extension("log");
        let child = spawn(&command, &log);
        let mut server = Server { child, command, port, log, folder };
        server.await_start();
        server
    }

    fn await_start(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if self.child.try_wait().expect("a child can be asked").is_some() {
                // what the killed one left is still in use for a moment
                self.child = spawn(&self.command, &self.log);
            }
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(begun.elapsed() < STARTS_WITHIN, "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn place(&self) -> Place {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        Place { url, schema: "public".to_owned() }
    }

    /// `kill -9` of the server itself; those that serve a connection notice, and end.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("it ends");
    }

    /// An orderly end, which cuts connections off.
    pub fn stop(&mut self) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: kill(2) takes no pointers; the child was spawned here and is not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
        self.child.wait().expect("it ends");
    }

    pub fn start_again(&mut self) {
        self.child = spawn(&self.command, &self.log);
        self.await_start();
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.stop();
        }
        drop(fs::remove_file(&self.log));
    }
}

fn spawn(command: &[String], log: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(log).expect("a log");
    let mut server = Command::new(&command[0]);
    server.args(&command[1..]).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    server.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}
