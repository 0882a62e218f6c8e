//! `longhaul check`: every problem in a configuration file, in one run, and the names that its certificates cover.

use std::path::Path;
use std::process::ExitCode;

use crate::hook::Registry;

pub(super) fn run(file: &Path, hooks: &Registry) -> ExitCode {
    let config = match super::output::load(file, hooks) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let backends: usize = config.upstreams.iter().map(|upstream| upstream.backends.len()).sum();
    super::output::say(&format!(
        "{}: ok ({}, {}, {}, {})\n",
        file.display(),
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.upstreams.len(), "upstream"),
        count(backends, "backend"),
    ));
    super::output::say(&super::certificates::listing(&config));
    ExitCode::SUCCESS
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
