//! The handshake: a client's request as it is offered to a backend, and that backend's answer, judged. Whatever the
//! answer and its cuts are, the client gets one head of a 101 that opens what it asked for, or none.
//!
//! The bytes are a request, a line with `--`, and the backend's bytes. In those `{accept}` stands for the right
//! `Sec-WebSocket-Accept`.
#![no_main]

use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, UPGRADE,
};
use libfuzzer_sys::fuzz_target;
use longhaul::dial::{ExchangeLimits, HeadExchange, Transport};
use longhaul::gateway::offer::Plain;
use longhaul::http1::forward::{Edited, ForwardedFrom, OfOurs, switching_response};
use longhaul::http1::head::{read_request, read_response};
use longhaul::http1::{HeadBounds, HeaderFields, ResponseHead, Unwanted, framing, reading};
use longhaul::ws::handshake::{BadAnswer, Offer, accept, verify};
use longhaul_fuzz::{Input, pieces};

fuzz_target!(|input: &[u8]| {
    let Some(input) = Input::read(input) else { return };
    let (request, answer) = parted(input.bytes);
    let Some((offer, offered)) = offer(request) else { return };
    let answer = replaced(answer, accept(&offer.key).as_bytes());
    let at_once = ask(&offer, &offered, &answer, [0; 3]);
    assert_eq!(ask(&offer, &offered, &answer, input.plan), at_once);
    assert_eq!(ask(&offer, &offered, &answer, [1; 3]), at_once);
    if let Some((Ok(switched), behind)) = at_once {
        assert!(answer.ends_with(&behind), "bytes behind the head are the tunnel's");
        opens_what_was_asked_for(&switched, &offer);
    }
});

/// The request, and the bytes behind the line that parts it from the answer.
fn parted(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.windows(PARTING.len()).position(|window| window == PARTING) {
        Some(at) => (&bytes[..at], &bytes[at + PARTING.len()..]),
        None => (bytes, &[]),
    }
}

fn replaced(answer: &[u8], accept: &[u8]) -> Vec<u8> {
    match answer.windows(ACCEPT.len()).position(|window| window == ACCEPT) {
        Some(at) => [&answer[..at], accept, &answer[at + ACCEPT.len()..]].concat(),
        None => answer.to_vec(),
    }
}

/// The offer of a request that a worker answers, and the request that a backend gets.
fn offer(request: &[u8]) -> Option<(Offer, Vec<u8>)> {
    let mut bytes = request.to_vec();
    let rewritten = framing::check(&reading::read(&bytes, &BOUNDS).ok()?).ok()?.rewritten;
    if let Some(rewritten) = rewritten {
        bytes = rewritten;
    }
    let head = reading::read(&bytes, &BOUNDS).expect("a head that was read before, or of ours");
    let mut plain = Plain::of(head)?;
    plain.drop_unwanted(Unwanted { underscores: true, origins: true });
    let offered = plain.for_backend(&ORIGIN);
    let again = read_request(&offered).expect("a head of ours").expect("all of it");
    assert_eq!((again.length, again.method, again.minor_version), (offered.len(), "GET", 1));
    let lines = &again.lines[..];
    assert!(lines.names(&UPGRADE, b"websocket") && lines.names(&CONNECTION, b"upgrade"));
    assert!(lines.values_of(&TRANSFER_ENCODING).next().is_none());
    assert!(!again.lines.iter().any(|line| line.name.contains('_')));
    let same = Plain::of(again).expect("what was a plain offer is one");
    assert_eq!((&same.offer, same.host), (&plain.offer, plain.host), "the backend is asked for the same");
    Some((plain.offer, offered))
}

/// The head for the client, or why there is none, and the bytes that came behind the backend's head; `None` where the
/// backend gave no answer.
type Outcome = Option<(Result<Vec<u8>, BadAnswer>, Vec<u8>)>;

/// One exchange with a backend that sends these bytes in these pieces, and then ends.
fn ask(offer: &Offer, offered: &[u8], answer: &[u8], plan: [u8; 3]) -> Outcome {
    let mut backend =
        Backend { said: pieces(answer, plan).into_iter().map(<[u8]>::to_vec).collect(), heard: Vec::new() };
    backend.said.reverse();
    let limits = ExchangeLimits { until: Instant::now() + HOUR, connect: HOUR, read: HOUR, write: HOUR };
    let judge = |head: &ResponseHead<'_>| {
        assert!(!head.status.is_informational() || head.status.as_u16() == 101);
        verify(offer, head.status, &head.lines[..])?;
        let hsts = HeaderValue::from_static("max-age=60");
        let of_ours = OfOurs { set_cookie: Some("a=b; Path=/"), hsts: Some(&hsts), id: "id" };
        Ok(switching_response(Edited { lines: &head.lines, by_hooks: None }, &of_ours))
    };
    let mut exchange = HeadExchange::new(offered);
    done(exchange.connect(&mut backend, &limits)).expect("this backend takes everything");
    let answered = done(exchange.answer(&mut backend, &limits, &judge));
    assert_eq!(backend.heard, offered);
    let answered = answered.ok()?;
    let mut behind = answered.read[answered.length..].to_vec();
    behind.extend(backend.said.into_iter().rev().flatten());
    Some((answered.judged, behind))
}

fn opens_what_was_asked_for(head: &[u8], offer: &Offer) {
    let again = read_response(head).expect("a head of ours").expect("all of it");
    assert_eq!((again.length, again.status.as_u16()), (head.len(), 101));
    let lines = &again.lines[..];
    let values = |name| lines.values_of(name).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(values(&UPGRADE), [b"websocket"]);
    assert_eq!(values(&CONNECTION), [b"Upgrade"]);
    assert_eq!(values(&SEC_WEBSOCKET_ACCEPT), [accept(&offer.key).into_bytes()]);
    assert_eq!(values(&STRICT_TRANSPORT_SECURITY), [b"max-age=60"]);
    assert!(values(&CONTENT_LENGTH).is_empty() && values(&TRANSFER_ENCODING).is_empty());
}

/// A backend in memory.
struct Backend {
    /// Pieces that it sends, the first one last.
    said: Vec<Vec<u8>>,
    heard: Vec<u8>,
}

impl Transport for Backend {
    fn poll_read(&mut self, _: &mut Context<'_>, bytes: &mut Vec<u8>, _: Instant) -> Poll<io::Result<usize>> {
        let piece = self.said.pop().unwrap_or_default();
        bytes.extend_from_slice(&piece);
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8], _: Instant) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(100);
        self.heard.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn detach(self) -> io::Result<TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The outcome of a future that never waits.
fn done<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("a backend in memory is always ready"),
    }
}

const PARTING: &[u8] = b"\n--\n";
const ACCEPT: &[u8] = b"{accept}";
const BOUNDS: HeadBounds = HeadBounds { bytes: 32 * 1024, lines: 128, target: 8 * 1024 };
const HOUR: Duration = Duration::from_secs(3600);
const ORIGIN: ForwardedFrom<'_> = ForwardedFrom {
    peer: "192.0.2.7",
    is_trusted: false,
    is_secure: true,
    by_tls: true,
    certificate: Some(":AA==:"),
    host: "h",
    id: "0123456789abcdef0123456789abcdef",
    trace: None,
    writes_forwarded: true,
};
