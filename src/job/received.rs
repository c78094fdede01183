//! Sources whose rows come to the job, instead of lying somewhere: what a job says of them.

use std::{fmt, num::NonZeroU64, path::Path, time::Duration};

use datafusion::arrow::datatypes::DataType;

use super::{
    options::{Options, Setting},
    spec::{At, ColumnSpec, FilesOptions, FormatKind, FormatSpec, JobSpec},
    values::{parse_duration, parse_positive, parse_size},
};
use crate::model::Result;

/// The folder of a checkpoint in which each such source has a receive log of its name.
pub const RECEIVED: &str = "received";

/// A file in a receive log that a fork has made, as long as it has no open segment of its own.
pub const FORKED: &str = "forked";

/// How a source receives rows, and when what was received becomes part of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSpec {
    pub sender: Sender,
    /// Rows wait so long for others that come into the same segment; a batch takes whole segments.
    pub batch_interval: Duration,
    /// A segment of so many bytes is closed at once.
    pub batch_bytes: u64,
    /// With so many bytes in the receive log that no batch has taken, nothing more is received.
    pub unread_bytes_max: u64,
    /// Segments are kept at least so long, that repeated requests are known by their keys.
    pub keys_kept: Duration,
}

/// Where the rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// A TCP peer that is connected to.
    Socket { host: String, port: u16 },
    /// Whoever posts to a server of ours.
    Http(HttpSpec),
    /// The standard input of this process.
    Stdin,
    /// Rows by the clock.
    Rate { rows_per_second: NonZeroU64 },
}

/// A server that takes rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSpec {
    /// `host:port`.
    pub listen: String,
    /// What a request must show; `None`: none was given, or it is not known here.
    pub token: Option<Token>,
    pub body_bytes_max: u64,
}

/// A secret: no error, log line or `Debug` output shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn new(secret: impl Into<String>) -> Token {
        Token(secret.into())
    }

    /// The secret itself, to be compared with and not to be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl ReceivedSpec {
    /// As a job file names the connector.
    pub fn connector(&self) -> &'static str {
        match self.sender {
            Sender::Socket { .. } => "socket",
            Sender::Http(_) => "http",
            Sender::Stdin => "stdin",
            Sender::Rate { .. } => "rate",
        }
    }

    /// As progress names the source.
    pub fn description(&self) -> String {
        match &self.sender {
            Sender::Socket { host, port } => format!("SocketSource[{host}:{port}]"),
            Sender::Http(http) => format!("HttpSource[{}]", http.listen),
            Sender::Stdin => "StdinSource".to_owned(),
            Sender::Rate { rows_per_second } => format!("RateSource[{rows_per_second} rows a second]"),
        }
    }

    /// What the source promises, for people.
    pub fn guarantee(&self) -> &'static str {
        match self.sender {
            Sender::Socket { .. } => {
                "exactly once from receipt on: what was received is durable before it is used; what the peer sent and a crash kept from being received is lost, since a socket cannot be asked again"
            }
            Sender::Http(_) => {
                "exactly once for requests with an Idempotency-Key that are repeated until they are answered with 200; without a key a repeated request counts again"
            }
            Sender::Stdin => {
                "exactly once from receipt on: what was received is durable before it is used; what a crash kept from being received is lost, and a new run reads its own standard input from the start"
            }
            Sender::Rate { .. } => "exactly once: each number comes once, in order, with the time that belongs to it",
        }
    }
}

impl JobSpec {
    /// Says in which checkpoint the receive logs of this job's sources are.
    pub fn receive_in(&mut self, checkpoint: &Path) {
        for source in self.sources.iter_mut().filter(|source| source.received.is_some()) {
            let folder = checkpoint.join(RECEIVED).join(&source.name);
            source.files.path = folder.to_string_lossy().into_owned();
        }
    }

    /// The first source that is no files, if there is one.
    pub fn first_received(&self) -> Option<(&str, &ReceivedSpec)> {
        self.sources.iter().find_map(|source| Some((source.name.as_str(), source.received.as_ref()?)))
    }
}

/// What all of these connectors have.
const KEYS: &[&str] = &[
    "connector",
    "batch_interval",
    "batch_bytes",
    "max_unread_bytes",
    "max_bytes_per_trigger",
    "event_time",
    "watermark_delay",
];
/// Of those that take lines.
const LINE_KEYS: &[&str] = &[
    "format",
    "mode",
    "corrupt_record_column",
    "file_column",
    "max_line_bytes",
    "max_bad_records",
    "max_depth",
    "delimiter",
    "quote",
    "escape",
    "null_value",
    "timestamp_format",
    "pattern",
];

