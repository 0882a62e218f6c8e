#!/usr/bin/env bash
# Drives the dashboard of a gateway in a headless Chromium, with real tunnels: tests/dashboard/run.sh LONGHAUL_BINARY
# Leaves pictures of it in target/dashboard-*.png.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 LONGHAUL_BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
export LONGHAUL=$binary
export PICTURES="$here/../../target"
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}
export CHROMIUM
mkdir -p "$PICTURES"
# The driver of browsers is that of the demo's test.
"$here/../demo/install.sh"
cd "$here"
exec node --test figures.test.mjs dashboard.test.mjs
