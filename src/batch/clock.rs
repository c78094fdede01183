//! The one place that reads the clock. What it says enters a batch through its plan, or is reported; no result
//! depends on it otherwise.
#![allow(clippy::disallowed_methods)] // this is the seam that the ban protects

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        // a clock set before 1970
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    }
}

/// Microseconds since this was first asked, whatever happens to the calendar.
pub fn passed_us() -> i64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    i64::try_from(FIRST.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// Measures how long something takes, whatever happens to the calendar.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed().as_millis() as u64
    }

    /// Milliseconds since the start or the last lap, and begins a new lap.
    pub fn lap_ms(&mut self) -> u64 {
        let now = Instant::now();
        let lap = now.duration_since(self.0).as_millis() as u64;
        self.0 = now;
        lap
    }
}

/// The moment that comes so long after this one.
pub fn due_after(longest: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + longest
}

/// An id that no other run has: process id and start time, as hexadecimal digits.
pub fn unique_id() -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&now_us().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    // the address space layout is random, and so is the hash builder's key
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u64);
    hasher.update(&random.to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}
