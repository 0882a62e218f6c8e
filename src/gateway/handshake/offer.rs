//! Heads of handshakes as they came: read without Pingora, and written on with little changed.

use std::mem::MaybeUninit;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use super::context::Request;
use super::forward::{self, REQUEST_ID};
use crate::client::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};
use crate::ws::handshake::{self, Offer, Wanted};

/// A correct request for a WebSocket, in a form that leaves no question open.
pub(super) struct Ask<'b> {
    /// The path and query asked for.
    pub(super) target: &'b str,
    pub(super) host: &'b str,
    pub(super) headers: HeaderMap,
    pub(super) offer: Offer,
    /// Bytes of the head; what follows is the tunnel's.
    pub(super) length: usize,
    lines: Vec<httparse::Header<'b>>,
}

impl<'b> Ask<'b> {
    /// Reads the request that `bytes` begin with. `None` where its head is not all there, or where it is anything but a
    /// WebSocket that can be asked for without a second thought: such requests are Pingora's to judge.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        if !bytes.starts_with(b"GET /") {
            return None;
        }
        let mut slots = [MaybeUninit::uninit(); MOST_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(bytes, &mut slots).ok()?;
        let httparse::Status::Complete(length) = parsed else { return None };
        let target = request.path.filter(|path| is_plain(path))?;
        if request.version != Some(1) || !request.headers.iter().any(|line| line.name.eq_ignore_ascii_case("upgrade")) {
            return None;
        }
        let headers = map(request.headers)?;
        let host = only(&headers, &header::HOST)?.to_str().ok().filter(|host| is_plain_host(host))?;
        if headers.contains_key(header::EXPECT) {
            return None;
        }
        let Ok(Wanted::WebSocket(offer)) = handshake::classify(&Method::GET, Version::HTTP_11, &headers) else {
            return None;
        };
        let lines = request.headers.to_vec();
        let host = lines.iter().find(|line| line.value == host.as_bytes() && line.name.eq_ignore_ascii_case("host"))?;
        let host = std::str::from_utf8(host.value).ok()?;
        Some(Self { target, host, headers, offer, length, lines })
    }

    /// The path, without the query.
    pub(super) fn path(&self) -> &'b str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The query, without the `?`.
    pub(super) fn query(&self) -> Option<&'b str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The request as a backend is sent it: what [`forward::upgrade_request`] and [`forward::identify`] make of one.
    pub(super) fn for_backend(&self, asked: &Request) -> Vec<u8> {
        let Request { peer, client, .. } = asked;
        let kept = |name: &HeaderName| client.via_trusted && self.headers.contains_key(name);
        let (keeps_proto, keeps_host) = (kept(&FORWARDED_PROTO), kept(&FORWARDED_HOST));
        let mut head = Vec::with_capacity(self.length + 256);
        head.extend_from_slice(b"GET ");
        head.extend_from_slice(self.target.as_bytes());
        head.extend_from_slice(b" HTTP/1.1\r\n");
        let connection = listed(&self.headers);
        for line in &self.lines {
            let is = |name: &str| line.name.eq_ignore_ascii_case(name);
            let ours = is(FORWARDED_FOR.as_str())
                || is(REQUEST_ID.as_str())
                || is(FORWARDED_PROTO.as_str()) && !keeps_proto
                || is(FORWARDED_HOST.as_str()) && !keeps_host;
            if !ours && !forward::is_of_the_hop(line.name, &connection) {
                put(&mut head, line.name, line.value);
            }
        }
        put(&mut head, "Connection", b"Upgrade");
        put(&mut head, "Upgrade", b"websocket");
        put(&mut head, FORWARDED_FOR.as_str(), &forward::chain(&self.headers, peer.ip()));
        if !keeps_proto {
            put(&mut head, FORWARDED_PROTO.as_str(), b"http");
        }
        if !keeps_host {
            put(&mut head, FORWARDED_HOST.as_str(), self.host.as_bytes());
        }
        put(&mut head, REQUEST_ID.as_str(), asked.id.as_bytes());
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// What a backend answered first.
pub(super) enum Answered {
    /// Its head is not all there.
    Partly,
    /// A 1xx that says nothing which matters to an upgrade (RFC 9110 §15.2): so many bytes.
    Interim(usize),
    /// 101, with its headers.
    Switching(Switching),
    /// Another answer.
    Refusal,
}

/// A 101.
pub(super) struct Switching {
    pub(super) headers: HeaderMap,
    /// Bytes of the head; what follows is the tunnel's.
    pub(super) length: usize,
    /// The head as the client is sent it, but for its end and what [`finish`](Self::finish) adds.
    head: Vec<u8>,
}

impl Answered {
    /// Reads the answer that `bytes` begin with.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, httparse::Error> {
        let mut slots = [MaybeUninit::uninit(); MOST_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut slots)?;
        let httparse::Status::Complete(length) = parsed else { return Ok(Self::Partly) };
        Ok(match response.code {
            Some(101) => Self::Switching(Switching::read(response.headers, length).ok_or(httparse::Error::HeaderName)?),
            Some(100..200) => Self::Interim(length),
            _ => Self::Refusal,
        })
    }
}

impl Switching {
    fn read(lines: &[httparse::Header<'_>], length: usize) -> Option<Self> {
        let headers = map(lines)?;
        let connection = listed(&headers);
        let mut head = Vec::with_capacity(length + 128);
        head.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        for line in lines {
            // RFC 9110 §8.6: a 1xx answer has no content, so no length either.
            if !forward::is_of_the_hop(line.name, &connection) && !line.name.eq_ignore_ascii_case("content-length") {
                put(&mut head, line.name, line.value);
            }
        }
        put(&mut head, "Connection", b"Upgrade");
        put(&mut head, "Upgrade", b"websocket");
        Some(Self { headers, length, head })
    }

    /// Whether it opens the WebSocket that `offer` asked for.
    ///
    /// # Errors
    /// See [`handshake::verify`].
    pub(super) fn verify(&self, offer: &Offer) -> Result<(), handshake::BadAnswer> {
        handshake::verify(offer, StatusCode::SWITCHING_PROTOCOLS, &self.headers)
    }

    /// The head as the client is sent it: what [`forward::upgrade_response`] and [`forward::decorate`] make of one.
    pub(super) fn finish(&mut self, set_cookie: Option<&str>, request_id: &str) -> Vec<u8> {
        let mut head = std::mem::take(&mut self.head);
        if let Some(cookie) = set_cookie {
            put(&mut head, "Set-Cookie", cookie.as_bytes());
        }
        if !self.headers.contains_key(&REQUEST_ID) {
            put(&mut head, REQUEST_ID.as_str(), request_id.as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

fn map(lines: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    Some(headers)
}

/// What `Connection` lists, over all its lines.
fn listed(headers: &HeaderMap) -> Vec<&[u8]> {
    let lines = headers.get_all(header::CONNECTION).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).collect()
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn put(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// Whether every parser reads a target the same way: a path and a query of RFC 3986's characters, and no second slash at its
/// beginning, which some take for an authority.
fn is_plain(target: &str) -> bool {
    !target.starts_with("//")
        && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte))
}

fn is_plain_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}

/// As many as Pingora takes.
const MOST_HEADERS: usize = 256;

#[cfg(test)]
mod tests;
