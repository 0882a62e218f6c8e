//! One health check of one backend, as an upstream's `health` asks for it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use pingora_core::connectors::http::Connector;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{BError, Error, ErrorType};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, TcpHealthCheck};
use tokio::time::{Instant, timeout_at};

use super::websocket;
use crate::config::{Check, Health};
use crate::ws::BadAnswer;

/// What a check does; one for all backends of an upstream.
pub struct Probe {
    check: Check,
    timeout: Duration,
    kind: Kind,
}

/// Why a check failed; its text is short enough for a log line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Nobody listens at the address.
    #[error("connection refused")]
    Refused,
    /// No connection for another reason.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The check was not done in time, whether it was connecting, writing or reading.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    NoAnswer(Duration),
    /// The connection ended before the answer's head was complete.
    #[error("connection closed before the answer")]
    Closed,
    /// What came is not the head of an HTTP/1 answer, or is a longer one than is read.
    #[error("the answer's head is malformed or too long")]
    HeadMalformed,
    /// An `http` check was answered with another status than expected.
    #[error("status {}, expected {expected}", .got.as_u16())]
    Status {
        /// The status of the answer.
        got: StatusCode,
        /// The ranges of `expect`, as `200-399` or `200, 204`.
        expected: String,
    },
    /// A `websocket` check was answered with what opens no WebSocket.
    #[error(transparent)]
    Handshake(#[from] BadAnswer),
    /// The check's `path` or `host` cannot stand in a request.
    #[error("the check's path or host cannot be sent")]
    Unsendable,
    /// Pingora's client failed in a way that has no name here.
    #[error("{0}")]
    Other(String),
    /// A fault of Longhaul's own.
    #[error("the check panicked")]
    Panicked,
}

enum Kind {
    Tcp(Box<TcpHealthCheck>),
    Http {
        // Pingora's HttpHealthCheck is not used: its Host is one for all backends, it drains the body without a limit,
        // takes an interim answer (103) for the final one, and one per backend would cost a connection pool each.
        connector: Box<Connector>,
        path: String,
        host: Option<String>,
        expect: Vec<(u16, u16)>,
    },
    Websocket {
        path: String,
        host: Option<String>,
    },
}

impl Probe {
    /// The check that `health` describes, with its timeout.
    pub fn new(health: &Health) -> Self {
        let kind = match health.check.clone() {
            Check::Tcp => {
                let mut check = TcpHealthCheck::new();
                // The total timeout covers it; Pingora's own would be a second one, of a second.
                check.peer_template.options.connection_timeout = None;
                Kind::Tcp(check)
            }
            Check::Http { path, host, expect } => {
                Kind::Http { connector: Box::new(Connector::new(None)), path, host, expect }
            }
            Check::Websocket { path, host } => Kind::Websocket { path, host },
        };
        Self { check: health.check.clone(), timeout: health.timeout, kind }
    }

    /// The longest time that [`run`](Self::run) takes.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Checks the backend at `address`, on a connection of its own.
    ///
    /// A `tcp` check connects. An `http` check sends a GET and looks at the final status alone; the body is not read.
    /// A `websocket` check shakes hands, verifies the answer, and then says goodbye with Close 1000; whether and how
    /// the backend answers that does not count.
    ///
    /// # Errors
    /// The first thing that went wrong, or [`Failure::NoAnswer`] when the timeout is over.
    pub async fn run(&self, address: SocketAddr) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        let late = |_| Failure::NoAnswer(self.timeout);
        match &self.kind {
            Kind::Tcp(check) => timeout_at(deadline, connect(check, address)).await.map_err(late)?,
            Kind::Http { connector, path, host, expect } => {
                let host = host_header(host.as_deref(), address)?;
                let got = timeout_at(deadline, status(connector, address, path, host)).await.map_err(late)??;
                if !expect.iter().any(|(first, last)| (*first..=*last).contains(&got.as_u16())) {
                    return Err(Failure::Status { got, expected: ranges(expect) });
                }
                Ok(())
            }
            Kind::Websocket { path, host } => {
                let path: PathAndQuery = path.parse().map_err(|_| Failure::Unsendable)?;
                let host = host_header(host.as_deref(), address)?;
                let opened = timeout_at(deadline, websocket::open(address, &path, &host)).await.map_err(late)??;
                opened.leave(deadline).await;
                Ok(())
            }
        }
    }
}

/// Two probes are equal when they do the same.
impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        self.check == other.check && self.timeout == other.timeout
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("check", &self.check).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

async fn connect(check: &TcpHealthCheck, address: SocketAddr) -> Result<(), Failure> {
    let backend = Backend::new(&address.to_string()).map_err(from_pingora)?;
    check.check(&backend).await.map_err(from_pingora)
}

/// The final status of the answer to a GET.
async fn status(
    connector: &Connector,
    address: SocketAddr,
    path: &str,
    host: HeaderValue,
) -> Result<StatusCode, Failure> {
    let path: PathAndQuery = path.parse().map_err(|_| Failure::Unsendable)?;
    let mut request = RequestHeader::build("GET", path.as_str().as_bytes(), None).map_err(from_pingora)?;
    for (name, value) in [("Host", host), ("User-Agent", HeaderValue::from_static(USER_AGENT))] {
        request.insert_header(name, value).map_err(from_pingora)?;
    }
    // Bounded by the deadline: Pingora's timeouts would be per step. The connection goes back to no pool.
    let peer = HttpPeer::new(address, false, String::new());
    let (mut session, _) = connector.get_http_session(&peer).await.map_err(from_pingora)?;
    session.write_request_header(Box::new(request)).await.map_err(from_pingora)?;
    session.finish_request_body().await.map_err(from_pingora)?;
    loop {
        session.read_response_header().await.map_err(from_pingora)?;
        match session.response_header().map(|head| head.status) {
            Some(StatusCode::SWITCHING_PROTOCOLS) => return Ok(StatusCode::SWITCHING_PROTOCOLS),
            Some(interim) if interim.is_informational() => {}
            Some(status) => return Ok(status),
            None => return Err(Failure::HeadMalformed),
        }
    }
}

fn host_header(host: Option<&str>, address: SocketAddr) -> Result<HeaderValue, Failure> {
    let value = match host {
        Some(host) => HeaderValue::from_str(host),
        None => HeaderValue::from_str(&address.to_string()),
    };
    value.map_err(|_| Failure::Unsendable)
}

fn ranges(expect: &[(u16, u16)]) -> String {
    let range = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    expect.iter().map(range).collect::<Vec<_>>().join(", ")
}

fn from_pingora(error: BError) -> Failure {
    match error.etype() {
        ErrorType::ConnectRefused => Failure::Refused,
        ErrorType::ConnectTimedout
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::BindError
        | ErrorType::SocketError
        // Connects that a firewall forbids (EPERM, EACCES).
        | ErrorType::InternalError => Failure::Unreachable(system_error(&error)),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => Failure::Closed,
        ErrorType::InvalidHTTPHeader => Failure::HeadMalformed,
        other => Failure::Other(other.as_str().to_owned()),
    }
}

/// The system's word on a failed connect, without Pingora's trail of contexts.
fn system_error(error: &Error) -> String {
    let root = error.root_cause();
    match root.downcast_ref::<Error>() {
        Some(error) => error.etype().as_str().to_owned(),
        None => root.to_string(),
    }
}

/// How checks name themselves, so that backends can keep them out of their logs.
pub(super) const USER_AGENT: &str = concat!("longhaul-health/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests;
