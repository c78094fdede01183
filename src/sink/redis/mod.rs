//! The Redis sink: a hash for each group, or a sorted set, changed with the number of the batch in one MULTI/EXEC.
//!
//! Nothing is staged. After the commit a batch is written, unless its number is there: once, whatever is killed. A rewind takes
//! back what later batches wrote, and puts back the state as of the batch, as a table's sink does.
//!
//! Redis itself may forget: with its defaults a crash of the server costs up to a second (`appendfsync everysec`), and without an
//! append-only file all since the last dump. What comes back is whole batches, so the number tells: the checkpoint knows what it
//! published, and where that is missing the sink refuses, at the start and at each batch; a rewind to the newest that is there
//! writes the rest again. In complete mode a batch is the whole result, and mends what was lost before it.

mod claim;
mod connection;
mod entries;
mod refusals;
mod store;
mod verify;

use std::{collections::HashSet, fmt};

use redis::Connection;

use super::{Before, Columns, Guarantee, Output, RowKey, Sink, rows, server::patiently};
use crate::{
    checkpoint::CommitPermit,
    job::{Address, RedisSpec, RowFormat},
    model::{BatchId, Error, OutputMode, Place, Result, StagedOutput},
};
use connection::{Tried, connect};
use entries::{Entry, entries_of, hash_of};
use store::{Change, Held, Store};

/// How often in a row another writer may come before.
const ATTEMPTS_MAX: u32 = 20;

/// A sink that writes to a Redis server.
pub(super) struct RedisSink {
    name: String,
    spec: RedisSpec,
    mode: OutputMode,
    store: Store,
    claimed: Option<Claimed>,
    /// The entries of the batch that is under way.
    staged: Option<(BatchId, Vec<Entry>)>,
}

/// The keys, once they are this checkpoint's.
struct Claimed {
    address: Address,
    connection: Option<Connection>,
    checkpoint: String,
    /// The columns that tell rows apart.
    key: Vec<usize>,
    /// The newest batch that must be there.
    newest: Option<BatchId>,
}

impl fmt::Debug for RedisSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSink")
            .field("name", &self.name)
            .field("prefix", &self.spec.key_prefix)
            .finish_non_exhaustive()
    }
}

impl RedisSink {
    /// Touches nothing yet.
    pub fn new(name: &str, spec: &RedisSpec, mode: OutputMode) -> RedisSink {
        let store = Store { prefix: spec.key_prefix.clone(), layout: spec.layout.clone() };
        RedisSink { name: name.to_owned(), spec: spec.clone(), mode, store, claimed: None, staged: None }
    }

