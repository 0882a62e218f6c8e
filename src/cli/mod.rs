//! The command line: `longhaul -c FILE`, `check`, `where`, `demo`, and `status`, `tunnels`, `close`, `reload`, `plan`,
//! `members`, `drain` of a running gateway.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

mod certificates;
mod check;
mod control;
mod convert;
#[cfg(feature = "demo")]
mod demo;
mod drain;
mod generate;
mod init;
mod locate;
mod members;
mod output;
mod plan;
mod status;
mod summary;
mod tunnels;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::{Unsaid, WRONG, complain, load, serve};
use crate::diagnostics::Diagnostics;
use crate::hook::HookRegistry;
use crate::server::{OnStart, Options, Server};
use crate::tls::certificates::Lapsed;

/// The gateway for connections that last: sticky WebSockets and HTTP from one YAML file.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Run in the background (`pid_file`, `error_log`, `user` and `group` apply)
    #[arg(short, long, requires = "conf")]
    daemon: bool,
    /// Take listening sockets and live tunnels over from the gateway that runs now, which then ends
    #[arg(short, long, requires = "conf")]
    upgrade: bool,
    /// Test the configuration and exit
    #[arg(short, long, requires = "conf")]
    test: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name every problem in a configuration file, each with line, path and remedy
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        conf: PathBuf,
    },
    /// Write a commented configuration file from three answers
    Init(init::Init),
    /// Say which route and backend a request would get, and why
    Where(locate::Question),
    /// Write a Longhaul file from a configuration of nginx, HAProxy or Envoy
    Convert(convert::Convert),
    /// Say how the running gateway is: its backends, tunnels, configuration
    Status(control::Instance),
    /// List the running gateway's open tunnels
    Tunnels(tunnels::List),
    /// Close tunnels of the running gateway, by id or by a filter
    Close(tunnels::Close),
    /// Have the running gateway read its configuration anew
    Reload(control::Instance),
    /// Replace the running gateway's program without dropping a connection
    Upgrade {
        /// The new program; the one that runs now if left out (after its file was replaced, say)
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        #[command(flatten)]
        instance: control::Instance,
    },
    /// Say what a reload would change, and what it would cost
    Plan(control::PlanSource),
    /// Tell the running gateway the members of an upstream
    Members(members::Members),
    /// End the running gateway gently, or empty one of its backends
    Drain(drain::Drain),
    /// Run a gateway with three backends and a page to try it, no files needed
    #[cfg(feature = "demo")]
    Demo {
        /// Address to listen on; 127.0.0.1:8080 if left out, and 127.0.0.1:8443 with --tls
        #[arg(long, value_name = "ADDRESS", value_parser = demo::address)]
        listen: Option<std::net::SocketAddr>,
        /// Make a certificate, and serve the page by https and its sockets by wss
        #[arg(long)]
        tls: bool,
        /// Have the backends from a file of members, on which the page puts two more
        #[arg(long)]
        discover: bool,
    },
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Generate {
        /// The folder that gets `man` and `completions`
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
Signals: INT ends at once, TERM drains first (`longhaul drain`), HUP reloads the
configuration (`longhaul reload`), USR1 opens the access log anew.
RUST_LOG sets what is logged to standard error; the default is `warn,longhaul=info`.";

/// Runs a command. `hooks` are the hooks that a configuration may name; a gateway calls `on_start` once its listeners
/// are open.
pub fn run(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    hooks: HookRegistry,
    on_start: Option<OnStart>,
) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let mut command = command(arguments.first().map_or_else(Default::default, |program| program.to_string_lossy()));
    let parsed = command.try_get_matches_from_mut(arguments).and_then(|mut matches| {
        Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    });
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            return match (error.print(), error.use_stderr()) {
                // Not even standard error may take the message.
                (_, true) => WRONG.into(),
                (Ok(()), false) => ExitCode::SUCCESS,
                (Err(unwritten), false) => Unsaid::of(&unwritten).ends_with(ExitCode::SUCCESS),
            };
        }
    };
    let diagnostics = Diagnostics::install();
    let code = execute(arguments, command, hooks, on_start, diagnostics);
    // A gateway that did not start says why, behind the lines that are still queued.
    log::logger().flush();
    code
}

/// The command line under the name of the program that has it.
fn command(program: Cow<'_, str>) -> clap::Command {
    let name = Path::new(&*program).file_name().map_or("longhaul".into(), |name| name.to_string_lossy().into_owned());
    let after_help = AFTER_HELP.replace("`longhaul ", &format!("`{name} "));
    Arguments::command().bin_name(&name).display_name(&name).after_help(after_help)
}

fn execute(
    arguments: Arguments,
    command: clap::Command,
    hooks: HookRegistry,
    on_start: Option<OnStart>,
    diagnostics: Option<Diagnostics>,
) -> ExitCode {
    match arguments.command {
        Some(Command::Check { conf }) => check::run(&conf, &hooks),
        Some(Command::Init(init)) => init::run(init),
        Some(Command::Where(question)) => locate::run(&question, &hooks),
        Some(Command::Convert(arguments)) => convert::run(&arguments, &hooks),
        Some(Command::Status(instance)) => status::run(&instance, &hooks),
        Some(Command::Tunnels(list)) => tunnels::list(&list, &hooks),
        Some(Command::Close(close)) => tunnels::close(&close, &hooks),
        Some(Command::Reload(instance)) => control::reload(&instance, &hooks),
        Some(Command::Upgrade { binary, instance }) => control::upgrade(binary, &instance, &hooks),
        Some(Command::Plan(plan)) => control::plan(&plan, &hooks),
        Some(Command::Members(members)) => members::run(&members, &hooks),
        Some(Command::Drain(drain)) => drain::run(&drain, &hooks),
        #[cfg(feature = "demo")]
        Some(Command::Demo { listen, tls, discover }) => demo::run(listen, tls, discover, hooks, diagnostics),
        Some(Command::Generate { folder }) => {
            let program = command.get_bin_name().unwrap_or("longhaul").to_owned();
            generate::run(self::command(program.into()), &folder)
        }
        None => gateway(&arguments, command, hooks, on_start, diagnostics),
    }
}

fn gateway(
    arguments: &Arguments,
    mut command: clap::Command,
    hooks: HookRegistry,
    on_start: Option<OnStart>,
    diagnostics: Option<Diagnostics>,
) -> ExitCode {
    let Some(file) = &arguments.conf else {
        let name = command.get_bin_name().unwrap_or("longhaul");
        complain(format_args!("{name}: no configuration; name one with `-c FILE`, or try `{name} demo`\n"));
        complain(command.render_usage());
        return WRONG.into();
    };
    if arguments.test {
        return check::run(file, &hooks);
    }
    let config = match load(file, &hooks, &Lapsed::Taken) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let options = Options { upgrade: arguments.upgrade, daemon: arguments.daemon };
    let server = Server::new(config, hooks, options).diagnostics(diagnostics);
    serve(match on_start {
        Some(on_start) => server.on_start(on_start),
        None => server,
    })
}
