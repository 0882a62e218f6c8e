#!/usr/bin/env bash
# Lints the Helm chart by Helm's own library, and checks the manifests against it, against the schemas of Kubernetes, and their
# configuration by the gateway: packaging/kubernetes/check.sh [--write], where --write writes the manifests anew
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${LONGHAUL:-${CARGO_TARGET_DIR:-target}/debug/longhaul}
[ -x "$binary" ] || { echo "$0: $binary is not there; \`cargo build\` makes it, or LONGHAUL names another" >&2; exit 1; }
requirements=packaging/kubernetes/requirements.txt
folder=target/python/kubernetes
if ! cmp -s "$requirements" "$folder/.installed"; then
  rm -rf "$folder"
  python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --root-user-action ignore --target "$folder" -r "$requirements" >&2
  cp "$requirements" "$folder/.installed"
fi
PYTHONPATH=$folder PYTHONDONTWRITEBYTECODE=1 python3 packaging/kubernetes/check.py "$binary" "$@"
