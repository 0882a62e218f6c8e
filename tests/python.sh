#!/usr/bin/env bash
# Installs the Python packages of tests/requirements.txt into a folder of target/, once for each version of that file, and
# prints the folder, for PYTHONPATH: tests/python.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
folder=target/python/$python
if ! cmp -s tests/requirements.txt "$folder/.installed"; then
  rm -rf "$folder"
  timeout 300 python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --root-user-action ignore --target "$folder" -r tests/requirements.txt >&2
  cp tests/requirements.txt "$folder/.installed"
fi
echo "$PWD/$folder"
