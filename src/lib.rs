//! Longhaul: the gateway for connections that last.
//!
//! A library and a thin binary over it. ARCHITECTURE.md walks through a request, an upgrade and its bytes.

pub mod access_log;
pub mod affinity;
mod builder;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
pub mod drain;
pub mod gateway;
pub mod handover;
pub mod health;
pub mod hook;
pub mod listen;
pub mod metrics;
pub mod reload;
pub mod route;
pub mod server;
pub mod snapshot;
pub mod stock;
pub mod tunnel;
pub mod upstream;
pub mod ws;

pub use builder::{Builder, Gateway};
// What the doors of hooks lead to, and the types their everyday signatures have.
pub use {bytes, http, pingora, pingora_proxy, prometheus, serde, tokio};
