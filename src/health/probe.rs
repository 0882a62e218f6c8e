//! One health check of one backend, as an upstream's `health` asks for it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use tokio::time::timeout_at;

use super::websocket;
use crate::config::{Check, CheckRequest, Health};
use crate::dial::{
    Answered, ConnectError, Dial, Dialer, ExchangeError, ExchangeLimits, HeadExchange, Layers, OnTokio, Secured, Tcp,
    TryError,
};
use crate::http1::ResponseHead;
use crate::metrics::LocalFailure;
use crate::tls::client::{TlsFailure, TlsFailureKind};
use crate::ws::{BadAnswer, handshake};

/// A check: what it does, and how long it may take. One serves all backends of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    check: Check,
    timeout: Duration,
    dialer: Dialer,
    layers: Layers,
}

/// Why a check failed. The text is short enough for a log line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Nobody listens at the address.
    #[error("connection refused")]
    Refused,
    /// TLS with the backend failed.
    #[error("{0}")]
    Tls(TlsFailure),
    /// No connection for another reason.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The check was not done in time, whether it was connecting, writing or reading.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    NoAnswer(Duration),
    /// The connection ended before the answer's head was complete.
    #[error("connection closed before the answer")]
    Closed,
    /// The bytes that came are not the head of an HTTP/1 answer, or are a longer head than is read.
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
    /// A value of the check's request cannot stand in one.
    #[error("the check's path, host or headers cannot be sent")]
    Unsendable,
    /// The gateway itself was short of something. That is no word about the backend.
    #[error("the gateway is short of something: {}", .0.as_str())]
    Local(LocalFailure),
    /// A fault of Longhaul's own.
    #[error("the check panicked")]
    Panicked,
}

impl CheckError {
    /// The kind of failure where TLS is what failed.
    pub fn tls(&self) -> Option<TlsFailureKind> {
        match self {
            Self::Tls(failed) => Some(failed.failure),
            _ => None,
        }
    }

    /// Shortage of the gateway's own that kept the check from being done; `None` for the backend's failures.
    pub fn local(&self) -> Option<LocalFailure> {
        match self {
            Self::Local(failure) => Some(*failure),
            _ => None,
        }
    }
}

impl Probe {
    /// The check that `health` describes, over connections that `dialer` begins and that have the upstream's `layers`.
    pub fn new(health: &Health, dialer: &Dialer, layers: &Layers) -> Self {
        Self { check: health.check.clone(), timeout: health.timeout, dialer: dialer.clone(), layers: layers.clone() }
    }

    /// The longest time that [`run`](Self::run) takes.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Checks the backend at `address`, on a connection of its own.
    ///
    /// A `tcp` check connects, and shakes hands by TLS where the upstream has it, as the other checks do before they
    /// send anything. Backends that are sent a PROXY header get one that says `LOCAL`. An `http` check sends a GET and
    /// looks at the final status alone; the body is not read.
    /// A `websocket` check shakes hands, verifies the answer, and then says goodbye with Close 1000; whether and how
    /// the backend answers that does not count.
    ///
    /// # Errors
    /// The first thing that went wrong, or [`CheckError::NoAnswer`] when the timeout is over.
    pub async fn run(&self, address: SocketAddr) -> Result<(), CheckError> {
        let until = Instant::now() + self.timeout;
        let outcome = match &self.check {
            Check::Tcp => self.connect(address, until).await,
            Check::Http { request, expect } => {
                let request = written(request, address, "")?;
                let got = self.exchange(address, &request, until, |head| head.status).await;
                got.and_then(|(_, answered)| match answered.judged {
                    got if is_expected(got, expect) => Ok(()),
                    got => Err(CheckError::Status { got, expected: ranges(expect) }),
                })
            }
            Check::Websocket { request, subprotocols } => {
                let offer = websocket::offer(subprotocols);
                let request = written(request, address, &websocket::fields(&offer))?;
                let verify = |head: &ResponseHead<'_>| handshake::verify(&offer, head.status, &head.lines[..]);
                match self.exchange(address, &request, until, verify).await {
                    Ok((_, Answered { judged: Err(bad), .. })) => Err(bad.into()),
                    Ok((stream, Answered { length, read, .. })) => {
                        websocket::say_goodbye(stream, &read[length..], until).await;
                        Ok(())
                    }
                    Err(failure) => Err(failure),
                }
            }
        };
        outcome.map_err(|failure| match failure {
            CheckError::NoAnswer(_) => CheckError::NoAnswer(self.timeout),
            other => other,
        })
    }

