//! Any bytes as what a checkpoint is made of. Checksums are put right first: behind a wrong one nothing is reached.

use super::{
    chain::Chain,
    codec::{self, ChainHash, Envelope},
    history::History,
    part::{self, Entries},
    record::SeenFile,
    wire,
    witness::Mark,
};
use crate::model::Result;

/// The header of an entry up to the length of its body; then that length and the length of what is inline.
const HEADER_BYTES: usize = 68;
const HASH_BYTES: usize = 32;

/// An entry made of any fields and any body: read, and written again, it is the same fact.
pub(crate) fn record(bytes: &[u8]) {
    refused_or_same(bytes);
    let Some((choices, rest)) = bytes.split_first_chunk::<4>() else { return };
    let inline = usize::from(choices[3]).min(rest.len());
    let (inline, body) = rest.split_at(inline);
    refused_or_same(&entry(
        u16::from(choices[0]),
        u64::from(choices[1]),
        choices[2].into(),
        ChainHash::START,
        (body, inline),
    ));
}

fn refused_or_same(entry: &[u8]) {
    let Ok((envelope, inline)) = codec::decode(entry) else { return };
    let Envelope { seq, prev, record, .. } = &envelope;
    let (again, hash) = codec::encode(*seq, *prev, record, inline).expect("what was read can be written");
    // Numbers can be written longer than need be, and our encoder does not: the fact is the same, its hash is not.
    let (second, second_inline) = codec::decode(&again).expect("what was written can be read");
    assert_eq!((second.hash, &second.record, second_inline), (hash, record, inline));
    assert_eq!(codec::encode(*seq, *prev, &second.record, inline).expect("it was before"), (again, hash));
}

/// An entry with a checksum that is right. A batch of 255 stands for none; payloads of this record are not patched, so
/// that they are mostly wrong.
fn entry(kind: u16, seq: u64, batch: u64, prev: ChainHash, (body, inline): (&[u8], &[u8])) -> Vec<u8> {
    let mut entry = Vec::with_capacity(HEADER_BYTES + body.len() + HASH_BYTES + inline.len());
    entry.extend(b"HWRC");
    entry.extend(codec::VERSION.to_be_bytes());
    entry.extend(kind.to_be_bytes());
    entry.extend(seq.to_be_bytes());
    entry.extend(if batch == 255 { u64::MAX } else { batch }.to_be_bytes());
    entry.extend(prev.0);
    entry.extend((body.len() as u32).to_be_bytes());
    entry.extend((inline.len() as u64).to_be_bytes());
    entry.extend(body);
    let hash = *blake3::hash(&entry).as_bytes();
    entry.extend(hash);
    entry.extend(inline);
    entry
}

