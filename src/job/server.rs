//! What a job says of a server that a sink writes to: where it is, who asks, and what of that is secret.

use std::{fmt, ops::Range, path::PathBuf, time::Duration};

use url::Url;

use crate::model::{Error, Result};

/// The value of an option that may be a secret. Only what the job has written is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Guarded {
    pub(super) value: String,
    pub(super) shown: String,
    /// The variables of the environment that it is made of.
    pub(super) secrets: Vec<String>,
    /// Whether all of them are set, so that the value is known.
    pub(super) known: bool,
}

impl Guarded {
    /// As the job has it, secrets by name.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub fn is_secret(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// What it stands for.
    ///
    /// # Errors
    /// Of kind `Usage`, naming the variable of the environment that is not set.
    pub fn value(&self) -> Result<&str> {
        if self.known {
            return Ok(&self.value);
        }
        let names = self.secrets.join(", ");
        Err(Error::usage(format!("the server cannot be asked without {}", self.shown))
            .because(format!("the environment does not have all of: {names}"))
            .help("set it in the environment of this command"))
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown)
    }
}

/// How a connection is protected, as libpq names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// TLS where the server offers it, whoever it is.
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// TLS, and the server's certificate is its own.
    VerifyFull,
}

impl SslMode {
    /// All that there are, by their names.
    pub const ALL: [(&'static str, SslMode); 4] = [
        ("disable", SslMode::Disable),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-full", SslMode::VerifyFull),
    ];
}

/// How long a server is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until a statement is answered.
    pub statement: Duration,
    /// Until a lost connection is given up, all attempts together.
    pub retry: Duration,
}

/// Where the options of a sink stand in the job's text, for who replaces them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionsText {
    /// From the first key to the end of the last value.
    pub list: Range<usize>,
    /// Those that every sink has, but for the connector; each ends with a comma.
    pub common: String,
}

/// A server, by its URL, or by the options beside it or in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    pub url: Option<Guarded>,
    pub host: Option<Guarded>,
    pub port: Option<Guarded>,
    pub user: Option<Guarded>,
    pub password: Option<Guarded>,
    pub dbname: Option<Guarded>,
}

/// A server as it is called; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub scheme: String,
    /// A name, a number, or the folder of a socket.
    pub host: String,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub dbname: Option<String>,
    /// `sslmode` of the URL.
    pub sslmode: Option<String>,
    /// Parts that must not appear in what is shown; the longest first.
    pub hidden: Vec<String>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

impl Address {
    /// Whether the server is on this machine.
    pub fn is_local(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.starts_with('/')
            || host.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }

    /// A text without what is secret.
    pub fn redacted(&self, text: &str) -> String {
        self.hidden.iter().fold(text.to_owned(), |text, hidden| text.replace(hidden.as_str(), "***"))
    }

    /// The port, or the one that servers of its kind have.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.scheme.starts_with("redis") { 6379 } else { 5432 })
    }

    fn same_place(&self, other: &Address) -> bool {
        (&self.host, self.port(), &self.dbname) == (&other.host, other.port(), &other.dbname)
    }
}

impl ServerSpec {
    /// For errors, descriptions and logs: as the job has it, secrets by name.
    pub fn shown(&self) -> String {
        let part = |part: &Option<Guarded>, before: &str| {
            part.as_ref().map(|part| format!("{before}{}", part.shown())).unwrap_or_default()
        };
        match &self.url {
            Some(url) => url.shown().to_owned(),
            None => format!("{}{}{}", part(&self.host, ""), part(&self.port, ":"), part(&self.dbname, "/")),
        }
    }

    /// The server as it is called.
    ///
    /// # Errors
    /// Of kind `Usage`: a secret is not set, or the URL is none. No value is in them.
    pub fn address(&self) -> Result<Address> {
        let mut address = match &self.url {
            Some(url) => from_url(url.value()?, url.is_secret())?,
            None => Address {
                scheme: String::new(),
                host: String::new(),
                port: None,
                user: None,
                password: None,
                dbname: None,
                sslmode: None,
                hidden: Vec::new(),
            },
        };
        let value = |part: &Option<Guarded>| part.as_ref().map(|part| part.value().map(str::to_owned)).transpose();
        if let Some(host) = value(&self.host)? {
            address.host = host;
        }
        if let Some(port) = value(&self.port)? {
            let port = port.trim().parse();
            address.port = Some(port.map_err(|_| Error::usage("option 'port' is no port: it must be 1 to 65535"))?);
        }
        if address.host.is_empty() {
            return Err(Error::usage("no host is named")
                .help("add it to the url, or as the option host; a socket is named by its folder"));
        }
        address.user = value(&self.user)?.or(address.user);
        address.password = value(&self.password)?.or(address.password);
        address.dbname = value(&self.dbname)?.or(address.dbname);
        let parts = [&self.host, &self.user, &self.password, &self.dbname];
        for part in parts.into_iter().flatten().filter(|part| part.is_secret()) {
            address.hidden.push(part.value()?.to_owned());
        }
        address.hidden.extend(address.password.clone());
        // a part of a letter or two would be found in every text
        address.hidden.retain(|hidden| hidden.chars().count() > 2);
        address.hidden.sort_by_key(|hidden| std::cmp::Reverse(hidden.len()));
        address.hidden.dedup();
        Ok(address)
    }

