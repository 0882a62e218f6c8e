//! Heads as they are passed on: hop-by-hop fields left out, the gateway's own fields added.
//!
//! Lines go on in their order and in the letter case that they came with.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::fields::{FieldLine, HeaderFields, reads_as};
use super::hop_by_hop::HopByHop;
use crate::trace::{TRACEPARENT, TraceContext};

/// The addresses that a request came through, the client first.
pub static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `http` or `https`: how the client came to the first proxy.
pub static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the client asked for.
pub static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The request's id.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The certificate that the client presented (RFC 9440 §2.2).
pub static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// The certificates behind it (RFC 9440 §2.3).
pub static CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// Id of a conversation that is re-attached where its backend goes: the same for every backend that it has.
pub static SESSION: HeaderName = HeaderName::from_static("longhaul-session");
/// Number and occasion of the re-attachment that a backend is asked for.
pub static REATTACH: HeaderName = HeaderName::from_static("longhaul-reattach");

/// The gateway's own word to a backend on where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct ForwardedFrom<'a> {
    /// Address of the client's socket, as text.
    pub peer: &'a str,
    /// True when that peer is a trusted proxy. Its `X-Forwarded-Proto` and `-Host` are kept.
    pub is_trusted: bool,
    /// True when the client came by TLS.
    pub is_secure: bool,
    /// True when the connection came by TLS.
    pub by_tls: bool,
    /// Value of `Client-Cert` for the certificate that the client presented here.
    pub certificate: Option<&'a str>,
    /// The host that was asked for; empty where none was named.
    pub host: &'a str,
    /// The request's id.
    pub id: &'a str,
    /// The request's place in a trace; `None` where the gateway has no part in traces.
    pub trace: Option<TraceContext>,
    /// True when an element for this hop is added to `Forwarded` (RFC 7239).
    pub writes_forwarded: bool,
}

/// A message's fields: the lines as they came, and what hooks made of them.
#[derive(Clone, Copy, Debug)]
pub struct Edited<'a, 'b> {
    /// The lines as they came.
    pub lines: &'a [FieldLine<'b>],
    /// Every field after hooks changed some; `None` where nobody did.
    pub by_hooks: Option<&'a HeaderMap>,
}

