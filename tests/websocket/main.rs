//! WebSockets through a real gateway: handshakes, tunnels, and every way they end.

#[path = "../support/mod.rs"]
mod support;

mod echo;
mod failover;
mod glued;
mod handshake;
mod headers;
mod refusals;
mod wire;
