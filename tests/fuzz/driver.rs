//! libFuzzer over the targets of `highwater::fuzzing`; `HIGHWATER_FUZZ` names one.
//!
//! ```sh
//! just fuzz json 1800     # builds, then half an hour of one target; new inputs and findings under target/fuzz
//!
//! # the same by hand: once built, anything that libFuzzer takes
//! export RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/rustc HIGHWATER_FUZZ=json
//! cargo run --features fuzz --example fuzz -- target/fuzz/json tests/fuzz/corpus/json -max_total_time=1800
//! cargo run --features fuzz --example fuzz -- target/fuzz/json-crash-...      # repeats a finding
//! ```
//!
//! Stable Rust and a C++ compiler; no cargo-fuzz. `tests/fuzz/rustc` adds the branch counters to this crate alone, so
//! that the dependencies are those of every other build. The corpus of each target lies in `tests/fuzz/corpus`; its
//! first inputs come from the real encoders (`cargo test seeds_are_kept -- --ignored`), and `cargo test fuzzing` runs
//! all of it once, without libFuzzer. What a campaign finds is mended, and kept as a test with a name.
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
