//! Headers of plain requests and of relayed answers, in Pingora's types. Handshakes pass on heads as bytes (`http1`).

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue, InvalidHeaderValue};
use http::{HeaderMap, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

use super::context::{Ctx, RequestIdentity};
use crate::http1::forward::{
    CLIENT_CERT, CLIENT_CERT_CHAIN, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REATTACH, REQUEST_ID, SESSION,
    forwarded, forwarded_for,
};
use crate::http1::framing::{self, FramingError};
use crate::http1::hop_by_hop::HopByHop;
use crate::http1::{HeaderFields, Unwanted};
use crate::trace::{TRACEPARENT, TRACESTATE};
use crate::tunnel::RequestId;

/// The id a request came with, or a new one of 128 random bits.
///
/// An id of another shape (longer than 128 bytes, or with anything but visible ASCII in it) is replaced.
pub(in crate::gateway) fn request_id(headers: &(impl HeaderFields + ?Sized)) -> String {
    let given = headers.values_of(&REQUEST_ID).next().and_then(|value| std::str::from_utf8(value).ok());
    match given {
        Some(id) if (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) => id.to_owned(),
        _ => RequestId::random().text().into(),
    }
}

/// The length that a request's body is announced to have. The head has been checked: there is one at the most.
pub(super) fn length(request: &RequestHeader) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Adds `X-Forwarded-For`, `-Proto` and `-Host` and the request id to a request for a backend, which is asked for the
/// path and query alone (RFC 9112 §3.2.1).
///
/// `X-Forwarded-For` is appended to. `-Proto` and `-Host` are kept where a trusted proxy set them and written anew
/// otherwise, because an untrusted client could name anything.
///
/// Names go on in lower case, as with HAProxy and Envoy: Pingora keeps the client's letter case in a second map, which
/// costs more than all the rest that is done here (bench/NOTES.md).
///
/// `edit` makes further changes to the header.
pub(super) fn identify(
    request: &mut RequestHeader,
    asked: &RequestIdentity,
    edit: impl FnOnce(&mut HeaderMap),
) -> Result<()> {
    let invalid = |error| Error::because(ErrorType::InvalidHTTPHeader, "a header for the backend", error);
    // Parts have the target's URI alone: of an absolute one what follows the host, which `Host` names too.
    let nothing = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(request, nothing));
    let headers = &mut parts.headers;
    edit(headers);
    make_room(headers);
    let (chain, elements) = asked.with_origin(|origin| {
        let elements = origin.writes_forwarded.then(|| forwarded(headers, origin));
        (forwarded_for(headers, origin.peer), elements)
    });
    if let Some(elements) = elements {
        let elements = HeaderValue::from_maybe_shared(Bytes::from(elements));
        headers.insert(header::FORWARDED, elements.map_err(invalid)?);
    }
    let chain = HeaderValue::from_maybe_shared(Bytes::from(chain));
    headers.insert(FORWARDED_FOR.clone(), chain.map_err(invalid)?);
    if !(asked.client.via_trusted && headers.contains_key(&FORWARDED_PROTO)) {
        let proto = if asked.client.secure { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO.clone(), HeaderValue::from_static(proto));
    }
    if !(asked.client.via_trusted && headers.contains_key(&FORWARDED_HOST)) {
        match asked.host.as_str() {
            "" => drop(headers.remove(&FORWARDED_HOST)),
            host => drop(headers.insert(FORWARDED_HOST.clone(), host.parse().map_err(invalid)?)),
        }
    }
    name_certificate(headers, asked).map_err(invalid)?;
    if let Some(trace) = asked.trace {
        headers.insert(TRACEPARENT.clone(), trace.header().parse().map_err(invalid)?);
        if trace.parent.is_none() {
            headers.remove(&TRACESTATE);
        }
    }
    headers.insert(REQUEST_ID.clone(), asked.id.parse().map_err(invalid)?);
    *request = parts.into();
    Ok(())
}

/// Tells the backend of the client's certificate, or takes out what the client says of one.
fn name_certificate(headers: &mut HeaderMap, asked: &RequestIdentity) -> Result<(), InvalidHeaderValue> {
    match asked.arrival.certificate() {
        Some(certificate) => {
            headers.insert(CLIENT_CERT.clone(), certificate.header_value().parse()?);
            headers.remove(&CLIENT_CERT_CHAIN);
        }
        // A trusted proxy that ended TLS speaks of the client; anybody else speaks of himself.
        None if asked.client.via_trusted => {}
        None => {
            headers.remove(&CLIENT_CERT);
            headers.remove(&CLIENT_CERT_CHAIN);
        }
    }
    Ok(())
}

