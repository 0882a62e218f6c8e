//! Frozen tunnels: taken off their worker as they stand, to be put back, or to go on in another process.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::sync::mpsc::UnboundedSender;

use super::tunnel::Tunnel;
use crate::admission;
use crate::affinity::KeySource;
use crate::hook::{self, Chain, Injector, TunnelId};
use crate::metrics::UpstreamMetrics;
use crate::slots::Slots;
use crate::tls;
use crate::trace::TraceId;
use crate::tunnel::addresses::Addresses;
use crate::tunnel::inspect::{self, Caller, Inspector, Travels};
use crate::tunnel::key_mark::KeyMark;
use crate::tunnel::pair::{Pair, PairState, Sealing, TunnelStream};
use crate::tunnel::reason::Reason;
use crate::tunnel::reattach::Heads;
use crate::tunnel::record::{ClientTls, Rare, Record};
use crate::upstream::{LoadGuard, Registry};
use crate::ws::{Side, Sides};

/// A tunnel off its worker. Bytes that come for it wait in its sockets.
#[must_use = "dropped, it takes its connections along"]
pub struct Frozen(Box<Tunnel>);

/// State of a tunnel, apart from its two sockets, with which another process goes on.
///
/// The form is part of the handover's protocol: another release of Longhaul reads it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Passport {
    /// Left out by releases that knew ids of tunnels with hooks only.
    #[serde(default)]
    id: Option<TunnelId>,
    request_id: Box<str>,
    /// Address of the client, as far as it is believed.
    pub client: IpAddr,
    peer: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_tls: Option<Box<ClientTls>>,
    /// The route, as `host path`.
    pub route: Box<str>,
    /// Name of the upstream.
    pub upstream: String,
    /// Address of the backend.
    pub backend: SocketAddr,
    /// Name of the backend, where it is not just its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backend_name: Option<Box<str>>,
    key_source: Cow<'static, str>,
    key_digest: Option<Box<str>>,
    key_hash: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_hook: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<Box<TraceId>>,
    age: Duration,
    pair: PairState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hooks: Option<inspect::InspectorState>,
    /// TLS of the ends that have it. A process that does not know this field would take sealed bytes for frames: it is
    /// sent to one that speaks protocol 3 only.
    #[serde(default, skip_serializing_if = "is_plain")]
    tls: Sides<Option<tls::StreamState>>,
}

impl Passport {
    fn id(&self) -> TunnelId {
        let of_hooks = self.hooks.as_ref().map(|state| state.id);
        of_hooks.or(self.id).unwrap_or_else(TunnelId::random)
    }

    /// Tells whether a tunnel can go on in the state that it describes.
    fn is_sound(&self) -> bool {
        let ends = Side::ALL.into_iter().map(|side| (&self.tls[side], self.pair.kept_for(side)));
        self.pair.is_sound()
            && self.hooks.as_ref().is_none_or(inspect::InspectorState::is_sound)
            && ends.into_iter().all(|(tls, kept)| tls.as_ref().is_none_or(|tls| tls.is_sound(kept)))
    }
}

impl Serialize for Passport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The function that is derived, of this very name.
        Self::serialize(self, serializer)
    }
}

/// Refuses a state that no tunnel can be in, so that it is refused where it is read and stays where it was.
impl<'d> Deserialize<'d> for Passport {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        let passport = Self::deserialize(deserializer)?;
        if passport.is_sound() { Ok(passport) } else { Err(de::Error::custom("a state that no tunnel can be in")) }
    }
}

/// Surroundings that a tunnel of another process is given in this one.
pub struct Surroundings {
    /// [`Passport::route`], shared with the tunnels that have the same.
    pub route: Arc<str>,
    /// Counts the tunnel on its backend.
    pub guard: LoadGuard,
    /// Counts the tunnel as one of its client's and of the process.
    pub admitted: Option<admission::TunnelGuard>,
    /// Metrics of its upstream.
    pub metrics: Arc<UpstreamMetrics>,
    /// Hooks of its route. A tunnel that was opened without hooks goes on without.
    pub hooks: Arc<Chain>,
    /// Injector through which hooks reach it from outside.
    pub injector: Injector,
}

