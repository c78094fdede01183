//! What is kept in the server, and the commands that change it: all of a batch, its number included, in one MULTI/EXEC.
//!
//! `highwater:PREFIX` is a hash that says whose the keys are and which batch is the newest; `highwater:PREFIX:keys` a sorted set of
//! all keys, by the batch that wrote each of them last. Both are watched: where another writer changes them in between, nothing
//! is done, and what is there is looked at again. `highwater` is a hash of all prefixes of the database that were taken, and is
//! watched while one is: of two that overlap, keys of one could be the other's.

use std::collections::{BTreeSet, HashMap};

use redis::{Connection, Pipeline, cmd, pipe};

use super::{connection::Tried, entries::Entry};
use crate::{
    job::{Layout, overlap},
    model::{BatchId, Error},
};

/// The hash of all prefixes, each with the checkpoint that took it.
const PREFIXES: &str = "highwater";

/// Keys, or members, that one command names at most.
const NAMES_MAX: usize = 1000;

/// Whose the keys are, and what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub checkpoint: String,
    pub sink: String,
    pub layout: String,
    /// The newest batch; `None`: there has been none.
    pub batch: Option<BatchId>,
    /// The first batch that was written.
    pub first: Option<BatchId>,
    /// Of the newest batch's rows; `None`: a rewind made another one the newest.
    pub hash: Option<String>,
}

/// The keys of one sink.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub prefix: String,
    pub layout: Layout,
}

/// What a batch does to the keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    /// Takes these away first.
    pub gone: &'a [String],
    pub entries: &'a [Entry],
    /// The newest batch, from then on, and the batch of the entries; `None`: none.
    pub batch: Option<BatchId>,
    /// Of the batch's rows.
    pub hash: Option<&'a str>,
}

impl Store {
    fn book(&self) -> String {
        book_of(&self.prefix)
    }

    fn keys(&self) -> String {
        format!("highwater:{}:keys", self.prefix)
    }

    /// Where a hash is.
    fn hash_at(&self, key: &str) -> String {
        if key.is_empty() { self.prefix.clone() } else { format!("{}:{key}", self.prefix) }
    }

