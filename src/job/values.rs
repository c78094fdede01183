//! Values of options as people write them: sizes, durations, switches.

use std::{num::NonZeroU64, time::Duration};

/// A size in bytes: `4096`, `16MB`, `1 GiB`. As in Spark, K, M and G count in steps of 1024, with `B` or `iB`
/// behind them or not.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A duration: `10s`, `10 seconds`, `7 days`, `1 hour 30 minutes`. A number without a unit is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let number: u64 = number.parse().ok()?;
        let millis: u64 = match unit.to_ascii_lowercase().as_str() {
            "ms" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = next.trim_start();
    }
    Some(total)
}

/// `true` or `false`.
pub(super) fn parse_switch(text: &str) -> Option<bool> {
    text.trim().to_ascii_lowercase().parse().ok()
}

/// A positive whole number.
pub(super) fn parse_positive(text: &str) -> Option<NonZeroU64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_in_steps_of_1024() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("16MB", 16 << 20), ("1 GiB", 1 << 30), ("2k", 2048), (" 7 b ", 7)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MB", "-1", "1.5MB", "1 XB", "16 M B", "99999999999999999999", "18446744073709551615k", "1é"]
        {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, seconds) in [
            ("10s", 10),
            ("10 seconds", 10),
            ("7 days", 604_800),
            ("1 hour 30 minutes", 5400),
            ("1h30m", 5400),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "10", "s", "-1s", "1.5s", "10 parsecs", "1h30", "99999999999999999999s", "18446744073709551615w", "1é"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
