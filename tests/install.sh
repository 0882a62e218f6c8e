#!/usr/bin/env bash
# Installs what is missing, by apt-get: tests/install.sh build | site | fuzz | test | bench
#   build  what compiling needs beside git, a C compiler and cargo
#   site   what making the site of the documentation needs: Python and pip
#   fuzz   what compiling needs, and a C++ compiler for libFuzzer
#   test   that, and what the tests start: nginx (and host names for it), HAProxy, curl, OpenSSL, Python, a headless Chromium, Node.js, etcd, valgrind, slowhttptest, Prometheus
#   bench  what compiling needs, and what the benchmarks start but Envoy and Caddy (bench/install.sh)
# Does nothing, and asks for no rights, when all of it is there.
set -euo pipefail

# Each line: the command or file that shows it is there, the Debian package that brings it.
build='cmake cmake'
site='python3 python3
pip3 python3-pip'
fuzz="$build
c++ g++"
tests="nginx nginx-light
/usr/lib/nginx/modules/ngx_stream_module.so libnginx-mod-stream
/usr/lib/$(uname -m)-linux-gnu/libnss_wrapper.so libnss-wrapper
haproxy haproxy
curl curl
openssl openssl
python3 python3
pip3 python3-pip
chromium chromium
node nodejs
npm npm
ip iproute2
slowhttptest slowhttptest
etcd etcd-server
valgrind valgrind
prometheus prometheus"
bench="nginx nginx-light
haproxy haproxy
wrk wrk
pip3 python3-pip"

missing() {
  while read -r command package; do
    # Daemons live in sbin, which is not on everyone's PATH.
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || [ -e "$command" ] || echo "$package"
  done
}

case ${1-} in
  build) packages=$(missing <<<"$build") ;;
  site) packages=$(missing <<<"$site") ;;
  fuzz) packages=$(missing <<<"$fuzz") ;;
  test) packages=$(missing <<<"$fuzz"$'\n'"$tests") ;;
  bench) packages=$(missing <<<"$build"$'\n'"$bench") ;;
  *) echo "usage: $0 build | site | fuzz | test | bench" >&2; exit 2 ;;
esac
[ -n "$packages" ] || exit 0
# shellcheck disable=SC2086 # one word per package
set -- $packages

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
if ! command -v apt-get >/dev/null || ! command -v "${as_root[0]:-true}" >/dev/null; then
  echo "longhaul: missing: $*" >&2
  echo "longhaul: install these first; this needs apt-get, and root or sudo, to do it for you" >&2
  exit 1
fi

# Debian starts and enables a server when it is installed. Tests and benchmarks start their own, so while packages
# are installed here a policy-rc.d (Debian Policy 9.3.3.1) forbids starting anything, and new servers are kept from
# starting at the next boot. One that was installed before is left alone.
servers=
for package in "$@"; do
  case $package in
    nginx-light) servers+=" nginx" ;;
    haproxy | prometheus) servers+=" $package" ;;
    etcd-server) servers+=" etcd" ;;
  esac
done
policy=/usr/sbin/policy-rc.d
forbid_starting() {
  if [ -e "$policy" ]; then return; fi
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
}

echo "longhaul: installing $*" >&2
if [ -n "$servers" ]; then forbid_starting; fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
for server in $servers; do "${as_root[@]}" /usr/sbin/update-rc.d "$server" disable >&2; done
