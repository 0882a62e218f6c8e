//! Work for gateways, and its measurement.

mod beside;
mod change;
mod echo;
mod fairness;
mod http;
mod idle;
mod keys;

use std::time::Duration;

use anyhow::Result;

use crate::generator::Generator;
use crate::peer::{Clients, Peer, Setting, Site};
use crate::proc::{self, Cost};
use crate::stop::Stop;

/// A kind of work; each measurement of it starts a fresh gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Work {
    /// 64-byte messages over 64 tunnels, each answered before the next.
    #[value(alias = "echo-64")]
    Echo64,
    /// The same over one tunnel, everything pinned to one core.
    #[value(alias = "echo-1")]
    Echo1,
    /// The same over 1,000 tunnels.
    #[value(alias = "echo-1000")]
    Echo1000,
    /// 64-byte messages at a fixed rate over 64 tunnels: latency without coordinated omission.
    Paced,
    /// 64-KiB messages over 8 tunnels.
    Stream,
    /// Connect, handshake, one echo, Close; 32 at a time.
    Handshake,
    /// The same with the access log that a gateway has by default; Longhaul and nginx only.
    Logged,
    /// Four tunnels with as many 64-KiB messages as they take, beside 16 with small ones, all on one worker.
    Fairness,
    /// 9,900 silent tunnels, then one message on each at a time, then the end of all.
    Idle,
    /// HTTP requests over 64 kept connections, by wrk.
    Http,
    /// 500 tunnels while the gateway reads its configuration anew.
    Reload,
    /// 500 tunnels while the gateway is replaced by another program.
    Upgrade,
    /// Clients that are sent elsewhere when one of three backends leaves.
    Keys,
    /// `idle` over TLS 1.3.
    TlsIdle,
    /// `echo64` over TLS 1.3.
    TlsEcho64,
    /// `echo1` over TLS 1.3.
    TlsEcho1,
    /// `stream` over TLS 1.3.
    TlsStream,
    /// `handshake` over TLS 1.3, with a full handshake of TLS each.
    TlsHandshake,
    /// The same, each in the session of an earlier one.
    TlsResumed,
    /// Echoes over 1,000 tunnels while 500 full handshakes of TLS a second come in.
    TlsBeside,
}

/// Lengths, numbers and rates of work.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Length of each load.
    pub load: Duration,
    /// Idle tunnels.
    pub idle: usize,
    /// The longest time for memory to come back, and the time in which wake-ups are counted.
    pub wait: Duration,
    /// The time for which tunnels are watched after a reload or an upgrade.
    pub watch: Duration,
    /// Messages a second of [`Work::Paced`].
    pub rate: f64,
}

