//! Longhaul: the gateway for connections that last.
//!
//! A library and a thin binary over it. [`Gateway::builder`] makes a program with the binary's command line and hooks
//! of its own, [`hook`] has the trait to write, [`hook::testing`] tests a hook without a network, and docs/hooks.md in
//! the repository is the guide.
//!
//! This page shows the public interface, which is under semantic versioning: in 0.x a release that breaks it has a
//! higher second number. Modules that this page does not show are the gateway's inside (ARCHITECTURE.md walks through
//! them). They are public for the tests and benches of this repository alone, and change at any time.

mod builder;
pub mod hook;

// Not public interface: see above.
#[doc(hidden)]
pub mod access_log;
#[doc(hidden)]
pub mod admin;
#[doc(hidden)]
pub mod admission;
#[doc(hidden)]
pub mod affinity;
mod base64_text;
mod causes;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod control;
#[doc(hidden)]
pub mod convert;
mod counted;
#[cfg(feature = "demo")]
#[doc(hidden)]
pub mod demo;
#[doc(hidden)]
pub mod diagnostics;
#[doc(hidden)]
pub mod dial;
#[doc(hidden)]
pub mod discovery;
#[doc(hidden)]
pub mod drain;
#[doc(hidden)]
pub mod gateway;
#[doc(hidden)]
pub mod handover;
#[doc(hidden)]
pub mod health;
#[doc(hidden)]
pub mod http1;
#[doc(hidden)]
pub mod listen;
#[doc(hidden)]
pub mod log_writer;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod proxy_protocol;
#[doc(hidden)]
pub mod reload;
#[doc(hidden)]
pub mod route;
#[doc(hidden)]
pub mod server;
mod slots;
#[doc(hidden)]
pub mod snapshot;
#[doc(hidden)]
pub mod socket;
#[doc(hidden)]
pub mod status;
#[doc(hidden)]
pub mod stock;
#[doc(hidden)]
pub mod tls;
#[doc(hidden)]
pub mod trace;
#[doc(hidden)]
pub mod tunnel;
#[doc(hidden)]
pub mod unix_socket;
#[doc(hidden)]
pub mod upstream;
#[doc(hidden)]
pub mod ws;

pub use builder::{Builder, Gateway};
// Crates whose types occur in the signatures of hooks.
pub use {bytes, http, pingora, pingora_proxy, prometheus, serde, tokio};

// The code in the guide compiles, and runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/hooks.md")]
mod guide {}
