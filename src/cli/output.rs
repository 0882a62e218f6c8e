//! Output of the commands: words on the terminal, and exit codes.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Config, LoadError};
use crate::hook::Registry;
use crate::server::Server;

/// Runs a server until the process ends; returns only if the server does not start.
pub(super) fn serve(server: Server) -> ExitCode {
    match server.run() {
        Ok(never) => match never {},
        Err(error) => failed(error),
    }
}

/// Reads a configuration file and prints its warnings. On failure it prints the problems and returns the exit code.
pub(super) fn load(file: &Path, hooks: &Registry) -> Result<Config, ExitCode> {
    match config::load(file, hooks) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{}", warning.in_file(&file.to_string_lossy()));
            }
            Ok(loaded.config)
        }
        Err(error) => {
            eprintln!("{error}");
            if let LoadError::Refused { problems, .. } = &error {
                let count = problems.iter().len() + problems.left_out();
                eprintln!("{}: {count} problem{}", file.display(), if count == 1 { "" } else { "s" });
            }
            Err(WRONG.into())
        }
    }
}

/// Writes to standard output. Errors are ignored: a reader that has gone (`| head`) is no reason to panic.
pub(super) fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// Prints an error, and returns the exit code of a failure.
pub(super) fn failed(error: impl Display) -> ExitCode {
    eprintln!("longhaul: {error}");
    ExitCode::FAILURE
}

/// The exit code of wrong usage or configuration.
pub(super) const WRONG: u8 = 2;
