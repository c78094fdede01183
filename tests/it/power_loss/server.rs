//! A server that results go to is another machine: the power does not fail there. It keeps every transaction that it did, also
//! those that the job's own disk knows nothing of any more, and cannot have one that it was not asked for.
//!
//! So a state of the disk goes together with what the server held at that very moment. Both come from one recording. The job
//! calls the server through a [`proxy`], which holds back each answer to a COMMIT (of Redis: EXEC) until it has written down what
//! the server holds. The trace has the same calls, in one order with those that change files: a transaction may be done from
//! the moment that its COMMIT is sent, and is done from the moment that its answer is received. Between both the explorer lets
//! chance say whether it is. This is sound because sinks publish one after the other, and wait for each answer: whatever is
//! between a COMMIT and its answer, the server did that transaction or did not, and no other.
//!
//! What is not explored here: the server that still holds a transaction of the machine that is gone, until it notices (the job
//! waits for it: `servers::cut`), and a server that loses something itself (`servers::lost`).

mod postgres;
mod proxy;
mod redis;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::Value;

use self::proxy::Proxy;
use super::{
    disk::Tree,
    scenarios::{Kind, Position, Scenario, Step},
    world::{By, World},
};

/// What a server holds of a job: of PostgreSQL tables with their rows, of Redis keys with what is under them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held(pub BTreeMap<String, Value>);

/// How a transaction shows on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// It is to be done.
    pub asked: &'static [u8],
    /// It is done.
    pub answered: &'static [u8],
}

/// One kind of server.
trait Store: Send {
    /// What it holds of the job.
    fn read(&mut self) -> Result<Held, String>;

    /// Lets it hold this, and nothing else.
    fn put(&mut self, held: &Held) -> Result<(), String>;
}

type Shared = Arc<Mutex<Box<dyn Store>>>;

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked")
}

/// A server, and a place of this job's own in it.
pub struct Server {
    kind: Kind,
    store: Shared,
    proxy: Proxy,
    /// Of PostgreSQL the schema, of Redis the beginning of each key.
    place: String,
}

/// Where tests find a server of this kind; `None`: it is none of a server.
fn variable(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Postgres => Some("HIGHWATER_POSTGRES_URL"),
        Kind::Redis => Some("HIGHWATER_REDIS_URL"),
        Kind::Files | Kind::EventTime | Kind::Received | Kind::Database => None,
    }
}

/// Whether the server is there that a scenario needs, if it needs one.
pub fn is_there(scenario: &Scenario) -> bool {
    variable(scenario.kind).is_none_or(|name| std::env::var_os(name).is_some())
}

