//! Plain HTTP through a real gateway: routes, bodies, headers, failover, answers of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod affinity;
mod agreement;
mod answers;
mod board;
mod bodies;
mod born_cookie;
mod connections;
mod diagnostics;
mod failover;
mod forwarding;
mod health;
mod issued_cookie;
mod load;
mod metrics;
mod routes;
mod spellings;
mod tracing;
