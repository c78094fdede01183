//! The jobs whose disk is cut off, and what an operator does with them.

use std::fmt::Write as _;

use crate::{binary::Chance, fed, kills};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The job is run until this batch is the newest.
    Run {
        newest: u64,
    },
    Rewind {
        to: Option<u64>,
    },
}

/// What a job reads, and where its results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Files,
    /// Over event time: each file is followed by a batch without data.
    EventTime,
    /// What would be files comes through the standard input, each in one piece.
    Received,
    /// Results go to tables of SQLite.
    Database,
    /// Results go to tables of PostgreSQL, ...
    Postgres,
    /// ... or to keys of Redis.
    Redis,
}

pub struct Scenario {
    pub name: &'static str,
    settings: &'static str,
    /// Input files that hold more than fits into the log.
    large: &'static [usize],
    pub kind: Kind,
    pub steps: &'static [Step],
}

const SOURCE: &str = "
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
";

/// Files with results of their own, a file that is replaced, and a table in the checkpoint.
const TABLES: &str = "
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
CREATE TABLE ports WITH (connector = 'files', path = '${OUTPUT}', format = 'csv', output_mode = 'complete');
INSERT INTO counts SELECT device, count(*) AS count FROM flows WHERE port IN ('80', '443') GROUP BY device ORDER BY count DESC;
INSERT INTO traffic SELECT device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY device;
INSERT INTO ports SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
";

/// Tables of one database: rows are added, replaced by their key, replaced as a whole.
const DATABASE: &str = "
CREATE TABLE added WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'append');
CREATE TABLE changed WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'update');
CREATE TABLE whole WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'complete');
INSERT INTO added SELECT device, port, bytes FROM flows WHERE bytes > 20;
INSERT INTO changed SELECT device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY device;
INSERT INTO whole SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
";

/// Tables of a server.
const POSTGRES: &str = "
CREATE TABLE added WITH (SINK, output_mode = 'append');
CREATE TABLE changed WITH (SINK, output_mode = 'update');
CREATE TABLE whole WITH (SINK, output_mode = 'complete');
INSERT INTO added SELECT device, port, bytes FROM flows WHERE bytes > 20;
INSERT INTO changed SELECT device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY device;
INSERT INTO whole SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
";

/// Keys of a server. Most keys of `changed` are of one batch: what is missing is put right by no later one.
const REDIS: &str = "
CREATE TABLE changed WITH (SINK, key_prefix = 'PREFIX-changed', output_mode = 'update');
CREATE TABLE whole WITH (SINK, key_prefix = 'PREFIX-whole', output_mode = 'complete');
CREATE TABLE ranks WITH (SINK, key_prefix = 'PREFIX-ranks', layout = 'sorted_set', score = 'most', output_mode = 'complete');
INSERT INTO changed SELECT bytes, count(*) AS flows, max(device) AS device FROM flows GROUP BY bytes;
INSERT INTO whole SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
INSERT INTO ranks SELECT device, max(bytes) AS most FROM flows GROUP BY device ORDER BY most DESC LIMIT 3;
";

const TO_A_SERVER: [Step; 4] =
    [Step::Run { newest: 2 }, Step::Run { newest: 4 }, Step::Rewind { to: Some(1) }, Step::Run { newest: 5 }];

/// Those that need a server.
pub const SERVERS: [Scenario; 2] = [
    Scenario {
        name: "postgres",
        settings: "SET snapshot_batches = '3';",
        large: &[],
        kind: Kind::Postgres,
        steps: &TO_A_SERVER,
    },
    Scenario {
        name: "redis",
        settings: "SET snapshot_batches = '3';",
        large: &[],
        kind: Kind::Redis,
        steps: &TO_A_SERVER,
    },
];

/// Those that need none.
pub const ALL: [Scenario; 8] = [
    Scenario {
        name: "small-deltas",
        settings: "",
        large: &[],
        kind: Kind::Files,
        steps: &[Step::Run { newest: 2 }, Step::Run { newest: 4 }],
    },
    Scenario {
        name: "large-deltas",
        settings: "",
        large: &[1, 3],
        kind: Kind::Files,
        steps: &[Step::Run { newest: 1 }, Step::Run { newest: 3 }],
    },
    Scenario {
        name: "snapshots",
        settings: "SET snapshot_batches = '2';",
        large: &[],
        kind: Kind::Files,
        steps: &[Step::Run { newest: 2 }, Step::Run { newest: 5 }],
    },
    Scenario {
        name: "rewinds",
        settings: "SET snapshot_batches = '3';",
        large: &[],
        kind: Kind::Files,
        steps: &[
            Step::Run { newest: 3 },
            Step::Rewind { to: Some(1) },
            Step::Run { newest: 4 },
            Step::Rewind { to: None },
            Step::Run { newest: 4 },
        ],
    },
    Scenario {
        name: "retention",
        settings: "SET snapshot_batches = '2'; SET retain_batches = '2';",
        large: &[],
        kind: Kind::Files,
        steps: &[Step::Run { newest: 3 }, Step::Run { newest: 6 }],
    },
    Scenario {
        name: "event-time",
        settings: "SET snapshot_batches = '3';",
        large: &[],
        kind: Kind::EventTime,
        steps: &[Step::Run { newest: 4 }, Step::Run { newest: 7 }],
    },
    Scenario {
        name: "received",
        settings: "SET snapshot_batches = '3';",
        large: &[],
        kind: Kind::Received,
        steps: &[
            Step::Run { newest: 2 },
            Step::Run { newest: 4 },
            Step::Rewind { to: Some(1) },
            Step::Run { newest: 3 },
            Step::Run { newest: 6 },
        ],
    },
    Scenario {
        name: "database",
        settings: "SET snapshot_batches = '3';",
        large: &[],
        kind: Kind::Database,
        steps: &[
            Step::Run { newest: 2 },
            Step::Run { newest: 4 },
            Step::Rewind { to: Some(1) },
            Step::Run { newest: 5 },
        ],
    },
];

