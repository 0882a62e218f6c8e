//! `longhaul demo`: the gateway before three embedded backends.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::config;
use crate::demo::{self, Demo, DemoCertificate};
use crate::diagnostics::Diagnostics;
use crate::hook::HookRegistry;
use crate::server::{Options, Server};

pub(super) fn run(
    listen: Option<SocketAddr>,
    tls: bool,
    discover: bool,
    hooks: HookRegistry,
    diagnostics: Option<Diagnostics>,
) -> ExitCode {
    let listen = listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], if tls { 8443 } else { 8080 })));
    let certificate = match tls.then(|| DemoCertificate::make(&std::env::temp_dir(), listen)).transpose() {
        Ok(certificate) => certificate,
        Err(error) => return super::output::failed(format_args!("the demo's certificate cannot be made: {error}")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return super::output::failed(error),
    };
    let started = runtime.block_on(async {
        if discover { Demo::start_discovered(&std::env::temp_dir()).await } else { Demo::start().await }
    });
    let demo = match started {
        Ok(demo) => demo,
        Err(error) => return super::output::failed(format_args!("the demo's backends cannot start: {error}")),
    };
    let text = demo.config(listen, certificate.as_ref());
    let config = match config::parse(&text, &hooks) {
        Ok(loaded) => loaded.config,
        Err(problems) => return super::output::failed(problems.in_file("the demo's configuration")),
    };
    let left = Left { demo, certificate: certificate.clone() };
    let server = Server::new(config, hooks, Options::default()).diagnostics(diagnostics).on_ready(move |ready| {
        let address = ready.listeners.first().copied().unwrap_or(listen);
        // The demo serves whether or not somebody reads this.
        let _ = super::output::say(&format!("{}\n", demo::welcome(address, ready.admin, certificate.as_ref())));
    });
    // The runtime, and the backends on it, end with the process.
    super::output::serve(server.on_end(move || drop(left)))
}

/// Reads `--listen`.
pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, as in 127.0.0.1:8080")
}

/// The demo's temporary files, which are removed with it: a process that exits drops nothing by itself.
struct Left {
    demo: Demo,
    certificate: Option<DemoCertificate>,
}

impl Drop for Left {
    fn drop(&mut self) {
        self.demo.clear();
        self.certificate.iter().for_each(DemoCertificate::remove);
    }
}
