#!/bin/sh
# Compiles Longhaul and the fuzz targets with libFuzzer's instrumentation, and everything else as cargo says.
# Cargo runs it as RUSTC_WRAPPER: rustc.sh RUSTC ARGUMENTS
#
# These are the flags of cargo-fuzz without a sanitizer, which stable Rust knows. Only the crates that are looked into
# are instrumented, so that what they depend on is not built again for it.
compiler=$1
shift
case ${CARGO_PKG_NAME-} in
  longhaul | longhaul-fuzz)
    set -- "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$compiler" "$@"
