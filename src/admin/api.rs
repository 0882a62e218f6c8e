//! The admin API: what the control socket takes, as JSON over HTTP under `/api/v1`. The file `openapi.json` describes
//! it.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{self, Frame};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::guard::ApiRefused;
use super::live::MOST_VIEWERS;
use super::{Admin, Api, Body, Visitor};
use crate::config;
use crate::control::{self, CommandFailure, Reply, ReplyStream};
use crate::discovery::{MembersAction, PushedMember};
use crate::snapshot::Running;
use crate::status::{CloseAsked, ListingCounts, LocateAsked, TunnelsAsked};

/// Description of the API, as OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// An operation of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    OpenApi,
    Status,
    Live,
    Tunnels,
    Close,
    Where,
    Reload,
    Plan,
    Drain,
    DrainBackend,
    Members,
    Upgrade,
}

/// Every operation, with its method and its path.
pub(super) const OPERATIONS: [(&str, &str, Operation); 12] = [
    ("GET", "/api/v1/openapi.json", Operation::OpenApi),
    ("GET", "/api/v1/status", Operation::Status),
    ("GET", "/api/v1/live", Operation::Live),
    ("GET", "/api/v1/tunnels", Operation::Tunnels),
    ("POST", "/api/v1/tunnels/close", Operation::Close),
    ("POST", "/api/v1/where", Operation::Where),
    ("POST", "/api/v1/reload", Operation::Reload),
    ("POST", "/api/v1/plan", Operation::Plan),
    ("POST", "/api/v1/drain", Operation::Drain),
    ("POST", "/api/v1/backends/drain", Operation::DrainBackend),
    ("POST", "/api/v1/members", Operation::Members),
    ("POST", "/api/v1/upgrade", Operation::Upgrade),
];

/// A request that cannot be made a command.
#[derive(Debug)]
struct Wrong {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

/// Body of `reload`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reload {
    /// Nothing is changed; the answer is the plan.
    dry_run: bool,
}

/// Body of `plan`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    #[serde(default = "unnamed")]
    file: String,
    text: String,
}

/// Body of `backends/drain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainBackend {
    upstream: String,
    /// Its address, or its name.
    address: String,
    #[serde(default)]
    over_ms: Option<u64>,
    #[serde(default)]
    undo: bool,
    #[serde(default)]
    everywhere: bool,
}

/// Body of `members`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    upstream: String,
    action: MembersAction,
    members: Vec<PushedMember>,
}

/// Body of an operation that takes no arguments.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

impl Api {
    /// Answers a request to the API.
    pub(super) async fn answer<B>(&self, admin: &Admin, request: Request<B>, visitor: &Visitor) -> Response<Body>
    where
        B: body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let who = match self.guard.admit(&request, visitor).await {
            Ok(who) => who,
            Err(refused) => return refusal(&refused),
        };
        let operation = match operation(request.method(), request.uri().path()) {
            Ok(Operation::OpenApi) => return json_answer(StatusCode::OK, OPENAPI),
            Ok(Operation::Live) => return self.follow(admin),
            Ok(operation) => operation,
            Err(wrong) => return wrong.answer(),
        };
        match command(operation, &admin.running, request).await {
            Ok(command) => answered(self.desk.ask(command, || who).await).await,
            Err(wrong) => wrong.answer(),
        }
    }

    /// A stream of events that shows the gateway as it changes.
    fn follow(&self, admin: &Admin) -> Response<Body> {
        let Some(events) = self.feed.follow(admin.stopped.clone()) else {
            let message = format!("{MOST_VIEWERS} dashboards and programs follow the gateway already");
            return Wrong::new(StatusCode::SERVICE_UNAVAILABLE, "too_many", message).answer();
        };
        let mut response = finished(StatusCode::OK, StreamBody::new(events).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    }
}

/// The operation that a request asks for.
fn operation(method: &Method, path: &str) -> Result<Operation, Wrong> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut known = OPERATIONS.iter().filter(|(_, at, _)| *at == path).peekable();
    if known.peek().is_none() {
        return Err(Wrong::new(StatusCode::NOT_FOUND, "not_found", "there is no such path: see /api/v1/openapi.json"));
    }
    let found = known.find(|(name, ..)| method == *name).map(|(.., operation)| *operation);
    found.ok_or_else(|| {
        Wrong::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path has another method: see /api/v1/openapi.json")
    })
}

