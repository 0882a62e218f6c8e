//! Admission to backends through a real gateway: queues, rates, bounds, and what becomes of those who wait.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../websocket/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of tunnels")]
mod wire;

mod bounds;
mod changes;
mod lab;
mod queue;
