//! Rows by the clock: each has a number, and the time at which it was due. Both follow from what the log says of when the
//! source began and at which rate, so that a row that a crash lost is made again as it was.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};

use super::{Clock, frame::Pace, log::ReceiveLog};

/// Rows that are made, and become durable, together.
const ROWS_MAX: u64 = 10_000;
/// The shortest and the longest wait for the next row.
const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_LONGEST: Duration = Duration::from_millis(200);

/// Makes rows until nothing more should be received.
pub(super) fn receive(log: &ReceiveLog, now_us: Clock) {
    let pace = log.pace();
    while log.wait_for_room() {
        let next = log.line();
        let due = pace.due(now_us());
        if due > next {
            let lines = pace.rows(next..due.min(next + ROWS_MAX));
            // whoever runs the job is told by the log itself why it fails
            if log.append(lines.as_bytes(), b"").is_err() {
                return;
            }
        } else {
            let wait_us = pace.time_of(next).saturating_sub(now_us());
            let wait = Duration::from_micros(u64::try_from(wait_us).unwrap_or(0));
            if log.wait_for_stop(wait.clamp(PAUSE_LEAST, PAUSE_LONGEST)) {
                return;
            }
        }
    }
}

impl Pace {
    /// The same rows at another rate from this one on, which is due when it would have been.
    pub(super) fn at_rate(self, rows_per_second: u64, row: u64) -> Pace {
        match self.rows_per_second == rows_per_second {
            true => self,
            false => Pace { since_us: self.time_of(row), line: row, rows_per_second },
        }
    }

    /// How many rows are due.
    fn due(self, now_us: i64) -> u64 {
        let since_us = now_us.saturating_sub(self.since_us);
        let rows = i128::from(since_us) * i128::from(self.rows_per_second) / 1_000_000;
        self.line.saturating_add(u64::try_from(rows).unwrap_or(0))
    }

    /// When a row is due, microseconds since the Unix epoch.
    fn time_of(self, row: u64) -> i64 {
        let rows = u128::from(row.saturating_sub(self.line));
        // whoever comes when they want is due at once
        let since_us = (rows * 1_000_000).checked_div(u128::from(self.rows_per_second)).unwrap_or(0);
        self.since_us.saturating_add(i64::try_from(since_us).unwrap_or(i64::MAX))
    }

    fn rows(self, numbers: std::ops::Range<u64>) -> String {
        numbers
            .map(|value| {
                let time = DateTime::from_timestamp_micros(self.time_of(value)).unwrap_or_default();
                let timestamp = time.to_rfc3339_opts(SecondsFormat::Micros, true);
                format!("{{\"timestamp\": \"{timestamp}\", \"value\": {value}}}\n")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(since_us: i64, rows_per_second: u64) -> Pace {
        Pace { since_us, line: 0, rows_per_second }
    }

    #[test]
    fn rows_are_a_function_of_their_numbers() {
        let three = pace(1_000_000, 3);
        let due = [-5, 0, 999_999, 1_000_000].map(|since_us| three.due(1_000_000 + since_us));
        assert_eq!(due, [0, 0, 2, 3]);
        let all = three.rows(0..5);
        assert_eq!(three.rows(0..2) + &three.rows(2..5), all);
        assert_eq!(all.lines().nth(4).unwrap(), r#"{"timestamp": "1970-01-01T00:00:02.333333Z", "value": 4}"#);
        for row in 0..1000 {
            assert!(pace(7, 3).due(pace(7, 3).time_of(row)) <= row);
        }
    }

    #[test]
    fn a_changed_rate_counts_from_the_next_row_on() {
        let slow = pace(1_000_000, 2);
        assert_eq!(slow.at_rate(2, 7), slow);
        let fast = slow.at_rate(4, 3);
        assert_eq!((fast.time_of(3), slow.time_of(3)), (2_500_000, 2_500_000));
        assert_eq!(fast.rows(4..5), "{\"timestamp\": \"1970-01-01T00:00:02.750000Z\", \"value\": 4}\n");
        assert_eq!((fast.due(2_499_999), fast.due(2_750_000), fast.due(3_500_000)), (3, 4, 7));
    }
}