impl Surroundings {
    /// Surroundings of a tunnel without hooks that is counted by its upstream's metrics alone, for the fuzz targets.
    pub fn alone(backend: SocketAddr, metrics: Arc<UpstreamMetrics>) -> Self {
        Self {
            route: "* /".into(),
            guard: Registry::default().backend("u", &backend.to_string(), backend).occupy(),
            admitted: None,
            metrics,
            hooks: Arc::new(Chain::empty()),
            injector: Injector::new(Arc::new(Nobody)),
        }
    }
}

/// An outlet that leads to no tunnel.
struct Nobody;

impl hook::Outlet for Nobody {
    fn deliver(&self, _: hook::To, _: hook::Item, _: UnboundedSender<usize>) {}
}

/// Tunnels taken off their workers, and counts of the others.
#[derive(Default)]
#[must_use = "dropped, they take their connections along"]
pub struct Batch {
    /// Tunnels that were taken off.
    pub frozen: Vec<Frozen>,
    /// Tunnels left because hooks are busy with them.
    pub busy: usize,
    /// Tunnels left because they cannot go on in another process, and are not to end anyway: see
    /// [`Scope::Staying`](crate::tunnel::Scope::Staying).
    pub staying: usize,
}

impl Passport {
    /// Name of the backend.
    pub fn backend_name(&self) -> Cow<'_, str> {
        self.backend_name.as_deref().map_or_else(|| self.backend.to_string().into(), Cow::Borrowed)
    }
}

impl Passport {
    /// Shares what the head that is kept for re-attachment has in common with others.
    pub(in crate::tunnel) fn share_head(&mut self, heads: &Heads) {
        self.pair.share_head(heads);
    }

    /// Makes the guard count the tunnel as what it is.
    fn count(&self, guard: &mut LoadGuard) {
        guard.mark_tunnel();
        if let (Some(hash), Some(digest)) = (self.key_hash, &self.key_digest) {
            guard.count_key(hash, digest);
        }
    }
}

impl Frozen {
    /// Freezes a tunnel that its worker has let go of.
    pub(super) fn new(tunnel: Box<Tunnel>) -> Self {
        Self(tunnel)
    }

    /// The tunnel, for the worker that takes it on.
    pub(super) fn into_tunnel(self) -> Box<Tunnel> {
        self.0
    }

    /// The passport of the tunnel as of `now`.
    pub fn passport(&self, now: Instant) -> Passport {
        let Tunnel { pair, record, .. } = &*self.0;
        let rare = record.rare.as_deref();
        Passport {
            id: Some(record.id),
            request_id: record.request_id.text(),
            client: record.client(),
            peer: record.peer(),
            client_tls: rare.and_then(|rare| rare.tls.clone()).map(Box::new),
            route: (&*record.route).into(),
            upstream: record.backend().upstream().to_owned(),
            backend: record.backend().address(),
            backend_name: record.backend().own_name().map(Box::from),
            key_source: Cow::Borrowed(KeySource::name_of(record.key_source)),
            key_digest: record.key.digest().map(|digest| digest.to_string().into()),
            key_hash: record.key.hash(),
            by_hook: record.by_hook,
            trace: rare.and_then(|rare| rare.trace).map(Box::new),
            age: now.saturating_duration_since(pair.since()),
            pair: pair.state(now),
            hooks: pair.inspector().map(Inspector::state),
            tls: Sides::from_fn(|side| pair.stream(side).tls_state()),
        }
    }

