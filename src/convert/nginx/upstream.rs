//! `upstream`: backends, and how a client gets one.

use super::lex::Directive;
use super::variables::{Maps, is_binary};
use crate::convert::fits;
use crate::convert::model::{Backend, Health, IssuedCookie, Keeps, Source, Upstream};
use crate::convert::place::Note;
use crate::convert::quantity::nginx_time;

/// The upstream that a block describes. Those without a usable backend are left to whoever finishes the model.
pub(super) fn read(block: &Directive, maps: &Maps<'_>, port: u16) -> Upstream {
    let mut upstream = Upstream::new(fits::upstream_name(block.argument(0)), &block.place);
    let mut method = None;
    for directive in block.below() {
        match directive.name.as_str() {
            "server" => server(directive, port, &mut upstream),
            "hash" | "ip_hash" | "sticky" | "sticky_cookie_insert" => {
                method = Some(directive);
                affinity(directive, maps, &mut upstream);
            }
            "least_conn" => method = Some(directive),
            "random" | "least_time" | "fair" => {
                method = Some(directive);
                upstream
                    .notes
                    .push(directive.line().changed("the backend with the fewest tunnels and requests is picked"));
            }
            _ => upstream.notes.extend(super::verdicts::of(directive)),
        }
    }
    if method.is_none() && upstream.backends.len() > 1 {
        let text =
            "nginx lets servers take turns; the one with the fewest tunnels and requests for its weight is picked";
        upstream.notes.push(block.line().changed(text));
    }
    upstream
}

fn server(directive: &Directive, port: u16, upstream: &mut Upstream) {
    let line = directive.line();
    let text = directive.argument(0);
    let mut notes = Vec::new();
    let mut weight = 1;
    for parameter in directive.arguments.iter().skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name, value.parse::<u64>()) {
            ("weight", Ok(number)) => weight = number,
            ("max_fails", Ok(0)) => health(upstream).traffic = Some("off"),
            ("max_fails", Ok(number)) => {
                let most = health(upstream).fall.unwrap_or_default().max(number);
                health(upstream).fall = Some(most.clamp(1, 1_000));
            }
            ("max_conns", Ok(0)) => {}
            ("max_conns", Ok(number)) => {
                let most = number.clamp(1, 10_000_000);
                (upstream.tunnels, upstream.requests) = (Some(most), Some(most));
                notes
                    .push(line.changed("`max_conns` bounds every backend of the upstream, tunnels and requests apart"));
            }
            ("fail_timeout", _) => {
                notes.push(
                    line.changed("a backend that is down comes back by passing checks, and not after `fail_timeout`"),
                );
            }
            ("backup", _) => {
                upstream.notes.push(line.left_out("a backup: no backend waits for the others to fail"));
                return;
            }
            ("down", _) => {
                weight = 0;
            }
            ("resolve", _) => {}
            _ => notes.push(line.left_out(format!("`{parameter}` has no equivalent"))),
        }
    }
    let Some(address) = fits::address(text, port) else {
        upstream.notes.push(line.left_out("no address and port: Unix sockets and variables are not supported"));
        return;
    };
    // nginx has the text behind `server` on its ring.
    let name = (address != text && fits::backend_name(text)).then(|| text.to_owned());
    let weight = u32::try_from(weight).unwrap_or(u32::MAX);
    upstream.backends.push(Backend { name, address, weight, notes });
}

fn health(upstream: &mut Upstream) -> &mut Health {
    upstream.health.get_or_insert_default()
}

fn affinity(directive: &Directive, maps: &Maps<'_>, upstream: &mut Upstream) {
    let line = directive.line();
    match directive.name.as_str() {
        "hash" => hash(directive, maps, upstream),
        "ip_hash" => {
            upstream.affinity = vec![Source::ClientIp { ipv4_prefix: 24, ipv6_prefix: 128 }];
            let why = "`ip_hash` is another function of the address than the ring";
            upstream.keeps = Keeps::No(why.to_owned());
            upstream
                .notes
                .push(line.changed(format!("{why}; /24 as there, so clients of one network share a backend")));
        }
        _ => {
            let is_cookie = directive.name == "sticky_cookie_insert" || directive.argument(0) == "cookie";
            if is_cookie {
                let (cookie, notes) = sticky_cookie(directive);
                upstream.notes.extend(notes);
                upstream.affinity = vec![Source::IssueCookie(cookie)];
                let why = "the cookie named a server and holds a key now";
                upstream.keeps = Keeps::No(why.to_owned());
                upstream.notes.push(line.changed(format!("another cookie of its own name: {why}")));
            } else {
                let why = "`sticky` by a table or a route has no equivalent";
                upstream.keeps = Keeps::No(why.to_owned());
                upstream.notes.push(line.left_out(format!("{why}; see `affinity` in docs/configuration.md")));
            }
        }
    }
}

fn hash(directive: &Directive, maps: &Maps<'_>, upstream: &mut Upstream) {
    let line = directive.line();
    let key = directive.argument(0);
    let Some(sources) = maps.sources(key) else {
        let why = format!("a key of several variables, or of `{key}`, has no equivalent");
        upstream.keeps = Keeps::No(why.clone());
        upstream.notes.push(line.left_out(format!("{why}: the least loaded backend is picked")));
        return;
    };
    upstream.affinity = sources;
    let falls_to_address = matches!(upstream.affinity.last(), Some(Source::ClientIp { .. }));
    let why = if directive.argument(1) != "consistent" {
        "`hash` without `consistent` is a modulo over the servers, not a ring"
    } else if is_binary(key) {
        "`$binary_remote_addr` hashes to another place than the address's text"
    } else {
        let yes = "`hash … consistent`: the same ring, names and weights";
        upstream.keeps = Keeps::Yes(yes.to_owned());
        if !falls_to_address {
            let text = "a client without a value gets the least loaded backend; nginx hashes the empty text";
            upstream.notes.push(line.changed(text));
        }
        return;
    };
    upstream.keeps = Keeps::No(why.to_owned());
    upstream.notes.push(line.changed(format!("{why}: clients move once")));
}

fn sticky_cookie(directive: &Directive) -> (IssuedCookie, Vec<Note>) {
    let begin = usize::from(directive.argument(0) == "cookie");
    let old = directive.argument(begin);
    let name = if fits::token(old) && old.len() < 100 { format!("{old}-lh") } else { "longhaul".to_owned() };
    let mut cookie = IssuedCookie { name, ..IssuedCookie::default() };
    let mut notes = Vec::new();
    for parameter in directive.arguments.iter().skip(begin + 1) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match key {
            "expires" => {
                cookie.max_age = nginx_time(value).map(|time| time.clamp(1_000, 400 * 86_400_000) / 1_000 * 1_000);
            }
            "domain" => cookie.domain = fits::host_name(value.trim_start_matches('.')),
            "path" => cookie.path = fits::path(value),
            "secure" => cookie.secure = true,
            "samesite" => {
                let known = ["strict", "lax", "none"].into_iter().find(|known| value.eq_ignore_ascii_case(known));
                cookie.same_site = known;
            }
            "httponly" => {}
            _ => notes.push(directive.line().left_out(format!("`{parameter}` has no equivalent"))),
        }
    }
    (cookie, notes)
}
