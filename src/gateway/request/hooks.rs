//! The hooks of a request's route, at the phases that the gateway carries out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use pingora::Result as Outcome;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::context::{Ctx, OwnedKey};
use crate::affinity::{self, KeySource};
use crate::client::Client;
use crate::config::{Compression, Handshake, TunnelLimits};
use crate::gateway::arrival::Arrival;
use crate::hook::{
    self, Answer, Backend, Chain, Chosen, Contexts, Entry, Facts, Injector, KeyTag, Next, Phase, Tunnel, Upgrade,
};
use crate::http1::forward::{Edited, switching_response};
use crate::http1::head::read_response;
use crate::http1::{ResponseHead, fields};
use crate::snapshot::{Destination, Snapshot, Target};
use crate::tunnel::{Hooked, Record};
use crate::upstream::PickedBackend;
use crate::ws::deflate::{self, Agreement, BadAgreement, DeflateOffer};
use crate::ws::handshake::{self, ClientKeys, UpgradeKind, UpgradeRefused};

/// The kind of a request, or the rule of handshakes that its header breaks.
pub(super) type Classified = Result<UpgradeKind, UpgradeRefused>;

/// The hooks of one request, and what they decided.
pub(in crate::gateway) struct Hooks {
    chain: Arc<Chain>,
    /// A hook's context could not be made: no hook is asked, and the request fails.
    broken: bool,
    /// Made before the first phase. Never locked: Pingora's request contexts have to be `Sync`, and hooks' need not be.
    contexts: Mutex<Option<Contexts>>,
    chosen: Chosen,
    /// The upstream that a hook chose.
    to: Option<Arc<Destination>>,
    /// The limits that a hook gave the tunnel.
    limits: Option<TunnelLimits>,
    /// Number of backends tried that were vetoed, which is no failure of theirs.
    vetoes: usize,
    /// The offer of permessage-deflate that went to the backend in the gateway's own name, and what came of it.
    offer: Option<DeflateOffer>,
    agreement: Option<Agreement>,
    /// Compression is offered to the backend in the gateway's own name, or not at all.
    negotiates: bool,
}

impl Hooks {
    /// The hooks of a route; none cost nothing.
    pub(super) fn of(chain: &Arc<Chain>) -> Option<Box<Self>> {
        (!chain.is_empty()).then(|| {
            Box::new(Self {
                chain: Arc::clone(chain),
                broken: false,
                contexts: Mutex::default(),
                chosen: Chosen::default(),
                to: None,
                limits: None,
                vetoes: 0,
                offer: None,
                agreement: None,
                negotiates: false,
            })
        })
    }

    /// The upstream that a hook chose for the request.
    pub(in crate::gateway) fn to(&self) -> Option<&Arc<Destination>> {
        self.to.as_ref()
    }

    /// Number of backends tried that were vetoed.
    pub(super) fn vetoes(&self) -> usize {
        self.vetoes
    }

    fn parts(&mut self) -> (&Chain, &mut Contexts) {
        let Self { chain, broken, contexts, .. } = self;
        let contexts = contexts.get_mut().unwrap_or_else(PoisonError::into_inner);
        let contexts = contexts.get_or_insert_with(|| {
            let made = chain.contexts();
            *broken = made.is_err();
            made.unwrap_or_else(|_failed_and_logged| chain.no_contexts())
        });
        (chain, contexts)
    }

    async fn on_request(&mut self, session: &mut Session, facts: Facts<'_>) -> Result<(), Answer> {
        let chosen = std::mem::take(&mut self.chosen);
        let mut request = hook::Request::of_session(session, facts, chosen);
        let (chain, contexts) = self.parts();
        let next = chain.on_request(&mut request, contexts).await;
        self.chosen = request.into_chosen();
        goes_on(next)
    }

    async fn on_upgrade(
        &mut self,
        session: &mut Session,
        facts: Facts<'_>,
        limits: TunnelLimits,
    ) -> Result<(), Answer> {
        let chosen = std::mem::take(&mut self.chosen);
        let mut upgrade = Upgrade { request: hook::Request::of_session(session, facts, chosen), limits };
        let (chain, contexts) = self.parts();
        let next = chain.on_upgrade(&mut upgrade, contexts).await;
        // Limits that nobody touched are those of the upstream that the request goes to in the end.
        self.limits = Some(upgrade.limits).filter(|given| *given != limits);
        self.chosen = upgrade.request.into_chosen();
        goes_on(next)
    }

    /// Finds the upstream that a hook chose, if one did.
    fn settle_upstream(&mut self, snapshot: &Snapshot, phase: Phase) -> Result<(), Answer> {
        let Chosen { upstream: Some(name), upstream_by, .. } = &self.chosen else { return Ok(()) };
        self.to = snapshot.destination(name).cloned();
        if self.to.is_some() {
            return Ok(());
        }
        if let Some(hook) = upstream_by {
            self.chain.failed(hook, phase, format!("it chose the upstream `{name}`, and there is none of that name"));
        }
        Err(Answer::gateway_failed())
    }

