//! `cookie`, `stick` and `balance`: the key that gives a client its backend.

use super::proxy::Proxy;
use super::words::Statement;
use crate::convert::fits;
use crate::convert::model::{IssuedCookie, Keeps, Source, Upstream};
use crate::convert::quantity::haproxy_time;

const CLIENT_IP: Source = Source::ClientIp { ipv4_prefix: 32, ipv6_prefix: 64 };

pub(super) fn read(proxy: &Proxy<'_>, upstream: &mut Upstream) {
    let mut reasons = Vec::new();
    if let Some(line) = proxy.last(&["cookie"]) {
        reasons.extend(cookie(line, upstream));
    }
    let sticks: Vec<&Statement> = proxy.own().iter().filter(|statement| statement.word(0) == "stick").collect();
    if !sticks.is_empty() {
        reasons.push(stick(&sticks, upstream));
    }
    if let Some(line) = proxy.last(&["balance"]) {
        reasons.extend(balance(line, proxy, upstream));
    } else if upstream.affinity.is_empty() && upstream.backends.len() > 1 {
        let text = "HAProxy lets servers take turns; the one with the fewest tunnels and requests is picked";
        upstream.notes.push(proxy.line().changed(text));
    }
    // A source that always has a value is the last one that is asked.
    let certain = |source: &Source| matches!(source, Source::IssueCookie(_) | Source::ClientIp { .. });
    if let Some(at) = upstream.affinity.iter().position(certain) {
        upstream.affinity.truncate(at + 1);
    }
    let mut kept: Vec<Source> = Vec::new();
    for source in std::mem::take(&mut upstream.affinity) {
        if !kept.contains(&source) {
            kept.push(source);
        }
    }
    upstream.affinity = kept;
    if !reasons.is_empty() {
        upstream.keeps = Keeps::No(reasons.join("; "));
    }
    let factor = proxy.last(&["hash-balance-factor"]).and_then(|line| line.word(1).parse::<u64>().ok());
    upstream.balance_factor = factor.filter(|factor| (101..=10_000).contains(factor));
}

/// The reason for which a cookie of HAProxy's does not lead to the same server.
fn cookie(line: &Statement, upstream: &mut Upstream) -> Option<String> {
    let name = line.word(1);
    let note = line.line();
    let has = |word: &str| line.words.iter().skip(2).any(|other| other == word);
    if !fits::token(name) {
        upstream.notes.push(note.left_out("no name that a cookie may have"));
        return None;
    }
    if has("prefix") || has("rewrite") {
        let why = "`cookie … prefix` named a server, and the key is a place on the ring now";
        upstream.affinity.push(Source::BackendCookie(name.to_owned()));
        upstream.notes.push(note.changed(format!("{why}: clients begin a new session once")));
        return Some(why.to_owned());
    }
    let after = |word: &str| {
        let at = line.words.iter().position(|other| other == word)?;
        line.words.get(at + 1).map(String::as_str)
    };
    let mut issued = IssuedCookie { name: other_name(name), ..IssuedCookie::default() };
    issued.max_age = after("maxlife").or_else(|| after("maxidle")).and_then(haproxy_time);
    issued.max_age = issued.max_age.map(|time| time.clamp(1_000, 400 * 86_400_000) / 1_000 * 1_000);
    issued.domain = after("domain").and_then(|domain| fits::host_name(domain.trim_start_matches('.')));
    issued.secure = has("secure");
    let site = line.words.iter().find_map(|word| word.strip_prefix("SameSite="));
    issued.same_site =
        site.and_then(|site| ["strict", "lax", "none"].into_iter().find(|known| site.eq_ignore_ascii_case(known)));
    let why = format!("the cookie `{name}` named a server; `{}` holds a key", issued.name);
    upstream.notes.push(note.changed(format!("{why}, and is another cookie: clients move once")));
    upstream.affinity.push(Source::IssueCookie(issued));
    Some(why)
}

/// A name that HAProxy has not given to browsers.
fn other_name(name: &str) -> String {
    if name == "longhaul" { "longhaul_key".to_owned() } else { "longhaul".to_owned() }
}

