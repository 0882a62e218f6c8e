//! WebSockets through a real gateway: handshakes, tunnels, and every way they end.

#[path = "../support/mod.rs"]
mod support;

mod echo;
