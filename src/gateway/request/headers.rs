//! What Longhaul changes in the headers it passes on.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

use super::context::{Ctx, Request};
use crate::address;
use crate::client::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};

/// The header that carries a request's id.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id a request came with, or a new one of 128 random bits.
///
/// An id of another shape (longer than 128 bytes, or with anything but visible ASCII in it) is replaced.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) => id.to_owned(),
        _ => {
            let mut id = Vec::with_capacity(32);
            for byte in rand::random::<[u8; 16]>() {
                id.extend([byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]));
            }
            String::from_utf8(id).expect("digits are text")
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Adds `X-Forwarded-For`, `-Proto` and `-Host` and the request id to a request for a backend, which is asked for the
/// path and query alone (RFC 9112 §3.2.1).
///
/// `X-Forwarded-For` is appended to. `-Proto` and `-Host` are kept where a trusted proxy set them and written anew
/// otherwise, because an untrusted client could name anything.
///
/// Names go on in lower case, as with HAProxy and Envoy: Pingora keeps the client's letter case in a second map, which
/// costs more than all the rest that is done here (bench/NOTES.md).
pub(super) fn identify(request: &mut RequestHeader, asked: &Request) -> Result<()> {
    let Request { peer, client, host, .. } = asked;
    let invalid = |error| Error::because(ErrorType::InvalidHTTPHeader, "a header for the backend", error);
    // Parts have the target's URI alone: of an absolute one what follows the host, which `Host` names too.
    let nothing = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(request, nothing));
    let headers = &mut parts.headers;
    headers.reserve(4);
    let chain = HeaderValue::from_maybe_shared(Bytes::from(chain(headers, peer.ip())));
    headers.insert(FORWARDED_FOR.clone(), chain.map_err(invalid)?);
    if !(client.via_trusted && headers.contains_key(&FORWARDED_PROTO)) {
        headers.insert(FORWARDED_PROTO.clone(), HeaderValue::from_static("http"));
    }
    if !(client.via_trusted && headers.contains_key(&FORWARDED_HOST)) {
        match host.as_str() {
            "" => drop(headers.remove(&FORWARDED_HOST)),
            host => drop(headers.insert(FORWARDED_HOST.clone(), host.parse().map_err(invalid)?)),
        }
    }
    headers.insert(REQUEST_ID.clone(), asked.id.parse().map_err(invalid)?);
    *request = parts.into();
    Ok(())
}

/// The addresses that a request came through, its peer's the last.
pub(super) fn chain(headers: &HeaderMap, peer: IpAddr) -> Vec<u8> {
    let peer = address::text(peer.to_canonical()).into_bytes();
    if !headers.contains_key(&FORWARDED_FOR) {
        return peer;
    }
    let lines: Vec<_> = headers.get_all(&FORWARDED_FOR).iter().map(HeaderValue::as_bytes).chain([&peer[..]]).collect();
    lines.join(&b", "[..])
}

/// The host a request is for: that of an absolute request target, else the `Host` header (RFC 9112 §3.2.2).
pub(super) fn host(request: &RequestHeader) -> Option<&[u8]> {
    match request.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => request.headers.get(header::HOST).map(HeaderValue::as_bytes),
    }
}

/// Makes a client's upgrade request fit for a backend: hop-by-hop headers are gone but for the upgrade itself.
pub(super) fn upgrade_request(request: &mut RequestHeader) -> Result<()> {
    strip_hop_by_hop(&request.headers.clone(), |name| drop(request.remove_header(name)));
    request.set_version(Version::HTTP_11);
    request.insert_header(header::CONNECTION, "Upgrade")?;
    request.insert_header(header::UPGRADE, "websocket")
}

/// Makes a backend's 101 fit for the client.
pub(super) fn upgrade_response(response: &mut ResponseHeader) -> Result<()> {
    strip_hop_by_hop(&response.headers.clone(), |name| drop(response.remove_header(name)));
    // RFC 9110 §8.6: a 1xx answer has no content, so no length either.
    response.remove_header(&header::CONTENT_LENGTH);
    response.insert_header(header::CONNECTION, "Upgrade")?;
    response.insert_header(header::UPGRADE, "websocket")
}

