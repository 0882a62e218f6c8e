//! `longhaul generate`: man pages and shell completions, made from the command line's own description.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::output::failed;

/// Writes `man/longhaul.1` and a page for each command, and `completions` for Bash, zsh and fish.
pub(super) fn run(command: Command, folder: &Path) -> ExitCode {
    match pages(command.clone(), &folder.join("man")).and_then(|()| completions(command, &folder.join("completions"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(format_args!("{}: cannot be written: {error}", folder.display())),
    }
}

fn pages(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

fn completions(mut command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, folder)?;
    }
    Ok(())
}
