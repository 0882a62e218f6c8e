//! Plain HTTP through a real gateway: routes, bodies, headers, failover, answers of its own.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod bodies;
mod connections;
mod failover;
mod forwarding;
mod routes;
