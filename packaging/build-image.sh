#!/usr/bin/env bash
# Builds the image of packaging/Dockerfile without a daemon and without an image registry, and tries it.
#
#   packaging/build-image.sh [TAG]        as root, on Debian 12; TAG is `longhaul` unless given
#
# Buildah carries the Dockerfile's steps out. Its two base images are made here, where they are not there yet, from what a
# Debian mirror and this machine's Rust toolchain have: debian:12-slim by debootstrap, and rust:1.95-bookworm on top of it.
# Images of these names that were pulled or made before are used as they are.
#
#   BINARY    a program that was built on Debian 12, which then takes the place of the Dockerfile's first stage
#   MIRROR    the Debian mirror, http://deb.debian.org/debian unless set
#   FOLDER    Buildah's store and the work of debootstrap, /var/tmp/longhaul-image unless set; about 6 GB, may be removed
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:-longhaul}
mirror=${MIRROR:-http://deb.debian.org/debian}
folder=${FOLDER:-/var/tmp/longhaul-image}
debian=docker.io/library/debian:12-slim
rust=docker.io/library/rust:1.95-bookworm

[ "$(id -u)" -eq 0 ] || { echo "$0: needs root, as debootstrap does" >&2; exit 1; }
missing=
for command in buildah debootstrap crun; do
  PATH=$PATH:/usr/sbin command -v "$command" >/dev/null || missing+=" $command"
done
if [ -n "$missing" ]; then
  apt-get update -qq
  # shellcheck disable=SC2086 # one word per package
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
fi

# A store of its own, plain folders (vfs): works on every file system and inside of a container.
mkdir -p "$folder"
store=(--root "$folder/store" --runroot "$folder/run" --storage-driver vfs)
buildah() { command buildah "${store[@]}" "$@"; }
# Steps run in a chroot with this machine's network: no namespaces, bridges or rights beyond root's are needed.
steps=(--isolation chroot --network host)
# The Debian mirror and the crate registry may be reached through a proxy with a certificate authority of its own.
trust=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)

if ! buildah inspect --type image "$debian" >/dev/null 2>&1; then
  echo "build-image: making $debian" >&2
  rm -rf "$folder/debian"
  debootstrap --variant=minbase bookworm "$folder/debian" "$mirror" >&2
  rm -rf "$folder"/debian/var/cache/apt/archives/*.deb
  container=$(buildah from scratch)
  buildah copy -q "$container" "$folder/debian" / >/dev/null
  buildah config --cmd bash "$container"
  buildah commit -q --rm "$container" "$debian" >/dev/null
  rm -rf "$folder/debian"
fi

if [ -z "${BINARY-}" ] && ! buildah inspect --type image "$rust" >/dev/null 2>&1; then
  echo "build-image: making $rust of $(rustc --version)" >&2
  container=$(buildah from --pull-never "$debian")
  run() { buildah run "${steps[@]}" "$container" -- "$@"; }
  run sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc g++ libc6-dev make pkg-config' >&2
  # As the image of this name has it: the toolchain alone, on the path.
  buildah copy -q "$container" "$(rustc --print sysroot)" /usr/local/rust >/dev/null
  buildah config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  buildah commit -q --rm "$container" "$rust" >/dev/null
fi

echo "build-image: building $tag by the steps of packaging/Dockerfile" >&2
if [ -n "${BINARY-}" ]; then
  context=$(mktemp -d)
  trap 'rm -rf "$context"' EXIT
  install -m 0755 "$BINARY" "$context/longhaul"
  # The stages behind the first one, and a first one that only has the program.
  { printf 'FROM scratch AS build\nCOPY longhaul /build/target/release/longhaul\n'
    awk '/^FROM/ { stage++ } stage > 1' packaging/Dockerfile; } >"$context/Dockerfile"
  buildah bud --pull-never "${steps[@]}" -f "$context/Dockerfile" -t "$tag" "$context" >&2
else
  # What the build leaves out stands in .dockerignore.
  buildah bud --pull-never "${steps[@]}" "${trust[@]}" -f packaging/Dockerfile -t "$tag" . >&2
fi

# The image's own program, user and file: the configuration in it is valid, and the gateway starts, answers, is asked for its
# status within the container, and ends by SIGTERM.
container=$(buildah from --pull-never "$tag")
gateway=
cleanup() {
  if [ -n "$gateway" ]; then kill -KILL "$gateway" 2>/dev/null || true; fi
  buildah rm "$container" >/dev/null
  rm -rf "${context-}"
}
trap cleanup EXIT
inside() { buildah run "${steps[@]}" "$container" -- "$@"; }
inside /usr/local/bin/longhaul check -c /etc/longhaul/longhaul.yaml >&2
[ "$(inside id -u)" = 10001 ]
buildah inspect --type image --format '{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}} {{.OCIv1.Config.User}}' "$tag"

# A free port, in a file of the trial's own: the steps have this machine's network.
inside sh -c 'sed s/0.0.0.0:8080/127.0.0.1:0/ /etc/longhaul/longhaul.yaml >/tmp/trial.yaml'
log=$folder/gateway.log
buildah run "${steps[@]}" "$container" -- /usr/local/bin/longhaul -c /tmp/trial.yaml >"$log" 2>&1 &
runner=$!
for ((left = 300; left > 0; left--)); do
  address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$log" | head -1)
  if [ -n "$address" ] || ! kill -0 "$runner" 2>/dev/null; then break; fi
  sleep 0.1
done
[ -n "$address" ] || { cat "$log" >&2; exit 1; }
exec {connection}<>"/dev/tcp/${address%:*}/${address#*:}"
printf 'GET / HTTP/1.1\r\nHost: trial\r\nConnection: close\r\n\r\n' >&"$connection"
read -r -t 30 _ answer _ <&"$connection"
exec {connection}>&-
[ "$answer" = 503 ] || { echo "build-image: answered $answer, not 503: no backend is there" >&2; exit 1; }
inside longhaul status >"$folder/status"
cat "$folder/status" >&2
gateway=$(sed -n 's/^version .* pid \([0-9]*\),.*/\1/p' "$folder/status")
kill -TERM "$gateway"
wait "$runner" || { cat "$log" >&2; exit 1; }
gateway=
echo "build-image: started, answered, told its status, and ended by SIGTERM" >&2
buildah images "$tag"