    async fn connect(&self, address: SocketAddr, until: Instant) -> Result<(), CheckError> {
        let stream = self.begin(address)?;
        if !self.layers.are_none() {
            return self.layers.establish(stream, address, None, until).await.map(drop).map_err(CheckError::from);
        }
        let established = timeout_at(until.into(), stream.established()).await;
        established.map_err(|_| CheckError::NoAnswer(self.timeout))?.map_err(|error| TryError::connect(error).into())
    }

    /// Sends a request, reads the head of the final answer and has it judged.
    async fn exchange<T>(
        &self,
        address: SocketAddr,
        request: &[u8],
        until: Instant,
        judge: impl Fn(&ResponseHead<'_>) -> T,
    ) -> Result<(Secured<Tcp>, Answered<T>), CheckError> {
        let stream = self.begin(address)?;
        let mut stream = self.layers.establish(stream, address, None, until).await?;
        // The timeout covers all steps together.
        let limits = ExchangeLimits { until, connect: self.timeout, read: self.timeout, write: self.timeout };
        let mut exchange = HeadExchange::new(request);
        exchange.connect(&mut stream, &limits).await?;
        let answered = exchange.answer(&mut stream, &limits, &judge).await?;
        Ok((stream, answered))
    }

    fn begin(&self, address: SocketAddr) -> Result<Tcp, CheckError> {
        let socket = self.dialer.begin(address).and_then(|socket| OnTokio.stream(socket));
        socket.map_err(|error| TryError::connect(error).into())
    }
}

/// A GET with the fields that a check is given and `more` of them, each of which ends in CRLF.
fn written(request: &CheckRequest, address: SocketAddr, more: &str) -> Result<Vec<u8>, CheckError> {
    let path: PathAndQuery = request.path.parse().map_err(|_| CheckError::Unsendable)?;
    let host = request.host.as_ref().map_or_else(|| address.to_string(), String::clone);
    let mut head = format!("GET {path} HTTP/1.1\r\n").into_bytes();
    let mut put = |name: &str, value: &str| {
        let value = HeaderValue::from_str(value).map_err(|_| CheckError::Unsendable)?;
        [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].iter().for_each(|part| head.extend_from_slice(part));
        Ok::<_, CheckError>(())
    };
    put("Host", &host)?;
    if !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        put("User-Agent", USER_AGENT)?;
    }
    request.headers.iter().try_for_each(|(name, value)| put(name, value))?;
    head.extend_from_slice(more.as_bytes());
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

fn is_expected(status: StatusCode, expect: &[(u16, u16)]) -> bool {
    expect.iter().any(|(first, last)| (*first..=*last).contains(&status.as_u16()))
}

fn ranges(expect: &[(u16, u16)]) -> String {
    let range = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    expect.iter().map(range).collect::<Vec<_>>().join(", ")
}

impl From<TryError> for CheckError {
    fn from(error: TryError) -> Self {
        match error {
            // The caller knows the timeout.
            late if late.is_timeout() => Self::NoAnswer(Duration::ZERO),
            TryError::Local(shortage, _) => Self::Local(shortage),
            TryError::Connect(ConnectError::Refused(_)) => Self::Refused,
            TryError::Connect(ConnectError::Tls(failed)) => Self::Tls(failed),
            TryError::Connect(ConnectError::Unreachable(text) | ConnectError::Other(text)) => Self::Unreachable(text),
            TryError::Exchange(ExchangeError::Head(_)) => Self::HeadMalformed,
            TryError::Connect(_) | TryError::Exchange(_) => Self::Closed,
        }
    }
}

/// The name of checks in backends' logs, so that those can leave them out.
const USER_AGENT: &str = concat!("longhaul-health/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests;
