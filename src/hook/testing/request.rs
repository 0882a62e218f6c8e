//! Requests that a test sends through hooks, and what became of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use pingora::http::{RequestHeader, ResponseHeader};

use super::recorder::Recorder;
use super::tunnel::{Begin, TestTunnel};
use super::{Harness, Stopped, admitted, context};
use crate::config::TunnelLimits;
use crate::hook::request::Chosen;
use crate::hook::{
    Answer, Backend, Chain, Contexts, Entry, Facts, Failure, Hook, Injector, Next, Pick, Request, Response, Upgrade,
};

/// A request as a client sends it: `TestRequest::get("/chat?room=1").header("x-user", "ada")`.
///
/// Comes from 192.0.2.1 and asks for `example.com` by default.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `Harness::request` or `Harness::upgrade` gets it"]
pub struct TestRequest {
    method: Method,
    target: String,
    host: String,
    client: IpAddr,
    headers: Vec<(String, String)>,
}

impl TestRequest {
    /// A `GET` for a path, with a query if there is to be one.
    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    /// A request of any method.
    pub fn new(method: Method, target: &str) -> Self {
        let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        Self { method, target: target.into(), host: "example.com".into(), client, headers: Vec::new() }
    }

    /// Adds a header beside those of its name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a cookie, on a line of its own.
    pub fn cookie(self, name: &str, value: &str) -> Self {
        self.header("cookie", &format!("{name}={value}"))
    }

    /// Asks for another host.
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Comes from another address.
    pub fn client(mut self, client: impl Into<IpAddr>) -> Self {
        self.client = client.into();
        self
    }

    /// The header that Pingora would have read.
    fn into_header(self, upgrade: bool) -> RequestHeader {
        let mut header = RequestHeader::build(self.method, self.target.as_bytes(), None)
            .expect("the test asks for a target that HTTP allows");
        let handshake: &[(&str, &str)] = if upgrade { &HANDSHAKE } else { &[] };
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in [("host", self.host.as_str())].into_iter().chain(handshake.iter().copied()).chain(own) {
            header.append_header(name.to_owned(), value).expect("the test sends headers that HTTP allows");
        }
        header
    }
}

/// The client's half of RFC 6455 §4.1.
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A request on its way: what the hooks made of it so far, and the phases that are still to come.
pub struct Exchange {
    chain: Arc<Chain>,
    recorder: Arc<Recorder>,
    injector: Injector,
    route: Arc<str>,
    client: IpAddr,
    header: RequestHeader,
    contexts: Contexts,
    outcome: Result<Next, Failure>,
    upstream: Arc<str>,
    key: Option<Vec<u8>>,
    /// Of an upgrade.
    limits: Option<TunnelLimits>,
    backend: SocketAddr,
    tries: usize,
}

impl Exchange {
    pub(super) async fn begin(harness: &Harness, request: TestRequest, upgrade: bool) -> Self {
        let (client, host) = (request.client, request.host.clone());
        let mut header = request.into_header(upgrade);
        let facts = Facts {
            id: REQUEST_ID,
            client,
            peer: SocketAddr::new(client, 50_000),
            host: &host,
            route: &harness.route,
            upstream: &harness.upstream,
            upgrade,
            secure: false,
            certificate: None,
            injector: &harness.injector,
        };
        let made = harness.chain.contexts();
        let failure = made.as_ref().err().cloned();
        let mut contexts = made.unwrap_or_else(|_| harness.chain.no_contexts());
        let mut request = Request::bare(&mut header, facts);
        let mut outcome = match failure {
            Some(failure) => Err(failure),
            None => harness.chain.on_request(&mut request, &mut contexts).await,
        };
        let mut limits = None;
        if upgrade && outcome == Ok(Next::Continue) {
            let mut asked = Upgrade { request, limits: TunnelLimits::default() };
            outcome = harness.chain.on_upgrade(&mut asked, &mut contexts).await;
            limits = Some(asked.limits);
            request = asked.request;
        }
        let Chosen { key, upstream, .. } = request.into_chosen();
        Self {
            chain: Arc::clone(&harness.chain),
            recorder: Arc::clone(&harness.recorder),
            injector: harness.injector.clone(),
            route: Arc::clone(&harness.route),
            client,
            header,
            contexts,
            outcome,
            upstream: upstream.map_or_else(|| Arc::clone(&harness.upstream), Arc::from),
            key,
            limits,
            backend: SocketAddr::from(([127, 0, 0, 1], 9001)),
            tries: 0,
        }
    }

