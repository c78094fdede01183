//! What the options of a sink mean that writes to a database.

use std::{path::PathBuf, time::Duration};

use super::{
    connectors::PLAIN_SINK_KEYS,
    options::{Options, Setting},
    server::{Layout, OptionsText, Patience, PostgresSpec, RedisSpec, ServerSpec, SslMode},
    sink::SinkConnector,
    values::parse_duration,
};
use crate::model::{Error, Result};

pub(super) const SQLITE_SINK_KEYS: &[&str] = &["path", "table"];
pub(super) const POSTGRES_SINK_KEYS: &[&str] = &[
    "url",
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "schema",
    "table",
    "connect_timeout",
    "statement_timeout",
    "retry_timeout",
];

pub(super) const REDIS_SINK_KEYS: &[&str] = &[
    "url",
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "key_prefix",
    "layout",
    "score",
    "connect_timeout",
    "statement_timeout",
    "retry_timeout",
];

/// PostgreSQL keeps limits in 31 bits of milliseconds.
const LIMIT_MAX: Duration = Duration::from_secs(20 * 24 * 3600);

/// PostgreSQL cuts longer names off without an error.
const POSTGRES_NAME_BYTES_MAX: usize = 63;

pub(super) fn sqlite_sink(options: &Options<'_>, name: &str) -> Result<SinkConnector> {
    options.check_keys(&[PLAIN_SINK_KEYS, SQLITE_SINK_KEYS].concat(), &[])?;
    let path = PathBuf::from(&options.path("out.db")?.value);
    let table = table_name(options, name, &[("sqlite_", "SQLite's own")])?;
    Ok(SinkConnector::Sqlite { path, table })
}

pub(super) fn postgres_sink(options: &Options<'_>, name: &str) -> Result<SinkConnector> {
    options.check_keys(&[PLAIN_SINK_KEYS, POSTGRES_SINK_KEYS].concat(), &[])?;
    let server = server(options, name, "postgres", "postgres://USER@HOST/DATABASE")?;
    let table = table_name(options, name, &[("pg_", "PostgreSQL's own")])?;
    let schema = options.name_of("schema", "public")?.map(|setting| setting.value.clone());
    for (key, written) in [("table", Some(&table)), ("schema", schema.as_ref())] {
        if written.is_some_and(|written| written.len() > POSTGRES_NAME_BYTES_MAX) {
            let at = options.get(key).map_or(options.owner_at, |setting| setting.value_at);
            let error = options.source.error(at, format!("the name of the {key} is longer than PostgreSQL keeps"));
            return Err(error.because("63 bytes are kept, and the rest is cut off").help("give it a shorter one"));
        }
    }
    let sslmode = options.choose("sslmode", &SslMode::ALL)?;
    let sslrootcert =
        options.get("sslrootcert").map(|_| options.path_of("sslrootcert", "/etc/ssl/ca.pem")).transpose()?;
    if let Some(setting) = sslrootcert.filter(|setting| !setting.value.starts_with('/')) {
        let error = options.bad_value(setting).because("it would be another file wherever rewind or verify are called");
        return Err(error.help("give it an absolute path"));
    }
    Ok(SinkConnector::Postgres(Box::new(PostgresSpec {
        server,
        sslmode,
        sslrootcert: sslrootcert.map(|setting| PathBuf::from(&setting.value)),
        schema,
        table,
        patience: patience(options)?,
        text: text(options),
    })))
}

pub(super) fn redis_sink(options: &Options<'_>, name: &str) -> Result<SinkConnector> {
    options.check_keys(&[PLAIN_SINK_KEYS, REDIS_SINK_KEYS].concat(), &[])?;
    let server = server(options, name, "redis", "redis://HOST/0")?;
    if let Ok(address) = server.address()
        && address.dbname.is_some_and(|number| number.parse::<u16>().is_err())
    {
        return Err(Error::usage(format!("the sink '{name}' names no database of Redis"))
            .because("a database of Redis is a number")
            .help("for instance redis://HOST/0"));
    }
    let key_prefix = options.name_of("key_prefix", name)?.map_or(name, |setting| setting.value.as_str()).to_owned();
    if key_prefix.starts_with("highwater") {
        let at = options.get("key_prefix").map_or(options.owner_at, |setting| setting.value_at);
        let error = options.source.error(at, format!("keys cannot begin with '{key_prefix}'"));
        return Err(error
            .because("keys that begin with highwater are for Highwater")
            .help("give key_prefix another value"));
    }
    let layouts = [("hash", false), ("sorted_set", true)];
    let layout = match (options.choose("layout", &layouts)?.unwrap_or(false), options.get("score")) {
        (false, None) => Layout::Hash,
        (false, Some(score)) => {
            return Err(options
                .source
                .error(score.key_at, "score is given, and no sorted set")
                .because("a hash has a field for each column")
                .help("add layout = 'sorted_set', or leave it out"));
        }
        (true, _) => Layout::SortedSet { score: options.required("score", "count")?.value.clone() },
    };
    options.refuse_secrets_in(&["layout", "score"])?;
    let (patience, text) = (patience(options)?, text(options));
    Ok(SinkConnector::Redis(Box::new(RedisSpec { server, key_prefix, layout, patience, text })))
}

