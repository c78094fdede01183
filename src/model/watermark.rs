//! Watermarks: up to which event time a stream is taken to be complete. Microseconds since the Unix epoch.

use serde::{Deserialize, Serialize};

/// How the watermarks of several sources make the one of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatermarkPolicy {
    /// The least of them: nothing is late as long as one source stays behind.
    Min,
    /// The greatest: the slower sources' rows may be late.
    Max,
}

impl WatermarkPolicy {
    /// The job's watermark, of the own one of each source with an event time; a source that has seen no event yet (`None`)
    /// holds the minimum back.
    pub fn of(self, sources: impl IntoIterator<Item = Option<i64>>) -> Option<i64> {
        let mut sources = sources.into_iter();
        match self {
            // `None` is less than any time
            WatermarkPolicy::Min => sources.min().flatten(),
            WatermarkPolicy::Max => sources.by_ref().max().flatten(),
        }
    }
}

/// What one batch takes for late, and for over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    /// The watermark of the batch before: a row is late whose time is not after it.
    pub late_us: Option<i64>,
    /// The batch's own: state that ends at it or before is over.
    pub over_us: Option<i64>,
}

impl Watermarks {
    /// As an operator sees them that must take so much of the past for still open, microseconds.
    pub fn behind(self, us: i64) -> Watermarks {
        let less = |watermark: Option<i64>| watermark.map(|watermark| watermark.saturating_sub(us));
        Watermarks { late_us: less(self.late_us), over_us: less(self.over_us) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_an_event_holds_the_minimum_back() {
        assert_eq!(WatermarkPolicy::Min.of([Some(-5), Some(3)]), Some(-5));
        assert_eq!(WatermarkPolicy::Min.of([Some(3), None]), None);
        assert_eq!(WatermarkPolicy::Max.of([Some(3), None, Some(7)]), Some(7));
        assert_eq!(WatermarkPolicy::Max.of([]), None);
        assert_eq!(WatermarkPolicy::Min.of([]), None);
    }
}
