//! `longhaul demo`: the gateway before three embedded backends.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::config;
use crate::demo::{self, Demo};
use crate::diagnostics::Diagnostics;
use crate::hook::Registry;
use crate::server::{Options, Server};

pub(super) fn run(listen: SocketAddr, hooks: Registry, diagnostics: Option<Diagnostics>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return super::output::failed(error),
    };
    let demo = match runtime.block_on(Demo::start()) {
        Ok(demo) => demo,
        Err(error) => return super::output::failed(format_args!("the demo's backends cannot start: {error}")),
    };
    let text = demo.config(listen);
    let config = match config::parse(&text, &hooks) {
        Ok(loaded) => loaded.config,
        Err(problems) => return super::output::failed(problems.in_file("the demo's configuration")),
    };
    let server = Server::new(config, hooks, Options::default()).diagnostics(diagnostics).on_ready(move |addresses| {
        let address = addresses.first().copied().unwrap_or(listen);
        super::output::say(&format!("{}\n", demo::welcome(address)));
    });
    // The runtime, and the backends on it, end with the process.
    super::output::serve(server)
}
