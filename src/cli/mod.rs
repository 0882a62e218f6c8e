//! The command line: `longhaul -c FILE`, `check`, `where`, `demo`, and `status`, `reload`, `plan`, `drain` of a running
//! gateway.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

mod certificates;
mod check;
mod control;
#[cfg(feature = "demo")]
mod demo;
mod drain;
mod locate;
mod output;
mod plan;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::output::{WRONG, load, serve};
use crate::diagnostics::Diagnostics;
use crate::hook::Registry;
use crate::server::{OnStart, Options, Server};

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
    /// Say which route and backend a request would get, and why, from the file alone
    Where(locate::Question),
    /// Say how the running gateway is: its backends, tunnels, configuration
    Status(control::Instance),
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
    Plan(control::Plan),
    /// End the running gateway gently, or empty one of its backends
    Drain(drain::Drain),
    /// Run a gateway with three backends and a page to try it, no files needed
    #[cfg(feature = "demo")]
    Demo {
        /// Address to listen on; 127.0.0.1:8080 if left out, and 127.0.0.1:8443 with --tls
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<std::net::SocketAddr>,
        /// Make a certificate, and serve the page by https and its sockets by wss
        #[arg(long)]
        tls: bool,
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
    hooks: Registry,
    on_start: Option<OnStart>,
) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // An error here is ignored: not even standard error takes the message.
            let _ = error.print();
            return if error.use_stderr() { WRONG.into() } else { ExitCode::SUCCESS };
        }
    };
    let diagnostics = Diagnostics::install();
    let code = execute(arguments, hooks, on_start, diagnostics);
    // A gateway that did not start says why, behind the lines that are still queued.
    log::logger().flush();
    code
}

fn execute(
    arguments: Arguments,
    hooks: Registry,
    on_start: Option<OnStart>,
    diagnostics: Option<Diagnostics>,
) -> ExitCode {
    match arguments.command {
        Some(Command::Check { conf }) => check::run(&conf, &hooks),
        Some(Command::Where(question)) => locate::run(&question, &hooks),
        Some(Command::Status(instance)) => status::run(&instance, &hooks),
        Some(Command::Reload(instance)) => control::reload(&instance, &hooks),
        Some(Command::Upgrade { binary, instance }) => control::upgrade(binary, &instance, &hooks),
        Some(Command::Plan(plan)) => control::plan(&plan, &hooks),
        Some(Command::Drain(drain)) => drain::run(&drain, &hooks),
        #[cfg(feature = "demo")]
        Some(Command::Demo { listen, tls }) => demo::run(listen, tls, hooks, diagnostics),
        None => gateway(&arguments, hooks, on_start, diagnostics),
    }
}

fn gateway(
    arguments: &Arguments,
    hooks: Registry,
    on_start: Option<OnStart>,
    diagnostics: Option<Diagnostics>,
) -> ExitCode {
    let Some(file) = &arguments.conf else {
        eprintln!("longhaul: no configuration; name one with `-c FILE`, or try `longhaul demo`\n");
        eprintln!("{}", Arguments::command().render_usage());
        return WRONG.into();
    };
    if arguments.test {
        return check::run(file, &hooks);
    }
    let config = match load(file, &hooks) {
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
