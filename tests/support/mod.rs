//! A real gateway process and real backends, for tests that send bytes and look at the bytes that come.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "every test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod backend;
pub mod certificates;
mod gateway;
mod http;
mod lines;
pub mod peer;
mod successor;
mod tls;

pub use backend::{Backend, Echo, keep_closed, reserved, reserved_at};
pub use gateway::{Gateway, example, folder, hooked, limited, script};
pub use http::{Head, Message, Named, Wire, ask_where, located, one_upstream, order};
pub use lines::Lines;
pub use successor::Successor;
pub use tls::server_config;

use std::future::Future;
use std::time::Duration;

/// Time limit of every wait. Working code takes far less, so a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a future, and panics with its name after [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}