/// The connectors, and what each has of its own.
const CONNECTORS: [(&str, &[&str]); 4] = [
    ("socket", &["host", "port"]),
    ("http", &["listen", "token", "max_body_bytes", "remember_keys"]),
    ("stdin", &[]),
    ("rate", &["rows_per_second"]),
];

/// Names of the connectors.
pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    CONNECTORS.iter().map(|(name, _)| *name)
}

/// The options that a connector knows, if it is one of these.
fn keys(connector: &str) -> Option<Vec<&'static str>> {
    let (name, own) = CONNECTORS.iter().find(|(name, _)| *name == connector)?;
    let lines = if *name == "rate" { &[][..] } else { LINE_KEYS };
    Some([KEYS, own, lines].concat())
}

/// What the format is, where a connector leaves no choice.
pub(super) fn add_format(connector: &str, settings: &mut Vec<Setting>, at: At) {
    // at the table's own place, where nobody can have written it
    if connector == "rate" && settings.iter().all(|setting| setting.key != "format") {
        let (key, value, shown) = ("format".to_owned(), "json".to_owned(), "'json'".to_owned());
        settings.push(Setting { key, key_at: at, value_at: at, value, known: true, shown });
    }
}

const SIZE: &str = "a positive size in bytes, such as 1048576 or '16MB'";
const DURATION: &str = "a duration such as '1 second'";
/// A batch holds the needed columns of its rows in memory: all that waits would be too much.
const TRIGGER_BYTES: u64 = 64 << 20;
const BATCH_INTERVAL: Duration = Duration::from_secs(1);
const BATCH_BYTES: u64 = 8 << 20;
/// A segment is read into memory when it is repaired.
const BATCH_BYTES_MAX: u64 = 1 << 30;
const UNREAD_BYTES: u64 = 256 << 20;
const BODY_BYTES: u64 = 4 << 20;
const BODY_BYTES_MAX: u64 = 256 << 20;
const KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What a table of one of these connectors says; also how many bytes a batch takes.
pub(super) fn read(
    options: &Options<'_>,
    connector: &Setting,
    columns: &[ColumnSpec],
) -> Result<(ReceivedSpec, FilesOptions)> {
    let name = connector.value.trim().to_ascii_lowercase();
    let mut known = keys(&name).unwrap_or_default();
    if options.get("format").is_some_and(|setting| setting.key_at == options.owner_at) {
        // nobody wrote it
        known.push("format");
    }
    refuse_others(options, &name, &known)?;
    options.check_keys(&known, &[])?;
    options.refuse_secrets_in(&["host", "port", "listen", "rows_per_second"])?;
    let sender = match name.as_str() {
        "socket" => socket(options)?,
        "http" => Sender::Http(http(options)?),
        "stdin" => Sender::Stdin,
        _ => rate(options, columns)?,
    };
    let size = |text: &str| parse_size(text).filter(|size| *size > 0);
    let duration = |text: &str| parse_duration(text).filter(|time| !time.is_zero());
    let batch_bytes = options.parse("batch_bytes", "a size from 1 byte to 1 GiB", |text| {
        size(text).filter(|size| *size <= BATCH_BYTES_MAX)
    })?;
    let received = ReceivedSpec {
        sender,
        batch_interval: options.parse("batch_interval", DURATION, duration)?.unwrap_or(BATCH_INTERVAL),
        batch_bytes: batch_bytes.unwrap_or(BATCH_BYTES),
        unread_bytes_max: options.parse("max_unread_bytes", SIZE, size)?.unwrap_or(UNREAD_BYTES),
        keys_kept: options.parse("remember_keys", DURATION, parse_duration)?.unwrap_or(KEYS_KEPT),
    };
    let bytes = options.parse("max_bytes_per_trigger", SIZE, |text| NonZeroU64::new(parse_size(text)?))?;
    let files = FilesOptions {
        path_at: connector.value_at,
        max_bytes_per_trigger: bytes.or(NonZeroU64::new(TRIGGER_BYTES)),
        ..FilesOptions::default()
    };
    Ok((received, files))
}

