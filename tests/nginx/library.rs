//! Longhaul's answer to a question, by the library alone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use longhaul::affinity::{self, AffinityInput};
use longhaul::config::{self, AffinitySource, Backend};
use longhaul::upstream::{Registry, Upstream};
use pingora_load_balancing::selection::consistent::KetamaHashing;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};

use super::compare::Question;
use super::server::Variant;

pub(crate) struct Longhaul {
    upstream: Upstream,
    /// Pingora's ring over all backends, to count points on.
    points: Arc<KetamaHashing>,
    all: Vec<Backend>,
}

impl Longhaul {
    /// All backends are up.
    pub(crate) fn with_all(all: &[Backend], source: &AffinitySource) -> Self {
        Self::new(all, all.to_vec(), source)
    }

    /// One is not in the list.
    pub(crate) fn with_removed(all: &[Backend], source: &AffinitySource, gone: usize) -> Self {
        let mut listed = all.to_vec();
        listed.remove(gone);
        Self::new(all, listed, source)
    }

    /// One has weight 0.
    pub(crate) fn with_drained(all: &[Backend], source: &AffinitySource, gone: usize) -> Self {
        let mut listed = all.to_vec();
        listed[gone].weight = 0;
        Self::new(all, listed, source)
    }

    /// One is down by its health.
    pub(crate) fn with_down(all: &[Backend], source: &AffinitySource, gone: usize) -> Self {
        let longhaul = Self::new(all, all.to_vec(), source);
        while longhaul.upstream.is_up(gone) {
            longhaul.upstream.connect_failed(gone, "refused");
        }
        longhaul
    }

    fn new(all: &[Backend], listed: Vec<Backend>, source: &AffinitySource) -> Self {
        let config = config::Upstream {
            name: "lab".to_owned(),
            affinity: vec![source.clone()],
            backends: listed,
            discover: None,
            balance_factor: None,
            health: Some(config::Health::default()),
            fail_open: false,
            tries: 2,
            drain_window: Duration::from_secs(30),
            on_change: config::OnChange::Close,
            rehome: None,
            timeouts: config::Timeouts::default(),
            tunnel: config::TunnelLimits::default(),
            rates: config::TunnelRates::default(),
            tls: None,
            limits: config::BackendLimits::default(),
            admission: None,
            absent: None,
            proxy_protocol: None,
        };
        let on_ring = |backend: &Backend| {
            let address = backend.address.to_string();
            pingora_load_balancing::Backend::new_with_weight(&address, backend.weight.into()).unwrap()
        };
        let points = KetamaHashing::build(&all.iter().map(on_ring).collect::<BTreeSet<_>>());
        Self { upstream: Upstream::compile(&config, &Registry::default()), points: Arc::new(points), all: all.to_vec() }
    }

    /// The backend that the affinity rule, the ring and the pick choose.
    pub(crate) fn ask(&self, question: &Question) -> SocketAddr {
        let key = self.key(question);
        self.upstream.pick(Some(&key), &[]).unwrap().state.address()
    }

    /// Tells whether nginx's ring decides. After 20 points of a server that is `down` nginx gives up and takes turns
    /// (`ngx_http_upstream_get_chash_peer`), while Longhaul walks on.
    pub(crate) fn is_decided(&self, question: &Question, variant: Variant) -> bool {
        let Variant::Down(down) = variant else { return true };
        let down = self.all[down].address;
        let mut points = self.points.iter(&self.key(question));
        (0..=20).any(|_| points.next().is_some_and(|backend| backend.addr.as_inet() != Some(&down)))
    }

    fn key(&self, question: &Question) -> Vec<u8> {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = &question.header {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let request = AffinityInput {
            headers: &headers,
            query: question.query.as_deref(),
            client: question.client.into(),
            certificate: None,
        };
        let key = affinity::key(&self.upstream.config().affinity, &request, || unreachable!("no cookie is issued"));
        key.unwrap_or_else(|| panic!("{question:?} has no key")).bytes
    }
}