/// The command that a request stands for.
async fn command<B>(
    operation: Operation,
    running: &Running,
    request: Request<B>,
) -> Result<control::ControlRequest, Wrong>
where
    B: body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if operation == Operation::Tunnels {
        return tunnels_asked(request.uri().query().unwrap_or_default()).map(control::ControlRequest::Tunnels);
    }
    if operation == Operation::Status {
        return Ok(control::ControlRequest::Status);
    }
    let body = read_body(request.into_body()).await?;
    Ok(match operation {
        Operation::OpenApi | Operation::Status | Operation::Live | Operation::Tunnels => {
            control::ControlRequest::Status
        }
        Operation::Close => control::ControlRequest::Close(parsed::<CloseAsked>(&body)?),
        Operation::Where => control::ControlRequest::Where(parsed::<LocateAsked>(&body)?),
        Operation::Reload if parsed::<Reload>(&body)?.dry_run => plan_of_the_file(running).await?,
        Operation::Reload => control::ControlRequest::Reload,
        Operation::Plan => {
            let Plan { file, text } = parsed(&body)?;
            control::ControlRequest::Plan { file, text }
        }
        Operation::Drain => parsed::<Nothing>(&body).map(|_| control::ControlRequest::Drain)?,
        Operation::DrainBackend => {
            let DrainBackend { upstream, address: backend, over_ms, undo, everywhere } = parsed(&body)?;
            control::ControlRequest::DrainBackend { upstream, backend, over_ms, undo, follow: false, everywhere }
        }
        Operation::Members => {
            let Members { upstream, action, members } = parsed(&body)?;
            control::ControlRequest::Members { upstream, action, members }
        }
        // The API starts the program that runs now. The control socket alone may name another one: a token must not be
        // enough to run any program.
        Operation::Upgrade => parsed::<Nothing>(&body).map(|_| control::ControlRequest::Upgrade { binary: None })?,
    })
}

/// The plan of a reload of the file as it is now.
async fn plan_of_the_file(running: &Running) -> Result<control::ControlRequest, Wrong> {
    let snapshot = running.snapshot();
    let source = snapshot.config.source.as_ref();
    let path = source
        .map(|source| source.path.clone())
        .ok_or_else(|| Wrong::new(StatusCode::CONFLICT, "failed", "the configuration did not come from a file"))?;
    let file = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string::<&Path>(&path)).await;
    let text = read.map_err(std::io::Error::other).and_then(|read| read).map_err(|error| {
        Wrong::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong_configuration", format!("{file}: cannot be read: {error}"))
    })?;
    Ok(control::ControlRequest::Plan { file, text })
}

/// Reads the query of a list of tunnels: fields of the filter, and `sort`, `limit` and `rate_ms` beside them.
fn tunnels_asked(query: &str) -> Result<TunnelsAsked, Wrong> {
    let (mut asked, mut filter, mut ids) = (Map::new(), Map::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = match &*name {
            "limit" | "rate_ms" | "older_ms" | "idle_ms" => {
                value.parse::<u64>().map_or_else(|_| json!(value), Value::from)
            }
            _ => json!(value),
        };
        let before = match &*name {
            "id" => {
                ids.push(value);
                None
            }
            "sort" | "limit" | "rate_ms" => asked.insert(name.into_owned(), value),
            _ => filter.insert(name.into_owned(), value),
        };
        if before.is_some() {
            return Err(Wrong::arguments("an argument is given twice"));
        }
    }
    if !ids.is_empty() {
        filter.insert("ids".to_owned(), Value::Array(ids));
    }
    asked.insert("filter".to_owned(), Value::Object(filter));
    serde_json::from_value(Value::Object(asked)).map_err(Wrong::arguments)
}

