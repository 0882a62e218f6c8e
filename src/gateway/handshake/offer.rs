//! Requests for a WebSocket that workers carry out themselves: those that every parser reads alike.

use std::borrow::Cow;

use http::header;
use http::{Method, Version};

use crate::http1::forward::{Edited, ForwardedFrom, upgrade_request};
use crate::http1::{HeaderFields, RequestHead, Unwanted};
use crate::ws::handshake::{self, ClientKeys, Offer, UpgradeKind};

/// A correct request for a WebSocket that can be read in one way only.
pub struct Plain<'b> {
    pub(super) head: RequestHead<'b>,
    /// The value of `Host`.
    pub host: &'b str,
    /// Offer of the client. Its key may be any text: the route says if it may.
    pub offer: Offer,
}

impl<'b> Plain<'b> {
    /// The request of a head that was checked. `None` for every request that is left to Pingora: those that ask for no
    /// WebSocket, and those that parsers could read differently.
    pub fn of(head: RequestHead<'b>) -> Option<Self> {
        let is_get = head.method == "GET" && head.target.starts_with('/');
        if !is_get || head.minor_version != 1 || !head.lines.has(&header::UPGRADE) {
            return None;
        }
        if !is_plain(head.target) || head.lines.iter().any(|line| line.name.len() > LONGEST_NAME) {
            return None;
        }
        let host = only_host(&head).filter(|host| is_plain_host(host))?;
        if head.lines.has(&header::EXPECT) {
            return None;
        }
        let wanted = handshake::classify_with(ClientKeys::Any, &Method::GET, Version::HTTP_11, &head.lines[..]);
        let Ok(UpgradeKind::WebSocket(offer)) = wanted else { return None };
        Some(Self { head, host, offer })
    }

    /// Takes the header fields out of the request that backends do not get.
    pub fn drop_unwanted(&mut self, unwanted: Unwanted) {
        self.head.lines.retain(|line| !unwanted.holds(line.name));
    }

    /// The path, without the query.
    pub(super) fn path(&self) -> &'b str {
        self.head.target.split_once('?').map_or(self.head.target, |(path, _)| path)
    }

    /// The query, without the `?`.
    pub(super) fn query(&self) -> Option<&'b str> {
        self.head.target.split_once('?').map(|(_, query)| query)
    }

    /// The request as a backend is sent it.
    pub fn for_backend(&self, origin: &ForwardedFrom<'_>) -> Vec<u8> {
        upgrade_request(self.head.target, Edited { lines: &self.head.lines, by_hooks: None }, origin)
    }
}

/// The value of `Host`; `None` unless there is exactly one.
fn only_host<'b>(head: &RequestHead<'b>) -> Option<&'b str> {
    let mut hosts = head.lines.iter().filter(|line| line.name.eq_ignore_ascii_case("host"));
    let (Some(line), None) = (hosts.next(), hosts.next()) else { return None };
    match &line.value {
        Cow::Borrowed(host) => std::str::from_utf8(host).ok(),
        Cow::Owned(_) => None,
    }
}

/// Tells whether every parser reads a target the same way. Such a target is a path and a query of RFC 3986's
/// characters. It does not begin with two slashes, which some parsers take for an authority.
fn is_plain(target: &str) -> bool {
    !target.starts_with("//")
        && target.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'/' | b'?' | b'%')
                || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
        })
}

fn is_plain_host(host: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    !host.is_empty() && host.bytes().all(is_plain)
}

/// Longest name of a field that Pingora takes, which refuses requests with longer ones.
const LONGEST_NAME: usize = 65_535;

#[cfg(test)]
mod tests;
