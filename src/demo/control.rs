//! The server behind the page: the page itself, the backends' state as it changes, and their buttons.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream::{self, StreamExt};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use super::backend::{Backend, Status};
use super::members::Members;
use super::serve::{self, Changes};

/// The control server's router; event streams end when `stop` turns true.
pub(super) fn router(
    backends: Arc<[Backend]>,
    members: Option<Arc<Members>>,
    changes: Changes,
    stop: watch::Receiver<bool>,
) -> Router {
    let control = Control { backends, members, changes, stop, viewers: Arc::new(Semaphore::new(MAX_VIEWERS)) };
    Router::new()
        .route("/", get(|| async { asset("text/html; charset=utf-8", include_str!("page/index.html")) }))
        .route("/page.css", get(|| async { asset("text/css; charset=utf-8", include_str!("page/page.css")) }))
        .route("/page.js", get(|| async { asset("text/javascript; charset=utf-8", include_str!("page/page.js")) }))
        .route("/demo/state", get(show_state))
        .route("/demo/events", get(stream_states))
        .route("/demo/backends/{name}/{action}", post(turn))
        .with_state(control)
}

#[derive(Clone)]
struct Control {
    backends: Arc<[Backend]>,
    members: Option<Arc<Members>>,
    changes: Changes,
    stop: watch::Receiver<bool>,
    viewers: Arc<Semaphore>,
}

impl Control {
    fn state(&self) -> Overview {
        let backends: Vec<Status> = self.backends.iter().map(Backend::status).collect();
        let clients = backends.iter().map(|backend| backend.figures.open).sum();
        let messages = backends.iter().map(|backend| backend.figures.messages).sum();
        let members = self.members.as_ref().map(|members| members.names());
        Overview { backends, clients, messages, members }
    }
}

/// State of the backends, as the page shows it.
#[derive(Serialize)]
struct Overview {
    backends: Vec<Status>,
    /// Open WebSockets over all backends.
    clients: usize,
    /// Messages taken over all backends since each started.
    messages: u64,
    /// Names of the backends that the gateway has as members, where the page decides about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<&'static str>>,
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, text)
}

async fn show_state(State(control): State<Control>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], Json(control.state()))
}

/// Sends the state at once and after each change, as server-sent events.
async fn stream_states(State(control): State<Control>) -> Response {
    let Ok(viewer) = Arc::clone(&control.viewers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response();
    };
    let changes = control.changes.watch();
    let stopped = serve::stopped(control.stop.clone());
    let states = stream::unfold((control, changes, viewer, true), |(control, mut changes, viewer, first)| async move {
        if !first {
            serve::next_change(&mut changes).await;
        }
        // A state consists of numbers and fixed names, which always make JSON.
        let event = Event::default().json_data(control.state()).ok()?;
        Some((Ok::<_, Infallible>(event), (control, changes, viewer, false)))
    });
    ([(header::CACHE_CONTROL, "no-store")], Sse::new(states.take_until(stopped))).into_response()
}

/// Starts, stops or restarts a backend, or makes it a member or none.
async fn turn(
    State(control): State<Control>,
    Path((name, action)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    // Forms and plain scripts of other sites cannot send this header, so they cannot push the buttons.
    if !headers.contains_key(FROM_PAGE) {
        return (StatusCode::FORBIDDEN, "expected the header x-longhaul-demo\n").into_response();
    }
    let Some(backend) = control.backends.iter().find(|backend| backend.name() == name) else {
        return (StatusCode::NOT_FOUND, "no such backend\n").into_response();
    };
    match action.as_str() {
        "stop" => backend.stop().await,
        "start" => {}
        "restart" => backend.leave().await,
        "add" | "remove" => {
            let Some(members) = &control.members else {
                return (StatusCode::NOT_FOUND, "try `longhaul demo --discover`\n").into_response();
            };
            if let Err(error) = members.list(&name, action == "add") {
                return (StatusCode::CONFLICT, format!("{error}\n")).into_response();
            }
        }
        _ => return (StatusCode::NOT_FOUND, "expected start, stop, restart, add or remove\n").into_response(),
    }
    if matches!(action.as_str(), "start" | "restart")
        && let Err(error) = backend.start()
    {
        return (StatusCode::CONFLICT, format!("backend {name} did not start: {error}\n")).into_response();
    }
    Json(control.state()).into_response()
}

const FROM_PAGE: HeaderName = HeaderName::from_static("x-longhaul-demo");

/// Lets the page load its own style and script, talk to its own origin, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self' ws: wss:; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Most event streams at once. Each is one connection, and a browser tab has one.
pub(super) const MAX_VIEWERS: usize = 64;
