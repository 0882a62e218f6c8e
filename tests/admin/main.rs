//! The admin API of a real gateway: its answers against their description, who is heard, what browsers cannot do, and
//! clients that hold it up.
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod dashboard;
mod guard;
mod hostile;
mod lab;