    /// Takes permessage-deflate out of an offer, or makes it the gateway's own, where hooks are to see messages or the
    /// tunnel is to be re-attached.
    fn settle_compression(&mut self, session: &mut Session, target: &Target) {
        self.negotiates = self.chain.messages().any() || target.reattach.is_some();
        if !self.negotiates {
            return;
        }
        let compression = target.compression;
        let request = session.req_header_mut();
        self.offer = match compression {
            Compression::Strip => None,
            Compression::Inspect => deflate::offer(request.headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS)),
        };
        request.remove_header(&header::SEC_WEBSOCKET_EXTENSIONS);
        if let Some(offer) = &self.offer {
            let named = request.insert_header(header::SEC_WEBSOCKET_EXTENSIONS, offer.header());
            named.expect("a header's name and value are already that");
        }
    }

    /// The key of a request as hooks left it.
    fn key(
        &mut self,
        session: &Session,
        snapshot: &Snapshot,
        route: usize,
        client: &Client,
        arrival: &Arrival,
    ) -> Option<OwnedKey> {
        let header = session.req_header();
        let asked = arrival.asked("", header.uri.path(), header.uri.query(), &header.headers);
        let request = asked.of(client);
        let key = match self.chosen.key.take() {
            Some(bytes) => Some(affinity::Key { bytes, source: KeySource::Hook, issued: None }),
            None => snapshot.key(route, self.chosen.upstream.as_deref(), &request, affinity::mint),
        };
        key.map(|key| OwnedKey::of(key, client))
    }

    /// Asks about a backend as [`accept`](Self::accept) does. An answer that does not come by the moment `until` is one
    /// too late.
    pub(super) async fn accept_until(
        &mut self,
        pick: &PickedBackend,
        tries: usize,
        until: Option<Instant>,
    ) -> Result<bool, Answer> {
        let accepted = self.accept(pick, tries);
        match until {
            None => accepted.await,
            Some(until) => tokio::time::timeout_at(until.into(), accepted).await.unwrap_or(Err(Answer::too_slow())),
        }
    }

    /// Asks about a backend that was picked, after so many others; whether it is to be connected to.
    async fn accept(&mut self, pick: &PickedBackend, tries: usize) -> Result<bool, Answer> {
        let (chain, contexts) = self.parts();
        let state = &pick.state;
        let backend = Backend {
            upstream: state.upstream(),
            name: state.name(),
            address: state.address(),
            tunnels: state.tunnels(),
            tries,
        };
        match chain.on_pick(&backend, contexts).await {
            Ok(hook::Pick::Accept) => Ok(true),
            Ok(hook::Pick::Veto) => {
                self.vetoes += 1;
                Ok(false)
            }
            Err(_failed_and_logged) => Err(Answer::gateway_failed()),
        }
    }
}

impl Ctx {
    /// Shows a request to the route's hooks, and finds its key. Hooks may change the kind of the request, which is
    /// `wanted` before and returned after. The error is the answer to give.
    pub(super) async fn ask_hooks(
        &mut self,
        session: &mut Session,
        wanted: Classified,
        injector: &Injector,
    ) -> Result<Classified, Answer> {
        let Self { snapshot, request: Some(request), hooks: Some(hooks), .. } = self else { return Ok(wanted) };
        let Some(route) = request.route else { return Ok(wanted) };
        hooks.parts();
        if hooks.broken {
            return Err(Answer::gateway_failed());
        }
        let target = snapshot.target(route);
        let facts = Facts {
            id: &request.id,
            client: request.client.address,
            peer: request.arrival.peer,
            host: &request.host,
            route: &target.route,
            upstream: &target.to.upstream.config().name,
            upgrade: matches!(wanted, Ok(UpgradeKind::WebSocket(_))),
            secure: request.client.secure,
            certificate: request.arrival.certificate(),
            injector,
        };
        hooks.on_request(session, facts).await?;
        hooks.settle_upstream(snapshot, Phase::Request)?;
        let is_lenient = target.handshake == Handshake::Lenient;
        let mut wanted = classify(session, is_lenient);
        if let Ok(UpgradeKind::WebSocket(_)) = wanted {
            let limits = hooks.to().unwrap_or(&target.to).upstream.config().tunnel;
            hooks.on_upgrade(session, Facts { upgrade: true, ..facts }, limits).await?;
            hooks.settle_upstream(snapshot, Phase::Upgrade)?;
            hooks.settle_compression(session, target);
            wanted = classify(session, is_lenient);
        }
        request.key = hooks.key(session, snapshot, route, &request.client, &request.arrival);
        Ok(wanted)
    }

    /// Shows hooks a backend's answer; the error is the answer to give instead.
    pub(in crate::gateway) async fn on_response(&mut self, response: &mut ResponseHeader) -> Result<(), Answer> {
        let Some(hooks) = &mut self.hooks else { return Ok(()) };
        let (chain, contexts) = hooks.parts();
        let shown = chain.on_response(&mut hook::Response::new(response), contexts).await;
        shown.map_err(|_failed_and_logged| Answer::gateway_failed())
    }

