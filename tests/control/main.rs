//! Operation of a real gateway: its control socket, its status, its drains, systemd.

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod backend;
mod lab;
mod output;
mod process;
mod socket;
mod status;
mod tunnels;
