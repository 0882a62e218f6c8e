//! `longhaul convert`: a Longhaul file from a configuration of nginx, HAProxy or Envoy.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output::{WRONG, complain, failed, say_last};
use crate::convert::{self, ConvertError, Disk, SourceFormat};
use crate::counted::counted;
use crate::hook::HookRegistry;

/// Arguments of `longhaul convert`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Convert {
    /// The configuration: nginx.conf or a file of sites, haproxy.cfg, envoy.yaml
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The program that it is for; found from its first lines if left out
    #[arg(long, value_name = "PROGRAM")]
    from: Option<From>,
    /// The Longhaul file to write, or - for standard output, as if left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write it in the place of a file that is there
    #[arg(long, requires = "output")]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    Nginx,
    Haproxy,
    Envoy,
}

const AFTER_HELP: &str = "\
Examples:
  longhaul convert /etc/nginx/nginx.conf -o longhaul.yaml
  longhaul convert sites-available/chat | less
  longhaul convert --from haproxy lb.cfg -o longhaul.yaml --force
  longhaul check -c longhaul.yaml

A comment stands at every line of the source that has no equivalent, or that
means something else. The summary goes to standard error: what was carried,
changed, left out, and whether clients keep their backends (docs/convert.md).
Exit codes: 0 converted, 1 a file cannot be read or written or the result is
none that a gateway takes, 2 wrong usage or a source with problems.";

pub(super) fn run(arguments: &Convert, hooks: &HookRegistry) -> ExitCode {
    let kind = arguments.from.map(|from| match from {
        From::Nginx => SourceFormat::Nginx,
        From::Haproxy => SourceFormat::Haproxy,
        From::Envoy => SourceFormat::Envoy,
    });
    let file = arguments.file.display();
    let converted = match convert::convert(&arguments.file, kind, &Disk, hooks) {
        Ok(converted) => converted,
        Err(error @ ConvertError::Unreadable(_)) => return failed(format_args!("{file} {error}")),
        Err(ConvertError::Refused(problems)) => {
            let count = problems.len();
            complain(ConvertError::Refused(problems));
            complain(format_args!("{file}: {}", counted(count, "problem")));
            return WRONG.into();
        }
        Err(error) => {
            complain(format_args!("longhaul: {file} {error}"));
            return WRONG.into();
        }
    };
    let code = match &converted.refused {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    };
    let output = arguments.output.as_ref().filter(|output| output.as_os_str() != "-");
    let code = match output {
        None => say_last(&converted.text, code),
        Some(output) => match written(output, &converted.text, arguments.force) {
            Ok(()) => code,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                complain(format_args!("longhaul: {} is there already; `--force` replaces it", output.display()));
                return WRONG.into();
            }
            Err(error) => return failed(format_args!("{} cannot be written: {error}", output.display())),
        },
    };
    complain(converted.summary.trim_end());
    if let Some(problems) = &converted.refused {
        let name = output.map_or("the result".into(), |output| output.to_string_lossy());
        complain(problems.in_file(&name));
        complain("longhaul: the result is no file that a gateway takes: mend these lines");
    }
    code
}

/// Writes a new file, or with `force` the place of one that is there: whole, or not at all.
fn written(path: &Path, text: &str, force: bool) -> io::Result<()> {
    if !force {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        return file.write_all(text.as_bytes());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
    let replaced = file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&beside, path));
    if replaced.is_err() {
        // The first failure is the one to tell of.
        let _ = std::fs::remove_file(&beside);
    }
    replaced
}
