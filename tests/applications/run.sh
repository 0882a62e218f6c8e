#!/usr/bin/env bash
# Runs socket.io and SockJS from npm over three processes behind a gateway: tests/applications/run.sh LONGHAUL_BINARY
set -euo pipefail

binary=${1:?usage: $0 LONGHAUL_BINARY}
LONGHAUL=$(realpath "$binary")
export LONGHAUL
here=$(cd "$(dirname "$0")" && pwd)
build="$here/../../target/applications"

mkdir -p "$build"
cp "$here"/*.mjs "$here"/package*.json "$build"
cd "$build"
# Installed once for each lock file.
if ! cmp -s package-lock.json node_modules/.installed; then
  timeout 300 npm ci --no-audit --no-fund --ignore-scripts
  cp package-lock.json node_modules/.installed
fi
exec timeout 300 node --test applications.test.mjs
