//! Which files of `bad-records/` still belong to a batch. Others write them; the log decides how long they live.

use super::{disk, history::History, layout::Layout};
use crate::model::{BatchId, Generation, Result};

/// `000000000025-g1.jsonl`
pub(super) fn file_name(batch: BatchId, generation: Generation) -> String {
    format!("{:012}-g{}.jsonl", batch.0, generation.0)
}

fn parse(name: &str) -> Option<(BatchId, Generation)> {
    let (batch, generation) = name.strip_suffix(".jsonl")?.split_once("-g")?;
    Some((BatchId(batch.parse().ok()?), Generation(generation.parse().ok()?)))
}

/// Writes a batch's file, durably; its name is a function of the batch, so that writing it again changes nothing. A file
/// that an earlier attempt at the batch left goes, where there is nothing to write.
pub(super) fn keep(layout: &Layout, (batch, generation): (BatchId, Generation), lines: &[u8]) -> Result<()> {
    let path = layout.bad_records().join(file_name(batch, generation));
    if lines.is_empty() {
        if disk::length_of(&path)?.is_none() {
            return Ok(());
        }
        disk::remove(&path)?;
        return disk::sync_folder(&layout.bad_records());
    }
    disk::make_folder(&layout.bad_records())?;
    let temporary = path.with_extension("tmp");
    disk::write_file(&temporary, lines)?;
    disk::rename(&temporary, &path)
}

/// Removes the files of batches that were rewound or never committed, and of those before `horizon`.
pub(super) fn retire(layout: &Layout, history: &History, horizon: Option<BatchId>) -> Result<()> {
    for path in disk::list(&layout.bad_records())? {
        let Some((batch, generation)) = parse(&disk::name_of(&path)) else { continue };
        let beyond = Some(batch) > history.newest_batch();
        let retracted = history.branches.iter().any(|branch| branch.generation > generation && Some(batch) > branch.to);
        if beyond || retracted || Some(batch) < horizon {
            disk::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        assert_eq!(parse(&file_name(BatchId(25), Generation(3))), Some((BatchId(25), Generation(3))));
        for foreign in ["", "x.jsonl", "1-g.jsonl", "1-g1.json", "notes.txt"] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
    }
}
