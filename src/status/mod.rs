//! Status of a running gateway, for people and programs: configuration, backends, tunnels, past reloads and upgrades.

mod close;
mod filter;
mod history;
mod listing;
mod located;
mod rates;
mod survey;
mod tunnel;
mod update;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::discovery::{SourceStatus, Sources};
use crate::snapshot::{Destination, GatewayPhase, Running};
use crate::upstream::Member;

pub use close::{CloseAsked, CloseOutcome, CloseRefused};
pub use filter::{FilterError, TunnelFilter};
pub use history::{Event, Histories, History};
pub use listing::{Listing, ListingCounts, ListingError, MOST_SORTED, Sort, TunnelsAsked};
pub use located::{Live, LiveBackend, LocateAsked, LocateError, Located};
pub use rates::Rates;
pub use survey::{GenerationCount, HotKey, Survey, Surveyed};
pub use tunnel::{AnnouncedEnd, TlsSides, TunnelStatus};
pub use update::{Overview, Reporter, Update};

/// Status of a gateway at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the binary.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Phase of the process: serving or draining.
    pub phase: GatewayPhase,
    /// Number of the configuration in force, from 1.
    pub generation: u64,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Addresses of its listeners, in the order of the configuration it started with.
    pub listeners: Vec<SocketAddr>,
    /// Address of its metrics.
    pub metrics: Option<SocketAddr>,
    /// Address of its admin API.
    #[serde(default)]
    pub admin: Option<SocketAddr>,
    /// Requests under way.
    pub requests: usize,
    /// Open tunnels.
    pub tunnels: usize,
    /// Open tunnels that speak TLS on one side or both.
    #[serde(default)]
    pub tls: TlsTunnels,
    /// Open tunnels by age, the youngest first.
    pub ages: Vec<Age>,
    /// Open tunnels whose key belongs to another backend by now; `None` where that is not known.
    pub away_from_home: Option<u64>,
    /// The last reload.
    pub last_reload: Option<Event>,
    /// The last upgrade: one by which this process took over, that failed, or that left tunnels here.
    pub last_upgrade: Option<Event>,
    /// The upstreams, in the order of the configuration.
    pub upstreams: Vec<UpstreamStatus>,
    /// Certificates in use.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// The last events; `None` where they are told apart from the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Histories>,
}

/// Number of open tunnels that speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsTunnels {
    /// Number of tunnels that an upgrade moves: the record layer seals them.
    pub record: u64,
    /// Number of tunnels that it does not move: rustls seals them.
    pub rustls: u64,
}

/// Number of open tunnels within one range of ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age {
    /// Upper end of the range in seconds, exclusive; the range before it ends where this one begins. `None` for the
    /// last.
    pub under_seconds: Option<u64>,
    /// Open tunnels of such an age.
    pub tunnels: u64,
}

/// Status of one upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
    /// The source of its members; `None` where the configuration lists its backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<SourceStatus>,
}

/// Status of one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its name; the address as text where it is given none.
    #[serde(default)]
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u16,
    /// Set while it counts as up.
    pub up: bool,
    /// Set where its health is checked at all.
    pub checked: bool,
    /// Set while the operator drains it.
    pub draining: bool,
    /// Set while its source says that it leaves.
    #[serde(default)]
    pub leaving: bool,
    /// Set where its source names it no longer, and clients wait for it for a while.
    #[serde(default)]
    pub absent: bool,
    /// Seconds since it went away: down, not to be connected to, leaving or absent; `None` while it is there, and where
    /// nobody waits for backends that are away (`absent`).
    #[serde(default)]
    pub away_seconds: Option<u64>,
    /// Clients that wait until it is back.
    #[serde(default)]
    pub held: usize,
    /// True while doubt keeps it out for a time.
    #[serde(default)]
    pub ejected: bool,
    /// Open tunnels.
    pub tunnels: usize,
    /// Open tunnels and running requests.
    pub load: usize,
    /// Clients that wait for their turn there.
    #[serde(default)]
    pub waiting: usize,
    /// Handshakes a second that it is given; `None` without a rate.
    #[serde(default)]
    pub rate: Option<f64>,
}

