//! Backends that are away for a moment: whose clients wait, in which order, for how long, and what ends a wait.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../discovery/lab.rs"]
#[allow(dead_code, reason = "the tests of discovery use the rest of it")]
mod lab;

mod bounds;
mod changes;
mod ground;
mod returns;
