//! `longhaul check`: every problem in a configuration file, in one run; the names that its certificates cover, and a
//! summary of what it does.

use std::path::Path;
use std::process::ExitCode;

use crate::counted::counted;
use crate::discovery;
use crate::hook::HookRegistry;
use crate::tls::certificates::{KEPT_VARIABLE, Lapsed};

pub(super) fn run(file: &Path, hooks: &HookRegistry) -> ExitCode {
    // A gateway that is to be upgraded lets the new program test the file.
    let lapsed = Lapsed::kept_by(std::env::var(KEPT_VARIABLE).ok().as_deref());
    let config = match super::output::load(file, hooks, &lapsed) {
        Ok(config) => config,
        Err(code) => return code,
    };
    for (upstream, problem) in discovery::problems(&config) {
        super::output::complain(format_args!("warning: the members of {upstream}: {problem}"));
    }
    let backends: usize = config.upstreams.iter().map(|upstream| upstream.backends.len()).sum();
    let looked_up = config.upstreams.iter().filter(|upstream| upstream.discover.is_some()).count();
    let looked_up = match looked_up {
        0 => String::new(),
        number => format!("; {} with members looked up while it runs", counted(number, "upstream")),
    };
    let found = format!(
        "{}: ok ({}, {}, {}, {}{looked_up})\n",
        file.display(),
        counted(config.listeners.len(), "listener"),
        counted(config.routes.len(), "route"),
        counted(config.upstreams.iter().filter(|upstream| !upstream.is_nowhere()).count(), "upstream"),
        counted(backends, "backend"),
    );
    let found = found + &super::certificates::listing(&config) + &super::summary::lines(&config);
    super::output::say_last(&found, ExitCode::SUCCESS)
}
