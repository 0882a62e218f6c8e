//! A real gateway, asked and told what to do: its control socket, its status, its drains, systemd's words with it.

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod backend;
mod lab;
mod process;
mod socket;
mod status;