/// A log of any records, each behind its kind, batch and length: sealed, sent to a reader, verified and folded. The
/// first byte is the number of the first record.
pub(crate) fn log(bytes: &[u8]) {
    containers(bytes);
    let Some((first, mut rest)) = bytes.split_first() else { return };
    let (mut entries, mut prev) = (Entries::new(), ChainHash::START);
    while let Some(([kind, batch, high, low], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (body, after) = after.split_at(length);
        let seq = u64::from(*first) + entries.len() as u64;
        let entry = entry((*kind).into(), seq, (*batch).into(), prev, (body, b""));
        prev = ChainHash(*blake3::hash(&entry[..HEADER_BYTES + body.len()]).as_bytes());
        entries.push((seq, entry));
        rest = after;
    }
    if !entries.is_empty() {
        let sealed = part::encode(1, &entries).expect("entries can be sealed");
        assert_eq!(part::decode(&sealed).expect("what was sealed can be read").1, entries);
    }
    let mut sent = Vec::new();
    wire::send(&mut sent, 7, &entries).expect("memory takes what is sent");
    assert_eq!(wire::receive(&mut &sent[..]).expect("what was sent arrives"), (7, entries.clone()));
    let Ok(chain) = Chain::verify(entries) else { return };
    fold(&chain.envelopes);
}

/// A history that takes a record in has checked it; what it then stands for can be written and read.
fn fold(envelopes: &[Envelope]) {
    let mut nothing = |_: &_| Result::<Vec<SeenFile>>::Ok(Vec::new());
    let Ok(Some(history)) = History::fold(envelopes, &mut nothing) else { return };
    assert_eq!(history.standing(), history.clone().standing());
    if let Some(newest) = history.newest() {
        assert!(history.next_batch() > newest.batch(), "batches go on");
    }
}

/// Sealed parts, what the socket carries and witnesses, from any bytes with the checksum put right.
fn containers(bytes: &[u8]) {
    let mut part_bytes = bytes.to_vec();
    if part_bytes.len() >= 52 {
        let checksum = *blake3::hash(&part_bytes[..36]).as_bytes();
        part_bytes[36..52].copy_from_slice(&checksum[..16]);
    }
    part_bytes.extend(*blake3::hash(&part_bytes).as_bytes());
    for (header, entries) in [part::decode(bytes), part::decode(&part_bytes)].into_iter().flatten() {
        assert_eq!(entries.len(), header.count as usize);
    }
    let hash = *blake3::hash(bytes).as_bytes();
    let arrived = [wire::receive(&mut &bytes[..]), wire::receive(&mut [bytes, &hash].concat().as_slice())];
    for (part, entries) in arrived.into_iter().flatten() {
        let mut sent = Vec::new();
        wire::send(&mut sent, part, &entries).expect("memory takes what is sent");
        assert_eq!(&sent[..sent.len() - HASH_BYTES], &bytes[..sent.len() - HASH_BYTES], "it is what was sent");
    }
    for witness in [bytes, &[bytes, &hash].concat()] {
        if let Some(mark) = Mark::from_bytes(witness) {
            assert_eq!(mark.to_bytes(), witness);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::{
            Checkpoint,
            layout::Layout,
            tests::{draft, genesis, next_plan, options, snapshot},
        },
        fuzzing::keep_seed,
        model::{BatchId, Faults, Generation},
    };

    /// The entries of the newest part, as the target takes them.
    fn as_input(dir: &std::path::Path) -> Vec<u8> {
        let (_, entries) = wire::ask(&Layout::new(dir)).unwrap().expect("the owner answers");
        let mut bytes = vec![entries[0].0 as u8];
        for (_, entry) in entries {
            let length = u32::from_be_bytes(entry[56..60].try_into().unwrap()) as usize;
            let body = &entry[HEADER_BYTES..HEADER_BYTES + length];
            keep_seed("record", &format!("kind{}-{length}", entry[7]), &[&[entry[7], 0, entry[23], 0], body].concat());
            bytes.extend([entry[7], entry[23]]);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            bytes.extend(body);
        }
        bytes
    }

    #[test]
    #[ignore = "writes the first inputs of the corpus"]
    fn seeds_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("c");
        let mut checkpoint = Checkpoint::create(&dir, genesis(), options(Faults::none())).unwrap();
        let next = |checkpoint: &mut Checkpoint| {
            let mut draft = draft(next_plan(checkpoint), 0, 16);
            draft.payloads.clear();
            checkpoint.intend(&draft.plan).unwrap();
            checkpoint.commit(draft).unwrap();
        };
        next(&mut checkpoint);
        keep_seed("log", "short", &as_input(&dir));
        (0..3).for_each(|_| next(&mut checkpoint));
        checkpoint.mark_published().unwrap();
        let plan = next_plan(&checkpoint);
        checkpoint.intend(&plan).unwrap();
        checkpoint.withdraw().unwrap();
        checkpoint.rewind(Some(BatchId(1)), false, 9).unwrap();
        next(&mut checkpoint);
        keep_seed("log", "rewound", &as_input(&dir));
        snapshot(&mut checkpoint).unwrap();
        next(&mut checkpoint);
        keep_seed("log", "snapshot", &as_input(&dir));
        for entries in [vec![(3, b"abc".to_vec())], Vec::new()] {
            let mut sent = Vec::new();
            wire::send(&mut sent, 1, &entries).unwrap();
            keep_seed("log", &format!("sent-{}", sent.len()), &sent[..sent.len() - HASH_BYTES]);
        }
        let mark = Mark { seq: 3, batch: Some(BatchId(2)), generation: Generation(2), hash: ChainHash([7; 32]) };
        keep_seed("log", "witness", &mark.to_bytes()[..56]);
        checkpoint.close().unwrap();
    }
}
