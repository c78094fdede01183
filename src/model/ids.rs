//! Batch ids, generations and addresses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Number of a micro-batch: from 0, without gaps along the live timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub u64);

impl BatchId {
    pub const FIRST: BatchId = BatchId(0);

    /// The batch after this one. The last number has none: no log gets there, and one that was made up to contradicts itself.
    pub fn next(self) -> BatchId {
        BatchId(self.0.saturating_add(1))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the rewinds of a checkpoint: 1 until the first rewind, then 2, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    pub const FIRST: Generation = Generation(1);

    /// The generation that a rewind begins.
    pub fn next(self) -> Generation {
        Generation(self.0.saturating_add(1))
    }
}

/// A committed batch as users name it: `25` is batch 25 of the live timeline,
/// `25@1` batch 25 as it was committed in generation 1 (perhaps retracted since).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BatchAddress {
    pub batch: BatchId,
    /// `None`: the live one.
    pub generation: Option<Generation>,
}

impl fmt::Display for BatchAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            Some(generation) => write!(f, "{}@{}", self.batch, generation.0),
            None => self.batch.fmt(f),
        }
    }
}

impl FromStr for BatchAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("'{text}' is not a batch: write 17, or 17@1 for batch 17 of generation 1");
        let (batch, generation) = match text.split_once('@') {
            Some((batch, generation)) => (batch, Some(Generation(generation.parse().map_err(|_| wrong())?))),
            None => (text, None),
        };
        Ok(BatchAddress { batch: BatchId(batch.parse().map_err(|_| wrong())?), generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_read() {
        for text in ["0", "17", "25@1"] {
            assert_eq!(text.parse::<BatchAddress>().unwrap().to_string(), text);
        }
        for text in ["", "x", "-1", "1@", "1@x", "@1"] {
            assert!(text.parse::<BatchAddress>().is_err(), "{text}");
        }
    }
}
