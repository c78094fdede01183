//! From stored entries to a verified chain of records.

use std::{collections::BTreeMap, io::ErrorKind};

use super::{
    codec::{self, ChainHash, Damage, Envelope, VERSION},
    disk,
    layout::Layout,
    part::Entries,
    record::{PayloadPlace, Record},
};
use crate::model::{Error, Place, Result};

/// The records from the first up to the first damage.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub envelopes: Vec<Envelope>,
    /// Their entries, one each.
    pub entries: Entries,
    /// The first record that is not sound, and why; nothing after it counts.
    pub damage: Option<(u64, Damage)>,
}

impl Chain {
    /// Verifies entries that were read from a store.
    ///
    /// # Errors
    /// Of kind `Refused` where a sound record was written by a newer program: that is no damage to repair.
    pub fn verify(entries: Entries) -> Result<Chain> {
        let mut chain = Chain::default();
        if entries.is_empty() {
            chain.damage = Some((0, Damage::Missing));
        }
        for (seq, entry) in entries {
            match chain.next(seq, &entry) {
                Ok(envelope) => {
                    chain.envelopes.push(envelope);
                    chain.entries.push((seq, entry));
                }
                Err(Damage::Version(version)) => return Err(other_format(version)),
                Err(damage) => {
                    chain.damage = Some((chain.next_seq().unwrap_or(seq), damage));
                    break;
                }
            }
        }
        Ok(chain)
    }

    /// Nothing could be read at all.
    pub fn broken(why: String) -> Chain {
        Chain { damage: Some((0, Damage::Body(why))), ..Chain::default() }
    }

    fn next(&self, seq: u64, entry: &[u8]) -> Result<Envelope, Damage> {
        let (envelope, _) = codec::decode(entry)?;
        if envelope.seq != seq {
            return Err(Damage::Misplaced { expected: seq, found: envelope.seq });
        }
        match self.envelopes.last() {
            Some(last) if seq != last.seq + 1 => Err(Damage::Missing),
            Some(last) if envelope.prev != last.hash => Err(Damage::Chain),
            Some(_) => Ok(envelope),
            None => match &envelope.record {
                Record::Genesis(_) if seq == 0 && envelope.prev == ChainHash::START => Ok(envelope),
                Record::Base(_) if seq > 0 => Ok(envelope),
                _ => Err(Damage::Missing),
            },
        }
    }

    /// Chain hashes by sequence number.
    pub fn hashes(&self) -> BTreeMap<u64, ChainHash> {
        self.envelopes.iter().map(|envelope| (envelope.seq, envelope.hash)).collect()
    }

    fn next_seq(&self) -> Option<u64> {
        self.envelopes.last().map(|last| last.seq + 1)
    }

    /// Cuts the chain before the first commit whose files are not there in full length: its delta could not be read.
    pub fn check_files(&mut self, layout: &Layout) -> Result<()> {
        for index in 0..self.envelopes.len() {
            let Record::Commit(commit) = &self.envelopes[index].record else { continue };
            for payload in commit.payloads.iter().filter(|payload| payload.place == PayloadPlace::File) {
                let name = payload.file_name();
                if disk::length_of(&layout.state().join(&name))? != Some(payload.length) {
                    self.damage = Some((self.envelopes[index].seq, Damage::File(name)));
                    self.envelopes.truncate(index);
                    self.entries.truncate(index);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The error for a checkpoint that another version of this program wrote.
pub(super) fn other_format(version: u16) -> Error {
    Error::refused(format!("checkpoint format {version}, this binary reads {VERSION}"))
        .help("use the version of highwater that wrote the checkpoint, or start a new one with --checkpoint DIR")
}

/// Fails unless the folder holds a log.
pub(super) fn need_log(layout: &Layout) -> Result<()> {
    match std::fs::metadata(layout.log()) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(no_log(layout)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(no_log(layout)),
        Err(error) => Err(Error::io("cannot open the checkpoint's log", layout.log(), &error)),
    }
}

/// The error for a folder that holds no log.
pub(super) fn no_log(layout: &Layout) -> Error {
    if !layout.dir().exists() {
        return Error::refused("there is no checkpoint")
            .at(Place::Path(layout.dir().to_owned()))
            .because("the folder does not exist")
            .help("name the folder of a checkpoint; `highwater run JOB` makes one, at checkpoints/NAME of NAME.sql unless --checkpoint says where");
    }
    Error::refused("this is not a checkpoint, or its log is gone")
        .at(Place::Path(layout.dir().to_owned()))
        .because("no part of the log is there, live or sealed")
        .help("name the right folder; if it is the right one, restore its log folder, or remove it to read all input again")
}
