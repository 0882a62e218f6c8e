//! A gateway with a hook of its own.

mod greeter;

use std::process::ExitCode;

fn main() -> ExitCode {
    longhaul::Gateway::builder().hook::<greeter::Greeter>("greeter").run()
}
