//! `option httpchk` and `http-check`: how backends are checked.

use super::proxy::Proxy;
use super::words::Statement;
use crate::convert::fits;
use crate::convert::model::{Health, Upstream};

/// Reads the checks of a section whose servers are checked at all.
pub(super) fn read(proxy: &Proxy<'_>, upstream: &mut Upstream) {
    let Some(mut health) = upstream.health.take().filter(|health| !health.off) else {
        upstream.health.get_or_insert_default().off = true;
        return;
    };
    health.timeout = proxy.timeout("check", 1, 86_400_000);
    if let Some(option) = proxy.last(&["option", "httpchk"]) {
        health.check = Some("http");
        let sends = !proxy.all(&["http-check", "send"]).is_empty();
        // `http-check send` has the request then.
        if option.words.len() > 2 || !sends {
            request_line(option, &mut health, upstream);
        }
        for send in proxy.all(&["http-check", "send"]) {
            sent(send, &mut health, upstream);
        }
        for expect in proxy.all(&["http-check", "expect"]) {
            expected(expect, &mut health, upstream);
        }
        finish(&mut health);
    }
    upstream.health = Some(health);
}

/// `option httpchk [METHOD] URI [VERSION…]`, whose version may have headers behind it.
fn request_line(option: &Statement, health: &mut Health, upstream: &mut Upstream) {
    let words: Vec<&str> = option.words.iter().skip(2).map(String::as_str).collect();
    let (method, uri, version) = match words.as_slice() {
        [] => ("OPTIONS", "/", ""),
        [uri] => ("OPTIONS", *uri, ""),
        [method, uri] => (*method, *uri, ""),
        [method, uri, rest @ ..] => (*method, *uri, *rest.first().unwrap_or(&"")),
    };
    if method != "GET" {
        upstream.notes.push(option.line().changed(format!("a `GET`, and not `{method}`")));
    }
    target(uri, option, health, upstream);
    let rest = option.words.iter().skip(4).map(String::as_str).collect::<Vec<_>>().join(" ");
    let headers = if version.contains('\n') { rest.as_str() } else { "" };
    for line in headers.lines().skip(1) {
        if let Some((name, value)) = line.split_once(':') {
            header(name.trim(), value.trim(), option, health, upstream);
        }
    }
}

fn target(uri: &str, statement: &Statement, health: &mut Health, upstream: &mut Upstream) {
    if fits::target(uri) {
        health.path = Some(uri.to_owned());
    } else {
        upstream.notes.push(statement.line().left_out(format!("`{uri}` is no target of a check")));
    }
}

/// `http-check send meth M uri U ver V hdr NAME VALUE …`.
fn sent(send: &Statement, health: &mut Health, upstream: &mut Upstream) {
    let mut words = send.words.iter().skip(2).map(String::as_str);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word {
            "meth" => {
                let method = value();
                if method != "GET" {
                    upstream.notes.push(send.line().changed(format!("a `GET`, and not `{method}`")));
                }
            }
            "uri" => {
                let uri = value();
                target(uri, send, health, upstream);
            }
            "ver" => {
                value();
            }
            "hdr" => {
                let (name, content) = (value(), value());
                header(name, content, send, health, upstream);
            }
            _ => {
                let shown = value();
                upstream.notes.push(send.line().left_out(format!("`{word} {shown}` has no equivalent")));
            }
        }
    }
}

fn header(name: &str, value: &str, statement: &Statement, health: &mut Health, upstream: &mut Upstream) {
    let (name, value) = (name.trim(), value.trim());
    let lower = name.to_ascii_lowercase();
    let host_fits = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let is_origin = value.split_once("://").is_some_and(|(scheme, host)| {
        matches!(scheme, "http" | "https") && fits::host_name(fits::without_port(host)).is_some()
    });
    match lower.as_str() {
        "host" if !value.is_empty() && value.len() <= 128 && value.chars().all(host_fits) => {
            health.host = Some(value.to_owned());
        }
        "origin" if is_origin => health.origin = Some(value.to_owned()),
        "sec-websocket-protocol" => {
            let all = value.split(',').map(str::trim);
            for one in all.filter(|one| fits::token(one)) {
                if !health.subprotocols.iter().any(|other| other == one) {
                    health.subprotocols.push(one.to_owned());
                }
            }
        }
        "upgrade" if value.eq_ignore_ascii_case("websocket") => health.check = Some("websocket"),
        "connection" | "upgrade" | "sec-websocket-key" | "sec-websocket-version" | "content-length" => {}
        "transfer-encoding"
        | "te"
        | "trailer"
        | "keep-alive"
        | "proxy-connection"
        | "host"
        | "origin"
        | "sec-websocket-accept"
        | "sec-websocket-extensions"
        | "expect" => {
            upstream.notes.push(statement.line().left_out(format!("the header `{name}` of a check")));
        }
        _ => {
            let known = health.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            if known
                || !fits::token(name)
                || !fits::header_value(value)
                || health.headers.len() >= 32
                || value.is_empty()
            {
                upstream.notes.push(statement.line().left_out(format!("the header `{name}` of a check")));
            } else {
                health.headers.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}

fn expected(expect: &Statement, health: &mut Health, upstream: &mut Upstream) {
    let line = expect.line();
    let (kind, text) = (expect.word(2), expect.word(3));
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| (200..=599).contains(status));
    match kind {
        "status" if text == "101" => health.check = Some("websocket"),
        "status" => {
            let one = |part: &str| match part.split_once('-') {
                Some((first, last)) => {
                    let (first, last) = (status(first)?, status(last)?);
                    (first <= last).then(|| format!("{first}-{last}"))
                }
                None => status(part).map(|status| status.to_string()),
            };
            match text.split(',').map(one).collect::<Option<Vec<_>>>() {
                Some(all) if all.len() == 1 => health.expect = Some(all.concat()),
                Some(all) => health.expect = Some(format!("[{}]", all.join(", "))),
                None => upstream.notes.push(line.left_out("statuses are 200 to 599")),
            }
        }
        "rstatus" => {
            let class =
                text.trim_start_matches('^').trim_start_matches('(').chars().next().filter(char::is_ascii_digit);
            let plain = text.trim_start_matches('^').chars().skip(1).all(|c| ".$\\d[0-9]*{2}".contains(c));
            match class.filter(|class| plain && ('2'..='5').contains(class)) {
                Some(class) => health.expect = Some(format!("{class}00-{class}99")),
                None => upstream.notes.push(line.left_out("no class of statuses")),
            }
        }
        _ => upstream.notes.push(line.left_out("a check looks at the status alone")),
    }
}

/// Settings that only one kind of check has.
fn finish(health: &mut Health) {
    if health.check == Some("websocket") {
        health.expect = None;
    } else {
        health.subprotocols.clear();
    }
}
