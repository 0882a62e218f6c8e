#!/usr/bin/env bash
# Drives the demo's page at BASE_URL in a headless Chromium: tests/demo/run.sh BASE_URL
# Leaves a picture of it in target/demo-screenshot.png.
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 http://127.0.0.1:PORT/" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
export BASE_URL=$1
export SCREENSHOT="$here/../../target/demo-screenshot.png"
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}
export CHROMIUM

mkdir -p "$(dirname "$SCREENSHOT")"
cd "$here"
./install.sh
exec node --test demo.test.mjs