    /// The sockets, by [`Side`].
    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        Side::ALL.map(|side| self.0.pair.stream(side).as_fd())
    }

    /// See [`Tunnels::adopt`](crate::tunnel::Tunnels::adopt).
    pub(in crate::tunnel) fn adopt(
        passport: Passport,
        sockets: [OwnedFd; 2],
        place: Surroundings,
        caller: Option<Arc<Caller>>,
        now: Instant,
    ) -> Self {
        let Surroundings { route, mut guard, admitted, metrics, hooks, injector } = place;
        passport.count(&mut guard);
        let (id, [client, backend]) = (passport.id(), streams(sockets, passport.tls));
        let mut pair = Pair::resume(client, backend, passport.pair, passport.age, now);
        match (passport.hooks, caller) {
            (Some(state), Some(caller)) => {
                let tunnel = hook::Tunnel {
                    id,
                    request_id: passport.request_id.clone(),
                    client: passport.client,
                    route: Arc::clone(&route),
                    upstream: passport.upstream.into(),
                    backend: passport.backend,
                    key: state.key,
                    injector,
                    outbox: crate::hook::Outbox::default(),
                };
                pair.watch_on(state, hooks, tunnel, caller, now);
            }
            // Nobody could call its hooks, and without them it must not go on.
            (Some(_), None) => pair.end(Reason::HookFailed, now),
            (None, _) => {}
        }
        let record = Record {
            id,
            generation: 0,
            request_id: (&*passport.request_id).into(),
            addresses: Addresses::new(passport.client, passport.peer),
            rare: Rare::of(passport.client_tls.map(|tls| *tls), passport.trace.map(|trace| *trace)),
            route,
            key_source: KeySource::named(&passport.key_source),
            key: KeyMark::new(passport.key_digest.and_then(|digits| digits.parse().ok()), passport.key_hash),
            by_hook: passport.by_hook,
            guard,
            admitted,
            metrics,
        };
        Self(Box::new(Tunnel::new(pair, record)))
    }

    /// Tells which sides speak TLS.
    pub fn tls(&self) -> Sides<bool> {
        Sides::from_fn(|side| self.0.pair.stream(side).sealing() != Sealing::None)
    }

    /// Counts the tunnel as one that came from a predecessor for good.
    pub fn count_as_adopted(&self) {
        self.0.record.metrics.adopted.inc();
    }

    /// Marks the tunnel as one that a successor refused, so that no later batch has it; see
    /// [`Scope::Staying`](crate::tunnel::Scope::Staying).
    pub fn refuse(mut self) -> Self {
        self.0.refused = true;
        self
    }

    /// Closes this process's copies of the sockets of a tunnel that goes on in another. The tunnel has not ended:
    /// nothing is logged.
    pub fn give_up(self) {
        self.0.record.metrics.handed_over.inc();
    }
}

/// Chooses up to `most` tunnels to be taken off, by slot. Counts the tunnels that are busy, with hooks or with bytes
/// that wait for their turn, and the tunnels that cannot travel and have yet to be ended.
///
/// Tunnels with TLS cannot travel where the successor does not take it (`with_tls`), and those that rustls seals not at
/// all.
pub(super) fn choose(tunnels: &mut Slots<Box<Tunnel>>, most: usize, with_tls: bool) -> (Vec<usize>, usize, usize) {
    let (mut chosen, mut busy, mut staying, mut weight) = (Vec::new(), 0, 0, 0);
    for (slot, tunnel) in tunnels.iter_mut() {
        if chosen.len() == most || weight > MOST_TRAVELLING {
            break;
        }
        tunnel.refused |= match tunnel.sealing() {
            Sealing::None => false,
            Sealing::Record => !with_tls,
            Sealing::Rustls => true,
        };
        if tunnel.refused {
            staying += usize::from(!tunnel.pair.is_to_end());
            continue;
        }
        // A program that knows nothing of TLS in passports knows nothing of rates: it would drop the bytes.
        if !with_tls && tunnel.pair.holds_back() {
            busy += 1;
            continue;
        }
        match tunnel.pair.pack(MOST_TRAVELLING) {
            Travels::Now => {
                weight += tunnel.pair.weight();
                chosen.push(slot);
            }
            Travels::Later => busy += 1,
            Travels::Never => staying += usize::from(!tunnel.pair.is_to_end()),
        }
    }
    (chosen, busy, staying)
}

fn streams([client, backend]: [OwnedFd; 2], tls: Sides<Option<tls::StreamState>>) -> [TunnelStream; 2] {
    let [client_tls, backend_tls] = tls.into_array();
    [TunnelStream::resume(client, client_tls), TunnelStream::resume(backend, backend_tls)]
}

fn is_plain(tls: &Sides<Option<tls::StreamState>>) -> bool {
    tls.iter().all(Option::is_none)
}

/// Bytes that may travel with one tunnel, and, but for one tunnel, with a batch: twice as many fit a message of the
/// handover in base64.
const MOST_TRAVELLING: usize = 16 << 20;