impl Server {
    /// The server of a scenario that writes to one. Its place is kept in `note`: a recording is of one place.
    pub fn of(scenario: &Scenario, note: &Path) -> Option<Server> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let kind = scenario.kind;
        let url = std::env::var(variable(kind)?).expect("tests/servers started it");
        let kept = fs::read_to_string(note).ok();
        let (port, place) = match kept.as_deref().and_then(|kept| kept.split_once(' ')) {
            Some((port, place)) => (port.parse().expect("a port was kept"), place.to_owned()),
            None => (0, format!("w{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))),
        };
        let store: Box<dyn Store> = match kind {
            Kind::Postgres => Box::new(postgres::Tables::of(&url, &place)),
            _ => Box::new(redis::Keys::of(&url, &place)),
        };
        let store = Arc::new(Mutex::new(store));
        let proxy = Proxy::start(port, &url, wire(kind), &store);
        fs::write(note, format!("{} {place}", proxy.port)).expect("the place is kept");
        Some(Server { kind, store, proxy, place })
    }

    /// The job, with the options of its sinks.
    pub fn fill_in(&self, sql: &str) -> String {
        let url = &self.proxy.url;
        let options = match self.kind {
            Kind::Postgres => format!("connector = 'postgres', url = '{url}', schema = '{}'", self.place),
            _ => format!("connector = 'redis', url = '{url}'"),
        };
        sql.replace("SINK", &format!("{options}, retry_timeout = '3 seconds'")).replace("PREFIX", &self.place)
    }

    pub fn wire(&self) -> Wire {
        wire(self.kind)
    }

    pub fn put(&self, held: &Held) -> Result<(), String> {
        locked(&self.store).put(held)
    }

    pub fn read(&self) -> Result<Held, String> {
        locked(&self.store).read()
    }

    /// What it held after each transaction of what is done here.
    pub fn recorded<T>(&self, act: impl FnOnce() -> Result<T, String>) -> Result<(T, Vec<Held>), String> {
        self.proxy.begin();
        let done = act();
        let all = self.proxy.end();
        Ok((done?, all.into_iter().collect::<Result<_, _>>()?))
    }

    /// The newest batch that a sink wrote, and all its rows.
    fn sink(&self, held: &Held, sink: &str) -> (Option<u64>, Vec<String>) {
        match self.kind {
            Kind::Postgres => postgres::sink(held, sink),
            _ => redis::sink(held, &self.place, sink),
        }
    }

    fn sinks(&self) -> [&'static str; 3] {
        match self.kind {
            Kind::Postgres => ["added", "changed", "whole"],
            _ => ["changed", "whole", "ranks"],
        }
    }
}

fn wire(kind: Kind) -> Wire {
    match kind {
        Kind::Postgres => postgres::WIRE,
        _ => redis::WIRE,
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
        held.0.remove("highwater");
        held.0.values_mut().for_each(forget_checkpoint);
        held
    }

    /// Panics where it is not the other one, and names what differs.
    pub fn assert_same(&self, expected: &Held) {
        let (found, expected) = (self.lasting(), expected.lasting());
        for (name, value) in &expected.0 {
            assert_eq!(found.0.get(name), Some(value), "'{name}' of the server, compared with an undisturbed run");
        }
        let more: Vec<_> = found.0.keys().filter(|name| !expected.0.contains_key(*name)).collect();
        assert!(more.is_empty(), "the server has {more:?} besides");
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

/// What a server may hold: each sink's rows are as some batch left them.
pub struct Expected {
    /// By count of batches.
    after: Vec<Held>,
    /// What is there when all is done.
    pub end: Held,
}

impl Expected {
    /// Runs the job batch by batch in its world, and looks whether all that was recorded is as one of the batches left it.
    pub fn of(world: &World, server: &Server, recorded: &[Held]) -> Expected {
        world.put(&Tree::default());
        server.put(&Held::default()).unwrap_or_else(|why| panic!("{why}"));
        let mut after = vec![Held::default()];
        for newest in 0..world.scenario.batches() as u64 {
            let done = world.perform(Step::Run { newest }, Some(1), By::Library, 0);
            after.push(done.and_then(|()| server.read()).unwrap_or_else(|why| panic!("{why}")));
        }
        let expected = Expected { after, end: recorded.last().cloned().unwrap_or_default() };
        for (number, held) in recorded.iter().enumerate() {
            expected.check_rows(server, held).unwrap_or_else(|why| panic!("after {number} transactions: {why}"));
        }
        expected
    }

    fn check_rows(&self, server: &Server, held: &Held) -> Result<(), String> {
        for sink in server.sinks() {
            let (newest, rows) = server.sink(held, sink);
            let batches = newest.map_or(0, |newest| newest as usize + 1);
            let after = self.after.get(batches).ok_or_else(|| format!("'{sink}' has {batches} batches"))?;
            if server.sink(after, sink).1 != rows {
                return Err(format!("'{sink}' is not as batch {newest:?} left it"));
            }
        }
        Ok(())
    }

    /// Nothing is in the server that no commit of the job at this position allows.
    ///
    /// # Errors
    /// Names the sink that has more.
    pub fn check(&self, server: &Server, held: &Held, position: Position) -> Result<(), String> {
        for sink in server.sinks() {
            let (newest, _) = server.sink(held, sink);
            // a rewind that is durable may still have to take rows back
            if position.generation == 1 && newest > position.newest {
                return Err(format!("the server has batch {newest:?} of '{sink}' at {position:?}"));
            }
        }
        Ok(())
    }
}