/// The head of a WebSocket handshake for a backend: a GET for `target`, a path and query.
///
/// `X-Forwarded-For` is appended to. `-Proto` and `-Host` are kept where a trusted proxy set them and are written anew
/// otherwise, because an untrusted client could name anything.
pub fn upgrade_request(target: &str, fields: Edited<'_, '_>, origin: &ForwardedFrom<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(target.len() + fields.length() + 256);
    for part in ["GET ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let kept = |name: &HeaderName| origin.is_trusted && fields.has(name);
    let (keeps_proto, keeps_host) = (kept(&FORWARDED_PROTO), kept(&FORWARDED_HOST));
    let drops_certificates = origin.certificate.is_some() || !origin.is_trusted;
    let is_ours = |name: &str| {
        let is = |ours: &HeaderName| name.eq_ignore_ascii_case(ours.as_str());
        is(&FORWARDED_FOR)
            || is(&REQUEST_ID)
            || is(&SESSION)
            || is(&REATTACH)
            || is(&header::FORWARDED) && origin.writes_forwarded
            || origin.trace.is_some_and(|trace| trace.replaces(name))
            || is(&FORWARDED_PROTO) && !keeps_proto
            || is(&FORWARDED_HOST) && !keeps_host
            || drops_certificates && (is(&CLIENT_CERT) || is(&CLIENT_CERT_CHAIN))
    };
    fields.write(&mut head, is_ours);
    switch_to_websocket(&mut head);
    put_forwarded_for(&mut head, fields, origin.peer);
    if origin.writes_forwarded {
        let elements = match fields.by_hooks {
            Some(headers) => forwarded(headers, origin),
            None => forwarded(fields.lines, origin),
        };
        put(&mut head, header::FORWARDED.as_str(), &elements);
    }
    if !keeps_proto {
        put(&mut head, FORWARDED_PROTO.as_str(), if origin.is_secure { b"https" } else { b"http" });
    }
    if !keeps_host && !origin.host.is_empty() {
        put(&mut head, FORWARDED_HOST.as_str(), origin.host.as_bytes());
    }
    if let Some(certificate) = origin.certificate {
        put(&mut head, CLIENT_CERT.as_str(), certificate.as_bytes());
    }
    if let Some(trace) = origin.trace {
        put(&mut head, TRACEPARENT.as_str(), trace.header().as_bytes());
    }
    put(&mut head, REQUEST_ID.as_str(), origin.id.as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

/// Fields of the gateway's own in a 101.
#[derive(Clone, Copy, Debug)]
pub struct OfOurs<'a> {
    /// The `Set-Cookie` of the issued cookie, beside those of the backend's.
    pub set_cookie: Option<&'a str>,
    /// `Strict-Transport-Security`, in place of the backend's.
    pub hsts: Option<&'a HeaderValue>,
    /// The request's id, unless the backend gave one.
    pub id: &'a str,
}

/// The head of a 101 for the client: without a length (RFC 9110 §8.6: a 1xx response has no content), and with the
/// fields `of_ours`.
pub fn switching_response(fields: Edited<'_, '_>, of_ours: &OfOurs<'_>) -> Vec<u8> {
    let OfOurs { set_cookie, hsts, id } = *of_ours;
    let mut head = Vec::with_capacity(fields.length() + set_cookie.map_or(0, str::len) + 256);
    head.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    fields.write(&mut head, |name| {
        let is = |field: &HeaderName| name.eq_ignore_ascii_case(field.as_str());
        is(&header::CONTENT_LENGTH) || hsts.is_some() && is(&header::STRICT_TRANSPORT_SECURITY)
    });
    switch_to_websocket(&mut head);
    if let Some(cookie) = set_cookie {
        put(&mut head, "Set-Cookie", cookie.as_bytes());
    }
    if let Some(hsts) = hsts {
        put(&mut head, "Strict-Transport-Security", hsts.as_bytes());
    }
    if !fields.has(&REQUEST_ID) {
        put(&mut head, REQUEST_ID.as_str(), id.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A head without the fields of a name, and those that [pass for it](reads_as); it was written here, so that no field
/// goes over several lines.
pub fn without(head: &[u8], name: &HeaderName) -> Vec<u8> {
    let is_of_name = |line: &[u8]| {
        let end = line.iter().position(|byte| *byte == b':');
        end.and_then(|end| str::from_utf8(&line[..end]).ok()).is_some_and(|field| reads_as(field, name.as_str()))
    };
    head.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_of_name(line)).flatten().copied().collect()
}

/// Adds a field to a head that is complete.
pub fn add(head: &mut Vec<u8>, name: &HeaderName, value: &str) {
    head.truncate(head.len().saturating_sub(2));
    put(head, name.as_str(), value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

/// The addresses that a request came through, its peer's the last.
pub fn forwarded_for(fields: &(impl HeaderFields + ?Sized), peer: &str) -> Vec<u8> {
    let mut chain = Vec::new();
    append_forwarded_for(&mut chain, fields, peer);
    chain
}

fn put_forwarded_for(head: &mut Vec<u8>, fields: Edited<'_, '_>, peer: &str) {
    head.extend_from_slice(FORWARDED_FOR.as_str().as_bytes());
    head.extend_from_slice(b": ");
    match fields.by_hooks {
        Some(headers) => append_forwarded_for(head, headers, peer),
        None => append_forwarded_for(head, fields.lines, peer),
    }
    head.extend_from_slice(b"\r\n");
}

fn append_forwarded_for(to: &mut Vec<u8>, fields: &(impl HeaderFields + ?Sized), peer: &str) {
    for line in fields.values_of(&FORWARDED_FOR) {
        to.extend_from_slice(line);
        to.extend_from_slice(b", ");
    }
    to.extend_from_slice(peer.as_bytes());
}

/// The elements of `Forwarded` that a request came with, and behind them one for its peer (RFC 7239 §4).
pub fn forwarded(fields: &(impl HeaderFields + ?Sized), origin: &ForwardedFrom<'_>) -> Vec<u8> {
    let mut elements = Vec::new();
    for line in fields.values_of(&header::FORWARDED).filter(|line| !line.trim_ascii().is_empty()) {
        elements.extend_from_slice(line);
        elements.extend_from_slice(b", ");
    }
    // An IPv6 address stands in brackets, and these in quotes (§6).
    let is_ipv6 = origin.peer.contains(':');
    let node = if is_ipv6 { format!("\"[{}]\"", origin.peer) } else { origin.peer.to_owned() };
    elements.extend_from_slice(format!("for={node}").as_bytes());
    if !origin.host.is_empty() {
        elements.extend_from_slice(b";host=");
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let host = if origin.host.bytes().all(is_token) { origin.host.to_owned() } else { quoted(origin.host) };
        elements.extend_from_slice(host.as_bytes());
    }
    elements.extend_from_slice(if origin.by_tls { b";proto=https" } else { b";proto=http" });
    elements
}

/// A text as a quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Edited<'_, '_> {
    fn has(&self, name: &HeaderName) -> bool {
        match self.by_hooks {
            Some(headers) => headers.contains_key(name),
            None => self.lines.values_of(name).next().is_some(),
        }
    }

    /// Length of the lines as they came.
    fn length(&self) -> usize {
        self.lines.iter().map(|line| line.name.len() + line.value.len() + 4).sum()
    }

    /// Writes every field that belongs to no hop and is not `left_out`: unchanged ones as they came, then those of
    /// hooks.
    fn write(&self, head: &mut Vec<u8>, left_out: impl Fn(&str) -> bool) {
        let Some(edited) = self.by_hooks else {
            let hop = HopByHop::of(self.lines);
            let passed = self.lines.iter().filter(|line| !hop.holds(line.name) && !left_out(line.name));
            return passed.for_each(|line| put(head, line.name, &line.value));
        };
        let hop = HopByHop::of(edited);
        let is_passed = |name: &str| !hop.holds(name) && !left_out(name);
        let is_unchanged = |name: &HeaderName| edited.values_of(name).eq(self.lines.values_of(name));
        for line in self.lines.iter().filter(|line| is_passed(line.name)) {
            if HeaderName::from_bytes(line.name.as_bytes()).is_ok_and(|name| is_unchanged(&name)) {
                put(head, line.name, &line.value);
            }
        }
        for name in edited.keys().filter(|name| is_passed(name.as_str()) && !is_unchanged(name)) {
            edited.values_of(name).for_each(|value| put(head, name.as_str(), value));
        }
    }
}

fn switch_to_websocket(head: &mut Vec<u8>) {
    head.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
}

fn put(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{fields, head};

    const REQUEST: &str = "GET /a HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\nConnection: upgrade, x-hop\r\n\
                           X-Hop: 1\r\nX-Forwarded-Proto: https\r\nX-Request-Id: theirs\r\nUpgrade: websocket\r\n\r\n";

    const ORIGIN: ForwardedFrom<'_> = ForwardedFrom {
        peer: "192.0.2.7",
        is_trusted: false,
        is_secure: false,
        by_tls: false,
        certificate: None,
        host: "h",
        id: "ours",
        trace: None,
        writes_forwarded: false,
    };

    fn written(change: impl FnOnce(&mut HeaderMap)) -> String {
        let head = head::read_request(REQUEST.as_bytes()).unwrap().unwrap();
        let mut headers = fields::map(&head.lines).unwrap();
        change(&mut headers);
        let fields = Edited { lines: &head.lines, by_hooks: Some(&headers) };
        String::from_utf8(upgrade_request("/a?b", fields, &ORIGIN)).unwrap()
    }

    #[test]
    fn a_head_without_a_name_has_no_field_that_passes_for_it() {
        let head = "GET / HTTP/1.1\r\nX-User: a\r\nx_user: b\r\nX-Users: c\r\nX_Room: d\r\n\r\n";
        let left = without(head.as_bytes(), &HeaderName::from_static("x-user"));
        assert_eq!(str::from_utf8(&left).unwrap(), "GET / HTTP/1.1\r\nX-Users: c\r\nX_Room: d\r\n\r\n");
    }

    #[test]
    fn lines_go_on_as_they_came_without_those_of_the_hop() {
        let expected = "GET /a?b HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\nConnection: Upgrade\r\n\
                        Upgrade: websocket\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\
                        x-forwarded-host: h\r\nx-request-id: ours\r\n\r\n";
        assert_eq!(written(|_| {}), expected);
        let head = head::read_request(REQUEST.as_bytes()).unwrap().unwrap();
        let fields = Edited { lines: &head.lines, by_hooks: None };
        assert_eq!(upgrade_request("/a?b", fields, &ORIGIN), expected.as_bytes());
    }

    #[test]
    fn a_client_that_came_by_tls_is_vouched_for_and_cannot_vouch_for_itself() {
        let request = "GET / HTTP/1.1\r\nHost: h\r\nCLIENT-Cert: :AA==:\r\nclient-cert-chain: :AA==:\r\n\r\n";
        let head = head::read_request(request.as_bytes()).unwrap().unwrap();
        let written = |origin: &ForwardedFrom<'_>| {
            let fields = Edited { lines: &head.lines, by_hooks: None };
            String::from_utf8(upgrade_request("/", fields, origin)).unwrap().to_lowercase()
        };
        let plain = written(&ORIGIN);
        assert!(!plain.contains("client-cert") && plain.contains("\r\nx-forwarded-proto: http\r\n"), "{plain}");
        let ours = written(&ForwardedFrom { is_secure: true, is_trusted: true, certificate: Some(":bb==:"), ..ORIGIN });
        assert!(ours.contains("\r\nclient-cert: :bb==:\r\n") && ours.contains("proto: https\r\n"), "{ours}");
        assert!(!ours.contains("chain") && !ours.contains(":aa==:"), "{ours}");
        let believed = written(&ForwardedFrom { is_trusted: true, ..ORIGIN });
        assert!(believed.contains("\r\nclient-cert: :aa==:\r\n") && believed.contains("chain"), "{believed}");
    }

    #[test]
    fn what_hooks_changed_stands_behind_what_they_left() {
        let text = written(|headers| {
            headers.insert("x-b", "new".parse().unwrap());
            headers.insert("x-forwarded-for", "203.0.113.7".parse().unwrap());
            headers.remove("x-a");
        });
        assert!(text.contains("Host: h\r\nx-b: new\r\nConnection: Upgrade\r\n"), "{text}");
        assert!(text.contains("\r\nx-forwarded-for: 203.0.113.7, 192.0.2.7\r\n") && !text.contains("x-a"), "{text}");
    }

    #[test]
    fn an_element_of_forwarded_names_the_peer_behind_those_that_came() {
        let head = head::read_request(b"GET / HTTP/1.1\r\nForwarded: for=a\r\nFORWARDED: \r\nforwarded: for=b\r\n\r\n");
        let lines = head.unwrap().unwrap().lines;
        let origin = ForwardedFrom { is_trusted: true, writes_forwarded: true, ..ORIGIN };
        let written = |origin: &ForwardedFrom<'_>| String::from_utf8(forwarded(&lines[..], origin)).unwrap();
        assert_eq!(written(&origin), "for=a, for=b, for=192.0.2.7;host=h;proto=http");
        let origin = ForwardedFrom { peer: "2001:db8::7", host: "[::1]:8080", ..origin };
        assert_eq!(written(&origin), "for=a, for=b, for=\"[2001:db8::7]\";host=\"[::1]:8080\";proto=http");
        let text = String::from_utf8(upgrade_request("/", Edited { lines: &lines, by_hooks: None }, &origin)).unwrap();
        assert_eq!(text.to_ascii_lowercase().matches("\r\nforwarded: ").count(), 1, "{text}");
        let origin = ForwardedFrom { host: "", by_tls: true, ..origin };
        assert_eq!(written(&origin), "for=a, for=b, for=\"[2001:db8::7]\";proto=https");
    }

    #[test]
    fn a_101_has_no_length_and_the_gateways_cookie_and_id() {
        let bytes = b"HTTP/1.1 101 Whatever\r\nServer: b\r\nContent-Length: 0\r\nUPGRADE: WebSocket\r\n\
                      strict-transport-security: max-age=0\r\n\r\n";
        let head = head::read_response(bytes).unwrap().unwrap();
        let fields = Edited { lines: &head.lines, by_hooks: None };
        let hsts = HeaderValue::from_static("max-age=60");
        let of_ours = OfOurs { set_cookie: Some("a=b"), hsts: Some(&hsts), id: "ours" };
        let text = String::from_utf8(switching_response(fields, &of_ours)).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 101 Switching Protocols\r\nServer: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Set-Cookie: a=b\r\nStrict-Transport-Security: max-age=60\r\nx-request-id: ours\r\n\r\n"
        );
    }
}
