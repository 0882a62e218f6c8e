#!/usr/bin/env bash
# Measures what an idle tunnel costs the gateway: opens 5,000 through a release build and prints
# (RssAnon after - RssAnon before) / 5,000 of the gateway's process. Needs 10,000 open files per process.
# The tunnels' own share of it is exact to a few bytes; what the allocator has not given back yet is in it too,
# which is why it is read a second time.
set -euo pipefail
cd "$(dirname "$0")/.."
ulimit -n "$(ulimit -Hn)"
cargo build --release --locked
LONGHAUL=$(realpath "${CARGO_TARGET_DIR:-target}/release/longhaul")
export LONGHAUL
cargo test --locked --test websocket -- --ignored --exact --nocapture idle::memory_of_an_idle_tunnel