    /// Outcome of the hooks: continue, an answer in place of a backend's, or the failure for which the gateway answers
    /// 500.
    pub fn outcome(&self) -> &Result<Next, Failure> {
        &self.outcome
    }

    /// Returns true when the request goes on to a backend.
    pub fn continues(&self) -> bool {
        self.outcome == Ok(Next::Continue)
    }

    /// The answer that a hook gave.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Ok(Next::Answer(answer)) => Some(answer),
            _ => None,
        }
    }

    /// The failure of a hook.
    pub fn failure(&self) -> Option<&Failure> {
        self.outcome.as_ref().err()
    }

    /// The headers as hooks left them: what the backend would get, before the gateway adds its own.
    pub fn headers(&self) -> &HeaderMap {
        &self.header.headers
    }

    /// The first value of a header as hooks left it, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The path and query that the backend would be asked for.
    pub fn target(&self) -> &str {
        self.header.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// The affinity key that a hook gave.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The upstream that the request would go to.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// The limits that the tunnel would live under; `None` for a request that is no upgrade, or that a hook stopped
    /// before [`Hook::on_upgrade`]. They begin as the gateway's defaults.
    pub fn limits(&self) -> Option<&TunnelLimits> {
        self.limits.as_ref()
    }

    /// Context that the first hook of a type keeps of the request.
    ///
    /// # Panics
    /// There is no hook of that type.
    pub fn context<H: Hook>(&self) -> &H::Context {
        context::<H>(&self.chain, &self.contexts)
    }

    /// Picks a backend, and asks [`Hook::on_pick`].
    ///
    /// # Errors
    /// A hook's failure.
    pub async fn pick(&mut self, address: impl Into<SocketAddr>) -> Result<Pick, Failure> {
        self.backend = address.into();
        let name = self.backend.to_string();
        let backend =
            Backend { upstream: &self.upstream, name: &name, address: self.backend, tunnels: 0, tries: self.tries };
        self.tries += 1;
        self.chain.on_pick(&backend, &mut self.contexts).await
    }

    /// Shows an answer of the backend to [`Hook::on_response`], and returns the answer that the client would get.
    ///
    /// # Errors
    /// A hook's failure.
    ///
    /// # Panics
    /// `status` or a header is none that HTTP allows.
    pub async fn response(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<http::Response<()>, Failure> {
        let mut header = ResponseHeader::build(status, None).expect("the test answers with a status");
        for (name, value) in headers {
            header.append_header((*name).to_owned(), *value).expect("the test answers with headers that HTTP allows");
        }
        self.chain.on_response(&mut Response::new(&mut header), &mut self.contexts).await?;
        let mut response = http::Response::new(());
        *response.status_mut() = header.status;
        *response.headers_mut() = header.headers.clone();
        Ok(response)
    }

    /// Logs the request with this status, and returns the fields that [`Hook::on_log`] added.
    ///
    /// # Errors
    /// The first failure of a hook; the others were asked all the same.
    pub fn log(&mut self, status: u16) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut entry = Entry::new("request", REQUEST_ID, &self.route, status, Duration::from_millis(1));
        let failures = self.chain.on_log(&mut entry, &mut self.contexts);
        failures.into_iter().next().map_or_else(|| Ok(entry.added().to_vec()), Err)
    }

    /// Opens the tunnel, by [`Hook::on_open`].
    ///
    /// # Errors
    /// [`Stopped`]: the request was no upgrade, a hook answered it, or a hook failed.
    pub async fn open(self) -> Result<TestTunnel, Stopped> {
        admitted(&self.outcome)?;
        if self.limits.is_none() {
            return Err(Stopped::NoUpgrade);
        }
        let begin = Begin {
            chain: self.chain,
            recorder: self.recorder,
            injector: self.injector,
            route: self.route,
            upstream: self.upstream,
            client: self.client,
            backend: self.backend,
            key: self.key,
        };
        begin.open(self.contexts).await
    }
}

/// The id of every request; real ones are random.
pub(super) const REQUEST_ID: &str = "00000000000000000000000000000000";
