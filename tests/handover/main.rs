//! Upgrades in place: a successor takes listening sockets and live tunnels over, or nothing has happened.
#![allow(unreachable_pub, reason = "a test binary's modules are seen by nobody else")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../backends/lab.rs"]
#[expect(dead_code, reason = "the ends of TLS before a backend are enough here")]
mod backends;
#[path = "../tls/client.rs"]
#[expect(dead_code, reason = "messages here are longer than the ones that it sends")]
mod client;

mod accounting;
mod arrivals;
mod command;
mod crossing;
mod draining;
mod fixture;
mod halfway;
mod held;
mod hooks;
mod kills;
mod lab;
mod listeners;
mod load;
mod matrix;
mod newcomers;
mod orphans;
mod rates;
mod raw;
mod refusals;
mod stand_in;
mod tls;
mod ws;
