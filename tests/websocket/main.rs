//! WebSockets through a real gateway: handshakes, tunnels, and every way they end.

#[path = "../support/mod.rs"]
mod support;

mod echo;
mod endings;
mod failover;
mod glued;
mod handshake;
mod headers;
mod limits;
mod on_down;
mod refusals;
mod stream;
mod wire;
