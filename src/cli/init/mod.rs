//! `longhaul init`: a commented configuration file from three answers, given as options or on a terminal.

mod answers;
mod file;
mod questions;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use self::answers::{Answers, Wrong};
use self::questions::{GivenAnswers, ask};
use super::output::{WRONG, complain, failed, say_last};

/// Options of `longhaul init`.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The file to write, or - for standard output; a file that is there is left as it is
    #[arg(short, long, value_name = "FILE", default_value = "longhaul.yaml")]
    output: PathBuf,
    /// Address that clients connect to; 0.0.0.0:8080 if nobody is asked
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Backends, each an IP address or a host name with a port; with commas between, or an option each
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    backend: Vec<String>,
    /// Key that keeps a client on its backend: issue_cookie (if nobody is asked), session=COOKIE (which backends set),
    /// cookie=NAME (set elsewhere), header=NAME, query=NAME, client_ip or none
    #[arg(long, value_name = "KEY")]
    affinity: Option<String>,
}

pub(super) fn run(init: Init) -> ExitCode {
    let to_output = init.output == Path::new("-");
    if !to_output && init.output.symlink_metadata().is_ok() {
        return failed(is_there(&init.output));
    }
    let given = GivenAnswers { listen: init.listen, backends: init.backend, affinity: init.affinity };
    let mut answers = match Answers::of_options(&given) {
        Ok(answers) => answers,
        Err(wrong) => return refused(&wrong),
    };
    if !given.is_whole() && io::stdin().is_terminal() {
        answers = match ask(&mut io::stdin().lock(), &given, answers) {
            Ok(answers) => answers,
            Err(error) => return failed(format_args!("{error}; nothing was written")),
        };
    } else if given.backends.is_empty() {
        return refused(&Wrong::NoBackend);
    }
    let text = file::text(&answers);
    if to_output {
        return say_last(&text, ExitCode::SUCCESS);
    }
    match write_new(&init.output, &text) {
        Ok(()) => say_last(&next_steps(&init.output), ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => failed(is_there(&init.output)),
        Err(error) => failed(format_args!("{}: cannot be written: {error}", init.output.display())),
    }
}

fn is_there(path: &Path) -> String {
    format!("{} is there already and is left as it is; name another file with `--output FILE`", path.display())
}

fn refused(wrong: &Wrong) -> ExitCode {
    complain(format_args!("longhaul: {wrong}"));
    WRONG.into()
}

/// Writes a file that was not there. A file that could not be written whole is removed.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
        // The first error is the one to be told.
        let _ = std::fs::remove_file(path);
    })
}

fn next_steps(path: &Path) -> String {
    let path = path.display();
    let check = format!("longhaul check -c {path}    its effect, and what nothing protects yet");
    format!("{path} is written. Next:\n  {check}\n  longhaul -c {path}          run\n")
}

#[cfg(test)]
mod tests;
