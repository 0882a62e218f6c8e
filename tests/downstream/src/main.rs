//! The gateway with the hook in it.

use std::process::ExitCode;

fn main() -> ExitCode {
    downstream::gateway().run()
}
