//! WebSockets through a real gateway: handshakes, tunnels, and every way they end.
#![allow(unreachable_pub, reason = "a test binary's modules are seen by nobody else")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod agreement;
mod cable;
mod doubt;
mod echo;
mod endings;
mod engines;
mod failover;
mod glued;
mod handshake;
mod headers;
mod idle;
mod limits;
mod load;
mod on_down;
mod rates;
mod refusals;
mod sides;
mod stream;
mod tries;
mod wire;
