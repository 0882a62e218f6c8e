//! The `longhaul` binary: the library's gateway over an allocator that gives memory back.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    longhaul::Gateway::builder().run()
}
