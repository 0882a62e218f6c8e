//! Layers between TCP and HTTP towards backends: TLS and PROXY headers, met by real servers.
#![allow(unreachable_pub, reason = "a test binary's modules are seen by nobody else")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod checks;
mod files;
mod lab;
mod proxy_headers;
mod receivers;
mod requests;
mod tunnels;
mod wrong;
