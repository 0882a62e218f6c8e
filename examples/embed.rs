//! The smallest gateway of one's own, with the whole command line: `cargo run --example embed -- -c conf/minimal.yaml`

use std::process::ExitCode;

fn main() -> ExitCode {
    longhaul::Gateway::builder().run()
}