/// Options of files, and of other connectors, are better named than called unknown.
fn refuse_others(options: &Options<'_>, connector: &str, known: &[&str]) -> Result<()> {
    let foreign = |key: &str| {
        super::connectors::SOURCE_KEYS.contains(&key) || CONNECTORS.iter().any(|(_, own)| own.contains(&key))
    };
    let given = options.settings.iter().find(|setting| !known.contains(&setting.key.as_str()) && foreign(&setting.key));
    let Some(setting) = given else { return Ok(()) };
    let error = options
        .source
        .error(setting.key_at, format!("option '{}' does not belong to connector '{connector}'", setting.key));
    Err(error
        .because(match setting.key.as_str() {
            "header" => "a stream of lines has no first line that could name columns",
            "static" => "a static table is read whole when the job starts, and this one goes on",
            "format" => "its rows are made here",
            _ => "another connector has it",
        })
        .help(match (connector, setting.key.as_str()) {
            ("http", "port") => format!("write listen = '127.0.0.1:{}'", setting.value.trim()),
            ("http", "host") => format!("write listen = '{}:8080', with the port of your choice", setting.value.trim()),
            ("socket", "listen") => "a socket calls its peer: write host and port of who is to be called".to_owned(),
            _ => "leave it out".to_owned(),
        }))
}

fn socket(options: &Options<'_>) -> Result<Sender> {
    let host = options.required("host", "localhost")?.value.trim().to_owned();
    options.required("port", "9999")?;
    let port =
        options.parse("port", "a number from 1 to 65535", |text| text.trim().parse().ok().filter(|port| *port > 0))?;
    Ok(Sender::Socket { host, port: port.unwrap_or_default() })
}

fn http(options: &Options<'_>) -> Result<HttpSpec> {
    let setting = options.required("listen", "127.0.0.1:8080")?;
    let listen = setting.value.trim().to_owned();
    let port =
        listen.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none() {
        return Err(options.bad_value(setting).help("it must be an address and a port, such as '127.0.0.1:8080'"));
    }
    let token = match options.get("token") {
        None => None,
        Some(setting) => {
            options.need_secret(setting)?;
            Some(Token::new(setting.value.trim()))
        }
    };
    let body = options.parse("max_body_bytes", "a size from 1 byte to 256 MiB", |text| {
        parse_size(text).filter(|size| (1..=BODY_BYTES_MAX).contains(size))
    })?;
    Ok(HttpSpec { listen, token, body_bytes_max: body.unwrap_or(BODY_BYTES) })
}

/// The columns of Spark's source of that name.
fn rate(options: &Options<'_>, columns: &[ColumnSpec]) -> Result<Sender> {
    for column in columns.iter().filter(|column| !column.hidden) {
        let fits = match column.name.as_str() {
            "timestamp" => matches!(column.data_type, DataType::Timestamp(..)),
            "value" => column.data_type == DataType::Int64,
            _ => false,
        };
        if !fits {
            return Err(options
                .source
                .error(column.at, format!("connector 'rate' has no column '{}' of this type", column.name))
                .because("its columns are the time at which a row is due, and the row's number")
                .help("declare (timestamp TIMESTAMP, value BIGINT)"));
        }
    }
    let rows = options.parse("rows_per_second", "a whole number from 1 to 10000000", |text| {
        parse_positive(text).filter(|rows| rows.get() <= 10_000_000)
    })?;
    Ok(Sender::Rate { rows_per_second: rows.unwrap_or(NonZeroU64::MIN) })
}