/// The name of the table: the option's, or the sink's.
fn table_name(options: &Options<'_>, name: &str, taken: &[(&str, &str)]) -> Result<String> {
    let given = options.name_of("table", name)?;
    let table = given.map_or(name, |setting| setting.value.as_str()).to_owned();
    let lower = table.to_ascii_lowercase();
    let mut taken = [("highwater_", "for Highwater")].iter().chain(taken);
    let Some((start, whose)) = taken.find(|(start, _)| lower.starts_with(start)) else { return Ok(table) };
    let at = given.map_or(options.owner_at, |setting| setting.value_at);
    let error = options.source.error(at, format!("a table cannot be named '{table}'"));
    Err(error.because(format!("names that begin with {start} are {whose}")).help("give the sink another table"))
}

/// Where the server is. What is wrong is told without the line of the job: a password may stand in it.
fn server(options: &Options<'_>, name: &str, scheme: &str, form: &str) -> Result<ServerSpec> {
    let part = |key: &str| options.get(key).map(|setting| options.guarded(setting));
    let server = ServerSpec {
        url: part("url"),
        host: part("host"),
        port: part("port"),
        user: part("user"),
        password: part("password"),
        dbname: part("dbname"),
    };
    if server.url.is_none() && server.host.is_none() {
        return Err(options.source.error(options.owner_at, format!("{} has no option 'url'", options.owner)).help(
            format!("add url = '{form}', or '${{env:NAME}}' where it has a password; or host and what belongs to it"),
        ));
    }
    if server.has_plain_password() {
        return Err(Error::usage(format!("a password of the sink '{name}' stands in the job"))
            .because("the checkpoint keeps the job's text, and whoever reads it finds the password")
            .help("set it, or the whole url, in the environment, and write '${env:NAME}' in its place"));
    }
    let parts = [&server.url, &server.host, &server.port, &server.user, &server.password, &server.dbname];
    if parts.into_iter().flatten().all(|part| part.value().is_ok()) {
        let address = server.address().map_err(|error| error.and_because(format!("it is of the sink '{name}'")))?;
        if server.url.is_some() && !address.scheme.starts_with(scheme) {
            return Err(Error::usage(format!("the url of the sink '{name}' is of another kind of server"))
                .because(format!("it does not begin with {scheme}"))
                .help(format!("it has the form {form}")));
        }
    }
    Ok(server)
}

fn patience(options: &Options<'_>) -> Result<Patience> {
    let parse = |key, default_seconds, least| {
        let duration = |text: &str| parse_duration(text).filter(|duration| (least..=LIMIT_MAX).contains(duration));
        let found = options.parse(key, "a duration such as '30 seconds', of 20 days at most", duration)?;
        Ok(found.unwrap_or(Duration::from_secs(default_seconds)))
    };
    Ok(Patience {
        connect: parse("connect_timeout", 10, Duration::from_millis(1))?,
        statement: parse("statement_timeout", 60, Duration::from_millis(1))?,
        retry: parse("retry_timeout", 30, Duration::ZERO)?,
    })
}

