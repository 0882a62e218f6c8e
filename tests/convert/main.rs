//! `longhaul convert`: golden conversions, broken sources, random text, and conversions beside the programs themselves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod beside;
mod broken;
mod golden;
mod haproxy;
mod nginx;
mod peer;
mod random;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs the command to its end, in the repository's folder.
fn longhaul(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The sources of the golden conversions, by their paths from the repository's folder.
fn sources() -> Vec<PathBuf> {
    let mut sources = Vec::new();
    for (folder, extensions) in [("nginx", &["conf"][..]), ("haproxy", &["cfg"]), ("envoy", &["yaml", "json"])] {
        let path = Path::new("tests/convert").join(folder);
        let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).unwrap();
        let names = entries.map(|entry| PathBuf::from(entry.unwrap().file_name()));
        let wanted =
            names.filter(|name| name.extension().is_some_and(|found| extensions.iter().any(|one| found == *one)));
        sources.extend(wanted.map(|name| path.join(name)));
    }
    sources.sort();
    sources
}
