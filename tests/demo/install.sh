#!/usr/bin/env bash
# Installs the driver of browsers, once for each lock file: tests/demo/install.sh
set -euo pipefail
cd "$(dirname "$0")"
if ! cmp -s package-lock.json node_modules/.installed; then
  npm ci --no-audit --no-fund --ignore-scripts
  cp package-lock.json node_modules/.installed
fi
