#!/usr/bin/env bash
# Builds the packages of this machine's architecture into target/dist: packaging/dist.sh [PROFILE]
#
#   longhaul-VERSION-linux-ARCH.tar.gz    program, units, configuration, man pages, completions
#   longhaul_VERSION-1_ARCH.deb, longhaul-VERSION-1.ARCH.rpm
#   SHA256SUMS
#
# PROFILE is Cargo's, release unless given; `dev` is quick, and for trials. The program is stripped. It needs nothing beside
# glibc and libgcc: everything else is linked into it. The .deb is made by cargo-deb, the .rpm by cargo-generate-rpm, both at
# the versions below; Cargo builds them once into target/tools where the PATH has none of that version.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-release}
cargo=${CARGO:-cargo}
cargo_deb=3.8.0
cargo_generate_rpm=0.21.1
dist=target/dist
stage=$dist/stage

say() { echo "dist: $*" >&2; }

# Finds a tool of just this version, or builds it.
tool() {
  local name=$1 version=$2
  if [ "$("$name" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -1)" != "$version" ]; then
    say "building $name $version, once"
    $cargo install --locked --quiet --version "$version" --root target/tools --target-dir target/tools/build "$name"
    rm -rf target/tools/build
  fi
}

built=${CARGO_TARGET_DIR:-target}
case $profile in dev) built=$built/debug ;; *) built=$built/$profile ;; esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
machine=$(uname -m)
# Everything in an archive is as old as the commit, so that two builds of it are alike.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
export PATH=$PWD/target/tools/bin:$PATH

say "compiling, profile $profile"
$cargo build --locked --profile "$profile" --bin longhaul

rm -rf "$dist"
mkdir -p "$stage/units"
strip --strip-all -o "$stage/longhaul" "$built/longhaul"
say "the program is $(du -m "$stage/longhaul" | cut -f 1) MB and needs $(objdump -T "$stage/longhaul" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -1)"
"$stage/longhaul" generate "$stage"
cp packaging/longhaul.service packaging/longhaul.socket "$stage/units/"
# Packages bring the program to /usr/bin; the head of the unit is about installing by hand.
mkdir "$stage/packaged"
sed -e 's|/usr/local/bin/|/usr/bin/|; /^#   /d; /^#$/d' packaging/longhaul.service >"$stage/packaged/longhaul.service"
cp packaging/longhaul.socket "$stage/packaged/"

name=longhaul-$version-linux-$machine
tree=$dist/$name
mkdir -p "$tree"
install -D -m 0755 "$stage/longhaul" "$tree/bin/longhaul"
install -D -m 0644 -t "$tree/etc" packaging/longhaul.yaml packaging/longhaul.logrotate
install -D -m 0644 -t "$tree/systemd" "$stage"/units/*
install -D -m 0644 -t "$tree/man" "$stage"/man/*
install -D -m 0644 -t "$tree/completions" "$stage"/completions/*
install -D -m 0644 -t "$tree" README.md CHANGELOG.md LICENSE
tar --create --directory "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "$name" |
  gzip -9n >"$dist/$name.tar.gz"
rm -rf "$tree"

gzip -9n "$stage"/man/*.1
tool cargo-deb "$cargo_deb"
tool cargo-generate-rpm "$cargo_generate_rpm"
say "packing"
# A trial is not packed as small as it could be.
fast=()
if [ "$profile" = dev ]; then fast=(--fast); fi
cargo-deb deb --no-build --no-strip --quiet "${fast[@]}" --output "$dist/"
cargo-generate-rpm generate-rpm --output "$dist/" --payload-compress zstd
rm -rf "$stage"
(cd "$dist" && sha256sum -- *.tar.gz *.deb *.rpm >SHA256SUMS)

(cd "$dist" && ls -l -- *)