    /// Whether both lead to the same database, as far as their text tells.
    pub fn same_place(&self, other: &ServerSpec) -> bool {
        match (self.address(), other.address()) {
            (Ok(one), Ok(another)) => one.same_place(&another),
            _ => self.shown() == other.shown(),
        }
    }

    /// Whether a password stands in the job as it is, where everyone who reads the checkpoint finds it.
    pub(super) fn has_plain_password(&self) -> bool {
        const SECRET: &str = "a-secret-of-the-environment";
        if self.password.as_ref().is_some_and(|password| !password.is_secret()) {
            return true;
        }
        let Some(url) = &self.url else { return false };
        let named = |text: String, name: &String| text.replace(&format!("${{env:{name}}}"), SECRET);
        let text = url.secrets.iter().fold(url.shown.clone(), named);
        from_url(&text, false).is_ok_and(|address| address.password.is_some_and(|text| !text.contains(SECRET)))
    }
}

/// `is_secret`: nothing of it may be shown.
fn from_url(text: &str, is_secret: bool) -> Result<Address> {
    let wrong = |why: String| {
        Error::usage("option 'url' is no URL of a server")
            .because(why)
            .help("it has the form SCHEME://USER@HOST:PORT/DATABASE, with special characters as %XX")
    };
    let url = Url::parse(text.trim()).map_err(|error| wrong(error.to_string()))?;
    let part = |text: &str| (!text.is_empty()).then(|| decoded(text));
    let mut address = Address {
        scheme: url.scheme().to_owned(),
        host: url.host_str().map(decoded).unwrap_or_default(),
        port: url.port(),
        user: part(url.username()),
        password: url.password().map(decoded),
        dbname: part(url.path().trim_start_matches('/')),
        sslmode: None,
        hidden: Vec::new(),
    };
    for (key, value) in url.query_pairs() {
        match &*key {
            "sslmode" => address.sslmode = Some(value.into_owned()),
            // the folder of a socket, as libpq has it
            "host" => address.host = value.into_owned(),
            _ => return Err(wrong("of parameters it knows sslmode and host".to_owned())),
        }
    }
    if is_secret {
        let parts = [&address.user, &address.password, &address.dbname];
        address.hidden = parts.into_iter().flatten().cloned().chain([address.host.clone(), text.to_owned()]).collect();
    }
    Ok(address)
}

/// A part of a URL with its `%XX` as the bytes that they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A table of a PostgreSQL database.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresSpec {
    pub server: ServerSpec,
    /// `None`: as the URL says; else `verify-full`, and none on this machine.
    pub sslmode: Option<SslMode>,
    /// Who is trusted to say whose a certificate is, in place of the system's.
    pub sslrootcert: Option<PathBuf>,
    /// `None`: the first of the search path.
    pub schema: Option<String>,
    pub table: String,
    pub patience: Patience,
    pub text: OptionsText,
}

impl PostgresSpec {
    /// The table as it is shown.
    pub fn table_shown(&self) -> String {
        self.schema.iter().chain([&self.table]).map(String::as_str).collect::<Vec<_>>().join(".")
    }

    /// How the connection is protected: as the job says, else as its URL does, else by who the server is.
    ///
    /// # Errors
    /// Of kind `Usage`, where the URL's is none that is known.
    pub fn ssl_mode(&self, address: &Address) -> Result<SslMode> {
        if let Some(mode) = self.sslmode {
            return Ok(mode);
        }
        let Some(text) = &address.sslmode else {
            return Ok(if address.is_local() { SslMode::Disable } else { SslMode::VerifyFull });
        };
        let known = SslMode::ALL.into_iter().find(|(name, _)| name == text).map(|(_, mode)| mode);
        known.ok_or_else(|| {
            Error::usage("the sslmode of the url is none that is known")
                .help("it must be disable, prefer, require or verify-full")
        })
    }

    /// Whether rows of both would go to the same table.
    pub fn same_place(&self, other: &PostgresSpec) -> bool {
        // without a schema it is the first of the search path, which by default is this one
        let schema = |spec: &PostgresSpec| spec.schema.clone().unwrap_or_else(|| "public".to_owned());
        self.table == other.table && schema(self) == schema(other) && self.server.same_place(&other.server)
    }
}

