//! Refusals of requests whose head is not one that is served: answered, logged and counted like any other request.

use std::borrow::Cow;
use std::future::poll_fn;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use log::{Level, debug, warn};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout_at;

use super::Gateway;
use super::cause::RefusalCause;
use super::request::request_id;
use super::rewind::{ArrivedClient, Rewind};
use crate::client;
use crate::hook::Answer;
use crate::http1::head::read_request;
use crate::http1::{RequestRefused, fields};
use crate::proxy_protocol;
use crate::tls::HandshakeFailure;

/// A refused request, as far as its head can be read.
#[derive(Default)]
struct ReadableHead<'b> {
    method: Option<Cow<'b, str>>,
    host: Option<String>,
    path: Option<Cow<'b, str>>,
    headers: HeaderMap,
}

impl Gateway {
    /// Refuses what a client sent, and ends its connection.
    pub(super) async fn refuse(&self, mut stream: Box<Rewind>, cause: RefusalCause) {
        let ahead = stream.take_ahead();
        let Some(client) = stream.client() else { return };
        if let RefusalCause::Head(refused) = cause {
            client.listener.metrics.refused(refused.as_str());
        }
        if cause == RefusalCause::Head(RequestRefused::Tls) {
            self.tls_failed(client.arrival.peer, HandshakeFailure::PlainPort, Level::Warn);
        }
        let Some(mut answer) = cause.answer() else { return };
        if cause == RefusalCause::Head(RequestRefused::Malformed) && self.is_unexpected_header(client, &ahead) {
            warn!(
                "a request is refused (malformed): a PROXY protocol header came to {}, which is read with \
                 `proxy_protocol: optional` or `required` only (client {})",
                client.listener.address, client.arrival.peer
            );
            answer = Answer::new(answer.status().as_u16(), "a PROXY protocol header came, and this port expects none");
        }
        let asked = ReadableHead::of(&ahead, cause);
        let id = request_id(&asked.headers);
        let is_head = asked.method.as_deref() == Some("HEAD");
        self.record_refusal(client, &asked, &id, cause, answer.status().as_u16());
        let bytes = answer.to_bytes(&asked.headers, &id, is_head);
        drop(ahead);
        if let Err(error) = tell(&mut stream, &bytes).await {
            debug!("a client is gone before it was refused: {error} (request {id})");
        }
    }

    /// Tells if the bytes begin with a PROXY header that the listener does not read.
    fn is_unexpected_header(&self, client: &ArrivedClient, bytes: &[u8]) -> bool {
        let snapshot = self.running.snapshot();
        let policy = snapshot.listeners().get(client.listener.number);
        policy.is_some_and(|policy| policy.is_plain()) && proxy_protocol::is_header(bytes)
    }

    fn record_refusal(
        &self,
        client: &ArrivedClient,
        asked: &ReadableHead<'_>,
        id: &str,
        cause: RefusalCause,
        status: u16,
    ) {
        self.running.log.write("request", |line| {
            line.text("request_id", id)
                .text("client", self.address_of(client, &asked.headers))
                .text("peer", client.arrival.peer)
                .maybe("method", asked.method.as_deref())
                .maybe("host", asked.host.as_deref())
                .maybe("path", asked.path.as_deref())
                .number("status", status.into())
                .number("tries", 0)
                .text("error", cause.as_str())
        });
    }

    fn address_of(&self, client: &ArrivedClient, headers: &HeaderMap) -> IpAddr {
        let snapshot = self.running.snapshot();
        let arrival = &client.arrival;
        client::Client::of(arrival.peer.ip(), arrival.by_tls(), headers, &snapshot.config.trusted_proxies).address
    }
}

impl<'b> ReadableHead<'b> {
    fn of(bytes: &'b [u8], cause: RefusalCause) -> Self {
        if cause == RefusalCause::Head(RequestRefused::Tls) {
            return Self::default();
        }
        if let Ok(Some(head)) = read_request(bytes) {
            let headers = fields::map(&head.lines).unwrap_or_default();
            let host = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
            return Self {
                method: Some(head.method.into()),
                host,
                path: Some(without_query(head.target).into()),
                headers,
            };
        }
        // The head is not complete, or malformed; its first line may tell something all the same.
        let line = bytes.trim_ascii_start().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ').map(|word| String::from_utf8_lossy(start_of(word)));
        let method = words.next().filter(|word| !word.is_empty());
        let path = words.next().map(|target| without_query(&target).to_owned().into());
        Self { method, path, ..Self::default() }
    }
}

/// Writes the answer, and waits until the client has it: a connection that is closed with unread bytes is reset, and
/// the answer may be lost with it (RFC 9112 §9.6).
async fn tell(stream: &mut Rewind, answer: &[u8]) -> std::io::Result<()> {
    let until = (Instant::now() + LINGER).into();
    let told = async {
        stream.write_all(answer).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        let (mut unwanted, mut left) = (Vec::new(), MOST_UNWANTED);
        while left > 0 {
            match poll_fn(|cx| stream.poll_more(cx, &mut unwanted)).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
            unwanted.clear();
        }
        Ok(())
    };
    timeout_at(until, told).await.unwrap_or(Ok(()))
}

fn without_query(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// The beginning of a word, as much as a log line has room for.
fn start_of(word: &[u8]) -> &[u8] {
    &word[..word.len().min(MOST_LOGGED)]
}

/// Time that a client has to take its answer, and to stop sending.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes that are read of a client that goes on sending.
const MOST_UNWANTED: usize = 8 << 20;
const MOST_LOGGED: usize = 256;
