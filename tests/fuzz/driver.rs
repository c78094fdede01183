//! libFuzzer over the targets of `highwater::fuzzing`; `HIGHWATER_FUZZ` names one.
//!
//! ```sh
//! just fuzz json 1800                      # build, then half an hour of one target
//! HIGHWATER_FUZZ=json target/debug/examples/fuzz tests/fuzz/corpus/json -max_total_time=1800   # the same, built
//! HIGHWATER_FUZZ=json target/debug/examples/fuzz crash-...                                     # repeat a finding
//! ```
//!
//! The corpus of each target lies in `tests/fuzz/corpus`; `cargo test fuzzing` runs all of it once, without libFuzzer.
//! What a campaign finds is mended, and kept as a test with a name.
#![no_main]

use std::sync::LazyLock;

use highwater::fuzzing::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("HIGHWATER_FUZZ").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let named = TARGETS.iter().find(|(name, _)| *name == wanted);
    named.unwrap_or_else(|| panic!("HIGHWATER_FUZZ must be one of {}", names.join(", "))).1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