    /// Does something on a connection, again where it was lost; `kept`: one that is open.
    fn talk<T>(
        &self,
        (address, kept): (&Address, &mut Option<Connection>),
        what: &str,
        mut work: impl FnMut(&mut Connection) -> Tried<T>,
    ) -> Result<T> {
        patiently((&self.spec.server, address, self.spec.patience), what, |within| {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => connect(&self.spec, address, within)?,
            };
            // where anything fails the connection is closed, and what it watches is forgotten
            let done = work(&mut connection)?;
            *kept = Some(connection);
            Ok(done)
        })
    }

    fn look<T>(&self, work: impl FnMut(&mut Connection) -> Tried<T>) -> Result<T> {
        let what = format!("the server of '{}' cannot be read", self.name);
        self.talk((&self.spec.server.address()?, &mut None), &what, work)
    }

    fn place(&self) -> Place {
        Place::Server(self.spec.server.shown())
    }

    /// Changes the keys as `plan` has it for what is there; `None`: nothing has to be changed.
    fn change(
        &self,
        connection: &mut Connection,
        checkpoint: &str,
        mut plan: impl FnMut(&mut Connection, &Held) -> Tried<Option<Planned>>,
    ) -> Tried<()> {
        for _ in 0..ATTEMPTS_MAX {
            let held = match self.store.watch(connection)? {
                Some(held) if held.checkpoint == checkpoint && held.sink == self.name => held,
                Some(held) => return Err(self.owned_by(&held, "they were taken while this job ran").into()),
                None => return Err(self.not_the_place_before().into()),
            };
            let Some(Planned { gone, entries, batch, hash }) = plan(connection, &held)? else { return Ok(()) };
            self.store.check_kinds(connection)?;
            let change = Change { gone: &gone, entries: &entries, batch, hash: hash.as_deref() };
            if self.store.change(connection, &change)? {
                return Ok(());
            }
        }
        Err(self.disturbed().into())
    }

    fn key<'a>(&self, columns: &Columns<'a>) -> Result<&'a [usize]> {
        match (self.mode, columns.key) {
            (OutputMode::Append, _) => Err(Error::usage(format!("'{}' cannot take rows that are appended", self.name))
                .because("they have no key that Redis could keep them under")
                .help(
                    "set output_mode = 'update' or 'complete' over groups; or write them to PostgreSQL, or to files",
                )),
            (_, RowKey::Columns(key) | RowKey::All(key)) => Ok(key),
            (_, RowKey::None | RowKey::Hidden) => {
                Err(Error::usage(format!("'{}' cannot tell under which key a row is to be kept", self.name))
                    .because("it is the group key, and not all of it is among the columns")
                    .help("select every column of the GROUP BY as it is (of a window `window` or `window.start`)"))
            }
        }
    }

    fn convert(&self, output: &Output<'_>, key: &[usize]) -> Result<Vec<Entry>> {
        entries_of(output.rows, key, &self.spec.layout).map_err(|error| error.at_if_none(Place::Batch(output.batch)))
    }

    fn with_claimed<T>(&mut self, act: impl FnOnce(&Self, &mut Claimed) -> Result<T>) -> Result<T> {
        let Some(mut claimed) = self.claimed.take() else {
            return Err(Error::failed(format!("'{}' is asked for a batch before it is open", self.name)));
        };
        let done = act(self, &mut claimed);
        self.claimed = Some(claimed);
        done
    }
}

/// What is to be changed, and what is the newest batch then.
struct Planned {
    gone: Vec<String>,
    entries: Vec<Entry>,
    batch: Option<BatchId>,
    hash: Option<String>,
}

fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

