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

mod proxy;

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use self::proxy::Proxy;
use super::{
    disk::Tree,
    scenarios::{Kind, Position, Scenario, Step},
    world::{By, World},
};
use crate::servers::held::{Held, Store, Which, Wire};

type Shared = Arc<Mutex<Box<dyn Store>>>;

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked")
}

/// A server, and a place of this job's own in it.
pub struct Server {
    which: Which,
    store: Shared,
    proxy: Proxy,
    place: String,
}

/// The server that a scenario writes to, if it writes to one.
fn which(scenario: &Scenario) -> Option<Which> {
    match scenario.kind {
        Kind::Postgres => Some(Which::Postgres),
        Kind::Redis => Some(Which::Redis),
        Kind::Files | Kind::EventTime | Kind::Received | Kind::Database => None,
    }
}

/// Whether the server is there that a scenario needs, if it needs one.
pub fn is_there(scenario: &Scenario) -> bool {
    which(scenario).is_none_or(|which| which.url().is_some())
}

impl Server {
    /// The server of a scenario that writes to one. Its place is kept in `note`: a recording is of one place.
    pub fn of(scenario: &Scenario, note: &Path) -> Option<Server> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let which = which(scenario)?;
        let url = which.url().expect("tests/servers started it");
        let kept = fs::read_to_string(note).ok();
        let (port, place) = match kept.as_deref().and_then(|kept| kept.split_once(' ')) {
            Some((port, place)) => (port.parse().expect("a port was kept"), place.to_owned()),
            None => (0, format!("w{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))),
        };
        let store = Arc::new(Mutex::new(which.open(&url, &place)));
        let proxy = Proxy::start(port, &url, which.wire(), &store);
        fs::write(note, format!("{} {place}", proxy.port)).expect("the place is kept");
        Some(Server { which, store, proxy, place })
    }

    /// The job, with the options of its sinks.
    pub fn fill_in(&self, sql: &str) -> String {
        self.which.fill_in(sql, &self.proxy.url, &self.place)
    }

    pub fn wire(&self) -> Wire {
        self.which.wire()
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

    fn sink(&self, held: &Held, sink: &str) -> (Option<u64>, Vec<String>) {
        self.which.sink(held, &self.place, sink)
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
        for sink in server.which.sinks() {
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
        for sink in server.which.sinks() {
            let (newest, _) = server.sink(held, sink);
            // a rewind that is durable may still have to take rows back
            if position.generation == 1 && newest > position.newest {
                return Err(format!("the server has batch {newest:?} of '{sink}' at {position:?}"));
            }
        }
        Ok(())
    }
}
