//! TLS at the listeners, met by real clients: handshakes, requests, tunnels, certificates that change.
#![allow(unreachable_pub, reason = "a test binary's modules are seen by nobody else")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod check;
mod client;
mod client_certificates;
mod clients;
mod hooks;
mod lab;
mod limits;
mod proxy;
mod records;
mod renewal;
mod requests;
mod tunnels;
mod wrong;