/// A certificate that a listener presents, or the admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The first name that it is for.
    pub name: String,
    /// Moment at which it expires, in seconds since 1970.
    pub expires_at: u64,
}

/// Everything that a status is taken from.
#[derive(Clone)]
pub struct StatusSource {
    /// The gateway.
    pub running: Arc<Running>,
    /// The sources of members.
    pub sources: Arc<Sources>,
    /// The last events.
    pub history: History,
    /// Addresses of the listeners.
    pub listeners: Vec<SocketAddr>,
    /// Address of the metrics.
    pub metrics: Option<SocketAddr>,
    /// Address of the admin API.
    pub admin: Option<SocketAddr>,
}

impl StatusSource {
    /// Takes the status. Visits every open tunnel.
    pub async fn status(&self) -> Status {
        let Surveyed { ages, away_from_home, .. } = Survey::new().look(&self.running).await;
        Status { history: Some(self.histories()), ..self.status_with(ages, away_from_home) }
    }

    /// The last events.
    pub fn histories(&self) -> Histories {
        self.history.with_health(self.running.health_history().events())
    }

    /// Number that grows with each event.
    pub fn revision(&self) -> u64 {
        self.history.revision() + self.running.health_history().revision()
    }

    /// The status without its histories, with what a survey of the tunnels found.
    pub(crate) fn status_with(&self, ages: Vec<Age>, away_from_home: u64) -> Status {
        let snapshot = self.running.snapshot();
        let named = snapshot.destinations().iter().filter(|to| !to.upstream.config().is_nowhere());
        let last = self.history.with_health(Vec::new());
        let certificate = |(name, expires_at)| CertificateStatus { name, expires_at };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            phase: self.running.phases.now(),
            generation: snapshot.generation,
            uptime_seconds: self.running.since.elapsed().as_secs(),
            listeners: self.listeners.clone(),
            metrics: self.metrics,
            admin: self.admin,
            requests: self.running.requests(),
            tunnels: self.running.tunnels.count(),
            tls: self.tls(),
            ages,
            away_from_home: Some(away_from_home),
            last_reload: Histories::last(&last.reloads),
            last_upgrade: Histories::last(&last.upgrades),
            upstreams: named.map(|to| UpstreamStatus::of(to, &self.sources)).collect(),
            certificates: snapshot.certificates().map(certificate).collect(),
            history: None,
        }
    }

    fn tls(&self) -> TlsTunnels {
        let [_, record, rustls] = self.running.metrics.tunnels_open();
        TlsTunnels { record, rustls }
    }
}

impl UpstreamStatus {
    fn of(to: &Destination, sources: &Sources) -> Self {
        let config = to.upstream.config();
        let backend = |(index, member): (usize, &Member)| {
            let state = &to.upstream.states()[index];
            let (waiting, rate) = to.upstream.admission().reading(&member.name);
            BackendStatus {
                name: member.name.as_ref().to_owned(),
                address: member.address,
                weight: member.weight,
                up: to.upstream.is_up(index),
                checked: config.health.is_some(),
                draining: state.is_draining(),
                leaving: member.leaving,
                absent: member.is_absent(),
                away_seconds: config.absent.and_then(|_| Some(state.away_for(Instant::now())?.as_secs())),
                held: to.upstream.admission().absent().reading(&member.name),
                ejected: state.is_ejected(),
                tunnels: state.tunnels(),
                load: state.load(),
                waiting,
                rate,
            }
        };
        Self {
            name: config.name.clone(),
            backends: to.upstream.members().iter().enumerate().map(backend).collect(),
            discovery: config.discover.as_ref().and_then(|discover| sources.status(&config.name, discover)),
        }
    }
}

#[cfg(test)]
mod measured;