    /// The layout as it is written down.
    pub fn layout_name(&self) -> &'static str {
        match self.layout {
            Layout::Hash => "hash",
            Layout::SortedSet { .. } => "sorted_set",
        }
    }

    /// Watches the keys, and says whose they are; `None`: nobody's.
    pub fn watch(&self, connection: &mut Connection) -> Tried<Option<Held>> {
        cmd("WATCH").arg(self.book()).arg(self.keys()).arg(&self.prefix).exec(connection)?;
        self.held(connection)
    }

    /// The prefix of another sink that keys of this one could be under, or its keys under this one. Watches the list.
    pub fn neighbour(&self, connection: &mut Connection) -> Tried<Option<String>> {
        cmd("WATCH").arg(PREFIXES).exec(connection)?;
        let mut taken: Vec<String> = cmd("HKEYS").arg(PREFIXES).query(connection)?;
        taken.retain(|prefix| *prefix != self.prefix && overlap(prefix, &self.prefix));
        for prefix in taken {
            // one that was given up: its book was deleted
            let kind: String = cmd("TYPE").arg(book_of(&prefix)).query(connection)?;
            if kind == "hash" {
                return Ok(Some(prefix));
            }
        }
        Ok(None)
    }

    /// Whether the prefix is on the list.
    pub fn is_listed(&self, connection: &mut Connection) -> Tried<bool> {
        Ok(cmd("HEXISTS").arg(PREFIXES).arg(&self.prefix).query(connection)?)
    }

    /// Forgets what is watched.
    pub fn unwatch(&self, connection: &mut Connection) -> Tried<()> {
        Ok(cmd("UNWATCH").exec(connection)?)
    }

    pub fn held(&self, connection: &mut Connection) -> Tried<Option<Held>> {
        let mut book: HashMap<String, String> = cmd("HGETALL").arg(self.book()).query(connection)?;
        let mut batch = |name: &str| {
            let number = book.remove(name).map(|text| text.parse().map(BatchId)).transpose();
            number.map_err(|_| self.damaged(format!("its {name} is no number")))
        };
        let (newest, first) = (batch("batch")?, batch("first")?);
        let (Some(checkpoint), Some(sink)) = (book.remove("checkpoint"), book.remove("sink")) else {
            return match book.is_empty() && newest.is_none() {
                true => Ok(None),
                false => Err(self.damaged("it does not say whose it is".to_owned()).into()),
            };
        };
        let layout = book.remove("layout").unwrap_or_default();
        Ok(Some(Held { checkpoint, sink, layout, batch: newest, first, hash: book.remove("hash") }))
    }

    fn damaged(&self, why: String) -> Error {
        Error::refused(format!("the key {} is damaged", self.book()))
            .because(why)
            .help("put a sound copy of the server's data in its place; or DEL it and all keys of the prefix, and `highwater rewind --to start`")
    }

    /// A key of the prefix that is not ours; asked before there are any of ours.
    pub fn stranger(&self, connection: &mut Connection) -> Tried<Option<String>> {
        let prefix: String =
            self.prefix.chars().flat_map(|c| if "*?[]\\^".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
        let is_there: bool = cmd("EXISTS").arg(&self.prefix).query(connection)?;
        if is_there {
            return Ok(Some(self.prefix.clone()));
        }
        let mut cursor = 0_u64;
        loop {
            let scan =
                cmd("SCAN").arg(cursor).arg("MATCH").arg(format!("{prefix}:*")).arg("COUNT").arg(NAMES_MAX).to_owned();
            let (next, found): (u64, Vec<String>) = scan.query(connection)?;
            match (found.into_iter().next(), next) {
                (Some(found), _) => return Ok(Some(found)),
                (None, 0) => return Ok(None),
                (None, next) => cursor = next,
            }
        }
    }

    /// Takes keys that nobody owns, or puts them on the list; false: another writer came before.
    pub fn claim(&self, connection: &mut Connection, checkpoint: &str, sink: &str) -> Tried<bool> {
        let mut claim = pipe();
        claim.atomic();
        claim.cmd("HSET").arg(self.book()).arg("checkpoint").arg(checkpoint).arg("sink").arg(sink);
        claim.arg("layout").arg(self.layout_name()).ignore();
        claim.cmd("HSET").arg(PREFIXES).arg(&self.prefix).arg(checkpoint).ignore();
        done(&claim, connection)
    }

    /// All keys; or those that batches after `after` wrote last.
    pub fn all_keys(&self, connection: &mut Connection, after: Option<BatchId>) -> Tried<Vec<String>> {
        let from = after.map_or("-inf".to_owned(), |batch| format!("({}", batch.0));
        Ok(cmd("ZRANGEBYSCORE").arg(self.keys()).arg(from).arg("+inf").query(connection)?)
    }

    /// Checks that nobody has put something else where the sink's own things are: of what EXEC does, the rest would stay done.
    pub fn check_kinds(&self, connection: &mut Connection) -> Tried<()> {
        let mut kinds = vec![(self.keys(), "zset")];
        if self.layout != Layout::Hash {
            kinds.push((self.prefix.clone(), "zset"));
        }
        for (key, kind) in kinds {
            let found: String = cmd("TYPE").arg(&key).query(connection)?;
            if found != kind && found != "none" {
                return Err(self.damaged(format!("{key} is a {found}, and should be a {kind}")).into());
            }
        }
        Ok(())
    }

    /// Changes the keys, all or nothing; false: another writer came before, and nothing is changed.
    pub fn change(&self, connection: &mut Connection, change: &Change<'_>) -> Tried<bool> {
        let mut pipe = pipe();
        pipe.atomic();
        let comes: BTreeSet<&str> = change.entries.iter().map(|entry| entry.key.as_str()).collect();
        let gone: Vec<&String> = change.gone.iter().filter(|key| !comes.contains(key.as_str())).collect();
        for names in gone.chunks(NAMES_MAX) {
            pipe.cmd("ZREM").arg(self.keys()).arg(names).ignore();
            match self.layout {
                Layout::Hash => {
                    pipe.cmd("DEL").arg(names.iter().map(|key| self.hash_at(key)).collect::<Vec<_>>()).ignore()
                }
                Layout::SortedSet { .. } => pipe.cmd("ZREM").arg(&self.prefix).arg(names).ignore(),
            };
        }
        for entry in change.entries {
            self.put(&mut pipe, entry);
        }
        if let Some(batch) = change.batch {
            for entries in change.entries.chunks(NAMES_MAX) {
                pipe.cmd("ZADD").arg(self.keys());
                for entry in entries {
                    pipe.arg(batch.0).arg(&entry.key);
                }
                pipe.ignore();
            }
            pipe.cmd("HSET").arg(self.book()).arg("batch").arg(batch.0).ignore();
            pipe.cmd("HSETNX").arg(self.book()).arg("first").arg(batch.0).ignore();
        } else {
            pipe.cmd("HDEL").arg(self.book()).arg("batch").arg("first").ignore();
        }
        match change.hash {
            Some(hash) => pipe.cmd("HSET").arg(self.book()).arg("hash").arg(hash).ignore(),
            None => pipe.cmd("HDEL").arg(self.book()).arg("hash").ignore(),
        };
        done(&pipe, connection)
    }

    fn put(&self, pipe: &mut Pipeline, entry: &Entry) {
        match (&self.layout, entry.score) {
            (Layout::Hash, _) => {
                let at = self.hash_at(&entry.key);
                pipe.cmd("DEL").arg(&at).ignore();
                if !entry.fields.is_empty() {
                    pipe.cmd("HSET").arg(&at).arg(&entry.fields).ignore();
                }
            }
            (Layout::SortedSet { .. }, Some(score)) => {
                pipe.cmd("ZADD").arg(&self.prefix).arg(score_text(score)).arg(&entry.key).ignore();
            }
            (Layout::SortedSet { .. }, None) => {
                pipe.cmd("ZREM").arg(&self.prefix).arg(&entry.key).ignore();
            }
        }
    }

    /// What is kept under the keys that a batch wrote last.
    pub fn entries_of(&self, connection: &mut Connection, batch: BatchId) -> Tried<Vec<Entry>> {
        let range = cmd("ZRANGEBYSCORE").arg(self.keys()).arg(batch.0).arg(batch.0).to_owned();
        let keys: Vec<String> = range.query(connection)?;
        let mut entries = Vec::with_capacity(keys.len());
        for keys in keys.chunks(NAMES_MAX) {
            let mut ask = pipe();
            match self.layout {
                Layout::Hash => {
                    for key in keys {
                        ask.cmd("HGETALL").arg(self.hash_at(key));
                    }
                    let found: Vec<HashMap<String, String>> = ask.query(connection)?;
                    entries.extend(keys.iter().zip(found).map(|(key, fields)| {
                        let mut fields: Vec<(String, String)> = fields.into_iter().collect();
                        fields.sort_unstable();
                        Entry { key: key.clone(), fields, score: None }
                    }));
                }
                Layout::SortedSet { .. } => {
                    for key in keys {
                        ask.cmd("ZSCORE").arg(&self.prefix).arg(key);
                    }
                    let found: Vec<Option<f64>> = ask.query(connection)?;
                    let entry = |(key, score): (&String, _)| Entry { key: key.clone(), fields: Vec::new(), score };
                    entries.extend(keys.iter().zip(found).map(entry));
                }
            }
        }
        Ok(entries)
    }
}

/// The key of what is written down of a prefix.
fn book_of(prefix: &str) -> String {
    format!("highwater:{prefix}")
}

/// Redis reads infinities by these names only.
fn score_text(score: f64) -> String {
    match score {
        f64::INFINITY => "+inf".to_owned(),
        f64::NEG_INFINITY => "-inf".to_owned(),
        score => score.to_string(),
    }
}

/// Whether a transaction was done; it was not, where what it watched has changed.
fn done(transaction: &Pipeline, connection: &mut Connection) -> Tried<bool> {
    Ok(transaction.query::<Option<()>>(connection)?.is_some())
}
