#!/usr/bin/env bash
# Has an independent implementation of TLS break the rules of records on tunnels and before them (peer.py):
# tests/tls_peer/run.sh LONGHAUL_BINARY
set -euo pipefail

binary=$(realpath "${1:?usage: $0 LONGHAUL_BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH=$("$here/../python.sh")
export PYTHONPATH
exec timeout 300 python3 "$here/peer.py" "$binary"
