//! Upgrades in place: a successor takes listening sockets and live tunnels over, or nothing has happened.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod accounting;
mod arrivals;
mod command;
mod crossing;
mod draining;
mod fixture;
mod halfway;
mod hooks;
mod kills;
mod lab;
mod listeners;
mod load;
mod matrix;
mod newcomers;
mod orphans;
mod raw;
mod refusals;
mod stand_in;
mod ws;