impl Sink for RedisSink {
    fn description(&self) -> String {
        format!("redis[{}, {}]", self.spec.server.shown(), self.spec.key_prefix)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn stages_outside(&self) -> bool {
        false
    }

    fn accepts(&self, columns: &Columns<'_>) -> Result<()> {
        let key = self.key(columns)?;
        rows::check(RowFormat::Json, columns.schema)?;
        entries::check_layout(&self.name, columns.schema, key, &self.spec.layout)
    }

    fn notes(&self) -> Result<Vec<String>> {
        self.look(|connection| self.store.held(connection))?;
        Ok(vec!["what Redis forgets in a crash of its own is noticed, and written again after a rewind".to_owned()])
    }

    fn check_free(&self) -> Result<()> {
        self.look(|connection| self.check_unclaimed(connection))
    }

    fn open(&mut self, checkpoint_id: &str, before: &Before, columns: &Columns<'_>) -> Result<()> {
        let (key, address) = (self.key(columns)?.to_vec(), self.spec.server.address()?);
        let (what, mut kept) = (format!("'{}' cannot take its keys", self.name), None);
        self.talk((&address, &mut kept), &what, |connection| self.claim(connection, checkpoint_id, before))?;
        let checkpoint = checkpoint_id.to_owned();
        self.claimed = Some(Claimed { address, connection: kept, checkpoint, key, newest: before.newest });
        Ok(())
    }

    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput> {
        let entries = self.with_claimed(|sink, claimed| sink.convert(output, &claimed.key))?;
        let (size_bytes, hash) = hash_of(&entries);
        self.staged = Some((output.batch, entries));
        let (sink, name) = (self.name.clone(), self.spec.key_prefix.clone());
        Ok(StagedOutput { sink, name, rows: output.row_count(), size_bytes, hash })
    }

    fn publish(&mut self, _permit: &CommitPermit, staged: &StagedOutput, output: &Output<'_>) -> Result<()> {
        if staged.name.is_empty() {
            // committed while the job had another sink here
            return Ok(());
        }
        let (batch, under_way) = (output.batch, self.staged.take());
        self.with_claimed(|sink, Claimed { address, connection, checkpoint, key, newest }| {
            let entries = match under_way {
                Some((under_way, entries)) if under_way == batch => entries,
                _ => sink.convert(output, key)?,
            };
            let (whole, hash) = (sink.is_whole(), hex(&staged.hash));
            let is_staged = hash_of(&entries).1 == staged.hash;
            let mut plan = |connection: &mut Connection, held: &Held| {
                if held.batch == Some(batch) {
                    let same = held.hash.as_ref().is_none_or(|there| *there == hash);
                    return if same { Ok(None) } else { Err(sink.other_rows(batch).into()) };
                }
                if !is_staged {
                    return Err(sink.other_rows(batch).into());
                }
                let (lacks, is_ahead) = (held.batch < *newest, held.batch > Some(batch));
                if is_ahead || lacks && !whole {
                    return Err(sink.behind(batch, held.batch).into());
                }
                if lacks {
                    let forgot = sink.behind(batch, held.batch);
                    tracing::warn!("{}; batch {batch} is the whole result, and is written", forgot.what());
                }
                let gone = if whole { sink.store.all_keys(connection, None)? } else { Vec::new() };
                Ok(Some(Planned { gone, entries: entries.clone(), batch: Some(batch), hash: Some(hash.clone()) }))
            };
            let what = format!("batch {batch} cannot be written to the keys of '{}'", sink.name);
            sink.talk((address, connection), &what, |connection| sink.change(connection, checkpoint, &mut plan))?;
            *newest = Some(batch);
            Ok(())
        })
    }

    fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }

    fn retract(&mut self, _permit: &CommitPermit, keep: Option<BatchId>, latest: Option<&Output<'_>>) -> Result<()> {
        self.with_claimed(|sink, Claimed { address, connection, checkpoint, key, newest }| {
            let entries = latest.map(|output| sink.convert(output, key)).transpose()?.unwrap_or_default();
            let whole = sink.is_whole();
            let mut plan = |connection: &mut Connection, held: &Held| {
                if let (Some(keep), true, false) = (keep, held.batch < *newest, whole) {
                    return Err(sink.behind(keep.next(), held.batch).into());
                }
                // nothing came after it, or it is taken back already; a whole result is written again, whatever is there
                if held.batch.is_none() && keep.is_none() || held.batch <= keep && !whole {
                    return Ok(None);
                }
                // before its first batch it had nothing yet, whatever the state holds
                let batch = keep.filter(|keep| newest.is_some() || held.first.is_some_and(|first| first <= *keep));
                let gone = sink.store.all_keys(connection, keep.filter(|_| !whole))?;
                let mut back = if batch.is_some() { entries.clone() } else { Vec::new() };
                if !whole {
                    let gone: HashSet<&String> = gone.iter().collect();
                    back.retain(|entry| gone.contains(&entry.key));
                }
                Ok(Some(Planned { gone, entries: back, batch, hash: None }))
            };
            let what = format!("keys of '{}' cannot be taken back", sink.name);
            sink.talk((address, connection), &what, |connection| sink.change(connection, checkpoint, &mut plan))
        })
    }

    fn verify(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        self.findings(published)
    }

    fn read_back(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>> {
        Err(Error::usage(format!("rows of '{}' are not read back from its keys", self.name))
            .help("read them from the checkpoint: highwater show"))
    }
}
