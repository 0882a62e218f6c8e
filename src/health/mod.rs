//! Active health checks: what one check does, and the tasks that repeat it for every backend.
//!
//! A [`Subject`] gets the outcomes, and decides from them whether the backend counts as up.

pub mod checker;
pub mod probe;
mod websocket;

pub use checker::{CheckedBackend, Checkers, Subject};
pub use probe::{CheckError, Probe};
