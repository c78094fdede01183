//! Where an axis ends: at a number that is easy to read, and so is its half, which the line in the middle stands for.

/// What an axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Whole things: none is labelled with a part of one.
    Count,
    /// Bytes, whose units are powers of 1024.
    Binary,
    /// Milliseconds, whose units are of 1000, 60 and 24.
    Time,
}

/// All but the last step of what 10 units have.
const COUNTS: [f64; 6] = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];

const BINARY: [f64; 18] =
    [1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0, 768.0];

const S: f64 = 1000.0;
const MIN: f64 = 60.0 * S;
const H: f64 = 60.0 * MIN;
const DAY: f64 = 24.0 * H;

/// From a millisecond to a day.
const TIMES: [f64; 30] = [
    1.0,
    2.0,
    4.0,
    6.0,
    10.0,
    20.0,
    40.0,
    60.0,
    100.0,
    200.0,
    400.0,
    600.0,
    S,
    2.0 * S,
    4.0 * S,
    6.0 * S,
    10.0 * S,
    20.0 * S,
    40.0 * S,
    MIN,
    2.0 * MIN,
    4.0 * MIN,
    10.0 * MIN,
    20.0 * MIN,
    40.0 * MIN,
    H,
    2.0 * H,
    6.0 * H,
    12.0 * H,
    DAY,
];

impl Axis {
    /// The end of an axis that holds all values up to `highest`.
    pub fn top(self, highest: f64) -> f64 {
        if highest <= 0.0 || !highest.is_finite() {
            return 1.0;
        }
        let above = |steps: &[f64], unit: f64| steps.iter().map(|step| step * unit).find(|top| *top >= highest);
        match self {
            Axis::Count => above(&COUNTS, 10_f64.powf(highest.log10().floor()).max(1.0)).unwrap_or(highest),
            Axis::Binary => {
                let unit = 1024_f64.powf((highest.log2() / 10.0).floor()).max(1.0);
                above(&BINARY, unit).unwrap_or(1024.0 * unit)
            }
            Axis::Time => above(&TIMES, 1.0).unwrap_or_else(|| Axis::Count.top(highest / DAY) * DAY),
        }
    }

    /// Shares of the whole that have a line and a label: the half of one thing is none.
    pub fn shares(top: f64) -> &'static [f64] {
        if top <= 1.0 { &[0.0, 1.0] } else { &[0.0, 0.5, 1.0] }
    }
}

/// A length of time in milliseconds, as short as an axis has room for.
pub fn time(ms: f64) -> String {
    let (size, unit) = match ms.abs() {
        ..S => (1.0, "ms"),
        S..120_000.0 => (S, "s"),
        120_000.0..7_200_000.0 => (MIN, "min"),
        7_200_000.0..172_800_000.0 => (H, "h"),
        _ => (DAY, "d"),
    };
    format!("{} {unit}", (ms / size * 10.0).round() / 10.0)
}

/// How far a watermark is behind the newest event. An event may be older than the watermark, which then is ahead.
pub fn gap(ms: f64) -> String {
    if ms < 0.0 { format!("{} ahead", time(-ms)) } else { time(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::html::bytes;

    #[test]
    fn counts_end_at_whole_numbers_with_whole_halves() {
        let ends = [0.0, 0.3, 1.0, 1.5, 3.0, 5.0, 7.0, 10.0, 11.0, 99.0, 84_745.8].map(|top| Axis::Count.top(top));
        assert_eq!(ends, [1.0, 1.0, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 100.0, 100_000.0]);
        for highest in (1..2000).map(f64::from) {
            let top = Axis::Count.top(highest);
            assert!(top >= highest);
            assert!(Axis::shares(top).iter().all(|share| (top * share).fract() == 0.0), "{highest} {top}");
        }
    }

    #[test]
    fn bytes_end_at_whole_numbers_of_their_unit() {
        for (highest, ends) in [
            (1.0, "1 B"),
            (900.0, "1.0 KiB"),
            (1025.0, "2.0 KiB"),
            (1_000_000.0, "1.0 MiB"),
            (1_048_577.0, "2.0 MiB"),
            (7e8, "768.0 MiB"),
            (1e10, "12.0 GiB"),
        ] {
            let top = Axis::Binary.top(highest);
            assert_eq!(bytes(top as u64), ends, "{highest}");
            assert!(top >= highest && bytes((top / 2.0) as u64).replace(".0 ", " ").matches('.').count() == 0);
        }
    }

    #[test]
    fn times_end_at_whole_numbers_of_a_unit_that_people_use() {
        let ends = [0.4, 7.0, 900.0, 11_000.0, 61_000.0, 3_000_000.0, 50_000_000.0, 3e8].map(|ms| {
            let top = Axis::Time.top(ms);
            format!("{} {}", time(top), time(top / 2.0))
        });
        let expected =
            ["1 ms 0.5 ms", "10 ms 5 ms", "1 s 500 ms", "20 s 10 s", "2 min 60 s", "60 min 30 min", "24 h 12 h"];
        assert_eq!(ends[..7], expected);
        assert_eq!(ends[7], "4 d 2 d");
    }

    #[test]
    fn a_watermark_before_the_events_is_ahead() {
        assert_eq!([0.0, 12_500.0, -12_500.0, -3.0].map(gap), ["0 ms", "12.5 s", "12.5 s ahead", "3 ms ahead"]);
    }
}
