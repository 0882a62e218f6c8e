//! Output of the commands: words on the terminal, and exit codes.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Config, LoadError, Severity};
use crate::counted::counted;
use crate::hook::HookRegistry;
use crate::server::Server;
use crate::tls::certificates::Lapsed;

/// Runs a server until the process ends; returns only if the server does not start.
pub(super) fn serve(server: Server) -> ExitCode {
    match server.run() {
        Ok(never) => match never {},
        Err(error) => failed(error),
    }
}

/// Reads a configuration file and prints its warnings. On failure it prints the problems and returns the exit code.
/// `lapsed` is the rule for certificates that have expired or are not valid yet.
pub(super) fn load(file: &Path, hooks: &HookRegistry, lapsed: &Lapsed) -> Result<Config, ExitCode> {
    match config::load_by(file, hooks, lapsed) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(warning.in_file(&file.to_string_lossy()));
            }
            Ok(loaded.config)
        }
        Err(error) => {
            refused(file, &error);
            Err(WRONG.into())
        }
    }
}

/// Prints the problems of a file, and how many there are.
pub(super) fn refused(file: &Path, error: &LoadError) {
    complain(error);
    let LoadError::Refused { problems, .. } = error else { return };
    let warnings = problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
    let count = problems.iter().len() + problems.left_out() - warnings;
    let besides = if warnings == 0 { String::new() } else { format!(", {}", counted(warnings, "warning")) };
    complain(format_args!("{}: {}{besides}", file.display(), counted(count, "problem")));
}

/// Why standard output did not take a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsaid {
    /// The reader has gone (`| head`): a command that only tells ends quietly.
    ReaderGone,
    /// Any other failure. Standard error has the line about it.
    Failed,
}

impl Unsaid {
    /// Tells of an output's failure, unless the reader alone has gone.
    pub(super) fn of(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        complain(format_args!("longhaul: standard output cannot be written: {error}"));
        Self::Failed
    }

    /// The exit code of a command that this ends, and that would have ended with `code`.
    pub(super) fn ends_with(self, code: ExitCode) -> ExitCode {
        match self {
            Self::ReaderGone => code,
            Self::Failed => ExitCode::FAILURE,
        }
    }
}

/// Writes to standard output.
///
/// # Errors
/// [`Unsaid`]; nothing more is to be said then.
pub(super) fn say(text: &str) -> Result<(), Unsaid> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(|error| Unsaid::of(&error))
}

/// Writes the last words of a command, and returns its exit code: `code`, unless the words cannot be written.
pub(super) fn say_last(text: &str, code: ExitCode) -> ExitCode {
    say(text).map_or_else(|unsaid| unsaid.ends_with(code), |()| code)
}

/// Writes a line to standard error. Ignores failures: there is no place left to tell of them.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints an error, and returns the exit code of a failure.
pub(super) fn failed(error: impl Display) -> ExitCode {
    complain(format_args!("longhaul: {error}"));
    ExitCode::FAILURE
}

/// The exit code of wrong usage or configuration.
pub(super) const WRONG: u8 = 2;
