//! The work that is put on every gateway, and what is measured of it.

mod change;
mod echo;
mod http;
mod idle;
mod keys;

use std::time::Duration;

use anyhow::Result;

use crate::peer::{Peer, Site};
use crate::proc;
use crate::stop::Stop;

/// A kind of work; each measurement of it starts a fresh gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Work {
    /// 64-byte messages over 64 tunnels, each answered before the next.
    Echo64,
    /// The same over one tunnel, everything pinned to one core.
    Echo1,
    /// The same over 1,000 tunnels.
    Echo1000,
    /// 64-byte messages at a fixed rate over 64 tunnels: latency without coordinated omission.
    Paced,
    /// 64-KiB messages over 8 tunnels.
    Stream,
    /// Connect, handshake, one echo, Close; 32 at a time.
    Handshake,
    /// 9,900 tunnels that say nothing, then each one message, then the end of all.
    Idle,
    /// HTTP requests over 64 kept connections, by wrk.
    Http,
    /// 500 tunnels while the gateway reads its configuration anew.
    Reload,
    /// 500 tunnels while the gateway is replaced by another program.
    Upgrade,
    /// Which clients are sent elsewhere when one of three backends leaves.
    Keys,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Length of each load.
    pub load: Duration,
    /// Idle tunnels.
    pub idle: usize,
    /// How long memory may take to come back, and how long wake-ups are counted.
    pub wait: Duration,
    /// How long tunnels are watched after a reload or an upgrade.
    pub watch: Duration,
    /// Messages a second of [`Work::Paced`].
    pub rate: f64,
}

/// Figures of one measurement, by [`crate::report::Metric`] id.
pub type Figures = Vec<(&'static str, f64)>;

impl Work {
    /// Whether the generator, the backends and the gateway share one core, so that no waking of halted cores is measured.
    pub fn is_pinned(self) -> bool {
        self == Self::Echo1
    }

    /// Whether it is a question that the peer has an answer to.
    pub fn concerns(self, peer: Peer) -> bool {
        match self {
            Self::Idle => peer != Peer::Direct,
            Self::Keys => !matches!(peer, Peer::Direct | Peer::Nginx16k),
            Self::Reload => peer.reload("", "").is_some() && peer != Peer::Nginx16k,
            Self::Upgrade => peer.upgrade("", "").is_some() && peer != Peer::Nginx16k,
            Self::Stream => true,
            _ => peer != Peer::Nginx16k,
        }
    }

    /// Whether it is one of those that hardly differ from time to time, and take their time.
    pub fn is_steady(self) -> bool {
        matches!(self, Self::Idle | Self::Reload | Self::Upgrade | Self::Keys)
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
            Self::Stream => echo::stream(site, amount, stop),
            Self::Handshake => echo::handshake(site, amount, stop),
            Self::Idle => idle::measure(site, amount, stop),
            Self::Http => http::measure(site, amount, stop),
            Self::Reload => change::reload(site, peer, amount, stop),
            Self::Upgrade => change::upgrade(site, peer, amount, stop),
            Self::Keys => keys::measure(site, stop),
        }?;
        if peer == Peer::Direct {
            figures.retain(|(id, _)| !id.ends_with(".cpu"));
        }
        Ok(figures)
    }
}

/// What a load cost the gateway. Before and after, things are given time to settle: a thread that runs is not accounted
/// for yet.
///
/// # Errors
/// Those of the load, or that the user wants an end.
pub fn cpu_of<T>(site: &Site, stop: &Stop, load: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    stop.wait(SETTLE)?;
    let processes = site.processes();
    let before = proc::cpu(&processes);
    let outcome = load()?;
    stop.wait(SETTLE)?;
    Ok((outcome, proc::cpu(&processes).saturating_sub(before)))
}

const SETTLE: Duration = Duration::from_millis(50);
