#!/usr/bin/env bash
# Measures what a client costs that has asked for nothing yet: opens 2,000 silent connections, plain and by TLS, and
# 2,000 with 4,000 bytes of a head that does not end, and prints what each adds to the RssAnon of the gateway:
# tests/connection_memory.sh LONGHAUL_BINARY.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 LONGHAUL_BINARY}")
dir=$(mktemp -d)
gateway=
trap '[ -z "$gateway" ] || kill -KILL "$gateway" 2>/dev/null || true; rm -rf "$dir"' EXIT
ulimit -n "$(ulimit -Hn)"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
  -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null

python3 - "$dir" "$binary" <<'PYTHON'
import os, re, signal, socket, ssl, subprocess, sys, time

COUNT, HEAD = 2_000, b"GET / HTTP/1.1\r\nHost: lab\r\nX-Filler: ".ljust(4_000, b"x")
folder, binary = sys.argv[1:]


def start():
    with open(folder + "/longhaul.yaml", "w") as file:
        file.write(
            "version: 1\nthreads: 2\naccess_log: off\nlimits: { head: { time: 1h }, per_client: { connections: off } }\nlisteners:\n"
            "  - address: 127.0.0.1:0\n  - { address: '127.0.0.1:0', tls: { certificates: [{ cert: %s/cert.pem, key: %s/key.pem }] } }\n"
            "routes:\n  - upstream: lab\nupstreams:\n  lab: { health: off, backends: ['127.0.0.1:9'] }\n" % (folder, folder)
        )
    environment = dict(os.environ, RUNTIME_DIRECTORY=folder)
    log = open(folder + "/log", "w+")
    gateway = subprocess.Popen([binary, "-c", folder + "/longhaul.yaml"], stderr=log, env=environment)
    for _ in range(100):
        found = re.findall(r"listening on \S*?(127\.[\d.]+):(\d+)", open(folder + "/log").read())
        if len(found) == 2:
            return gateway, [(host, int(port)) for host, port in found]
        time.sleep(0.1)
    raise SystemExit(open(folder + "/log").read())


def anonymous(gateway):
    with open("/proc/%d/status" % gateway.pid) as status:
        return int(re.search(r"RssAnon:\s+(\d+)", status.read()).group(1)) * 1024


def settled(gateway):
    """The figure once it is the same for two seconds: the allocator gives memory back after one."""
    last, since = None, time.monotonic()
    while time.monotonic() - since < 30:
        now = anonymous(gateway)
        if now == last:
            return now
        last = now
        time.sleep(2)
    return last


def connections(address, tls, head):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opened = []
    for _ in range(COUNT):
        connection = socket.create_connection(address, 10)
        if tls:
            connection = context.wrap_socket(connection)
        if head:
            connection.sendall(HEAD)
        opened.append(connection)
    return opened


for name, tls, head in [("silent, plain", 0, 0), ("silent, TLS", 1, 0), ("unfinished head, plain", 0, 1), ("unfinished head, TLS", 1, 1)]:
    gateway, addresses = start()
    try:
        # What the first connections make is there for good.
        first = connections(addresses[tls], tls, head)[:1]
        before = settled(gateway)
        opened = connections(addresses[tls], tls, head)
        each = (settled(gateway) - before) / COUNT
        print("%-24s %6d bytes each" % (name, each), flush=True)
    finally:
        gateway.send_signal(signal.SIGKILL)
        gateway.wait()
PYTHON