fn text(options: &Options<'_>) -> OptionsText {
    let end = |setting: &Setting| setting.value_at.0 + setting.shown.len();
    let start = options.settings.iter().map(|setting| setting.key_at.0).min().unwrap_or(options.owner_at.0);
    let list = start..options.settings.iter().map(end).max().unwrap_or(start);
    let common = options
        .settings
        .iter()
        .filter(|setting| setting.key != "connector" && PLAIN_SINK_KEYS.contains(&setting.key.as_str()));
    let common = common.map(|setting| format!("{} = {}, ", setting.key, setting.shown)).collect();
    OptionsText { list, common }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        job::{self, JobSpec, Variables},
        model::ErrorKind,
    };

    fn parse(options: &str) -> Result<JobSpec> {
        let text = format!(
            "CREATE TABLE t (x BIGINT) WITH (connector = 'files', path = 'in', format = 'json');\n\
             CREATE TABLE s WITH ({options}, output_mode = 'update');\nINSERT INTO s SELECT x FROM t GROUP BY x;"
        );
        let environment = |name: &str| (name == "URL").then(|| "postgres://me:sesame9@far/x".into());
        job::parse("job.sql", "job", &text, &Variables::with_environment(BTreeMap::new(), environment))
    }

    #[test]
    fn a_server_has_what_it_needs_and_what_is_left_out() {
        let job = parse(
            "connector = 'postgres', url = '${env:URL}', table = 'x', sslmode = 'require', retry_timeout = '0 seconds'",
        );
        let SinkConnector::Postgres(spec) = &job.unwrap().sinks[0].connector else { panic!("another connector") };
        assert_eq!((spec.table.as_str(), spec.schema.as_ref(), spec.sslmode), ("x", None, Some(SslMode::Require)));
        assert_eq!((spec.patience.retry, spec.patience.connect), (Duration::ZERO, Duration::from_secs(10)));
        assert_eq!(spec.server.shown(), "${env:URL}");
        assert_eq!(spec.text.common, "output_mode = 'update', ");
        assert!(!format!("{spec:?}").contains("sesame9"));
        let address = spec.server.address().unwrap();
        assert_eq!(spec.ssl_mode(&address).unwrap(), SslMode::Require);
        let in_schema = |schema: &str| PostgresSpec { schema: Some(schema.to_owned()), ..(**spec).clone() };
        assert!(spec.same_place(&in_schema("public")) && !spec.same_place(&in_schema("other")));
        let job =
            parse("connector = 'redis', host = 'cache', password = '${env:URL}', layout = 'sorted_set', score = 'x'");
        let SinkConnector::Redis(spec) = &job.unwrap().sinks[0].connector else { panic!("another connector") };
        assert_eq!((spec.key_prefix.as_str(), spec.server.shown().as_str()), ("s", "cache"));
        assert_eq!(spec.layout, Layout::SortedSet { score: "x".to_owned() });
    }

    #[test]
    fn what_is_wrong_is_told_and_no_password_with_it() {
        let refused = |options: &str, what: &str| {
            let error = parse(options).err().unwrap_or_else(|| panic!("{options} was taken"));
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            let text = error.to_string();
            assert!(text.contains(what) && !text.contains("sesame9"), "{text}");
        };
        refused("connector = 'postgres'", "has no option 'url'");
        refused("connector = 'postgres', url = 'postgres:///x'", "no host");
        refused("connector = 'postgres', url = 'postgres://a:sesame9@h/x'", "a password");
        refused("connector = 'postgres', host = 'h', password = 'sesame9'", "a password");
        refused("connector = 'redis', url = '${env:URL}'", "another kind of server");
        refused("connector = 'postgres', host = 'h', port = 'x'", "no port");
        refused("connector = 'postgres', host = 'h', tabel = 'x'", "did you mean 'table'");
        refused("connector = 'postgres', host = 'h', table = 'pg_x'", "PostgreSQL's own");
        refused("connector = 'postgres', host = 'h', table = '${env:URL}'", "stands in a name");
        refused("connector = 'postgres', host = 'h', sslmode = 'allow'", "bad value");
        refused("connector = 'postgres', host = 'h', statement_timeout = '30 days'", "20 days at most");
        refused("connector = 'postgres', host = 'h', sslrootcert = 'ca.pem'", "absolute path");
        refused(
            &format!("connector = 'postgres', host = 'h', table = '{}'", "x".repeat(64)),
            "longer than PostgreSQL keeps",
        );
        refused("connector = 'redis', url = 'redis://h/one'", "a number");
        refused("connector = 'redis', url = 'redis://h/0', key_prefix = 'highwater'", "for Highwater");
        refused("connector = 'redis', url = 'redis://h/0', score = 'x'", "no sorted set");
        refused("connector = 'redis', url = 'redis://h/0', layout = 'sorted_set'", "has no option 'score'");
    }
}