fn stick(lines: &[&Statement], upstream: &mut Upstream) -> String {
    let why = "`stick` kept a table of clients; the ring needs none, and deals them anew once".to_owned();
    let stored = lines.iter().find(|line| line.word(1) == "store-response").and_then(|line| {
        let sample = line.word(2);
        call(sample, &["set-cookie", "res.cook", "res.scook"]).map(str::to_owned)
    });
    for line in lines {
        let note = line.line();
        let sample = line.word(2);
        if !matches!(line.word(1), "on" | "match") {
            let carried = line.word(1) == "store-response" && stored.is_some();
            if !carried {
                upstream.notes.push(note.left_out("there is no table to store in"));
            }
            continue;
        }
        match source(sample) {
            Some(Source::Cookie(name)) if stored.as_deref() == Some(name.as_str()) => {
                upstream.affinity.push(Source::BackendCookie(name));
                upstream.notes.push(note.changed("the key stands before the cookie's value, and not in a table"));
            }
            Some(source) => {
                upstream.affinity.push(source);
                upstream.notes.push(note.changed("a key on the ring, and no table: clients move once"));
            }
            None => upstream.notes.push(note.left_out(format!("`{sample}` is no source of affinity"))),
        }
    }
    why
}

/// The reason for which a balance algorithm does not lead to the same server; `None` where it ties nobody.
fn balance(line: &Statement, proxy: &Proxy<'_>, upstream: &mut Upstream) -> Option<String> {
    let note = line.line();
    let why = "HAProxy's hash is another one than the ring's".to_owned();
    let fixed = upstream.affinity.is_empty();
    let found = match line.word(1) {
        "source" => Some(CLIENT_IP),
        "hash" => source(line.word(2)),
        "url_param" => fits::argument(line.word(2)).then(|| Source::Query(line.word(2).to_owned())),
        text if text.starts_with("hdr(") => source(text),
        "leastconn" => return None,
        "roundrobin" | "static-rr" | "first" | "random" => {
            if fixed && upstream.backends.len() > 1 {
                let text = "the backend with the fewest tunnels and requests for its weight is picked";
                upstream.notes.push(note.changed(text));
            }
            return None;
        }
        text if text.starts_with("random") => return None,
        _ => None,
    };
    match found {
        Some(source) => {
            let consistent = proxy.last(&["hash-type"]).is_some_and(|line| line.word(1) == "consistent");
            let text = if consistent {
                "another ring: clients move once"
            } else {
                "a ring, of which a lost backend moves its own clients alone; clients move once"
            };
            upstream.notes.push(note.changed(text));
            upstream.affinity.push(source);
            Some(why)
        }
        None => {
            upstream.notes.push(note.left_out("no source of affinity: the least loaded backend is picked"));
            Some("its key has no equivalent".to_owned())
        }
    }
}

/// The source of affinity of a sample.
fn source(sample: &str) -> Option<Source> {
    let sample = sample.split(',').next().unwrap_or_default();
    if matches!(sample, "src") {
        return Some(CLIENT_IP);
    }
    if matches!(sample, "ssl_c_der" | "ssl_c_s_dn" | "ssl_c_sha1") {
        return Some(Source::ClientCertificate);
    }
    if let Some(name) = call(sample, &["req.cook", "cook", "cookie", "req.cookie"]) {
        return fits::token(name).then(|| Source::Cookie(name.to_owned()));
    }
    if let Some(name) = call(sample, &["req.hdr", "hdr", "req.fhdr", "req.hdr_ip"]) {
        return fits::token(name).then(|| Source::Header(name.to_ascii_lowercase()));
    }
    let name = call(sample, &["urlp", "url_param", "url32+src"])?;
    fits::argument(name).then(|| Source::Query(name.to_owned()))
}

/// The argument of a sample that is one of `names`.
fn call<'s>(sample: &'s str, names: &[&str]) -> Option<&'s str> {
    let (name, rest) = sample.split_once('(')?;
    names.contains(&name).then_some(rest.trim_end_matches(')'))
}