/// Takes out fields that are the gateway's own on handshakes, and makes room for those that are added.
fn make_room(headers: &mut HeaderMap) {
    headers.remove(&SESSION);
    headers.remove(&REATTACH);
    headers.reserve(4);
}

/// Names the backend as the host of a request that names none, as one of HTTP/1.0 may: backends are asked in HTTP/1.1,
/// where a request without `Host` is refused (RFC 9112 §3.2). nginx's `$proxy_host` is the same.
pub(super) fn name_host(headers: &mut HeaderMap, backend: SocketAddr) {
    if !headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::try_from(backend.to_string())
    {
        headers.insert(header::HOST, host);
    }
}

/// The host a request is for: that of an absolute request target, else the `Host` header (RFC 9112 §3.2.2).
pub(super) fn host(request: &RequestHeader) -> Option<&[u8]> {
    match request.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => request.headers.get(header::HOST).map(HeaderValue::as_bytes),
    }
}

/// Gives a backend's answer one meaning: the chunks, or one length. Trailers are not passed on, so none are announced.
///
/// # Errors
/// The answer leaves open where its body ends, or has a transfer coding that is not known (RFC 9112 §6).
pub(in crate::gateway) fn reframe(response: &mut ResponseHeader) -> std::result::Result<(), FramingError> {
    response.remove_header(&header::TRAILER);
    if !response.headers.contains_key(header::TRANSFER_ENCODING) && !has_unclear_length(response) {
        return Ok(());
    }
    if framing::is_chunked(&response.headers)? {
        response.remove_header(&header::CONTENT_LENGTH);
    }
    if let Some(length) = framing::length(&response.headers)? {
        response.remove_header(&header::CONTENT_LENGTH);
        let length = HeaderValue::from(length);
        response.insert_header(header::CONTENT_LENGTH, length).map_err(|_| FramingError::Length)?;
    }
    Ok(())
}

fn has_unclear_length(response: &ResponseHeader) -> bool {
    let mut lengths = response.headers.get_all(header::CONTENT_LENGTH).iter();
    let is_digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number =
        |length: &HeaderValue| length.to_str().ok().filter(is_digits).is_some_and(|text| text.parse::<i64>().is_ok());
    !lengths.next().is_none_or(is_number) || lengths.next().is_some()
}

/// Makes a backend's refusal of an upgrade fit for the client; its body is framed anew where it had no length.
pub(in crate::gateway) fn refusal(response: &mut ResponseHeader) -> Result<()> {
    let sized = response.headers.contains_key(header::CONTENT_LENGTH);
    let headers = response.headers.clone();
    let hop = HopByHop::of(&headers);
    // RFC 9110 §15.5.22: a 426 says which protocol it asks for.
    let is_kept = |name: &HeaderName| response.status == StatusCode::UPGRADE_REQUIRED && *name == header::UPGRADE;
    let goes: Vec<_> = headers.keys().filter(|name| hop.holds(name.as_str()) && !is_kept(name)).collect();
    for name in goes {
        response.remove_header(name);
    }
    response.set_version(Version::HTTP_11);
    if !sized && !matches!(response.status.as_u16(), 204 | 304) {
        response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Makes an answer end with its connection instead of its last chunk, for a client that knows no chunks (RFC 9112
/// §6.1). Returns whether it was in chunks.
pub(super) fn drop_chunks(response: &mut ResponseHeader) -> bool {
    response.remove_header(&header::TRANSFER_ENCODING).is_some()
}

/// Adds to a backend's answer what is ours: the issued cookie, beside the backend's own, and the request's id.
pub(in crate::gateway) fn decorate(response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    ctx.set_cookies(response)?;
    if let Some(hsts) = ctx.hsts() {
        response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    if !response.headers.contains_key(&REQUEST_ID) {
        response.insert_header(REQUEST_ID.as_str(), ctx.id())?;
    }
    Ok(())
}

/// Takes the headers out of a request that backends do not get.
pub(super) fn drop_unwanted(request: &mut RequestHeader, unwanted: Unwanted) {
    let named: Vec<HeaderName> = request.headers.keys().filter(|name| unwanted.holds(name.as_str())).cloned().collect();
    for name in &named {
        request.remove_header(name);
    }
}

/// Takes `upgrade` out of a request that goes on as plain HTTP (RFC 9110 §7.8).
pub(super) fn drop_upgrade(request: &mut RequestHeader) {
    request.remove_header(&header::UPGRADE);
}
