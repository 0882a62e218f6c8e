//! A real gateway process and real backends, for tests that send bytes and look at the bytes that come.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "every test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod backend;
mod gateway;
mod http;
mod lines;

pub use backend::{Backend, Echo};
pub use gateway::{Gateway, example, folder, hooked};
pub use http::{Head, Message, Named, Wire, ask_where, located, one_upstream, order};
pub use lines::Lines;

use std::future::Future;
use std::time::Duration;

/// Longer than anything takes that works; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come; panics, naming it, when it does not.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}
