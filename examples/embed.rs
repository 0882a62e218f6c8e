//! The smallest gateway of one's own: `cargo run --example embed -- conf/minimal.yaml`

use std::path::PathBuf;
use std::process::ExitCode;

use longhaul::config;
use longhaul::server::{Options, Server};

fn main() -> ExitCode {
    env_logger::init();
    let file = std::env::args().nth(1).map_or_else(|| PathBuf::from("conf/minimal.yaml"), PathBuf::from);
    let config = match config::load(&file, &config::NoHooks) {
        Ok(loaded) => loaded.config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let server = Server::new(config, Options::default()).on_ready(|addresses| println!("serving {addresses:?}"));
    match server.run() {
        Ok(never) => match never {},
        Err(error) => panic!("{error}"),
    }
}
