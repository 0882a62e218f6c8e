//! The gateway that tests of hooks run: the stock one, with hooks that do what a test says.

#![allow(clippy::unwrap_used, reason = "a hook that cannot go on fails, which is what a test of failures wants")]

mod acting;
mod bookmarking;
mod breaking;
mod falling;
mod keeping;
mod seeing;
mod talking;

use std::io::Write;
use std::process::ExitCode;

use longhaul::Gateway;

fn main() -> ExitCode {
    Gateway::builder()
        .hook::<acting::Acting>("acting")
        .hook::<bookmarking::Bookmarking>("bookmarking")
        .hook::<breaking::Breaking>("breaking")
        .hook::<falling::Falling>("falling")
        .hook::<falling::Unmakeable>("unmakeable")
        .hook::<keeping::Keeping>("keeping")
        .hook::<seeing::Seeing>("seeing")
        .hook::<talking::Talking>("talking")
        .run()
}

/// Writes a line to standard error in one call. `eprintln!` takes one for each part of its line, and the log, which
/// another thread writes there, comes between them.
pub(crate) fn say(line: String) {
    let _ = std::io::stderr().write_all((line + "\n").as_bytes());
}
