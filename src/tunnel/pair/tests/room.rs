//! Room that a tunnel takes.

use crate::tunnel::worker::Tunnel;

#[test]
fn a_tunnel_fits_the_allocators_next_size_class() {
    // Debug builds of mio keep 8 bytes more of each socket.
    let checks = if cfg!(debug_assertions) { 2 * 8 } else { 0 };
    let size = size_of::<Tunnel>();
    assert!(size <= 448 + checks, "{size} bytes");
}
