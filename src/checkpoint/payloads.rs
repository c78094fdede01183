//! Where payload bytes go: behind the record in the log, or to a file of their own that the record names.

use super::{
    codec, disk,
    layout::Layout,
    record::{Payload, PayloadKind, PayloadPlace, PayloadRef, Snapshot, state_file_seq},
};
use crate::model::{Error, Place, Result};

/// Longer payloads get a file of their own.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// All inline payloads of one record together.
const INLINE_TOTAL_BYTES_MAX: usize = 4 << 20;

/// Payloads with their places fixed; files are written, nothing names them yet.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub refs: Vec<PayloadRef>,
    pub inline: Vec<u8>,
    /// Whether any file was written.
    pub files: bool,
}

impl Placed {
    /// Places one more payload of record `seq`; a state is always a file.
    pub fn add(&mut self, layout: &Layout, seq: u64, payload: &Payload) -> Result<()> {
        let length = payload.bytes.len();
        let fits = length <= INLINE_BYTES_MAX && self.inline.len() + length <= INLINE_TOTAL_BYTES_MAX;
        let inline = fits && matches!(payload.kind, PayloadKind::Delta | PayloadKind::Rows);
        let index = u32::try_from(self.refs.len()).map_err(|_| Error::failed("a record has too many payloads"))?;
        let place = if inline { PayloadPlace::Inline { offset: self.inline.len() as u64 } } else { PayloadPlace::File };
        let placed = PayloadRef {
            query: payload.query.clone(),
            kind: payload.kind,
            seq,
            index,
            place,
            length: length as u64,
            hash: *blake3::hash(&payload.bytes).as_bytes(),
        };
        if inline {
            self.inline.extend_from_slice(&payload.bytes);
        } else {
            disk::write_file(&layout.state().join(placed.file_name()), &payload.bytes)?;
            self.files = true;
        }
        self.refs.push(placed);
        Ok(())
    }

    /// Makes the names of the files durable.
    pub fn finish(&self, layout: &Layout) -> Result<()> {
        if self.files { disk::sync_folder(&layout.state()) } else { Ok(()) }
    }
}

/// Places all payloads of record `seq`, durably.
pub(super) fn place(layout: &Layout, seq: u64, payloads: &[Payload]) -> Result<Placed> {
    let mut placed = Placed::default();
    payloads.iter().try_for_each(|payload| placed.add(layout, seq, payload))?;
    placed.finish(layout)?;
    Ok(placed)
}

/// Reads a payload that is a file.
///
/// # Errors
/// Of kind `Refused` where the file is gone or is not what the log names.
pub(super) fn read_file(layout: &Layout, payload: &PayloadRef) -> Result<Vec<u8>> {
    let path = layout.state().join(payload.file_name());
    let why = match disk::read_if_there(&path)? {
        Some(bytes) if bytes.len() as u64 != payload.length => "its length is not what the log says",
        Some(bytes) if *blake3::hash(&bytes).as_bytes() != payload.hash => "its checksum is not what the log says",
        Some(bytes) => return Ok(bytes),
        None => "it is missing",
    };
    Err(Error::refused("a file that the checkpoint needs is damaged").at(Place::Path(path)).because(why).help(format!(
        "`highwater verify {0}` names the batch that suffers, `highwater rewind {0} --to BATCH` goes on before it; \
         or remove the checkpoint to read all input again",
        layout.dir().display()
    )))
}

/// Whether all of a snapshot can be read; where not, an older one and the deltas since do.
pub(super) fn snapshot_is_sound(layout: &Layout, snapshot: &Snapshot) -> bool {
    let damage = snapshot.payloads.iter().find_map(|payload| read_file(layout, payload).err());
    if let Some(damage) = &damage {
        tracing::warn!("the snapshot of batch {} is not used: {damage}", snapshot.batch);
    }
    damage.is_none()
}

/// Reads a payload from the entry that it came with.
///
/// # Errors
/// Of kind `Refused` where it is not what the log names.
pub(super) fn read_inline(payload: &PayloadRef, entry: &[u8]) -> Result<Vec<u8>> {
    let damaged = |why: String| Error::refused(format!("record {} of the log is damaged", payload.seq)).because(why);
    let (_, inline) = codec::decode(entry).map_err(|damage| damaged(damage.to_string()))?;
    let bytes =
        codec::inline_payload(payload, inline).ok_or_else(|| damaged("a payload is not what it names".to_owned()))?;
    Ok(bytes.to_vec())
}

/// Removes files that no record names, because a crash came first (or a repair gave their records up).
pub(super) fn remove_orphans(layout: &Layout, next_seq: u64) -> Result<()> {
    for path in disk::list(&layout.state())? {
        if state_file_seq(&disk::name_of(&path)).is_some_and(|seq| seq >= next_seq) {
            disk::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    fn payload(kind: PayloadKind, length: usize) -> Payload {
        Payload { query: "q".to_owned(), kind, bytes: (0..length).map(|i| i as u8).collect() }
    }

    #[test]
    fn long_payloads_and_states_are_files_and_all_read_back_verified() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        disk::make_folder(&layout.state()).unwrap();
        let payloads = [
            payload(PayloadKind::Delta, 10),
            payload(PayloadKind::Rows, INLINE_BYTES_MAX),
            payload(PayloadKind::Delta, INLINE_BYTES_MAX + 1),
            payload(PayloadKind::State, 3),
        ];
        let placed = place(&layout, 9, &payloads).unwrap();
        let files: Vec<bool> = placed.refs.iter().map(|placed| placed.place == PayloadPlace::File).collect();
        assert_eq!(files, [false, false, true, true]);
        for (placed_ref, payload) in placed.refs.iter().zip(&payloads) {
            let bytes = match placed_ref.place {
                PayloadPlace::File => read_file(&layout, placed_ref).unwrap(),
                PayloadPlace::Inline { .. } => codec::inline_payload(placed_ref, &placed.inline).unwrap().to_vec(),
            };
            assert_eq!(bytes, payload.bytes);
        }
        let path = layout.state().join(placed.refs[3].file_name());
        for damaged in [&b"\x00\x01\x03"[..], b"", b"\x00\x01\x02\x03"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(read_file(&layout, &placed.refs[3]).unwrap_err().kind(), ErrorKind::Refused);
        }
        remove_orphans(&layout, 10).unwrap();
        assert!(path.exists());
        remove_orphans(&layout, 9).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn many_inline_payloads_spill_to_files() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        disk::make_folder(&layout.state()).unwrap();
        let payloads = vec![payload(PayloadKind::Delta, INLINE_BYTES_MAX); 20];
        let placed = place(&layout, 1, &payloads).unwrap();
        assert_eq!(placed.inline.len(), INLINE_TOTAL_BYTES_MAX);
        assert_eq!(placed.refs.iter().filter(|placed| placed.place == PayloadPlace::File).count(), 4);
    }
}