async fn read_body<B>(body: B) -> Result<Bytes, Wrong>
where
    B: body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let read = Limited::new(body, MOST_OF_A_BODY).collect();
    match tokio::time::timeout(BODY_WITHIN, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body has more than {MOST_OF_A_BODY} bytes");
            Err(Wrong::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", message))
        }
        Ok(Err(error)) => Err(Wrong::new(StatusCode::BAD_REQUEST, "bad_request", error.to_string())),
        Err(_) => Err(Wrong::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body did not come in time")),
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Wrong> {
    serde_json::from_slice(if body.is_empty() { b"{}" } else { body }).map_err(Wrong::arguments)
}

/// The response for an answer of the desk. A command that goes on is answered once it has begun.
async fn answered(mut answer: ReplyStream) -> Response<Body> {
    let Some(first) = answer.next().await else { return json_answer(StatusCode::INTERNAL_SERVER_ERROR, "{}") };
    let (status, body) = match first {
        Reply::Tunnels { .. } | Reply::Listed(_) => return listing(first, answer),
        Reply::Progress(progress) => (StatusCode::ACCEPTED, json!({ "message": "begun", "progress": progress })),
        Reply::Status(status) => (StatusCode::OK, json!(status)),
        Reply::Located(located) => (StatusCode::OK, json!(located)),
        Reply::Done(done) => (StatusCode::OK, json!({ "message": done.message, "details": done.details })),
        Reply::Failed(failed) => {
            let status = match failed.failure {
                CommandFailure::BadRequest | CommandFailure::WrongVersion => StatusCode::BAD_REQUEST,
                CommandFailure::Refused | CommandFailure::HandedOver => StatusCode::CONFLICT,
                CommandFailure::WrongConfiguration | CommandFailure::WrongArgument => StatusCode::UNPROCESSABLE_ENTITY,
                CommandFailure::NotFound => StatusCode::NOT_FOUND,
                CommandFailure::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, json!(failed))
        }
    };
    json_answer(status, body.to_string())
}

/// Streams a list of tunnels, a slice at a time: one object with the rows, then the counts.
fn listing(first: Reply, answer: ReplyStream) -> Response<Body> {
    let begun = (Some(first), answer, true);
    let parts = stream::unfold(Some(begun), |state| async {
        let (reply, mut answer, is_first) = state?;
        let reply = match reply {
            Some(reply) => reply,
            None => answer.next().await?,
        };
        let head = if is_first { "{\"tunnels\":[" } else { "" };
        let (text, next) = match reply {
            Reply::Tunnels { tunnels } => {
                let rows: Vec<_> = tunnels.iter().map(|row| json!(row).to_string()).collect();
                let comma = if is_first || rows.is_empty() { "" } else { "," };
                (format!("{head}{comma}{}", rows.join(",")), Some((None, answer, false)))
            }
            Reply::Listed(listed) => (format!("{head}{}", tail(listed)), None),
            // A list that breaks off is left without its end, so that nobody takes it for a whole one.
            _ => return None,
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), next))
    });
    finished(StatusCode::OK, StreamBody::new(parts).boxed_unsync())
}

fn tail(ListingCounts { open, matched, shown, .. }: ListingCounts) -> String {
    format!("],\"open\":{open},\"matched\":{matched},\"shown\":{shown}}}\n")
}

/// The answer to a request that is not heard.
pub(super) fn refusal(refused: &ApiRefused) -> Response<Body> {
    let mut response = Wrong::new(refused.status(), refused.as_str(), refused.to_string()).answer();
    let headers = response.headers_mut();
    match refused {
        ApiRefused::Token => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"longhaul\""))
        }
        ApiRefused::TooMany => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        _ => None,
    };
    response
}

impl Wrong {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    fn arguments(error: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong_argument", error.to_string())
    }

    fn answer(self) -> Response<Body> {
        json_answer(self.status, json!({ "failure": self.kind, "message": self.message }).to_string())
    }
}

fn json_answer(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    finished(status, http_body_util::Full::new(text.into()).boxed_unsync())
}

fn finished(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn unnamed() -> String {
    "the configuration".to_owned()
}

/// Headers of every answer: it is kept nowhere, taken for nothing else, and read by no page of another origin.
const HEADERS: [(&str, &str); 4] = [
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// A configuration file of the greatest size with every byte escaped, and the other fields.
const MOST_OF_A_BODY: usize = 2 * config::MAX_BYTES + 64 * 1024;
const BODY_WITHIN: Duration = Duration::from_secs(10);
