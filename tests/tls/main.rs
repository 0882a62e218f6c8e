//! TLS at the listeners, met by real clients: handshakes, requests, tunnels, certificates that change.
#![allow(unreachable_pub, reason = "a test binary's modules are seen by nobody else")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/lane.rs"]
#[allow(dead_code, reason = "one test needs a part of it")]
mod lane;
#[path = "../support/mod.rs"]
mod support;

mod by_rustls;
mod check;
mod client;
mod client_certificates;
mod clients;
mod hooks;
mod lab;
mod lapsed;
mod limits;
mod proxy;
mod records;
mod renewal;
mod requests;
mod slow_keys;
mod tunnels;
mod wrong;
