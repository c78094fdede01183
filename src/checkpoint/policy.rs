//! When to keep the state whole, and what to drop: pure decisions.

use super::{lineage::SinceSnapshot, record::Branch};
use crate::{
    job::Settings,
    model::{BatchId, Generation},
};

/// A snapshot is not worth its files below this many bytes of deltas: a small one takes some 45 ms to
/// write (four queries, two cores), and merging so few deltas again is cheap.
const DELTA_BYTES_MIN: u64 = 2 << 20;

/// How much the live log may hold before it is sealed, unless the state is larger still.
const INLINE_BYTES_MAX: u64 = 16 << 20;

/// The geometric rule: a snapshot is due when what came since the last one outweighs it, so that both the bytes
/// written and the time to recover stay within a constant factor of what the batches themselves cost.
pub(super) fn snapshot_due(since: SinceSnapshot, settings: &Settings) -> bool {
    since.batches > 0
        && (since.delta_bytes > since.snapshot_bytes.max(DELTA_BYTES_MIN)
            || since.inline_bytes > since.snapshot_bytes.max(INLINE_BYTES_MAX)
            || since.batches >= settings.snapshot_batches.get())
}

/// What a part of the log begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartStart {
    pub part: u32,
    /// The commit whose state its base names; `None`: the part has the very first record, or nothing was committed.
    pub base: Option<(BatchId, Generation)>,
}

/// The oldest part to keep, such that each of the `retain` newest batches can still be restored: its base must lie on the
/// live timeline, at or before the oldest of them. `parts` ascend, the live one last; `None`: keep all.
pub(super) fn oldest_part_to_keep(
    parts: &[PartStart],
    branches: &[Branch],
    newest: Option<BatchId>,
    retain: Option<std::num::NonZeroU64>,
) -> Option<u32> {
    let oldest_needed = (newest?.0 + 1).checked_sub(retain?.get()).map(BatchId)?;
    let on_live_timeline = |batch: BatchId, generation: Generation| {
        branches.iter().filter(|branch| branch.generation > generation).all(|branch| branch.to >= Some(batch))
    };
    let serves = |part: &&PartStart| {
        part.base.is_some_and(|(batch, generation)| batch <= oldest_needed && on_live_timeline(batch, generation))
    };
    parts.iter().rev().find(serves).map(|part| part.part)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn a_snapshot_is_due_when_the_deltas_outweigh_it() {
        let settings = Settings { snapshot_batches: NonZeroU64::new(10).unwrap(), ..Settings::default() };
        let mib = |delta: u64, snapshot: u64| SinceSnapshot {
            batches: 1,
            delta_bytes: delta << 20,
            inline_bytes: 0,
            snapshot_bytes: snapshot << 20,
        };
        assert!(!snapshot_due(mib(2, 0), &settings));
        assert!(snapshot_due(mib(3, 0), &settings));
        assert!(!snapshot_due(mib(9, 9), &settings));
        assert!(snapshot_due(mib(10, 9), &settings));
        assert!(!snapshot_due(SinceSnapshot { batches: 9, ..Default::default() }, &settings));
        assert!(snapshot_due(SinceSnapshot { batches: 10, ..Default::default() }, &settings));
        let rows = SinceSnapshot { batches: 2, inline_bytes: INLINE_BYTES_MAX + 1, ..Default::default() };
        assert!(snapshot_due(rows, &settings));
        assert!(!snapshot_due(SinceSnapshot { batches: 0, ..mib(99, 0) }, &settings));
    }

    #[test]
    fn what_the_newest_batches_need_is_kept() {
        let base = |part, batch| PartStart { part, base: Some((BatchId(batch), Generation(1))) };
        let parts = [PartStart { part: 1, base: None }, base(2, 9), base(3, 19), base(4, 29)];
        let keep = |newest, retain| oldest_part_to_keep(&parts, &[], Some(BatchId(newest)), NonZeroU64::new(retain));
        assert_eq!(keep(29, 1), Some(4));
        assert_eq!(keep(29, 2), Some(3));
        assert_eq!(keep(29, 11), Some(3), "batch 19 is the oldest of the eleven newest");
        assert_eq!(keep(29, 12), Some(2));
        assert_eq!(keep(29, 21), Some(2));
        assert_eq!(keep(29, 22), None, "batch 8 needs the first part");
        assert_eq!(keep(29, 1000), None);
        assert_eq!(oldest_part_to_keep(&parts, &[], Some(BatchId(29)), None), None);
        assert_eq!(oldest_part_to_keep(&parts, &[], None, NonZeroU64::new(1)), None);
    }

    #[test]
    fn a_base_that_was_rewound_past_serves_nobody() {
        let parts = [
            PartStart { part: 1, base: None },
            PartStart { part: 2, base: Some((BatchId(9), Generation(1))) },
            PartStart { part: 3, base: Some((BatchId(19), Generation(1))) },
            PartStart { part: 4, base: Some((BatchId(39), Generation(2))) },
        ];
        let branches = [Branch { generation: Generation(2), to: Some(BatchId(12)) }];
        let keep = |retain| oldest_part_to_keep(&parts, &branches, Some(BatchId(39)), NonZeroU64::new(retain));
        assert_eq!(keep(1), Some(4));
        assert_eq!(keep(10), Some(2), "batches 30 to 39 of generation 2 were built on part 2's base");
    }
}
