//! Each limit of admission reached on purpose, while ten legitimate clients are served on plain and TLS listeners.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../websocket/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of tunnels")]
mod wire;

#[path = "../hostile/cast.rs"]
#[allow(dead_code, reason = "shared with the tests of hostile clients")]
mod cast;

mod addresses;
mod backends;
mod descriptors;
mod guest;
mod handover;
mod keep_alive;
mod lab;
mod memory;
mod named;
mod per_client;
mod places;
mod process;
mod rates;
mod reasons;
mod reload;
mod requests;
