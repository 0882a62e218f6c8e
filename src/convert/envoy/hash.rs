//! `hash_policy`: the sources of affinity of a route.

use super::tree::At;
use crate::convert::fits;
use crate::convert::model::{IssuedCookie, Source};
use crate::convert::place::Note;

/// The sources of a route's action; several policies are one hash in Envoy, and a chain here.
pub(super) fn sources(action: &At<'_>, notes: &mut Vec<Note>) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let policies = action.items("hash_policy");
    for policy in &policies {
        match source(policy) {
            Some(source) if !sources.contains(&source) => sources.push(source),
            Some(_) => {}
            None => notes.push(policy.line().left_out("no source of affinity")),
        }
    }
    let terminal = policies.iter().filter(|policy| policy.is_true("terminal")).count();
    if sources.len() > 1 && terminal + 1 < policies.len() {
        let words = "the first source that has a value is the key; Envoy mixes all of them";
        notes.extend(policies.first().map(|policy| policy.line().changed(words)));
    }
    let certain = |source: &Source| matches!(source, Source::IssueCookie(_) | Source::ClientIp { .. });
    if let Some(at) = sources.iter().position(certain) {
        sources.truncate(at + 1);
    }
    sources
}

fn source(policy: &At<'_>) -> Option<Source> {
    if let Some(cookie) = policy.get("cookie") {
        let name = cookie.word("name");
        fits::token(name).then_some(())?;
        let Some(ttl) = cookie.get("ttl") else { return Some(Source::Cookie(name.to_owned())) };
        let max_age = crate::convert::quantity::envoy_time(ttl.text()).filter(|time| *time > 0);
        let path = Some(cookie.word("path")).filter(|path| *path != "/").and_then(fits::path);
        let max_age = max_age.map(|time| time.clamp(1_000, 400 * 86_400_000) / 1_000 * 1_000);
        return Some(Source::IssueCookie(IssuedCookie {
            name: name.to_owned(),
            max_age,
            path,
            ..IssuedCookie::default()
        }));
    }
    if let Some(header) = policy.get("header") {
        let name = match header.word("header_name") {
            ":authority" => "host",
            name => name,
        };
        return fits::token(name).then(|| Source::Header(name.to_ascii_lowercase()));
    }
    if let Some(query) = policy.get("query_parameter") {
        let name = query.word("name");
        return fits::argument(name).then(|| Source::Query(name.to_owned()));
    }
    let is_ip = policy.get("connection_properties")?.is_true("source_ip");
    is_ip.then_some(Source::ClientIp { ipv4_prefix: 32, ipv6_prefix: 64 })
}
