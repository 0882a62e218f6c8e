//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit};

use crate::curves;
use crate::echo;
use crate::generator::Generator;
use crate::netns::Namespace;
use crate::peer::{Ground, Peer};
use crate::report::{self, About};
use crate::run::{self, Plan};
use crate::session;
use crate::soak;
use crate::stop::Stop;
use crate::tls::Certificate;
use crate::work::{Amount, Work};

/// Puts the same work on Longhaul and other gateways, in turn, and prints one table.
///
/// Progress goes to standard error, the table to standard output. CPU is user and system time of all processes of the
/// gateway, by the scheduler's account, so it holds even where generator and gateway share cores. Every process runs in
/// a session of its own, and Longhaul is measured twice: beside itself its ratio must be 1.00 ± 0.03.
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
    /// Shorter loads, fewer repeats, shorter waits
    #[arg(long)]
    quick: bool,
    /// Rounds, in which all peers take a turn; work with steady figures takes at most 3 [default: 5; quick: 2, and 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: Option<u32>,
    /// Seconds of each load [default: 1.5; quick: 0.7]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<f64>,
    /// Seconds for memory to come back, for counting wake-ups, and (half as long again) for watching tunnels after a
    /// reload or an upgrade [default: 10; quick: 3]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<f64>,
    /// Idle tunnels; each takes two of a gateway's descriptors
    #[arg(long, default_value_t = 9_900, value_name = "TUNNELS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500_000))]
    idle: u32,
    /// Messages a second of the work `paced`
    #[arg(long, default_value_t = 20_000.0, value_name = "PER_SECOND", value_parser = rate)]
    rate: f64,
    /// Program that makes the load
    #[arg(long, default_value = "mio")]
    generator: Generator,
    #[command(flatten)]
    places: Places,
}

#[derive(Args)]
struct Places {
    /// Write results and charts into this folder too
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Longhaul's program
    #[arg(long, value_name = "PATH")]
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/longhaul"))]
    longhaul: PathBuf,
}

#[derive(Subcommand)]
enum Sub {
    /// Growth of cost: CPU per message, memory and latency at 10, 100, 1,000 and 9,900 tunnels
    Curves {
        /// Peers to measure
        #[arg(long, value_delimiter = ',', value_name = "PEER,…", default_value = "longhaul,nginx,haproxy,envoy")]
        peers: Vec<Peer>,
        /// Rounds; the figures are medians
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        repeats: u32,
        /// Seconds of each load
        #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
        seconds: f64,
        /// Messages a second over all tunnels
        #[arg(long, default_value_t = 10_000.0, value_name = "PER_SECOND", value_parser = rate)]
        rate: f64,
        #[command(flatten)]
        places: Places,
    },
    /// Many tunnels with churn for a long time; fails unless memory stays flat
    Soak {
        /// The gateway
        #[arg(long, default_value = "longhaul")]
        peer: Peer,
        /// Length of the soak
        #[arg(long, default_value_t = 30.0, value_parser = minutes)]
        minutes: f64,
        /// Open tunnels
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=9_900))]
        tunnels: u32,
        #[command(flatten)]
        places: Places,
    },
    /// Run a backend, which answers HTTP requests and echoes WebSocket messages until it is ended
    Echo {
        /// Address to listen on; port 0 takes a free one, which is printed
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Its name, the value of `X-Backend`
        #[arg(long, default_value = "one")]
        name: String,
    },
    /// Become another program in a session of its own, which gets a signal when its parent dies
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
    // The generator leads a session, as the gateways and the backends do.
    if !matches!(cli.command, Some(Sub::Echo { .. } | Sub::Launch { .. })) {
        match session::lead() {
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(error) => return report_error(&error),
        }
    }
    let result = match cli.command {
        Some(Sub::Echo { listen, name }) => backend(listen, &name),
        Some(Sub::Launch { end, words }) => session::launch(end, &words),
        Some(Sub::Curves { peers, repeats, seconds, rate, places }) => ground(&places).and_then(|ground| {
            let load = Duration::from_secs_f64(seconds);
            let peers = installed(&peers, &places);
            let plan = curves::Plan { peers, repeats: repeats as usize, load, rate };
            curves::run(&plan, &ground, places.out.as_deref())
        }),
        Some(Sub::Soak { peer, minutes, tunnels, places }) => ground(&places).and_then(|ground| {
            let length = Duration::from_secs_f64(minutes * 60.0);
            soak::run(&soak::Plan { peer, length, tunnels: tunnels as usize }, &ground, places.out.as_deref())
        }),
        None => compare(&cli.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report_error(&error),
    }
}

