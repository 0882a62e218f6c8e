//! Hooks in a real gateway: every phase and verdict, failures, reloads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../websocket/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of tunnels without hooks")]
mod wire;

mod command;
mod compressed;
mod destructors;
mod failures;
mod jwt;
mod lab;
mod messages;
mod reload;
mod requests;
mod slow;
mod stock;
mod strict;
mod talk;
mod tunnel_failures;
mod tunnel_reload;
mod tunnels;
mod upgrades;
mod webhook;