/// Where a job stands: tells every moment of a scenario between two facts of its log from every other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Each rewind begins the next one.
    pub generation: u32,
    pub newest: Option<u64>,
}

impl Scenario {
    pub fn named(name: &str) -> &'static Scenario {
        let found = ALL.iter().chain(&SERVERS).find(|scenario| scenario.name == name);
        found.unwrap_or_else(|| panic!("there is no scenario '{name}'"))
    }

    pub fn sql(&self) -> String {
        match self.kind {
            Kind::Received => fed::over_stdin(&self.sql_over_files()),
            _ => self.sql_over_files(),
        }
    }

    /// Whether the job has this variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.sql().contains(&format!("${{{variable}}}"))
    }

    /// The job over files, which plain DataFusion can read. Where there is a server its sinks' options are still to be filled in.
    pub fn sql_over_files(&self) -> String {
        // rows that were given out for good go with the parts of the log that hold them, and their results with them
        let operators = if self.settings.contains("retain_batches") { "" } else { operators!() };
        match self.kind {
            Kind::EventTime => format!("{}{}", self.settings, over_event_time!()),
            Kind::Database => format!("{}{SOURCE}{DATABASE}", self.settings),
            Kind::Postgres => format!("{}{SOURCE}{POSTGRES}", self.settings),
            Kind::Redis => format!("{}{SOURCE}{REDIS}", self.settings),
            Kind::Files | Kind::Received => format!("{}{SOURCE}{TABLES}{operators}", self.settings),
        }
    }

    /// How many input files there are.
    pub fn files(&self) -> usize {
        // every other batch takes none
        if self.kind == Kind::EventTime { self.batches() / 2 } else { self.batches() }
    }

    /// How many batches are the newest ones in the end, from the first.
    pub fn batches(&self) -> usize {
        let newest = |step: &Step| match step {
            Step::Run { newest } => *newest as usize + 1,
            Step::Rewind { .. } => 0,
        };
        self.steps.iter().map(newest).max().expect("there are steps")
    }

    /// The bytes of an input file: a function of its number.
    pub fn file(&self, number: usize) -> String {
        if self.kind == Kind::EventTime {
            return kills::events(number) + "{\"device\": \"cut\n";
        }
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut chance = Chance::new(number as u64);
        let is_large = self.large.contains(&number);
        let mut text = String::new();
        for row in 0..if is_large { 160 } else { 12 } {
            let mut device = format!("Comp{}", chance.below(7));
            if is_large {
                // chance, so that it cannot be compressed away
                device = (0..2600).map(|_| char::from(LETTERS[chance.below(LETTERS.len())])).collect();
            }
            let port = ["80", "443", "22"][chance.below(3)];
            writeln!(text, r#"{{"device": "{device}", "port": "{port}", "bytes": {}}}"#, row * 7 + number)
                .expect("text grows");
        }
        // one that cannot be read, for bad-records/
        text + "{\"device\": \"cut\n"
    }

    /// Every position in turn, from before the first batch.
    pub fn positions(&self) -> Vec<Position> {
        let mut positions = vec![Position { generation: 1, newest: None }];
        for number in 0..self.steps.len() {
            self.advance(number, &mut positions);
        }
        positions
    }

    /// Where in [`Scenario::positions`] a step ends.
    pub fn end_of(&self, step: usize) -> usize {
        let mut positions = vec![Position { generation: 1, newest: None }];
        (0..=step).for_each(|number| self.advance(number, &mut positions));
        positions.len() - 1
    }

    fn advance(&self, step: usize, positions: &mut Vec<Position>) {
        let at = *positions.last().expect("there is a first one");
        match self.steps[step] {
            Step::Run { newest } => {
                let first = at.newest.map_or(0, |newest| newest + 1);
                positions.extend((first..=newest).map(|newest| Position { newest: Some(newest), ..at }));
            }
            Step::Rewind { to } => positions.push(Position { generation: at.generation + 1, newest: to }),
        }
    }
}

#[test]
fn no_two_moments_of_a_scenario_look_alike() {
    for scenario in ALL.iter().chain(&SERVERS) {
        let positions = scenario.positions();
        for (number, position) in positions.iter().enumerate() {
            assert_eq!(positions.iter().position(|other| other == position), Some(number), "{}", scenario.name);
        }
        assert_eq!(scenario.end_of(scenario.steps.len() - 1), positions.len() - 1);
    }
    assert_eq!(Scenario::named("rewinds").end_of(1), 5);
}
