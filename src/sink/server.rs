//! What a sink and its server have to do with one another: attempts, until one succeeds or too long was waited.

use std::time::Duration;

use super::table::{Tried, Trouble};
use crate::{
    job::{Address, Patience, ServerSpec},
    model::{Error, Place, Result},
};

/// The first wait before another attempt, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Less would be too little for a connection to a server that is there.
const LEAST: Duration = Duration::from_millis(500);

/// What a server, or the way to it, says.
pub(super) trait Failure {
    /// Whether it may be over soon: the server is down, starts, or chose another transaction.
    fn is_passing(&self) -> bool;

    /// How long the attempt took that ended so, where that was the limit that it was given. Other failures come at once, or
    /// behind work that was done.
    fn lasted(&self) -> Duration;

    /// In one line, as it was said: secrets may be in it.
    fn text(&self) -> String;

    /// As an error of the operator's; `text` is [`Failure::text`] without what is secret.
    fn told(&self, what: &str, text: String) -> Error;
}

/// Tries until it succeeds, or fails for good. An attempt begins on a connection of its own where the one before was lost, and
/// first of all asks whether what it is to do is done. It is told how long it may wait for a connection: from the first failure
/// on, attempts and the waits between them take no longer than the job says.
///
/// # Errors
/// As an attempt has it; of kind `Failed` where the server, or the way to it, fails for longer than is waited.
pub(super) fn patiently<T, F: Failure>(
    (server, address, patience): (&ServerSpec, &Address, Patience),
    what: &str,
    mut attempt: impl FnMut(Duration) -> Tried<T, F>,
) -> Result<T> {
    let (mut waits, shown, mut within) = (Waits::new(patience.retry), server.shown(), patience.connect);
    let mut is_first = true;
    loop {
        let failure = match attempt(within) {
            Ok(done) => return Ok(done),
            Err(Trouble::Ours(error)) => return Err(error.at_if_none(Place::Server(shown))),
            Err(Trouble::Database(failure)) => failure,
        };
        let text = address.redacted(&failure.text());
        if !is_first {
            waits.spend(failure.lasted());
        }
        is_first = false;
        let Some(wait) = waits.next().filter(|_| failure.is_passing()) else {
            return Err(failure.told(what, text).at(Place::Server(shown)));
        };
        tracing::warn!("{shown}: {text}; tried again in {} ms", wait.as_millis());
        std::thread::sleep(wait);
        // the last of all is made at the end of the wait, and need not be in vain
        within = patience.connect.min(waits.left.max(LEAST));
    }
}

/// Waits between attempts: each twice as long as the one before, as long as they and what was spent otherwise are not longer
/// than there was time.
struct Waits {
    left: Duration,
    next: Duration,
}

impl Waits {
    fn new(longest: Duration) -> Waits {
        Waits { left: longest, next: WAITS.0 }
    }

    /// So much of the time is gone.
    fn spend(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next.min(self.left);
        self.left -= wait;
        self.next = (self.next * 2).min(WAITS.1);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits = Waits::new;
        let all: Vec<u128> = waits(Duration::from_secs(30)).map(|wait| wait.as_millis()).collect();
        assert_eq!(all[..7], [100, 200, 400, 800, 1600, 3200, 5000]);
        assert_eq!(all.iter().sum::<u128>(), 30_000);
        assert_eq!(waits(Duration::ZERO).count(), 0);
        assert_eq!(waits(Duration::from_millis(250)).map(|wait| wait.as_millis()).collect::<Vec<_>>(), [100, 150]);
    }

    #[test]
    fn attempts_that_time_out_take_of_the_time_too() {
        let mut waits = Waits::new(Duration::from_secs(30));
        let mut attempts = 0;
        while waits.next().is_some() {
            waits.spend(Duration::from_secs(10));
            attempts += 1;
        }
        assert_eq!(attempts, 3, "not 10, of 10 seconds each");
    }
}
