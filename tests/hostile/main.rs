//! Strangers, broken backends, shortages and hooks that panic, against the real binary: each costs only its own client.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../websocket/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of tunnels")]
mod wire;

mod cast;
mod charge;
mod closing;
mod diagnostics;
mod fairness;
mod framing;
mod heads;
mod hosts;
mod hung;
mod meaning;
mod panics;
mod refused;
mod routes;
mod shortage;
mod slow;
mod sticky;
mod upgrade;
mod vouched;