/// What is received is cut where lines end.
pub(super) fn check_format(options: &Options<'_>, connector: &Setting, format: &FormatSpec) -> Result<()> {
    match (options.get("format"), &format.kind) {
        (Some(setting), FormatKind::Parquet | FormatKind::Avro) => Err(options
            .bad_value(setting)
            .because(format!("connector {} takes lines, and a file of this format has none", connector.shown))
            .help("use json, csv, text or regex; or place whole files in a folder, with connector = 'files'")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::job::{Variables, parse};

    fn job(table: &str) -> Result<JobSpec> {
        let given = Variables::with_environment(BTreeMap::new(), |name| (name == "TOKEN").then(|| "hush".into()));
        parse("job.sql", "job", &format!("CREATE TABLE t {table};\nSELECT * FROM t;"), &given)
    }

    fn received(table: &str) -> ReceivedSpec {
        job(table).unwrap().sources.remove(0).received.expect("it receives")
    }

    #[test]
    fn each_connector_is_read() {
        let socket =
            received("(value STRING) WITH (connector = 'socket', host = 'localhost', port = 9999, format = 'text')");
        assert_eq!(socket.sender, Sender::Socket { host: "localhost".to_owned(), port: 9999 });
        assert_eq!((socket.batch_interval, socket.unread_bytes_max), (Duration::from_secs(1), 256 << 20));
        let http = received(
            "(a INT) WITH (connector = 'http', listen = '0.0.0.0:80', token = '${env:TOKEN}', format = 'json', max_body_bytes = '1MB')",
        );
        let Sender::Http(spec) = &http.sender else { panic!("{http:?}") };
        assert_eq!(spec.token.as_ref().map(Token::reveal), Some("hush"));
        assert!(!format!("{http:?}").contains("hush"));
        let stdin = received("(a INT) WITH (connector = 'stdin', format = 'csv', batch_interval = '50 ms')");
        assert_eq!((stdin.sender, stdin.batch_interval), (Sender::Stdin, Duration::from_millis(50)));
        let rate = received("(timestamp TIMESTAMP, value BIGINT) WITH (connector = 'rate', rows_per_second = 5)");
        assert_eq!(rate.sender, Sender::Rate { rows_per_second: NonZeroU64::new(5).unwrap() });
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        for (table, why) in [
            ("(a INT) WITH (connector = 'socket', host = 'h', format = 'json')", "no option 'port'"),
            ("(a INT) WITH (connector = 'socket', host = 'h', port = 0, format = 'json')", "from 1 to 65535"),
            ("(a INT) WITH (connector = 'socket', host = 'h', port = 1, format = 'parquet')", "takes lines"),
            (
                "(a INT) WITH (connector = 'socket', host = 'h', port = 1, format = 'csv', header = true)",
                "no first line",
            ),
            ("(a INT) WITH (connector = 'stdin', format = 'json', path = 'x')", "does not belong to connector 'stdin'"),
            ("(a INT) WITH (connector = 'stdin', format = 'json', static = true)", "this one goes on"),
            ("(a INT) WITH (connector = 'stdin', fromat = 'json')", "did you mean 'format'?"),
            ("(a INT) WITH (connector = 'http', listen = '8080', format = 'json')", "an address and a port"),
            ("(a INT) WITH (connector = 'http', port = 8080, format = 'json')", "write listen = '127.0.0.1:8080'"),
            ("(a INT) WITH (connector = 'http', host = 'h', format = 'json')", "write listen = 'h:8080'"),
            ("(a INT) WITH (connector = 'socket', listen = 'h:1', format = 'json')", "write host and port"),
            (
                "(a INT) WITH (connector = 'http', listen = ':1', token = 'plain', format = 'json')",
                "an address and a port",
            ),
            ("(a INT) WITH (connector = 'http', listen = 'a:1', token = 'plain', format = 'json')", "${env:NAME}"),
            ("(value INT) WITH (connector = 'rate')", "value BIGINT"),
            ("(value BIGINT) WITH (connector = 'rate', format = 'json')", "its rows are made here"),
            ("WITH (connector = 'rate', rows_per_second = 5)", "a source declares its columns"),
            ("(a INT) WITH (connector = 'sokcet')", "did you mean 'socket'?"),
        ] {
            let error = job(table).unwrap_err().to_string();
            assert!(error.contains(why), "{table}: {error}");
        }
    }

    #[test]
    fn only_one_source_can_have_the_standard_input() {
        let two = "(a INT) WITH (connector = 'stdin', format = 'json');\nCREATE TABLE u (a INT) WITH (connector = 'stdin', format = 'json')";
        assert!(job(two).unwrap_err().to_string().contains("standard input"));
    }

    #[test]
    fn only_one_source_can_listen_on_an_address() {
        let two = |first: &str, second: &str| {
            job(&format!(
                "(a INT) WITH (connector = 'http', listen = '{first}', token = '${{env:TOKEN}}', format = 'json');\nCREATE TABLE u (a INT) WITH (connector = 'http', listen = '{second}', token = '${{env:TOKEN}}', format = 'json')"
            ))
        };
        for (first, second) in [("localhost:80", "LOCALHOST:80"), ("127.0.0.1:80", "0.0.0.0:080")] {
            assert!(two(first, second).unwrap_err().to_string().contains("both listen on"), "{first} {second}");
        }
        for (first, second) in [("127.0.0.1:80", "127.0.0.1:81"), ("a:80", "b:80"), ("127.0.0.1:0", "127.0.0.1:0")] {
            assert!(two(first, second).is_ok(), "{first} {second}");
        }
    }

    #[test]
    fn the_receive_log_is_in_the_checkpoint() {
        let mut job = job("(a INT) WITH (connector = 'stdin', format = 'json')").unwrap();
        job.receive_in(Path::new("/c"));
        assert_eq!(job.sources[0].files.path, "/c/received/t");
        assert_eq!(job.first_received().map(|(name, spec)| (name, spec.connector())), Some(("t", "stdin")));
    }
}
