//! The keys of a prefix, read and put back by a connection of the test's own.

use std::collections::BTreeMap;

use redis::{Commands as _, Connection, RedisError};
use serde_json::{Value, json};

use super::{Held, Store, Wire};

/// The last command of a transaction, and the answer to it behind that to the one before.
pub const WIRE: Wire = Wire { asked: b"\r\nEXEC\r\n", answered: b"QUEUED\r\n*" };

/// Where all sinks of a server are listed.
pub const LIST: &str = "highwater";

pub struct Keys {
    connection: Connection,
    prefix: String,
}

impl Keys {
    pub fn of(url: &str, prefix: &str) -> Keys {
        let connection = redis::Client::open(url).and_then(|client| client.get_connection());
        Keys { connection: connection.expect("the server answers"), prefix: prefix.to_owned() }
    }

    fn names(&mut self) -> Result<Vec<String>, RedisError> {
        self.connection.keys(format!("*{}-*", self.prefix))
    }

    /// What the list says of sinks of ours.
    fn listed(&mut self) -> Result<BTreeMap<String, String>, RedisError> {
        let mut listed: BTreeMap<String, String> = self.connection.hgetall(LIST)?;
        listed.retain(|name, _| name.starts_with(&format!("{}-", self.prefix)));
        Ok(listed)
    }

    fn read_all(&mut self) -> Result<Held, RedisError> {
        let mut held = BTreeMap::new();
        for name in self.names()? {
            let kind: String = redis::cmd("TYPE").arg(&name).query(&mut self.connection)?;
            let value = if kind == "hash" {
                let fields: BTreeMap<String, String> = self.connection.hgetall(&name)?;
                json!({"hash": fields})
            } else {
                let members: Vec<(String, String)> = self.connection.zrange_withscores(&name, 0, -1)?;
                json!({"zset": members.into_iter().collect::<BTreeMap<_, _>>()})
            };
            held.insert(name, value);
        }
        let listed = self.listed()?;
        if !listed.is_empty() {
            held.insert(LIST.to_owned(), json!({"hash": listed}));
        }
        Ok(Held(held))
    }

    fn put_all(&mut self, held: &Held) -> Result<(), RedisError> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for name in self.names()? {
            pipe.del(name).ignore();
        }
        for name in self.listed()?.into_keys() {
            pipe.hdel(LIST, name).ignore();
        }
        for (name, value) in &held.0 {
            for (field, text) in fields(value, "hash") {
                pipe.hset(name, field, text).ignore();
            }
            for (member, score) in fields(value, "zset") {
                pipe.cmd("ZADD").arg(name).arg(score).arg(member).ignore();
            }
        }
        pipe.query(&mut self.connection)
    }
}

fn fields<'a>(value: &'a Value, kind: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let fields = value[kind].as_object().into_iter().flatten();
    fields.map(|(name, text)| (name.as_str(), text.as_str().expect("texts were written down")))
}

impl Store for Keys {
    fn read(&mut self) -> Result<Held, String> {
        self.read_all().map_err(|error| error.to_string())
    }

    fn put(&mut self, held: &Held) -> Result<(), String> {
        self.put_all(held).map_err(|error| error.to_string())
    }
}

/// The newest batch of a sink, and all that is under its keys.
pub fn sink(held: &Held, prefix: &str, name: &str) -> (Option<u64>, Vec<String>) {
    let (prefix, below) = (format!("{prefix}-{name}"), format!("{prefix}-{name}:"));
    let book = held.0.get(&format!("highwater:{prefix}"));
    let newest = book.and_then(|book| book["hash"]["batch"].as_str()).map(|text| text.parse().expect("a number"));
    let is_ours = |key: &str| key == prefix || key.starts_with(&below);
    let rows = held.0.iter().filter(|(key, _)| is_ours(key)).map(|(key, value)| format!("{key} {value}"));
    (newest, rows.collect())
}
