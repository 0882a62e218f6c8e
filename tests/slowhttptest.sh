#!/usr/bin/env bash
# Attacks a gateway with slowhttptest in its three modes, on a plain and on a TLS listener, and asks it for requests and
# tunnels meanwhile: tests/slowhttptest.sh LONGHAUL_BINARY
# Fails where one of those is not answered, where an attacker's connection outlives the limits, or where the gateway's
# memory grows by more than a connection may cost. Takes about a minute.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 LONGHAUL_BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
started=()
trap 'kill -KILL "${started[@]}" 2>/dev/null || true; rm -rf "$dir"' EXIT
ulimit -n "$(ulimit -Hn)"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=IP:127.0.0.1 -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
python3 "$here/slowhttptest/backend.py" "$dir/backend" & started+=($!)
for _ in $(seq 600); do [ -s "$dir/backend" ] && break; sleep 0.1; done

cat >"$dir/longhaul.yaml" <<YAML
version: 1
limits:
  head: { time: 6s }
  body: { idle: 6s, min_rate: 100B }
  answer: { idle: 6s, min_rate: 4KiB }
listeners:
  - address: 127.0.0.1:0
  - { address: "127.0.0.1:0", tls: { certificates: [{ cert: $dir/cert.pem, key: $dir/key.pem }] } }
metrics: { address: "127.0.0.1:0" }
access_log: { to: $dir/access.log }
routes:
  - upstream: lab
upstreams:
  lab:
    backends: [$(cat "$dir/backend")]
YAML
RUNTIME_DIRECTORY=$dir "$binary" -c "$dir/longhaul.yaml" 2>"$dir/log" & gateway=$!; started+=("$gateway")
for _ in $(seq 600); do [ "$(grep -c 'listening on\|metrics on' "$dir/log")" -ge 3 ] && break; sleep 0.1; done
mapfile -t addresses < <(sed -n 's/.*listening on .*\(127\.[0-9.:]*\)$/\1/p' "$dir/log")
metrics=$(sed -n 's|.*metrics on \(http://[^ ]*\)$|\1|p' "$dir/log")

anonymous() { awk '/^RssAnon/ { print $2 }' "/proc/$gateway/status"; }
open() { curl -sf "$metrics" | awk '/^longhaul_connections_open/ { sum += $NF } END { print sum + 0 }'; }
refused() { curl -sf "$metrics" | awk -v reason="reason=\"$1\"" '/^longhaul_refused_total/ && index($0, reason) { sum += $NF } END { print sum + 0 }'; }

# Requests and tunnels by both listeners, one after the other until they are told to stop.
python3 "$here/slowhttptest/visitor.py" "${addresses[0]}" "${addresses[1]}" "$dir/stop" >"$dir/visits" & visitor=$!; started+=("$visitor")

attack() { # name, reason counted, mode and its options
  local name=$1 reason=$2 before base most=0 now
  shift 2
  for url in "http://${addresses[0]}/$path" "https://${addresses[1]}/$path"; do
    before=$(refused "$reason") base=$(anonymous)
    # It ends when no connection is left, so that its limit of time counts only where some outlive the gateway's.
    slowhttptest "$@" -c "$connections" -r 500 -l 60 -p 5 -v 1 -u "$url" >"$dir/attack" 2>&1 & attacker=$!; started+=("$attacker")
    most=$base
    while kill -0 "$attacker" 2>/dev/null; do
      now=$(anonymous); if [ "$now" -gt "$most" ]; then most=$now; fi
      sleep 0.2
    done
    wait "$attacker" || true
    local ended=$(($(refused "$reason") - before)) each=$(((most - base) * 1024 / connections))
    echo "$name ${url%%:*}: $connections connections, $ended ended as $reason, $each bytes of memory each at the most"
    if [ "$ended" -lt "$((connections * 9 / 10))" ]; then
      echo "attackers outlive the limits" >&2; tail -5 "$dir/attack" >&2; exit 1
    fi
    if [ "$each" -gt "$bound" ]; then echo "more than $bound bytes of memory for each connection" >&2; exit 1; fi
  done
}

connections=1000 path= bound=16384 attack slowloris slow -H -i 1 -x 8
connections=400 path= bound=65536 attack "slow body" body_slow -B -i 1 -s 8192 -x 8
connections=200 path=long bound=1048576 attack "slow read" answer_slow -X -w 512 -y 1024 -n 1 -z 16 -k 1

for _ in $(seq 600); do left=$(open); [ "$left" -le 2 ] && break; sleep 0.1; done
if [ "$left" -gt 2 ]; then echo "$left connections are left open" >&2; exit 1; fi
touch "$dir/stop"
wait "$visitor" || { echo "the visitor was not served" >&2; tail -5 "$dir/visits" >&2; exit 1; }
tail -1 "$dir/visits"
