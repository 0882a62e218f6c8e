//! Active health checks: what one check does, and the tasks that repeat it for every backend.
//!
//! Whether a backend counts as up is decided elsewhere, from the outcomes reported here to a [`Subject`].

pub mod checker;
pub mod probe;
mod websocket;

pub use checker::{Checkers, Subject, Target};
pub use probe::{CheckError, Probe};
