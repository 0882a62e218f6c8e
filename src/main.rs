//! The `longhaul` binary: the library's gateway over an allocator that gives memory back.

use std::process::ExitCode;

// Compiling it takes a fifth of the time that `make demo` has.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    longhaul::Gateway::builder().run()
}
