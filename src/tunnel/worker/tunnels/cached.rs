//! Freed memory that the allocator keeps for the thread of a worker.

use std::hint::black_box;

/// Makes the allocator give back what it keeps for this thread.
///
/// jemalloc keeps some pieces of each size that a thread has freed, and the pages around them. It looks for those of no
/// use as the thread allocates, at one size each 64 KiB, and gives back three quarters of them. A worker whose tunnels
/// have gone allocates nothing, so that it would keep them for good: 1 MiB a worker (bench/NOTES.md). Allocators that
/// keep nothing by thread lose some microseconds.
pub(super) fn give_back() {
    for _ in 0..LOOKS {
        drop(black_box(Vec::<u8>::with_capacity(PIECE)));
    }
}

/// As few tunnels leave nothing that is worth a look.
pub(super) const MANY: usize = 64;
/// Bytes after which jemalloc looks at the next size (`tcache_gc_incr_bytes`), and the largest size that it keeps
/// (`lg_tcache_max`, `.cargo/config.toml`).
const PIECE: usize = 64 * 1024;
/// Pieces that are allocated, each of which is two looks: at 45 sizes, five times.
const LOOKS: usize = 128;
