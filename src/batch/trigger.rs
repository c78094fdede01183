//! What starts the next micro-batch. Pure.

use std::time::Duration;

/// When batches are started, and when the job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// As soon as there is input; waits for new files until stopped.
    AsSoonAsPossible,
    /// All that is there at the start, within the limits; then the job ends.
    AvailableNow,
    /// One batch, without limits; then the job ends.
    Once,
    /// At the multiples of an interval; a late batch starts the next at once.
    Interval(Duration),
}

/// What to do when no input waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// The job is done.
    End,
    /// Wait for a change, at most this long.
    Wait(Duration),
    /// Look again at the next multiple of the interval.
    NextMultiple,
}

/// How long listing may lag behind a change that no hint told, unless listing takes long itself.
pub(super) const POLL: Duration = Duration::from_millis(500);

impl Trigger {
    pub fn when_idle(self) -> Idle {
        match self {
            Trigger::AvailableNow | Trigger::Once => Idle::End,
            Trigger::AsSoonAsPossible => Idle::Wait(POLL),
            Trigger::Interval(_) => Idle::NextMultiple,
        }
    }

    /// How long to wait at `now_us` before looking for input again, the last look having been at `looked_us` (both
    /// microseconds since the Unix epoch; `None`: there was none). Never longer than the interval, whatever becomes of
    /// the clock.
    pub fn wait_before(self, looked_us: Option<i64>, now_us: i64) -> Duration {
        let (Trigger::Interval(interval), Some(looked_us)) = (self, looked_us) else { return Duration::ZERO };
        let interval_us = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).max(1);
        let next_us = (looked_us.div_euclid(interval_us) + 1).saturating_mul(interval_us);
        Duration::from_micros(u64::try_from(next_us.saturating_sub(now_us)).unwrap_or(0)).min(interval)
    }

    pub fn ignores_limits(self) -> bool {
        self == Trigger::Once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_aligned_to_their_multiples_and_a_late_batch_waits_for_nothing() {
        let every = Trigger::Interval(Duration::from_secs(10));
        let s = 1_000_000;
        assert_eq!(every.wait_before(None, 3 * s), Duration::ZERO);
        assert_eq!(every.wait_before(Some(3 * s), 4 * s), Duration::from_secs(6));
        assert_eq!(every.wait_before(Some(10 * s), 10 * s), Duration::from_secs(10));
        assert_eq!(every.wait_before(Some(3 * s), 25 * s), Duration::ZERO);
        assert_eq!(every.wait_before(Some(-3 * s), -2 * s), Duration::from_secs(2));
        let set_back = every.wait_before(Some(3600 * s), 3 * s);
        assert_eq!(set_back, Duration::from_secs(10), "a clock that was set back");
        assert_eq!(Trigger::AsSoonAsPossible.wait_before(Some(3 * s), 3 * s), Duration::ZERO);
    }

    #[test]
    fn only_open_ended_triggers_wait_for_input() {
        assert_eq!(Trigger::AvailableNow.when_idle(), Idle::End);
        assert_eq!(Trigger::Once.when_idle(), Idle::End);
        assert!(matches!(Trigger::AsSoonAsPossible.when_idle(), Idle::Wait(_)));
        let interval = Trigger::Interval(Duration::from_secs(1));
        assert_eq!(interval.when_idle(), Idle::NextMultiple, "a file that comes in between waits for it");
    }
}
