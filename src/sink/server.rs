//! What a sink and its server have to do with one another: attempts, until one succeeds or too long was waited.

use std::{iter, time::Duration};

use super::table::{Tried, Trouble};
use crate::{
    job::{Address, Patience, ServerSpec},
    model::{Error, Place, Result},
};

/// The first wait before another attempt, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What a server, or the way to it, says.
pub(super) trait Failure {
    /// Whether it may be over soon: the server is down, starts, or chose another transaction.
    fn is_passing(&self) -> bool;

    /// In one line, as it was said: secrets may be in it.
    fn text(&self) -> String;

    /// As an error of the operator's; `text` is [`Failure::text`] without what is secret.
    fn told(&self, what: &str, text: String) -> Error;
}

/// Tries until it succeeds, or fails for good. An attempt begins on a connection of its own where the one before was lost, and
/// first of all asks whether what it is to do is done.
///
/// # Errors
/// As an attempt has it; of kind `Failed` where the server, or the way to it, fails for longer than is waited.
pub(super) fn patiently<T, F: Failure>(
    (server, address, patience): (&ServerSpec, &Address, Patience),
    what: &str,
    mut attempt: impl FnMut() -> Tried<T, F>,
) -> Result<T> {
    let (mut waits, shown) = (waits(patience.retry), server.shown());
    loop {
        let failure = match attempt() {
            Ok(done) => return Ok(done),
            Err(Trouble::Ours(error)) => return Err(error.at_if_none(Place::Server(shown))),
            Err(Trouble::Database(failure)) => failure,
        };
        let text = address.redacted(&failure.text());
        let Some(wait) = waits.next().filter(|_| failure.is_passing()) else {
            return Err(failure.told(what, text).at(Place::Server(shown)));
        };
        tracing::warn!("{shown}: {text}; tried again in {} ms", wait.as_millis());
        std::thread::sleep(wait);
    }
}

/// Waits between attempts: each twice as long as the one before, as long as all together are not longer than `longest`.
fn waits(longest: Duration) -> impl Iterator<Item = Duration> {
    let (mut left, mut next) = (longest, WAITS.0);
    iter::from_fn(move || {
        let wait = next.min(left);
        left -= wait;
        next = (next * 2).min(WAITS.1);
        (!wait.is_zero()).then_some(wait)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let all: Vec<u128> = waits(Duration::from_secs(30)).map(|wait| wait.as_millis()).collect();
        assert_eq!(all[..7], [100, 200, 400, 800, 1600, 3200, 5000]);
        assert_eq!(all.iter().sum::<u128>(), 30_000);
        assert_eq!(waits(Duration::ZERO).count(), 0);
        assert_eq!(waits(Duration::from_millis(250)).map(|wait| wait.as_millis()).collect::<Vec<_>>(), [100, 150]);
    }
}