fn report_error(error: &anyhow::Error) -> ExitCode {
    eprintln!("longhaul-bench: {error:#}");
    ExitCode::FAILURE
}

fn compare(options: &Options) -> Result<()> {
    let ground = Ground { generator: options.generator, ..ground(&options.places)? };
    let namespace = matches!(options.generator, Generator::TokioNetns).then(Namespace::new).transpose()?;
    let ground = Ground { namespace, ..ground };
    let plan = options.plan()?;
    let results = run::run(&plan, &ground)?;
    let about = About::here(&plan.peers, &ground.longhaul, plan.method());
    print!("{}", report::page(&results, &about));
    match &options.places.out {
        Some(folder) => report::write(folder, &results, &about),
        None => Ok(()),
    }
}

/// Prepares this process for measurements.
fn ground(places: &Places) -> Result<Ground> {
    raise_descriptors()?;
    // Processes that a gateway leaves behind when it replaces itself become children of this process, and end with the
    // rest.
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).context("orphans cannot be adopted")?;
    let (longhaul, generator) = (places.longhaul.clone(), Generator::Mio);
    let certificate = Certificate::new()?;
    Ok(Ground { longhaul, stop: Stop::on_signals()?, certificate, generator, namespace: None })
}

impl Options {
    fn plan(&self) -> Result<Plan> {
        let either = |full: f64, quick: f64| if self.quick { quick } else { full };
        let seconds = |chosen: Option<f64>, default: f64| Duration::from_secs_f64(chosen.unwrap_or(default));
        let repeats = self.repeats.unwrap_or(if self.quick { 2 } else { 5 }) as usize;
        let wait = seconds(self.wait, either(10.0, 3.0));
        let mut works = all_if_empty(&self.only);
        if self.only.is_empty() {
            works.retain(|work| work.is_offered(self.generator));
        }
        let missing = works.iter().find(|work| !work.is_offered(self.generator));
        ensure!(missing.is_none(), "this generator has no {:?}", missing.unwrap_or(&Work::Paced));
        Ok(Plan {
            peers: installed(&all_if_empty(&self.peers), &self.places),
            works,
            generator: self.generator,
            repeats,
            steady_repeats: repeats.min(if self.quick { 1 } else { 3 }),
            amount: Amount {
                load: seconds(self.seconds, either(1.5, 0.7)),
                idle: self.idle as usize,
                wait,
                watch: wait.mul_f64(1.5),
                rate: self.rate,
            },
        })
    }
}

fn all_if_empty<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() { T::value_variants().to_vec() } else { chosen.to_vec() }
}

/// The installed ones of these peers. Names the others on standard error.
fn installed(peers: &[Peer], places: &Places) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    peers.retain(|peer| {
        let is_there = *peer == Peer::Direct || peer.program(&places.longhaul).is_some();
        if !is_there {
            let remedy = match peer {
                Peer::Longhaul => "make build, or --longhaul PATH",
                Peer::Pingora => "make stock-pingora",
                _ => "bench/install.sh",
            };
            eprintln!("longhaul-bench: {} is not there and left out ({remedy})", peer.title());
        }
        is_there
    });
    peers
}

fn backend(listen: SocketAddr, name: &str) -> Result<()> {
    raise_descriptors()?;
    echo::serve(listen, name)
}

/// Raises the limit of open files to the maximum of this machine, for this process and its children.
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

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (0.1..=10_080.0).contains(&minutes) => Ok(minutes),
        _ => Err("0.1 to 10080 minutes".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (1.0..=1e6).contains(&rate) => Ok(rate),
        _ => Err("1 to 1000000 a second".into()),
    }
}