/// Figures of one measurement, by [`crate::report::Metric`] id.
pub type Figures = Vec<(&'static str, f64)>;

impl Work {
    /// True when the generator, the backends and the gateway share one core. Then no waking of halted cores is
    /// measured.
    pub fn is_pinned(self) -> bool {
        matches!(self, Self::Echo1 | Self::TlsEcho1)
    }

    /// The setting of the gateways for it.
    pub fn setting(self) -> Setting {
        Setting {
            // One for each core that the gateway has.
            workers: if matches!(self, Self::Fairness | Self::TlsBeside) { 1 } else { 2 },
            is_replaced: self == Self::Upgrade,
            is_logged: self == Self::Logged,
            clients: match self {
                Self::TlsResumed => Clients::Resuming,
                _ if self.is_tls() => Clients::Tls,
                _ => Clients::Plain,
            },
            storm: None,
            is_restarted: false,
        }
    }

    /// True when clients come over TLS.
    fn is_tls(self) -> bool {
        let messages = matches!(self, Self::TlsIdle | Self::TlsEcho64 | Self::TlsEcho1 | Self::TlsStream);
        messages || matches!(self, Self::TlsHandshake | Self::TlsResumed | Self::TlsBeside)
    }

    /// True when the generator can make its load.
    pub fn is_offered(self, generator: Generator) -> bool {
        let only_mio = matches!(self, Self::Http | Self::Fairness) || self.is_steady() || self.is_tls();
        generator == Generator::Mio || !only_mio
    }

    /// True when the peer can do it. The self-check takes part where CPU is measured.
    pub fn concerns(self, peer: Peer) -> bool {
        match self {
            _ if peer == Peer::Again => !self.is_steady() && !matches!(self, Self::Fairness | Self::TlsBeside),
            _ if peer == Peer::Reattach => matches!(self, Self::Echo64 | Self::Echo1 | Self::Echo1000 | Self::Idle),
            // The harness has no configuration of stock Pingora with TLS, and its backends are plain.
            _ if self.is_tls() && matches!(peer, Peer::Direct | Peer::Pingora) => false,
            Self::Logged => matches!(peer, Peer::Longhaul | Peer::Nginx),
            Self::Idle => peer != Peer::Direct,
            Self::Keys => !matches!(peer, Peer::Direct | Peer::Nginx16k),
            Self::Reload => peer.reload("", "").is_some() && peer != Peer::Nginx16k,
            Self::Upgrade => peer.upgrade("", "").is_some() && peer != Peer::Nginx16k,
            Self::Stream | Self::TlsStream => true,
            _ => peer != Peer::Nginx16k,
        }
    }

    /// True when its figures hardly differ from round to round and take long to measure.
    pub fn is_steady(self) -> bool {
        matches!(self, Self::Idle | Self::TlsIdle | Self::Reload | Self::Upgrade | Self::Keys)
    }

    /// Puts this work on a site.
    ///
    /// # Errors
    /// When the gateway cannot do it at all, or the user wants an end. Single failures are counted in the figures.
    pub fn measure(self, site: &mut Site, peer: Peer, amount: &Amount, stop: &Stop) -> Result<Figures> {
        let mut figures = match self {
            Self::Echo64 => echo::closed(site, amount, 64, &echo::OVER_64, stop),
            Self::Echo1 => echo::closed(site, amount, 1, &echo::OVER_1, stop),
            Self::Echo1000 => echo::closed(site, amount, 1_000, &echo::OVER_1000, stop),
            Self::Paced => echo::paced(site, amount, stop),
            Self::Stream => echo::stream(site, amount, &echo::STREAM, stop),
            Self::Handshake => echo::handshake(site, amount, &echo::HANDSHAKE, stop),
            Self::Logged => echo::handshake(site, amount, &echo::LOGGED, stop),
            Self::Fairness => fairness::measure(site, amount, stop),
            Self::Idle => idle::measure(site, amount, &idle::PLAIN, stop),
            Self::Http => http::measure(site, amount, stop),
            Self::Reload => change::reload(site, peer, amount, stop),
            Self::Upgrade => change::upgrade(site, peer, amount, stop),
            Self::Keys => keys::measure(site, stop),
            Self::TlsIdle => idle::measure(site, amount, &idle::TLS, stop),
            Self::TlsEcho64 => echo::closed(site, amount, 64, &echo::TLS_OVER_64, stop),
            Self::TlsEcho1 => echo::closed(site, amount, 1, &echo::TLS_OVER_1, stop),
            Self::TlsStream => echo::stream(site, amount, &echo::TLS_STREAM, stop),
            Self::TlsHandshake => echo::handshake(site, amount, &echo::TLS_HANDSHAKE, stop),
            Self::TlsResumed => echo::handshake(site, amount, &echo::TLS_RESUMED, stop),
            Self::TlsBeside => beside::measure(site, amount, stop),
        }?;
        if peer == Peer::Direct {
            figures.retain(|(id, _)| [".cpu", ".voluntary", ".involuntary"].iter().all(|cost| !id.ends_with(cost)));
        }
        Ok(figures)
    }
}

/// Outcome of a load and its cost for the gateway. Waits before and after: a thread that runs is not accounted for yet.
///
/// # Errors
/// Errors of the load, or that the user wants an end.
pub fn cost_of<T>(site: &Site, stop: &Stop, load: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    stop.wait(SETTLE)?;
    let processes = site.processes();
    let before = proc::cost(&processes);
    let outcome = load()?;
    stop.wait(SETTLE)?;
    site.check_scheduling();
    Ok((outcome, proc::cost(&processes).since(before)))
}

/// CPU in µs, voluntary and involuntary context switches of one of `done` operations.
pub fn cost_each(cost: Cost, done: f64) -> [f64; 3] {
    let switches = cost.switches;
    [cost.cpu.as_secs_f64() * 1e6 / done, switches.voluntary as f64 / done, switches.involuntary as f64 / done]
}

const SETTLE: Duration = Duration::from_millis(50);
