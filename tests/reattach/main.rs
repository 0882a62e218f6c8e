//! Clients that stay connected while their backend changes (`routes[].reattach`), over real sockets.
#![allow(unreachable_pub, reason = "a test binary's modules are seen by nobody else")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../websocket/wire.rs"]
#[allow(dead_code, reason = "shared with the tests of WebSockets")]
mod wire;

mod answers;
mod crash;
mod everything;
mod hooks;
mod leaving;
mod rig;
mod sequence;
