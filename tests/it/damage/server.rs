//! A server that results go to, which is as it was when the checkpoint was put aside: only the checkpoint is damaged.
//!
//! After a run that ended well the server has exactly what it should have. After one that was refused no row is there twice.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{beside, past::Past};
use crate::servers::held::{Held, Store, Which};

/// As the job over a database of SQLite; and a folder, so that plans are made durable.
pub fn to_postgres() -> String {
    let sqlite = "connector = 'sqlite', path = '${OUTPUT}/out.db'";
    assert!(beside::TO_TABLES.contains(sqlite));
    beside::TO_TABLES.replace(sqlite, "SINK") + FOLDER
}

const FOLDER: &str = "
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
INSERT INTO traffic SELECT port, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY port;
";

pub const TO_REDIS: &str = "
SET snapshot_batches = '5';
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
CREATE TABLE changed WITH (SINK, key_prefix = 'PREFIX-changed', output_mode = 'update');
CREATE TABLE whole WITH (SINK, key_prefix = 'PREFIX-whole', output_mode = 'complete');
CREATE TABLE ranks WITH (SINK, key_prefix = 'PREFIX-ranks', layout = 'sorted_set', score = 'most', output_mode = 'complete');
INSERT INTO counts SELECT device, count(*) AS count FROM flows WHERE port IN ('80', '443') GROUP BY device ORDER BY count DESC;
INSERT INTO traffic SELECT port, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY port;
INSERT INTO changed SELECT left(device, 20) AS device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY left(device, 20);
INSERT INTO whole SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
INSERT INTO ranks SELECT port, max(bytes) AS most FROM flows GROUP BY port ORDER BY most DESC LIMIT 3;
";

/// Its place in a server, and what is right about it.
pub struct AtServer {
    which: Which,
    url: String,
    place: String,
    store: RefCell<Box<dyn Store>>,
    sound: Held,
    end: Held,
}

impl Past {
    /// The server that a specimen needs, if it needs one.
    pub fn server(self) -> Option<Which> {
        match self {
            Past::ToPostgres => Some(Which::Postgres),
            Past::ToRedis => Some(Which::Redis),
            _ => None,
        }
    }
}

impl AtServer {
    pub fn of(past: Past) -> Option<AtServer> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let which = past.server()?;
        let url = which.url().expect("tests/servers started it");
        let place = format!("d{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let store = RefCell::new(which.open(&url, &place));
        Some(AtServer { which, url, place, store, sound: Held::default(), end: Held::default() })
    }

    pub fn fill_in(&self, job: &str) -> String {
        self.which.fill_in(job, &self.url, &self.place)
    }

    fn read(&self) -> Held {
        self.store.borrow_mut().read().unwrap_or_else(|why| panic!("{why}"))
    }

    /// What is to be put back.
    pub fn keep(&mut self) {
        self.sound = self.read();
    }

    /// What is right in the end.
    pub fn keep_end(&mut self) {
        self.end = self.read();
        assert_ne!(self.end, self.sound, "a batch was left");
    }

    pub fn restore(&self) {
        self.store.borrow_mut().put(&self.sound).unwrap_or_else(|why| panic!("{why}"));
    }

    /// After a run: all is there, if it ended well; nothing is there twice.
    #[track_caller]
    pub fn look(&self, is_done: bool, story: &str) {
        let held = self.read();
        if is_done {
            return held.assert_same(&self.end, story);
        }
        let counts = |held: &Held| {
            let mut counts = BTreeMap::<String, u32>::new();
            self.which
                .sink(held, &self.place, "added")
                .1
                .into_iter()
                .for_each(|row| *counts.entry(row).or_default() += 1);
            counts
        };
        let (found, expected) = (counts(&held), counts(&self.end));
        let more = found.iter().find(|(row, count)| expected.get(*row).is_none_or(|expected| expected < *count));
        assert!(more.is_none(), "{story}: a row is there too often: {more:?}");
        for name in self.which.sinks() {
            let of = |held: &Held| self.which.sink(held, &self.place, name);
            let (found, sound, end) = (of(&held), of(&self.sound), of(&self.end));
            // rows of batches that the log lost may have been taken back before the run was refused
            let is_older = found.0 < sound.0;
            assert!(is_older || found == sound || found == end, "{story}: '{name}' is as no batch left it: {found:?}");
        }
    }
}
