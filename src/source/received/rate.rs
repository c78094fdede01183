//! Rows by the clock: each has a number, and the time at which it was due. Both follow from when the source began, so that
//! a row that a crash lost is made again as it was.

use std::{num::NonZeroU64, time::Duration};

use chrono::{DateTime, SecondsFormat};

use super::{Clock, log::ReceiveLog};

/// Rows that are made, and become durable, together.
const ROWS_MAX: u64 = 10_000;
/// The shortest and the longest wait for the next row.
const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_LONGEST: Duration = Duration::from_millis(200);

/// Makes rows until the log is closed.
pub(super) fn receive(log: &ReceiveLog, rows_per_second: NonZeroU64, now_us: Clock) {
    while log.wait_for_room() {
        let next = log.line();
        let due = due(now_us().saturating_sub(log.began_us()), rows_per_second);
        if due > next {
            let lines = rows(next..due.min(next + ROWS_MAX), log.began_us(), rows_per_second);
            // whoever runs the job is told by the log itself why it fails
            if log.append(lines.as_bytes(), b"").is_err() {
                return;
            }
        } else {
            let wait_us = time_of(next, log.began_us(), rows_per_second).saturating_sub(now_us());
            let wait = Duration::from_micros(u64::try_from(wait_us).unwrap_or(0));
            if log.wait_for_close(wait.clamp(PAUSE_LEAST, PAUSE_LONGEST)) {
                return;
            }
        }
    }
}

/// How many rows are due so many microseconds after the beginning.
fn due(since_us: i64, rows_per_second: NonZeroU64) -> u64 {
    let rows = i128::from(since_us) * i128::from(rows_per_second.get()) / 1_000_000;
    u64::try_from(rows).unwrap_or(0)
}

/// When a row is due, microseconds since the Unix epoch.
fn time_of(row: u64, began_us: i64, rows_per_second: NonZeroU64) -> i64 {
    let since_us = u128::from(row) * 1_000_000 / u128::from(rows_per_second.get());
    began_us.saturating_add(i64::try_from(since_us).unwrap_or(i64::MAX))
}

fn rows(numbers: std::ops::Range<u64>, began_us: i64, rows_per_second: NonZeroU64) -> String {
    numbers
        .map(|value| {
            let time = DateTime::from_timestamp_micros(time_of(value, began_us, rows_per_second)).unwrap_or_default();
            let timestamp = time.to_rfc3339_opts(SecondsFormat::Micros, true);
            format!("{{\"timestamp\": \"{timestamp}\", \"value\": {value}}}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_a_function_of_their_numbers() {
        let three = NonZeroU64::new(3).unwrap();
        assert_eq!((due(-5, three), due(0, three), due(999_999, three), due(1_000_000, three)), (0, 0, 2, 3));
        let all = rows(0..5, 1_000_000, three);
        assert_eq!(rows(0..2, 1_000_000, three) + &rows(2..5, 1_000_000, three), all);
        assert_eq!(all.lines().nth(4).unwrap(), r#"{"timestamp": "1970-01-01T00:00:02.333333Z", "value": 4}"#);
        for row in 0..1000 {
            assert!(due(time_of(row, 7, three) - 7, three) <= row);
        }
    }
}
