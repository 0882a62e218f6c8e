#!/usr/bin/env bash
# Builds the fuzz targets with stable Rust and runs them: fuzz/run.sh SECONDS [TARGET...]
#
# Each runs for so many seconds, one after the other, from the inputs in fuzz/corpus and those that earlier runs kept in
# target/fuzz. The first one that fails ends the run and leaves its input in target/fuzz/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: $0 SECONDS [TARGET...]}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

cp Cargo.lock fuzz/Cargo.lock
build=(--manifest-path fuzz/Cargo.toml)
for target in "${targets[@]}"; do build+=(--bin "$target"); done
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
RUSTC_WRAPPER=$PWD/fuzz/rustc.sh "${CARGO:-cargo}" build "${build[@]}"

root=$PWD
for target in "${targets[@]}"; do
  folder=target/fuzz/$target
  mkdir -p "$folder/kept" "$folder/empty"
  echo "longhaul: fuzz target $target, $seconds s" >&2
  log=$folder/log
  # In an empty folder, since settings of hooks may name files.
  if ! (cd "$folder/empty" && "$CARGO_TARGET_DIR/debug/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
    -max_len=4096 -print_final_stats=1 -artifact_prefix="$root/$folder/" "$root/$folder/kept" \
    "$root/fuzz/corpus/$target") >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    echo "longhaul: the fuzz target $target failed; again with: $CARGO_TARGET_DIR/debug/$target $folder/FILE" >&2
    exit 1
  fi
  # What was covered, and how many inputs it took.
  grep -E ' DONE |INFO: Seed|stat::number_of_executed_units' "$log" | sed "s/^/  /"
done
