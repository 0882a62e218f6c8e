#!/usr/bin/env bash
# Starts the demo, drives its page in a browser, and ends the demo as Ctrl-C does; then once more with TLS, so that the page
# comes by https and its sockets are wss: tests/browser.sh LONGHAUL_BINARY
set -euo pipefail

binary=${1:?usage: $0 LONGHAUL_BINARY}
here=$(cd "$(dirname "$0")" && pwd)
demo=
trap 'if [ -n "$demo" ]; then kill -KILL "$demo" 2>/dev/null || true; fi' EXIT

# Drives the demo that is started with these arguments, whose page has a URL of this scheme.
drive() {
  local scheme=$1 url='' status=0 line output
  shift
  exec {output}< <(exec "$binary" demo --listen 127.0.0.1:0 "$@")
  demo=$!
  while [ -z "$url" ]; do
    read -r -t 60 -u "$output" line || { echo "the demo did not say what to open" >&2; exit 1; }
    if [[ $line =~ ^open\ ($scheme://[0-9.:]+/)$ ]]; then url=${BASH_REMATCH[1]}; fi
  done

  export TRUSTED_KEY=
  if [ "$scheme" = https ]; then
    # The browser is told to trust the key of the certificate that the demo made, and no other.
    TRUSTED_KEY=$(openssl x509 -in "${TMPDIR:-/tmp}/longhaul-demo-$demo/demo.pem" -pubkey -noout |
      openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)
  fi
  "$here/demo/run.sh" "$url"

  kill -INT "$demo"
  if ! timeout 60 tail --pid="$demo" -f /dev/null; then
    echo "the demo was still there 60 seconds after SIGINT" >&2
    exit 1
  fi
  wait "$demo" || status=$?
  demo=
  exec {output}<&-
  if [ "$status" -ne 0 ]; then
    echo "the demo ended with status $status after SIGINT, expected 0" >&2
    exit 1
  fi
}

drive http
drive https --tls