/// Makes a backend's refusal of an upgrade fit for the client; its body is framed anew where it had no length.
pub(super) fn refusal(response: &mut ResponseHeader) -> Result<()> {
    let sized = response.headers.contains_key(header::CONTENT_LENGTH);
    strip_hop_by_hop(&response.headers.clone(), |name| drop(response.remove_header(name)));
    response.set_version(Version::HTTP_11);
    if !sized && !matches!(response.status.as_u16(), 204 | 304) {
        response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Has an answer end with its connection instead of its last chunk, for a client that knows no chunks (RFC 9112 §6.1);
/// says whether it was in chunks.
pub(super) fn drop_chunks(response: &mut ResponseHeader) -> bool {
    response.remove_header(&header::TRANSFER_ENCODING).is_some()
}

/// Adds to a backend's answer what is ours: the issued cookie, beside the backend's own, and the request's id.
pub(super) fn decorate(response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    decorate_with(response, ctx.set_cookie(), ctx.id())
}

pub(super) fn decorate_with(response: &mut ResponseHeader, set_cookie: Option<&str>, request_id: &str) -> Result<()> {
    if let Some(cookie) = set_cookie {
        response.append_header(header::SET_COOKIE, cookie)?;
    }
    if !response.headers.contains_key(&REQUEST_ID) {
        response.insert_header(REQUEST_ID.as_str(), request_id)?;
    }
    Ok(())
}

/// Takes `upgrade` out of a request that goes on as plain HTTP (RFC 9110 §7.8).
pub(super) fn drop_upgrade(request: &mut RequestHeader) {
    request.remove_header(&header::UPGRADE);
}

/// Takes the headers that `Connection` lists out of a request now, and not on its way to a backend: what a hook sets later
/// under the same name is not the client's to have removed.
pub(super) fn drop_listed(request: &mut RequestHeader) -> Result<()> {
    let lines = request.headers.get_all(header::CONNECTION).iter();
    let tokens = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let of_the_connection = |token: &&[u8]| {
        ["close", "keep-alive", "upgrade"].iter().any(|option| token.eq_ignore_ascii_case(option.as_bytes()))
    };
    let (options, listed): (Vec<_>, Vec<_>) = tokens.partition(of_the_connection);
    if listed.is_empty() {
        return Ok(());
    }
    let options = options.join(&b", "[..]);
    let listed: Vec<_> = listed.into_iter().filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    for name in listed.iter().filter(|name| !identifies(name.as_str()) && *name != header::CONNECTION) {
        request.remove_header(name);
    }
    if options.is_empty() {
        request.remove_header(&header::CONNECTION);
        return Ok(());
    }
    request.insert_header(header::CONNECTION, options)
}

/// Names every hop-by-hop header of `headers` to `remove`: those of RFC 9110 §7.6.1 and those `Connection` lists.
fn strip_hop_by_hop(headers: &HeaderMap, mut remove: impl FnMut(&str)) {
    for line in headers.get_all(header::CONNECTION) {
        for token in line.as_bytes().split(|byte| *byte == b',') {
            let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) else { continue };
            if !identifies(name.as_str()) {
                remove(name.as_str());
            }
        }
    }
    HOP_BY_HOP.iter().for_each(|name| remove(name));
}

/// Whether [`strip_hop_by_hop`] names this header, where `Connection` lists `connection`.
pub(super) fn is_of_the_hop(name: &str, connection: &[&[u8]]) -> bool {
    let is_listed = || connection.iter().any(|token| token.eq_ignore_ascii_case(name.as_bytes()));
    HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop))
        || is_listed() && !identifies(&name.to_ascii_lowercase())
}

const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Whether a header says who asks for what: a `Connection` header that names one is an attack, not a hop's word.
fn identifies(name: &str) -> bool {
    matches!(name, "host" | "cookie" | "authorization" | "origin")
        || name.starts_with("x-forwarded-")
        || name.starts_with("sec-websocket-")
}
