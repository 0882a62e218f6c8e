//! Reloads of a real gateway: what they put in force, what they leave alone, and what they refuse.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod apply;
mod client;
mod names;
mod plan;
mod rehome;
mod storm;
mod subject;
mod tunnels;
mod watch;
