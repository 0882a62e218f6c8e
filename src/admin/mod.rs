//! The HTTP listeners for operators: `/metrics` for Prometheus, `/ready` and `/live` for whoever supervises the
//! gateway, and the admin API with its dashboard.

mod api;
mod guard;
mod live;
mod page;
mod server;
mod token;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body;
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::control::Desk;
use crate::snapshot::{GatewayPhase, Running};
use guard::Guard;
use live::Feed;
pub use server::{ServerBounds, serve};

/// Answers `GET /metrics`, `/ready` and `/live`, and on the admin listener the API and the dashboard as well.
pub struct Admin {
    running: Arc<Running>,
    api: Option<Api>,
    /// Told when the server stops; `None` until it serves.
    stopped: Option<watch::Receiver<bool>>,
}

/// Parts that the API needs.
struct Api {
    desk: Desk,
    guard: Guard,
    feed: Arc<Feed>,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Its address.
    pub peer: SocketAddr,
    /// TLS is spoken.
    pub by_tls: bool,
    /// Fingerprint of the certificate that it presented, where that was verified.
    pub certificate: Option<Arc<str>>,
}

/// Body of an answer.
type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Admin {
    /// Answers for a running gateway, without an API.
    pub fn of_metrics(running: Arc<Running>) -> Self {
        Self { running, api: None, stopped: None }
    }

    /// Answers for a running gateway, and passes requests of the API on to `desk`. The configuration with which the
    /// process started says which clients the API admits.
    pub fn with_api(running: Arc<Running>, desk: Desk) -> Self {
        let guard = Guard::of(running.snapshot().config.admin.as_ref());
        let feed = Feed::new(desk.status().clone());
        Self { running, api: Some(Api { desk, guard, feed }), stopped: None }
    }

    /// TLS of the admin listener, as it is now; `None` where connections are plain.
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.api.as_ref()?;
        Some(self.running.snapshot().admin_tls()?.config())
    }

    /// Answers a request: of the API, of the dashboard, for metrics or for probes.
    async fn answer<B>(&self, request: Request<B>, visitor: &Visitor) -> Response<Body>
    where
        B: body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        if let (Some(api), true) = (&self.api, path.starts_with("/api/")) {
            return api.answer(self, request, visitor).await;
        }
        if let (Some(api), Some(asset)) = (&self.api, page::asset(path)) {
            let admitted = api.guard.admit_to_page(&request);
            return admitted.map_or_else(|refused| api::refusal(&refused), |()| asset.answer(request.method()));
        }
        if let (Some(api), "/metrics") = (&self.api, path)
            && let Err(refused) = api.guard.admit(&request, visitor).await
        {
            return api::refusal(&refused);
        }
        match (request.method(), path) {
            (&Method::GET | &Method::HEAD, "/metrics") => self.metrics(),
            (&Method::GET | &Method::HEAD, "/ready") => self.readiness(),
            (&Method::GET | &Method::HEAD, "/live") => plain(StatusCode::OK, "alive\n"),
            (_, "/metrics" | "/ready" | "/live") => plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n"),
            _ if self.api.is_some() => {
                plain(StatusCode::NOT_FOUND, "there are /, /metrics, /ready, /live and /api/v1\n")
            }
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /ready and /live\n"),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let snapshot = self.running.snapshot();
        self.running.metrics.tls.certificates(snapshot.certificates());
        let networks = i64::try_from(self.running.admission.networks()).unwrap_or(i64::MAX);
        self.running.metrics.client_networks.set(networks);
        let text = self.running.metrics.render(snapshot.readings());
        answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }

    fn readiness(&self) -> Response<Body> {
        match self.running.phases.now() {
            GatewayPhase::Serving if self.running.tunnels.lost_workers() > 0 => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "a tunnel worker has ended\n")
            }
            GatewayPhase::Serving => plain(StatusCode::OK, "ready\n"),
            GatewayPhase::Grace | GatewayPhase::Closing => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    answer(status, "text/plain", text)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
