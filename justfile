# The one command before a commit is `just check`; .ci/run does the same and more on a fresh clone.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# format, lints and tests
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo test --locked

# format the tree
fmt:
    cargo fmt

# the tests, or those whose name contains a word: `just test rewind`
test *ARGS:
    cargo test --locked {{ARGS}}

# all that the continuous integration does
ci:
    .ci/run

# generate input, run the batch, run the stream while killing it, show that both results are the same
demo:
    cargo run --locked --release -- demo

# micro-benchmarks
bench *ARGS:
    cargo bench --locked {{ARGS}}

# beside DuckDB and the plain batch: time, CPU, memory, restart after a kill; `just compare --runs 9`
compare *ARGS:
    benches/compare/run {{ARGS}}

# kill the job at random, resume it, and compare with an uninterrupted run: `just crash 1000`
crash KILLS="200":
    #!/usr/bin/env bash
    set -euo pipefail
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    cargo run --locked --release -- generate flows "$scratch/flows" --files 50 --rows 2000
    cargo run --locked --release -- crash-test jobs/web_servers.sql --set INPUT="$scratch/flows" --kills {{KILLS}}

# fuzz a reader (json, job, plan, record, log, state, values, compressed, fields, parquet, avro): `just fuzz json 1800`; see tests/fuzz/driver.rs
fuzz TARGET SECONDS="1800":
    #!/usr/bin/env bash
    set -euo pipefail
    export RUSTC_WORKSPACE_WRAPPER="$PWD/tests/fuzz/rustc" HIGHWATER_FUZZ={{TARGET}}
    # what it finds on its way stays beside the build; only what is worth it is committed
    found="${CARGO_TARGET_DIR:-target}/fuzz/{{TARGET}}"
    mkdir -p "$found"
    words=tests/fuzz/dictionaries/{{ if TARGET == "plan" { "job" } else { TARGET } }}.dict
    options=(-max_total_time={{SECONDS}} -max_len=2000 -rss_limit_mb=2048 -timeout=20 -artifact_prefix="$found-")
    if [ -f "$words" ]; then options+=("-dict=$words"); fi
    cargo run --locked --features fuzz --example fuzz -- "$found" "tests/fuzz/corpus/{{TARGET}}" "${options[@]}"