/// Keys of a Redis server.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisSpec {
    pub server: ServerSpec,
    /// What keys begin with.
    pub key_prefix: String,
    pub layout: Layout,
    pub patience: Patience,
    pub text: OptionsText,
}

/// What rows become in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A hash for each key, with a field for each column.
    Hash,
    /// One sorted set: its members are the keys, and this column is their score.
    SortedSet { score: String },
}

impl RedisSpec {
    /// Whether keys of one could be those of the other.
    pub fn same_place(&self, other: &RedisSpec) -> bool {
        overlap(&self.key_prefix, &other.key_prefix) && self.server.same_place(&other.server)
    }
}

/// Whether keys of one prefix could be those of the other: they are equal, or one goes on behind a colon.
pub fn overlap(one: &str, another: &str) -> bool {
    let begins =
        |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    begins(one, another) || begins(another, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(shown: &str, value: &str) -> Guarded {
        let secrets = if shown == value { Vec::new() } else { vec!["URL".to_owned()] };
        Guarded { value: value.to_owned(), shown: shown.to_owned(), secrets, known: true }
    }

    fn by_url(shown: &str, value: &str) -> ServerSpec {
        let url = Some(guarded(shown, value));
        ServerSpec { url, host: None, port: None, user: None, password: None, dbname: None }
    }

    #[test]
    fn a_url_has_its_parts() {
        let text = "postgres://me:p%40ss@db.example.com:5433/sales?sslmode=require";
        let address = by_url("${env:URL}", text).address().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("db.example.com", Some(5433)));
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("me"), Some("p@ss")));
        assert_eq!((address.dbname.as_deref(), address.sslmode.as_deref()), (Some("sales"), Some("require")));
        assert!(!address.is_local());
        for local in ["postgres://localhost/x", "postgres://127.0.0.1/x", "postgres://[::1]/x"] {
            assert!(by_url(local, local).address().unwrap().is_local(), "{local}");
        }
        let socket = by_url("${env:URL}", "postgres:///x?host=/run/postgresql").address().unwrap();
        assert!(socket.is_local() && socket.host == "/run/postgresql");
    }

    #[test]
    fn what_is_secret_is_shown_by_its_name_only() {
        let server = by_url("${env:URL}", "postgres://user1:sesame9@host1.example/base1");
        let address = server.address().unwrap();
        let text = address
            .redacted("user1 of host1.example says sesame9 to base1 at postgres://user1:sesame9@host1.example/base1");
        assert_eq!(text, "*** of *** says *** to *** at ***");
        assert_eq!(server.shown(), "${env:URL}");
        assert!(!format!("{server:?} {address:?}").contains("sesame9"));
        let plain =
            ServerSpec { password: Some(guarded("${env:PW}", "sesame9")), ..by_url("redis://h1/0", "redis://h1/0") };
        assert_eq!(plain.address().unwrap().redacted("h1 sesame9"), "h1 ***");
    }

    #[test]
    fn a_password_in_plain_sight_is_found() {
        let found = |shown: &str, value: &str| by_url(shown, value).has_plain_password();
        assert!(found("postgres://a:b@c/d", "postgres://a:b@c/d"));
        assert!(found("postgres://a:b@${env:URL}/d", "postgres://a:b@c/d"));
        assert!(!found("postgres://a:${env:URL}@c/d", "postgres://a:b@c/d"));
        assert!(!found("${env:URL}", "postgres://a:b@c/d"));
        assert!(!found("postgres://a@c/d", "postgres://a@c/d"));
    }

    #[test]
    fn what_is_no_url_is_told_without_it() {
        for text in
            ["sesame9", "postgres://a:sesame9@", "postgres://a:sesame9@h:99999999/x", "postgres://h/x?sesame9=1"]
        {
            let Err(error) = by_url("${env:URL}", text).address() else { continue };
            assert!(!error.to_string().contains("sesame9"), "{error}");
        }
        let missing = Guarded { known: false, ..guarded("${env:URL}", "") };
        let error = ServerSpec { url: Some(missing), ..by_url("", "") }.address().unwrap_err();
        assert!(error.to_string().contains("URL"), "{error}");
    }

    #[test]
    fn the_same_database_is_known_by_any_user() {
        let same = |one: &str, another: &str| by_url(one, one).same_place(&by_url(another, another));
        assert!(same("postgres://a@h/x", "postgres://b@h/x"));
        assert!(!same("postgres://a@h/x", "postgres://a@h/y"));
    }

    #[test]
    fn keys_of_prefixes_that_go_on_behind_a_colon_are_told() {
        assert!(overlap("clicks", "clicks") && overlap("clicks", "clicks:home") && overlap("p:keys", "p"));
        assert!(!overlap("clicks", "clicks2") && !overlap("a:b", "a:c"));
    }
}
