//! Windows over batches: the last N of them, every M batches.

use std::num::NonZeroU64;

use super::ids::BatchId;

/// Which batches a result is made of, and which results there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchWindow {
    /// How many batches a window has; the first windows have those that there are.
    pub batches: NonZeroU64,
    /// A window ends with every batch of this number: with 3, those with ids 2, 5, 8, ...
    pub slide: NonZeroU64,
}

impl BatchWindow {
    /// Whether a window ends with this batch.
    pub fn ends_with(self, batch: BatchId) -> bool {
        let slide = self.slide.get();
        batch.0 % slide == slide - 1
    }

    /// The first batch of the window that ends with `last`.
    pub fn first_of(self, last: BatchId) -> BatchId {
        BatchId(last.0.saturating_sub(self.batches.get() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_with_every_so_many_batches() {
        let window = |batches, slide| BatchWindow {
            batches: NonZeroU64::new(batches).expect("not zero"),
            slide: NonZeroU64::new(slide).expect("not zero"),
        };
        let ends = |window: BatchWindow| (0..7).filter(|id| window.ends_with(BatchId(*id))).collect::<Vec<u64>>();
        assert_eq!(ends(window(3, 1)), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(ends(window(1, 3)), [2, 5]);
        let firsts = |batches| [0, 1, 2, 3, u64::MAX].map(|last| window(batches, 1).first_of(BatchId(last)).0);
        assert_eq!(firsts(1), [0, 1, 2, 3, u64::MAX]);
        assert_eq!(firsts(3), [0, 0, 0, 1, u64::MAX - 2]);
        assert_eq!(firsts(u64::MAX), [0, 0, 0, 0, 1]);
    }
}
