#!/usr/bin/env bash
# Runs real applications behind a gateway: socket.io and SockJS from npm over three processes, graphql-ws and an MQTT broker
# that are restarted, and the patterns of docs/reattach.md: tests/applications/run.sh LONGHAUL_BINARY
set -euo pipefail

binary=${1:?usage: $0 LONGHAUL_BINARY}
LONGHAUL=$(realpath "$binary")
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build="$root/target/applications"
PATTERNS="$root/examples/reattach"
PAGE="$root/docs/reattach.md"
"${CARGO:-cargo}" build --quiet --locked --manifest-path "$root/Cargo.toml" --example reattach_acknowledged
ACKNOWLEDGED=$(realpath "${CARGO_TARGET_DIR:-$root/target}/debug/examples/reattach_acknowledged")
PYTHONPATH=$("$here/../python.sh")
export LONGHAUL PATTERNS PAGE ACKNOWLEDGED PYTHONPATH

mkdir -p "$build"
cp "$here"/*.mjs "$here"/package*.json "$PATTERNS"/*.mjs "$build"
cd "$build"
# Installed once for each lock file.
if ! cmp -s package-lock.json node_modules/.installed; then
  timeout 300 npm ci --no-audit --no-fund --ignore-scripts
  cp package-lock.json node_modules/.installed
fi
exec timeout 900 node --test applications.test.mjs reattach.test.mjs patterns.test.mjs
