//! Whose the keys are, and whether what this checkpoint published is under them.

use redis::Connection;

use super::{ATTEMPTS_MAX, Before, RedisSink, connection::Tried, hex, store::Held};
use crate::model::{OutputMode, Result};

impl RedisSink {
    /// Takes the keys, if nobody has, and nobody's are among them.
    pub(super) fn claim(&self, connection: &mut Connection, checkpoint: &str, before: &Before) -> Tried<()> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(neighbour) = self.store.neighbour(connection)? {
                return Err(self.overlaps(&neighbour).into());
            }
            match self.store.watch(connection)? {
                Some(held) if held.checkpoint != checkpoint || held.sink != self.name => {
                    return Err(self.owned_by(&held, &format!("this one is '{}' of {checkpoint}", self.name)).into());
                }
                Some(held) if held.layout != self.store.layout_name() => return Err(self.other_layout(&held).into()),
                Some(held) => {
                    self.check_has(&held, before)?;
                    if self.store.is_listed(connection)? {
                        return self.store.unwatch(connection);
                    }
                }
                // of complete mode a rewind writes the whole result again
                None if before.resumes || before.newest.is_some() && !self.is_whole() => {
                    return Err(self.not_the_place_before().into());
                }
                None => {
                    if let Some(stranger) = self.store.stranger(connection)? {
                        return Err(self.among_strangers(&stranger).into());
                    }
                }
            }
            if self.store.claim(connection, checkpoint, &self.name)? {
                return Ok(());
            }
        }
        Err(self.disturbed().into())
    }

    /// Checks that nobody has taken the keys, nor is among them.
    pub(super) fn check_unclaimed(&self, connection: &mut Connection) -> Tried<()> {
        if let Some(neighbour) = self.store.neighbour(connection)? {
            return Err(self.overlaps(&neighbour).into());
        }
        if let Some(held) = self.store.held(connection)? {
            return Err(self.owned_by(&held, "this one is still to be made").into());
        }
        match self.store.stranger(connection)? {
            Some(stranger) => Err(self.among_strangers(&stranger).into()),
            None => Ok(()),
        }
    }

    /// Checks that the server has not lost what was published to it, nor has another timeline's: of a run before anything
    /// else is done, of a rewind before it is written down.
    fn check_has(&self, held: &Held, before: &Before) -> Result<()> {
        // of complete mode a rewind writes the whole result again
        let is_mended = self.is_whole() && !before.resumes;
        if is_mended {
            return Ok(());
        }
        if let (Some(newest), true) = (before.newest, held.batch < before.newest) {
            return Err(self.behind(newest.next(), held.batch));
        }
        let Some((batch, there)) = held.batch.zip(held.hash.as_ref()) else { return Ok(()) };
        match before.hash_of(batch) {
            Some(hash) if hex(hash) != *there => Err(self.other_timeline(batch)),
            _ => Ok(()),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.mode == OutputMode::Complete
    }
}
