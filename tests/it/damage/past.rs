//! Where the checkpoints come from that are damaged.

use super::{beside, server};
use crate::kills;

/// What the job had been through when its checkpoint was put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// All batches, and a clean stop.
    Stopped,
    /// Killed with a batch staged, and again while its checkpoint was opened: an intent without a commit, two copies
    /// of the live part.
    Killed,
    /// Rewound, and stopped in the middle of the replay: batches of two generations, plans that wait.
    Rewound,
    /// A fork of another checkpoint, which is gone.
    Forked,
    /// As `Stopped`, of a job over event time: every other batch is one without data.
    OverEventTime,
    /// Killed with two pieces of its standard input received, durable and taken by no batch, the second one in the segment that
    /// is still open.
    Received,
    /// The same of pieces that were posted.
    Posted,
    /// Stopped before the last batch; results go to tables of a database, which is damaged, too.
    Database,
    /// Stopped before the last batch; results go to tables of PostgreSQL, which nobody damages, ...
    ToPostgres,
    /// ... or to keys of Redis.
    ToRedis,
}

impl Past {
    /// Those that need no server.
    pub const ALL: [Past; 8] = [
        Past::Stopped,
        Past::Killed,
        Past::Rewound,
        Past::Forked,
        Past::OverEventTime,
        Past::Received,
        Past::Database,
        Past::Posted,
    ];

    /// Whether something beside the log is damaged, too.
    pub fn has_beside(self) -> bool {
        matches!(self, Past::Received | Past::Posted | Past::Database)
    }

    /// The job; `port`: where rows are posted to it.
    pub fn job(self, port: u16) -> String {
        // the last two batches are in the live log alone
        let usual = || kills::JOB.replace("snapshot_batches = '3'", "snapshot_batches = '5'");
        match self {
            Past::OverEventTime => kills::EVENT_JOB.to_owned(),
            Past::Received => crate::fed::over_stdin(&usual()),
            Past::Posted => crate::fed::over_http(&usual(), port),
            Past::Database => beside::TO_TABLES.to_owned(),
            Past::ToPostgres => server::to_postgres(),
            Past::ToRedis => server::TO_REDIS.to_owned(),
            Past::Stopped | Past::Killed | Past::Rewound | Past::Forked => usual(),
        }
    }
}
