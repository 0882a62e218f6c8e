#!/usr/bin/env bash
# Sends mutants of good requests through a gateway and compares how what it forwards is read (probe.py):
# tests/probe/run.sh LONGHAUL_BINARY [SEED [COUNT]]
set -euo pipefail

binary=$(realpath "${1:?usage: $0 LONGHAUL_BINARY [SEED [COUNT]]}")
shift
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH=$("$here/../python.sh")
export PYTHONPATH
exec timeout 300 python3 "$here/probe.py" "$binary" "$@"
