//! A new checkpoint that begins with a batch of another.

use std::path::Path;

use super::{
    history::History,
    layout::Layout,
    open::load_seen,
    payloads::Placed,
    reader::Reader,
    received,
    record::{
        Base, Commit, ForkOrigin, Genesis, Payload, PayloadKind, Record, SeenFile, SeenSegment, Snapshot, Standing,
    },
    seal::{self, Ready},
    writer::{Checkpoint, OpenOptions},
};
use crate::model::{BatchAddress, Error, Generation, Result};

impl Checkpoint {
    /// Makes a checkpoint in `dir` whose past is `origin` up to batch `at`: the same position, watermark and state, in a first
    /// generation of its own. `payloads` are that state, and rows that the batch's memory sinks keep.
    ///
    /// # Errors
    /// As [`Checkpoint::create`]; where the batch does not exist.
    pub fn fork(
        origin: &Reader,
        at: BatchAddress,
        dir: &Path,
        mut genesis: Genesis,
        payloads: Vec<Payload>,
        options: OpenOptions,
    ) -> Result<Checkpoint> {
        // What cannot be restored has no complete past either.
        origin.restore_steps(at)?;
        let commit = origin.find(at)?;
        genesis.forked_from = Some(ForkOrigin {
            checkpoint_id: origin.genesis().checkpoint_id.clone(),
            batch: commit.batch(),
            generation: commit.generation,
        });
        let seen = origin.history().seen_before(commit);
        let offsets = origin.history().offsets_at(commit);
        let commit = (**commit).clone();
        let origin = origin.layout().clone();
        Checkpoint::create_with(dir, options, move |layout, history| {
            let first = Ready::next(history, Record::Genesis(genesis.clone()), &[])?;
            let begun = History::fold([&first.envelope], &mut |segment| load_seen(layout, segment))?;
            let begun = begun.ok_or_else(|| Error::failed("a fork cannot begin with nothing"))?;
            let base = first_base(layout, &begun, genesis, (commit, offsets, seen), &payloads)?;
            received::take_along(&origin, layout)?;
            Ok(vec![first, base])
        })
    }
}

type Position = (Commit, std::collections::BTreeMap<String, u64>, Vec<SeenFile>);

/// The second record of a fork: what its own history cannot tell.
fn first_base(
    layout: &Layout,
    history: &History,
    genesis: Genesis,
    (commit, offsets, seen): Position,
    payloads: &[Payload],
) -> Result<Ready> {
    let seq = history.next_seq;
    let mut placed = Placed::default();
    payloads.iter().try_for_each(|payload| placed.add(layout, seq, payload))?;
    let files = seen.len();
    if files > 0 {
        placed.add(layout, seq, &seal::seen_payload(&seen)?)?;
    }
    placed.finish(layout)?;
    let of_kind = |wanted: fn(PayloadKind) -> bool| {
        placed.refs.iter().filter(|placed| wanted(placed.kind)).cloned().collect::<Vec<_>>()
    };
    let newest =
        Commit { generation: Generation::FIRST, payloads: of_kind(|kind| kind == PayloadKind::Rows), ..commit };
    let snapshot = Snapshot {
        batch: newest.batch(),
        generation: Generation::FIRST,
        payloads: of_kind(|kind| kind == PayloadKind::State),
    };
    let lists = of_kind(|kind| kind == PayloadKind::Seen).into_iter();
    let standing = Standing {
        generation: Generation::FIRST,
        newest: Some(newest),
        snapshot: Some(snapshot),
        intent: None,
        pending: Vec::new(),
        offsets,
        branches: Vec::new(),
        accepted: Vec::new(),
        settled: true,
        retracting: false,
    };
    let base =
        Base { genesis, standing, seen: lists.map(|payload| SeenSegment { payload, keep: files as u64 }).collect() };
    Ready::next(history, Record::Base(Box::new(base)), &placed.inline)
}
