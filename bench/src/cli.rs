//! The command line.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, Signal};

use crate::echo;
use crate::peer::{Ground, Peer};
use crate::report::{self, About};
use crate::run::{self, Plan};
use crate::stop::Stop;
use crate::work::{Amount, Work};

/// Puts the same work on Longhaul and other gateways, in turn, and prints one table.
///
/// Progress goes to standard error, the table to standard output. CPU is user and system time of all processes of the gateway, by the
/// scheduler's account, so it holds even where generator and gateway share cores.
#[derive(Parser)]
#[command(name = "longhaul-bench", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    /// Work to measure; all if left out
    #[arg(long, value_delimiter = ',', value_name = "WORK,…")]
    only: Vec<Work>,
    /// Peers to measure; all if left out
    #[arg(long, value_delimiter = ',', value_name = "PEER,…")]
    peers: Vec<Peer>,
    /// Under five minutes for all of it: shorter loads, fewer repeats, shorter waits
    #[arg(long)]
    quick: bool,
    /// How often everything is measured, the table has medians [default: 3; quick: 2, and 1 for what is steady]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: Option<u32>,
    /// Seconds of each load [default: 3; quick: 0.7]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<f64>,
    /// Seconds that memory may take to come back, that wake-ups are counted, and that tunnels are watched after a reload or an
    /// upgrade (half as long again) [default: 10; quick: 3]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<f64>,
    /// Idle tunnels; each takes two of a gateway's descriptors
    #[arg(long, default_value_t = 9_900, value_name = "TUNNELS")]
    idle: usize,
    /// Messages a second of the work `paced`
    #[arg(long, default_value_t = 10_000.0, value_name = "PER_SECOND")]
    rate: f64,
    /// Write results.md, results.json and charts into this folder too
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Longhaul's program
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/longhaul"), value_name = "PATH")]
    longhaul: PathBuf,
}

#[derive(Subcommand)]
enum Sub {
    /// Be a backend: answer HTTP requests and echo WebSocket messages, until ended
    Echo {
        /// Address to listen on; port 0 takes a free one, which is printed
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Its name, told in `X-Backend`
        #[arg(long, default_value = "one")]
        name: String,
    },
    /// Become another program, which is sent a signal when the one that started it dies
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        end: i32,
        #[arg(last = true, required = true)]
        words: Vec<String>,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Sub::Echo { listen, name }) => backend(listen, &name),
        Some(Sub::Launch { end, words }) => launch(end, &words),
        None => compare(&cli.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("longhaul-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<()> {
    raise_descriptors()?;
    // What a gateway leaves behind when it replaces itself becomes a child of this process, and is ended with the rest.
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).context("orphans cannot be adopted")?;
    let plan = options.plan();
    let ground = Ground { longhaul: options.longhaul.clone(), stop: Stop::on_signals()? };
    let results = run::run(&plan, &ground)?;
    let about = About::here(&plan.peers, &options.longhaul, plan.method());
    print!("{}", report::page(&results, &about));
    match &options.out {
        Some(folder) => report::write(folder, &results, &about),
        None => Ok(()),
    }
}

impl Options {
    fn plan(&self) -> Plan {
        let either = |full: f64, quick: f64| if self.quick { quick } else { full };
        let seconds = |chosen: Option<f64>, default: f64| Duration::from_secs_f64(chosen.unwrap_or(default));
        let repeats = self.repeats.unwrap_or(if self.quick { 2 } else { 3 }) as usize;
        let wait = seconds(self.wait, either(10.0, 3.0));
        Plan {
            peers: installed(self),
            works: all_if_empty(&self.only),
            repeats,
            steady_repeats: if self.quick && self.repeats.is_none() { 1 } else { repeats },
            amount: Amount {
                load: seconds(self.seconds, either(3.0, 0.7)),
                idle: self.idle,
                wait,
                watch: wait.mul_f64(1.5),
                rate: self.rate,
            },
        }
    }
}

fn all_if_empty<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() { T::value_variants().to_vec() } else { chosen.to_vec() }
}

/// The peers asked for that are there; the others are named.
fn installed(options: &Options) -> Vec<Peer> {
    let mut peers = all_if_empty(&options.peers);
    peers.retain(|peer| {
        let is_there = *peer == Peer::Direct || peer.program(&options.longhaul).is_some();
        if !is_there {
            eprintln!("longhaul-bench: {} is not installed and left out (bench/install.sh)", peer.title());
        }
        is_there
    });
    peers
}

fn backend(listen: SocketAddr, name: &str) -> Result<()> {
    raise_descriptors()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    echo::serve(listen, name)
}

fn launch(end: i32, words: &[String]) -> Result<()> {
    let signal = Signal::from_named_raw(end).context("no such signal")?;
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    let (program, arguments) = words.split_first().context("no program")?;
    let error = Command::new(program).args(arguments).exec();
    bail!("{program}: {error}")
}

/// As many open files as this machine allows, for this process and all it starts.
fn raise_descriptors() -> Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).context("the limit of open files cannot be raised")
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.1 to 3600 seconds".into()),
    }
}
