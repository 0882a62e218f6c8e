//! Hooks in a real gateway: every phase and verdict, failures, reloads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod command;
mod failures;
mod jwt;
mod lab;
mod reload;
mod requests;
mod stock;
mod upgrades;
mod webhook;
