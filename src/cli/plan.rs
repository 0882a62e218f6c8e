//! `longhaul plan`: what a reload from one file to another would change.

use std::path::Path;
use std::process::ExitCode;

use crate::hook::HookRegistry;
use crate::reload;
use crate::tls::certificates::Lapsed;

pub(super) fn run(old: &Path, new: &Path, json: bool, hooks: &HookRegistry) -> ExitCode {
    let load = |file| super::output::load(file, hooks, &Lapsed::Taken);
    let (old, new) = match (load(old), load(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let plan = reload::plan(&old, &new);
    let text = match json {
        true => serde_json::to_string(&plan).expect("a plan is text, numbers, and lists of them"),
        false => plan.to_string(),
    };
    super::output::say_last(&format!("{text}\n"), ExitCode::SUCCESS)
}
