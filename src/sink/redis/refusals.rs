//! What may not be under the keys, and what the operator can do about it.

use super::{RedisSink, store::Held};
use crate::model::{BatchId, Error};

impl RedisSink {
    pub(super) fn owned_by(&self, held: &Held, we: &str) -> Error {
        let Held { checkpoint, sink, .. } = held;
        Error::refused(format!("keys '{}' belong to another checkpoint or sink", self.spec.key_prefix))
            .at(self.place())
            .because(format!("sink '{sink}' of checkpoint {checkpoint} writes here, {we}"))
            .help(format!(
                "give the sink another key_prefix; or, if they are no longer needed, DEL all keys of the prefix, and highwater:{0} and highwater:{0}:keys",
                self.spec.key_prefix
            ))
    }

    pub(super) fn among_strangers(&self, key: &str) -> Error {
        Error::refused(format!("'{}' would write among keys that are not its own", self.name))
            .at(self.place())
            .because(format!("the key '{key}' is there, and belongs to no checkpoint"))
            .help("give the sink another key_prefix; or, if they are no longer needed, DEL them")
    }

    /// Another sink's prefix, under which keys of this one could be, or the other way round.
    pub(super) fn overlaps(&self, neighbour: &str) -> Error {
        Error::refused(format!("keys '{}' overlap those of another sink", self.spec.key_prefix))
            .at(self.place())
            .because(format!("a sink writes to '{neighbour}': a key of one could be a key of the other"))
            .help(format!(
                "give the sink another key_prefix, which does not go on behind a colon; or, if they are no longer needed, DEL all keys of '{neighbour}', and highwater:{neighbour} and highwater:{neighbour}:keys"
            ))
    }

    pub(super) fn other_layout(&self, held: &Held) -> Error {
        Error::refused(format!("'{}' has published in another layout", self.name))
            .at(self.place())
            .because(format!("keys '{}' are in the layout {}", self.spec.key_prefix, held.layout))
            .help("set layout back, or give the sink another name and key_prefix")
    }

    pub(super) fn not_the_place_before(&self) -> Error {
        Error::refused(format!("'{}' has published to another place than this one", self.name))
            .at(self.place())
            .because(format!("the server has no keys '{}' that this checkpoint published", self.spec.key_prefix))
            .help(
                "set url and key_prefix back; to publish elsewhere from some batch on, `highwater fork` with --set; if the \
                 server forgot them, `highwater rewind --to start` and run again: all batches are written again",
            )
    }

    pub(super) fn disturbed(&self) -> Error {
        Error::failed(format!("keys '{}' cannot be changed", self.spec.key_prefix))
            .because("another writer changes them all the time")
            .help("end it, then run again: a committed batch is published then")
    }

    /// What the server has is not what came before this batch: it lost something in a crash.
    pub(super) fn behind(&self, batch: BatchId, held: Option<BatchId>) -> Error {
        // where the batches that would be written again are not kept any more
        const ELSE: &str = "if that is too far back, `highwater fork` with --set of another key_prefix, which gets what changes from then on";
        let (newest, to) = match held {
            Some(newest) if newest < batch => (format!("its newest batch is {newest}"), newest.to_string()),
            Some(newest) => {
                let before = batch.0.checked_sub(1).map_or("start".to_owned(), |before| before.to_string());
                (format!("its newest batch is {newest}, which is ahead"), before)
            }
            None => ("it has no batch any more".to_owned(), "start".to_owned()),
        };
        Error::refused(format!("the server of '{}' does not have what it was given before batch {batch}", self.name))
            .at(self.place())
            .because(format!("{newest}: Redis was stopped before it had written the rest to disk, or put back"))
            .help(format!(
                "`highwater rewind CHECKPOINT --to {to}`, then run again: what is missing is written again (appendfsync = always loses nothing); {ELSE}"
            ))
    }

    /// The server was put back to a time before a rewind.
    pub(super) fn other_timeline(&self, batch: BatchId) -> Error {
        Error::refused(format!("the server of '{}' has another batch {batch} than was committed", self.name))
            .at(self.place())
            .because("it was put back to a time before a rewind, or the checkpoint was")
            .help(
                "put checkpoint and server back as they were together; or `highwater rewind CHECKPOINT --to start`, and run again: \
                 all batches are written again",
            )
    }

    pub(super) fn other_rows(&self, batch: BatchId) -> Error {
        Error::refused(format!("'{}' would publish other rows than were committed", self.name))
            .at(self.place())
            .because(format!("batch {batch} gave other rows this time, or the server has another batch of this number"))
            .help("put checkpoint and server back as they were together, or rewind to the batch before")
    }
}
