//! `proxy_pass`: the upstream that a location leads to.

use std::collections::HashMap;

use super::lex::Directive;
use super::scope::NginxScope;
use super::upstream;
use super::variables::Maps;
use crate::convert::fits;
use crate::convert::model::{Backend, Policy, Upstream, UpstreamTls};
use crate::convert::place::{Note, SourcePlace};
use crate::convert::uses::Uses;

/// The longest times that a Longhaul file takes, in milliseconds.
const HOUR: u64 = 3_600_000;
const WEEK: u64 = 7 * 24 * HOUR;
const YEAR: u64 = 365 * 24 * HOUR;

/// Reads `proxy_pass` directives: the upstreams they name, and those they stand for themselves.
pub(super) struct Targets<'d> {
    pub(super) definitions: HashMap<&'d str, &'d Directive>,
    pub(super) maps: Maps<'d>,
    pub(super) uses: Uses,
}

/// An upstream, and the host that it is for where a `map` chose it.
pub(super) struct ProxyTarget {
    pub(super) host: Option<String>,
    pub(super) upstream: String,
}

impl Targets<'_> {
    /// The upstreams of a `proxy_pass` in `scope`, where `prefix` is the location's.
    pub(super) fn of(
        &mut self,
        pass: &Directive,
        scope: &NginxScope<'_>,
        prefix: &str,
        notes: &mut Vec<Note>,
    ) -> Vec<ProxyTarget> {
        let line = pass.line();
        let text = Maps::with_set(pass.argument(0), scope.all("set"));
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
        else {
            notes.push(line.left_out("no `http://` or `https://` and a host"));
            return Vec::new();
        };
        let (authority, uri) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        let rewrites =
            uri.is_some_and(|uri| uri != prefix && !uri.starts_with("$request_uri") && !uri.starts_with("$uri"));
        if rewrites {
            let uri = uri.unwrap_or_default();
            notes.push(line.changed(format!("paths are not rewritten: backends get `{prefix}…`, and not `{uri}…`")));
        }
        let sends_host = scope.all("proxy_set_header").iter().any(|set| set.argument(0).eq_ignore_ascii_case("host"));
        if !sends_host {
            notes.push(line.changed(format!("backends get the client's `Host`, and not `{authority}`")));
        }
        let by_host = if authority.contains('$') {
            let values = self.maps.by_host(authority);
            if values.is_none() {
                notes.push(line.left_out("a variable whose values the files do not state"));
            }
            values.unwrap_or_default()
        } else {
            vec![(None, authority.to_owned())]
        };
        let mut targets = Vec::new();
        for (host, authority) in by_host {
            let authority = authority.strip_prefix("http://").unwrap_or(&authority);
            let mut found = self.upstream(pass, authority, scheme == "https");
            found.policy = policy(scope, scheme == "https", authority, pass, notes);
            if found.backends.is_empty() && !self.definitions.contains_key(authority) {
                notes.push(line.left_out(format!("`{authority}` is no address that can be connected to")));
                continue;
            }
            targets.push(ProxyTarget { host, upstream: self.uses.name_of(found, &line) });
        }
        targets
    }

    fn upstream(&self, pass: &Directive, authority: &str, is_https: bool) -> Upstream {
        let port = if is_https { 443 } else { 80 };
        if let Some(block) = self.definitions.get(authority) {
            return upstream::read(block, &self.maps, 80);
        }
        let mut upstream = Upstream::new(fits::upstream_name(authority), &pass.place);
        // The same address from several locations is one upstream.
        upstream.place = SourcePlace { file: "".into(), line: 0 };
        let backend = |address| Backend { name: None, address, weight: 1, notes: Vec::new() };
        upstream.backends.extend(fits::address(authority, port).map(backend));
        upstream
    }
}

fn policy(scope: &NginxScope<'_>, is_https: bool, authority: &str, pass: &Directive, notes: &mut Vec<Note>) -> Policy {
    Policy {
        connect: scope.time("proxy_connect_timeout", 1, HOUR),
        read: scope.time("proxy_read_timeout", 1, WEEK),
        write: scope.time("proxy_send_timeout", 1, WEEK),
        idle: scope.time("proxy_read_timeout", 1_000, YEAR),
        tls: is_https.then(|| tls(scope, authority, pass, notes)),
        ..Policy::default()
    }
}

fn tls(scope: &NginxScope<'_>, authority: &str, pass: &Directive, notes: &mut Vec<Note>) -> UpstreamTls {
    let verifies = scope.word("proxy_ssl_verify") == "on";
    let asks = scope.word("proxy_ssl_server_name") == "on";
    let named = scope.one("proxy_ssl_name").map_or_else(|| fits::without_port(authority), |name| name.argument(0));
    let server_name = (verifies || asks).then(|| fits::host_name(named)).flatten();
    if (verifies || asks) && server_name.is_none() {
        notes.push(pass.line().changed(format!("`{named}` is no name that certificates can be for")));
    }
    if !verifies {
        let text =
            "nginx verifies no certificate of this backend, and neither does this: remove `verify: false` once it may";
        notes.push(pass.line().changed(text));
    }
    let file = |name| Some(scope.word(name)).filter(|file| !file.is_empty() && !file.contains('$'));
    let pair = file("proxy_ssl_certificate").zip(file("proxy_ssl_certificate_key"));
    UpstreamTls {
        server_name,
        ca: file("proxy_ssl_trusted_certificate").filter(|_| verifies).map(str::to_owned),
        certificate: pair.map(|(certificate, key)| (certificate.to_owned(), key.to_owned())),
        unverified: !verifies,
    }
}
