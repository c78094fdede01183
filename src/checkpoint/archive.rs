//! The sealed parts of a log, and the whole history that they and the live part make.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::{
    chain::Chain,
    codec::{self, ChainHash, Envelope},
    history::History,
    layout::Layout,
    open,
    part::{self, Entries},
    payloads,
    record::{PayloadPlace, PayloadRef, SeenSegment},
};
use crate::model::{Error, Place, Result};

/// All records that still exist, and their payloads.
pub(super) struct Archive {
    layout: Layout,
    pub history: History,
    /// Number of the live part.
    part: u32,
    /// Entries of the live part.
    live: BTreeMap<u64, Vec<u8>>,
    /// The part that was read last: payloads are mostly read in order.
    recent: Mutex<Option<(part::Header, Entries)>>,
}

impl Archive {
    /// Folds the sealed parts before `live_part`, and then the live entries. Where a part is missing or damaged the
    /// history begins after it: each part's base says all that is needed.
    pub fn assemble(layout: &Layout, live_part: u32, live: Entries) -> Result<Archive> {
        let chain = if live.is_empty() { Chain::default() } else { Chain::verify(live)? };
        let mut parts: Vec<Vec<Envelope>> = Vec::new();
        let mut next = chain.envelopes.first().map(|first| (first.seq, first.prev));
        for sealed in layout.log_folder()?.sealed.iter().rev().filter(|sealed| sealed.part < live_part) {
            let envelopes = match part::load(&sealed.path)? {
                Ok((_, entries)) => Chain::verify(entries)?.envelopes,
                Err(damage) => {
                    tracing::warn!(path = %sealed.path.display(), "a sealed part is damaged, what is older cannot be read: {damage}");
                    break;
                }
            };
            if !joins(&envelopes, next) {
                tracing::warn!(path = %sealed.path.display(), "a sealed part does not join the next one, what is older cannot be read");
                break;
            }
            next = envelopes.first().map(|first| (first.seq, first.prev));
            parts.push(envelopes);
        }
        // each record is let go of once it is folded: a long log is in memory once
        let records = parts.into_iter().rev().flatten().chain(chain.envelopes);
        let mut load = |segment: &SeenSegment| open::load_seen(layout, segment);
        let history = History::fold(records, &mut load)?.ok_or_else(|| super::chain::no_log(layout))?;
        Ok(Archive {
            layout: layout.clone(),
            history,
            part: live_part,
            live: chain.entries.into_iter().collect(),
            recent: Mutex::new(None),
        })
    }

    /// Adds what follows the newest record, which comes first once more; `false`: this does not follow, and all is to be read
    /// anew.
    pub fn add(&mut self, part: u32, entries: Entries) -> bool {
        let mut entries = entries.into_iter();
        let again = entries.next().and_then(|(_, entry)| Some(codec::decode(&entry).ok()?.0.hash));
        if part != self.part || again != Some(self.history.head) {
            return false;
        }
        let mut no_lists = |_: &SeenSegment| Err(Error::failed("a part begins with its lists"));
        entries.all(|(seq, entry)| {
            let Ok((envelope, _)) = codec::decode(&entry) else { return false };
            let follows = self.history.apply(&envelope, &mut no_lists).is_ok();
            self.live.insert(seq, entry);
            follows
        })
    }

    /// The newest record's number.
    pub fn newest_seq(&self) -> Option<u64> {
        self.history.next_seq.checked_sub(1)
    }

    /// Reads a payload, verified.
    ///
    /// # Errors
    /// Of kind `Refused` where it is missing or damaged.
    pub fn read_payload(&self, payload: &PayloadRef) -> Result<Vec<u8>> {
        if payload.place == PayloadPlace::File {
            return payloads::read_file(&self.layout, payload);
        }
        if let Some(entry) = self.live.get(&payload.seq) {
            return payloads::read_inline(payload, entry);
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        read_from_parts(&self.layout, payload, &mut recent)
    }
}

/// Reads an inline payload from the sealed part that holds it.
pub(super) fn read_from_parts(
    layout: &Layout,
    payload: &PayloadRef,
    recent: &mut Option<(part::Header, Entries)>,
) -> Result<Vec<u8>> {
    let holds = |header: &part::Header| {
        header.first_seq <= payload.seq && payload.seq - header.first_seq < u64::from(header.count)
    };
    if !recent.as_ref().is_some_and(|(header, _)| holds(header)) {
        *recent = None;
        for sealed in layout.log_folder()?.sealed.iter().rev() {
            if part::load_header(&sealed.path)?.is_ok_and(|header| holds(&header)) {
                let loaded = part::load(&sealed.path)?.map_err(|damage| {
                    Error::refused("a sealed part of the log is damaged")
                        .at(Place::Path(sealed.path.clone()))
                        .because(damage.to_string())
                })?;
                *recent = Some(loaded);
                break;
            }
        }
    }
    let entry = recent.as_ref().and_then(|(header, entries)| {
        let index = usize::try_from(payload.seq.checked_sub(header.first_seq)?).ok()?;
        entries.get(index).map(|(_, entry)| entry)
    });
    match entry {
        Some(entry) => payloads::read_inline(payload, entry),
        None => {
            Err(Error::refused(format!("record {} of the log no longer exists", payload.seq))
                .at(Place::Path(layout.log())))
        }
    }
}

/// Whether records end right before `next`, which nothing is known of at the end of the log.
pub(super) fn joins(envelopes: &[Envelope], next: Option<(u64, ChainHash)>) -> bool {
    envelopes.last().is_some_and(|last| next.is_none_or(|next| next == (last.seq + 1, last.hash)))
}