    /// Notes which compression the backend agreed to in the 101 that `read` begins with, where it was offered in the
    /// gateway's own name.
    pub(in crate::gateway) fn agree(&mut self, read: &[u8]) -> Result<(), BadAgreement> {
        if let Some(keeping) = &mut self.keeping {
            let headers = switching(read).map(|(_, headers)| headers).unwrap_or_default();
            keeping.agree(&headers)?;
        }
        if let Some(hooks) = &mut self.hooks
            && let Some(offer) = &hooks.offer
        {
            let headers = switching(read).map(|(_, headers)| headers).unwrap_or_default();
            hooks.agreement = offer.agree(headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS))?;
        }
        Ok(())
    }

    /// Shows hooks the 101 that `read` begins with; its head as the client is sent it, or the answer to give instead.
    pub(in crate::gateway) async fn on_switching(&mut self, read: &[u8]) -> Result<Vec<u8>, Answer> {
        let (head, headers) = switching(read).ok_or_else(Answer::backend_failed)?;
        let response = ResponseHeader::build(head.status, Some(headers.len()));
        let mut response = response.map_err(|_| Answer::gateway_failed())?;
        for (name, value) in &headers {
            response.append_header(name, value).map_err(|_| Answer::gateway_failed())?;
        }
        self.on_response(&mut response).await?;
        self.name_compression(&mut response).map_err(|_| Answer::gateway_failed())?;
        let lines = self.edit_answer_lines(&head.lines);
        let mut edited = response.headers.clone();
        self.edit_answer(&mut edited);
        let set_cookie = self.set_cookie_beside(&edited);
        let fields = Edited { lines: &lines, by_hooks: Some(&edited) };
        Ok(switching_response(fields, &self.of_ours(set_cookie)))
    }

    /// Names the compression in a 101 that the gateway agreed on with the client, where it agreed on one.
    fn name_compression(&self, response: &mut ResponseHeader) -> Outcome<()> {
        let Some(hooks) = self.hooks.as_ref().filter(|hooks| hooks.negotiates) else { return Ok(()) };
        response.remove_header(&header::SEC_WEBSOCKET_EXTENSIONS);
        match &hooks.agreement {
            Some(agreement) => response.insert_header(header::SEC_WEBSOCKET_EXTENSIONS, agreement.header()),
            None => Ok(()),
        }
    }

    /// The limits of the tunnel: a hook's, or those of its upstream.
    pub(in crate::gateway) fn limits(&self, to: &Destination) -> TunnelLimits {
        self.hooks.as_ref().and_then(|hooks| hooks.limits).unwrap_or(to.upstream.config().tunnel)
    }

    /// Lets go of the hooks, for the tunnel that the request has become.
    pub(in crate::gateway) fn hooks_of_tunnel(&mut self, record: &Record, injector: &Injector) -> Option<Hooked> {
        let mut hooks = self.hooks.take()?;
        hooks.parts();
        let Hooks { chain, contexts, agreement, .. } = *hooks;
        let key = self.request.as_ref().and_then(|request| request.key.as_ref());
        let tunnel = Tunnel {
            id: record.id,
            request_id: record.request_id.text(),
            client: record.client(),
            route: Arc::clone(&record.route),
            upstream: record.backend().upstream().into(),
            backend: record.backend().address(),
            key: key.map(|key| KeyTag::of(&key.bytes)),
            injector: injector.clone(),
            outbox: crate::hook::Outbox::default(),
        };
        let contexts = contexts.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        Some(Hooked { chain, contexts, tunnel, agreement })
    }

    /// Shows hooks how the request ended; the fields that they add to its log line.
    pub(super) fn on_log(&mut self, status: u16, elapsed: Duration) -> Vec<(&'static str, String)> {
        let Self { snapshot, request: Some(request), hooks: Some(hooks), .. } = self else { return Vec::new() };
        let Some(route) = request.route else { return Vec::new() };
        let mut entry = Entry::new("request", &request.id, &snapshot.target(route).route, status, elapsed);
        let (chain, contexts) = hooks.parts();
        chain.on_log(&mut entry, contexts);
        entry.added
    }
}

/// A hook's word on a request, or its failure, as the answer to give if there is one.
fn goes_on(next: Result<Next, hook::Failure>) -> Result<(), Answer> {
    match next {
        Ok(Next::Continue) => Ok(()),
        Ok(Next::Answer(answer)) => Err(answer),
        Err(_failed_and_logged) => Err(Answer::gateway_failed()),
    }
}

/// The 101 that bytes begin with, read before, and its fields as a map.
fn switching(read: &[u8]) -> Option<(ResponseHead<'_>, HeaderMap)> {
    let head = read_response(read).ok().flatten()?;
    let headers = fields::map(&head.lines)?;
    Some((head, headers))
}

/// Tells what a request wants, as its header is now.
pub(super) fn classify(session: &Session, is_lenient: bool) -> Classified {
    let request = session.req_header();
    let keys = if is_lenient { ClientKeys::Any } else { ClientKeys::Strict };
    handshake::classify_with(keys, &request.method, request.version, &request.headers)
}
