//! Arguments of the program: its options, its subcommands, and the values that they take.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::generator::Generator;
use crate::peer::{Clients, Peer};
use crate::work::Work;

/// Puts the same work on Longhaul and other gateways, in turn, and prints one table.
///
/// Progress goes to standard error, the table to standard output. CPU is user and system time of all processes of the
/// gateway, by the scheduler's account, so it holds even where generator and gateway share cores. Every process runs in
/// a session of its own, and Longhaul is measured twice: beside itself its ratio must be 1.00 ± 0.03.
#[derive(Parser)]
#[command(name = "longhaul-bench", version, args_conflicts_with_subcommands = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Sub>,
    #[command(flatten)]
    pub(super) options: Options,
}

#[derive(Args)]
pub(super) struct Options {
    /// Work to measure; all if left out
    #[arg(long, value_delimiter = ',', value_name = "WORK,…")]
    pub(super) only: Vec<Work>,
    /// Peers to measure; all if left out
    #[arg(long, value_delimiter = ',', value_name = "PEER,…")]
    pub(super) peers: Vec<Peer>,
    /// Shorter loads, fewer repeats, shorter waits
    #[arg(long)]
    pub(super) quick: bool,
    /// Rounds, in which all peers take a turn; work with steady figures takes at most 3 [default: 5; quick: 2, and 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) repeats: Option<u32>,
    /// Seconds of each load [default: 1.5; quick: 0.7]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) seconds: Option<f64>,
    /// Seconds for memory to come back, for counting wake-ups, and (half as long again) for watching tunnels after a
    /// reload or an upgrade [default: 10; quick: 3]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) wait: Option<f64>,
    /// Idle tunnels; each takes two of a gateway's descriptors
    #[arg(long, default_value_t = 9_900, value_name = "TUNNELS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pub(super) idle: u32,
    /// Messages a second of the work `paced`
    #[arg(long, default_value_t = 20_000.0, value_name = "PER_SECOND", value_parser = rate)]
    pub(super) rate: f64,
    /// Program that makes the load
    #[arg(long, default_value = "mio")]
    pub(super) generator: Generator,
    #[command(flatten)]
    pub(super) places: Places,
}

#[derive(Args)]
pub(super) struct Places {
    /// Write results and charts into this folder too
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: Option<PathBuf>,
    /// Longhaul's program
    #[arg(long, value_name = "PATH")]
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/longhaul"))]
    pub(super) longhaul: PathBuf,
}

#[derive(Subcommand)]
pub(super) enum Sub {
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
    /// Tunnels over TLS that move to a new process again and again; fails when one is lost or an upgrade adds 100 ms
    Upgrades {
        /// Open tunnels, half of them with TLS towards the backend, too
        #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
        tunnels: u32,
        /// Upgrades, one after the other
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        times: u32,
        #[command(flatten)]
        places: Places,
    },
    /// Tunnels while one of 10,000 members changes; fails when changes take 50 ms or tunnels wait 5 ms for them
    Members {
        /// Members of the upstream
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        members: u32,
        /// Open tunnels
        #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        tunnels: u32,
        /// Changes, four a second
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        changes: u32,
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
        /// Take one handshake at a time, each so many microseconds long
        #[arg(long)]
        handshake_us: Option<u64>,
        /// Handshakes that may wait for theirs; one more is answered 503
        #[arg(long, default_value_t = 128)]
        queue: usize,
    },
    /// A storm: all clients of a fleet come back at once to three backends that bear so many handshakes a second
    Storm {
        /// Gateways: those that have a way of their own to let clients in at a rate
        #[arg(long, value_delimiter = ',', value_name = "PEER,…", default_value = "longhaul,nginx,haproxy")]
        peers: Vec<Peer>,
        /// Clients that come back
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
        clients: u32,
        /// Handshakes a second that each backend takes [default: 500; with TLS: 150]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: Option<u32>,
        /// Clients come over TLS 1.3, with a full handshake each, or in the session of an earlier one
        #[arg(long)]
        tls: Option<StormTls>,
        /// Open tunnels that talk meanwhile
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
        talkers: u32,
        #[command(flatten)]
        places: Places,
    },
    /// Restarts: ten backends one after the other, planned and killed, under clients that count their messages; fails
    /// when a planned one costs a client of Longhaul's anything
    Reattach {
        /// Gateways
        #[arg(long, value_delimiter = ',', value_name = "PEER,…", default_value = "longhaul,nginx,haproxy,envoy")]
        peers: Vec<Peer>,
        /// Clients, each with a message every half second
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=9_000))]
        clients: u32,
        /// Seconds between two restarts
        #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = seconds)]
        pause: f64,
        #[command(flatten)]
        places: Places,
    },
    /// A rolling restart: backends go away for some seconds, one after the other, and their clients come back
    Restarts {
        /// Gateways
        #[arg(long, value_delimiter = ',', value_name = "PEER,…", default_value = "longhaul,nginx,haproxy")]
        peers: Vec<Peer>,
        /// Clients, each with a key of its own
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        clients: u32,
        /// Backends
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=50))]
        backends: u32,
        /// Seconds for which each backend is away
        #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
        away: f64,
        /// Seconds between the return of a backend and the end of the next
        #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = seconds)]
        pause: f64,
        #[command(flatten)]
        places: Places,
    },
    /// The clients of a storm, in a process of their own
    #[command(hide = true)]
    Crowd {
        /// Their job, in JSON
        job: String,
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

/// TLS of the clients of a storm.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum StormTls {
    /// A full handshake each.
    Full,
    /// Each in the session of an earlier one.
    Resumed,
}

impl StormTls {
    pub(super) fn clients(self) -> Clients {
        match self {
            Self::Full => Clients::Tls,
            Self::Resumed => Clients::Resuming,
        }
    }
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
