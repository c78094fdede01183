//! What a server holds of one job: read, compared, and put back as it was at another moment.

mod postgres;
mod redis;

use std::collections::BTreeMap;

use serde_json::Value;

/// The kind of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Postgres,
    Redis,
}

/// How a transaction shows on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// It is to be done.
    pub asked: &'static [u8],
    /// It is done.
    pub answered: &'static [u8],
}

/// What a server holds of a job: of PostgreSQL tables with their rows, of Redis keys with what is under them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held(pub BTreeMap<String, Value>);

/// A job's own place in a server: of PostgreSQL a schema, of Redis the beginning of each key.
pub trait Store: Send {
    /// What it holds of the job.
    ///
    /// # Errors
    /// What the server says.
    fn read(&mut self) -> Result<Held, String>;

    /// Lets it hold this, and nothing else.
    ///
    /// # Errors
    /// What the server says.
    fn put(&mut self, held: &Held) -> Result<(), String>;
}

impl Which {
    /// Where tests find such a server, if there is one.
    pub fn url(self) -> Option<String> {
        std::env::var(match self {
            Which::Postgres => "HIGHWATER_POSTGRES_URL",
            Which::Redis => "HIGHWATER_REDIS_URL",
        })
        .ok()
    }

    /// Opens a place, and makes it where there is none; calls the server by this URL.
    pub fn open(self, url: &str, place: &str) -> Box<dyn Store> {
        match self {
            Which::Postgres => Box::new(postgres::Tables::of(url, place)),
            Which::Redis => Box::new(redis::Keys::of(url, place)),
        }
    }

    pub fn wire(self) -> Wire {
        match self {
            Which::Postgres => postgres::WIRE,
            Which::Redis => redis::WIRE,
        }
    }

    /// A job whose sinks have `SINK` among their options, and keys that begin with `PREFIX`; in this place.
    pub fn fill_in(self, sql: &str, url: &str, place: &str) -> String {
        let options = match self {
            Which::Postgres => format!("connector = 'postgres', url = '{url}', schema = '{place}'"),
            Which::Redis => format!("connector = 'redis', url = '{url}'"),
        };
        sql.replace("SINK", &format!("{options}, retry_timeout = '30 seconds'")).replace("PREFIX", place)
    }

    /// The sinks of the jobs that are tried with such a server.
    pub fn sinks(self) -> [&'static str; 3] {
        match self {
            Which::Postgres => ["added", "changed", "whole"],
            Which::Redis => ["changed", "whole", "ranks"],
        }
    }

    /// The newest batch of a sink (a table, or what follows the prefix), and all its rows, without their batch.
    pub fn sink(self, held: &Held, place: &str, name: &str) -> (Option<u64>, Vec<String>) {
        match self {
            Which::Postgres => postgres::sink(held, name),
            Which::Redis => redis::sink(held, place, name),
        }
    }
}

impl Held {
    /// What is written down of batches, as it is in the other one: rows without their batch, or a batch without its rows.
    pub fn with_books_of(&self, other: &Held) -> Held {
        let is_book = |name: &String| name.starts_with("highwater");
        let rows = self.0.iter().filter(|(name, _)| !is_book(name));
        let books = other.0.iter().filter(|(name, _)| is_book(name));
        Held(rows.chain(books).map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Without what differs from one checkpoint to another of the same job.
    fn lasting(&self) -> Held {
        let mut held = self.clone();
        held.0.remove(redis::LIST);
        held.0.values_mut().for_each(forget_checkpoint);
        held
    }

    /// Panics where it is not the other one, and names what differs.
    #[track_caller]
    pub fn assert_same(&self, expected: &Held, story: &str) {
        let (found, expected) = (self.lasting(), expected.lasting());
        for (name, value) in &expected.0 {
            assert_eq!(found.0.get(name), Some(value), "{story}: '{name}' of the server");
        }
        let more: Vec<_> = found.0.keys().filter(|name| !expected.0.contains_key(*name)).collect();
        assert!(more.is_empty(), "{story}: the server has {more:?} besides");
    }

    pub fn digest(&self) -> blake3::Hash {
        blake3::hash(serde_json::to_string(&self.0).expect("it is JSON").as_bytes())
    }
}

fn forget_checkpoint(value: &mut Value) {
    match value {
        Value::Array(rows) => rows.iter_mut().for_each(forget_checkpoint),
        Value::Object(fields) => {
            fields.remove("checkpoint");
            fields.values_mut().for_each(forget_checkpoint);
        }
        _ => {}
    }
}
