#!/usr/bin/env bash
# Tries the packages of target/dist as an operator would: packaging/test.sh, as root on Debian; `make dist-test` builds them first.
#
# The .deb is installed in a Debian 12 of its own (debootstrap), booted with its own systemd (systemd-nspawn), and goes through the
# steps of packaging/trial/inside.sh. The .rpm is installed into another folder by rpm. The tarball is unpacked and its program run.
#
#   MIRROR    the Debian mirror, http://deb.debian.org/debian unless set
#   DIST      the folder with the packages, target/dist unless set
#   FOLDER    the systems and their work, /var/tmp/longhaul-trial unless set; about 600 MB, may be removed
set -euo pipefail
cd "$(dirname "$0")/.."

mirror=${MIRROR:-http://deb.debian.org/debian}
folder=${FOLDER:-/var/tmp/longhaul-trial}
dist=${DIST:-target/dist}

[ "$(id -u)" -eq 0 ] || { echo "$0: needs root, as debootstrap does" >&2; exit 1; }
missing=
for pair in debootstrap:debootstrap systemd-nspawn:systemd-container rpm:rpm; do
  PATH=$PATH:/usr/sbin command -v "${pair%:*}" >/dev/null || missing+=" ${pair#*:}"
done
if [ -n "$missing" ]; then
  apt-get update -qq
  # shellcheck disable=SC2086 # one word per package
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
fi

say() { echo "dist-test: $*" >&2; }
one() {
  if [ $# -ne 1 ] || [ ! -e "$1" ]; then
    echo "$0: target/dist has no package, or several of a kind; \`make dist\` makes them" >&2
    exit 1
  fi
  echo "$1"
}
deb=$(one "$dist"/*.deb)

say "sums"
(cd "$dist" && sha256sum --check --quiet SHA256SUMS)

base=$folder/debian-12
if [ ! -e "$base/.complete" ]; then
  say "making a Debian 12 in $base"
  rm -rf "$base"
  mkdir -p "$folder"
  debootstrap --variant=minbase --include=systemd-sysv,logrotate,python3-minimal,libpython3-stdlib,procps \
    bookworm "$base" "$mirror" >"$folder/debootstrap.log" 2>&1 || { tail -20 "$folder/debootstrap.log" >&2; exit 1; }
  # Nothing of a machine of its own: no login, no clock, no network to wait for.
  rm -f "$base"/etc/systemd/system/multi-user.target.wants/* "$base"/etc/resolv.conf
  rm -rf "$base"/var/cache/apt/archives/*.deb
  touch "$base/.complete"
fi

machine=$(mktemp -d "$folder/machine.XXXXXX")
cleanup() { rm -rf "$machine"; }
trap cleanup EXIT
root=$machine/root
cp -a "$base" "$root"
trial=$root/trial
mkdir "$trial"
cp packaging/trial/* "$trial/"

# The package again under another version. A third argument takes the program's place.
repacked() {
  local version=$1 to=$2 program=${3-}
  dpkg-deb --raw-extract "$deb" "$machine/tree"
  sed -i "s/^Version: .*/&.$version/" "$machine/tree/DEBIAN/control"
  if [ -n "$program" ]; then
    install -m 0755 "$program" "$machine/tree/usr/bin/longhaul"
    (cd "$machine/tree" && find etc usr -type f -print0 | xargs -0 md5sum) >"$machine/md5sums"
    mv "$machine/md5sums" "$machine/tree/DEBIAN/md5sums"
  fi
  dpkg-deb --build -Znone "$machine/tree" "$to" >/dev/null
  rm -rf "$machine/tree"
}
cp "$deb" "$trial/first.deb"
repacked 1 "$trial/second.deb"
printf '#!/bin/sh\necho "longhaul: this program does not start" >&2\nexit 1\n' >"$machine/broken"
repacked 2 "$trial/broken.deb" "$machine/broken"
repacked 3 "$trial/third.deb"

cat >"$root/etc/systemd/system/trial.service" <<'UNIT'
[Unit]
Description=The trial of the package
After=multi-user.target
[Service]
Type=oneshot
Environment=HOME=/root LC_ALL=C
ExecStart=/trial/inside.sh /trial
StandardOutput=file:/trial/output
StandardError=inherit
TimeoutStartSec=20min
ExecStopPost=/bin/systemctl exit $EXIT_STATUS
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../trial.service "$root/etc/systemd/system/default.target.wants/trial.service"

say "the .deb: installed, started, reloaded, upgraded under an open tunnel, turned over, removed, purged"
status=0
# Control groups as systemd has them on any machine of today, whatever this one has.
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --register=no --keep-unit --private-network --link-journal=no --directory "$root" \
  --machine "longhaul-trial-$$" --setenv=SYSTEMD_COLORS=0 </dev/null >"$machine/console" 2>&1 || status=$?
cat "$trial/output" || tail -50 "$machine/console"
if [ "$status" -ne 0 ] || ! grep -qx PASSED "$trial/output"; then
  say "failed ($status); the end of the console, and of the gateway's journal:"
  tail -20 "$machine/console" >&2
  journalctl --directory "$root/var/log/journal" -u longhaul --no-pager 2>/dev/null | tail -40 >&2 || true
  exit 1
fi
cp "$trial/output" "$dist/trial.txt"

rpm=$(one "$dist"/*.rpm)
say "the .rpm: files, scripts and user"
other=$machine/other
cp -a "$base" "$other"
rpm --root "$other" --initdb
# Its database does not know Debian's own packages.
rpm --root "$other" --nodeps --noscripts --test -i "$rpm"
cp "$rpm" "$other/package.rpm"
rpm --root "$other" --nodeps -i "$rpm"
chroot "$other" getent passwd longhaul >/dev/null
chroot "$other" longhaul check -c /etc/longhaul/longhaul.yaml
[ "$(rpm --root "$other" -q --configfiles longhaul | sort | tr '\n' ' ')" = "/etc/logrotate.d/longhaul /etc/longhaul/longhaul.yaml " ]
echo "# mine" >>"$other/etc/longhaul/longhaul.yaml"
rpm --root "$other" --nodeps -e longhaul
[ ! -e "$other/usr/bin/longhaul" ]
# rpm keeps a configuration that was changed.
grep -q '# mine' "$other/etc/longhaul/longhaul.yaml.rpmsave"

tarball=$(one "$dist"/*.tar.gz)
say "the tarball: its program runs on a bare Debian"
tar -xzf "$tarball" -C "$other"
chroot "$other" sh -c '/longhaul-*/bin/longhaul check -c /longhaul-*/etc/longhaul.yaml'
say "passed"
