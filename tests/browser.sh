#!/usr/bin/env bash
# Starts the demo, drives its page in a browser, and ends the demo as Ctrl-C does: tests/browser.sh LONGHAUL_BINARY
set -euo pipefail

binary=${1:?usage: $0 LONGHAUL_BINARY}
here=$(cd "$(dirname "$0")" && pwd)

exec {output}< <(exec "$binary" demo --listen 127.0.0.1:0)
demo=$!
trap 'kill -KILL "$demo" 2>/dev/null || true' EXIT

url=
while [ -z "$url" ]; do
  read -r -t 60 -u "$output" line || { echo "the demo did not say what to open" >&2; exit 1; }
  if [[ $line =~ ^open\ (http://[0-9.:]+/)$ ]]; then url=${BASH_REMATCH[1]}; fi
done

"$here/demo/run.sh" "$url"

kill -INT "$demo"
if ! timeout 10 tail --pid="$demo" -f /dev/null; then
  echo "the demo was still there 10 seconds after SIGINT" >&2
  exit 1
fi
status=0
wait "$demo" || status=$?
trap - EXIT
if [ "$status" -ne 0 ]; then
  echo "the demo ended with status $status after SIGINT, expected 0" >&2
  exit 1
fi
