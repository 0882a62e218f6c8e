//! `http-request` and `http-response` rules about headers: the hook `headers`.

use super::words::Statement;
use crate::convert::fits;
use crate::convert::model::Headers;
use crate::convert::place::{Note, SourceLine};

/// Adds a rule to `headers`; the note about it where it is not carried, or not as it was.
pub(super) fn read(rule: &Statement, headers: &mut Headers, drop_strangers: &mut bool) -> Option<Note> {
    let line = rule.line();
    let is_request = rule.word(0) == "http-request";
    let (verb, name, value) = (rule.word(1), rule.word(2), rule.word(3));
    let lower = name.to_ascii_lowercase();
    let condition = if verb == "del-header" { rule.word(3) } else { rule.word(4) };
    let by_itself = is_request && matches!(lower.as_str(), "x-forwarded-proto" | "x-forwarded-host");
    if by_itself {
        return None;
    }
    if is_request && lower == "x-forwarded-for" {
        return forwarded_for(rule, condition, drop_strangers);
    }
    if !condition.is_empty() {
        return Some(line.left_out("headers are set for every request of a route, without a condition"));
    }
    if !fits::changed_by_hook(name, is_request) {
        return Some(line.left_out("Longhaul writes this header itself, or passes it on"));
    }
    if is_request && lower == "host" && verb != "set-header" {
        return Some(line.left_out("there is exactly one `Host`"));
    }
    let known = |list: &[(String, String)]| list.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    if verb == "del-header" {
        let list = if is_request { &mut headers.remove } else { &mut headers.answer_remove };
        if !list.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            list.push(name.to_owned());
        }
        return None;
    }
    let Some(value) = translated(value) else {
        return Some(line.left_out("a sample that the hook `headers` does not have"));
    };
    let list = match (is_request, verb) {
        (true, "set-header") => &mut headers.set,
        (true, _) => &mut headers.add,
        (false, "set-header") => &mut headers.answer_set,
        (false, _) => &mut headers.answer_add,
    };
    if known(list) {
        return Some(line.left_out("a second header of one name: write the hook `headers` a second time"));
    }
    list.push((name.to_owned(), value));
    None
}

/// Reads a rule about `X-Forwarded-For`, to which Longhaul adds the peer's address itself.
fn forwarded_for(rule: &Statement, condition: &str, drop_strangers: &mut bool) -> Option<Note> {
    let (line, verb) = (rule.line(), rule.word(1));
    let is_peer = matches!(rule.word(3), "%[src]" | "%ci");
    match verb {
        "add-header" if is_peer && condition.is_empty() => None,
        "del-header" => Some(dropped(&line, drop_strangers)),
        "set-header" if is_peer => Some(dropped(&line, drop_strangers)),
        _ if !condition.is_empty() => {
            Some(line.left_out("headers are set for every request of a route, without a condition"))
        }
        _ => Some(line.left_out("Longhaul adds the peer's address to what came")),
    }
}

/// Drops what strangers say of their address; the note about it.
fn dropped(line: &SourceLine, drop_strangers: &mut bool) -> Note {
    *drop_strangers = true;
    line.changed(
        "`forwarding.strangers: drop`, for the whole process: what clients say of their address is dropped, and \
         Longhaul adds the peer's address itself",
    )
}

/// A format with HAProxy's samples as the hook `headers` has them.
fn translated(format: &str) -> Option<String> {
    let mut written = String::new();
    let mut rest = format;
    while let Some((before, behind)) = rest.split_once('%') {
        written.push_str(&before.replace("${", "$${"));
        if let Some(after) = behind.strip_prefix('%') {
            written.push('%');
            rest = after;
        } else if let Some(after) = behind.strip_prefix("ci") {
            written.push_str("${client_ip}");
            rest = after;
        } else {
            let (sample, after) = behind.strip_prefix('[')?.split_once(']')?;
            written.push_str(&variable(sample)?);
            rest = after;
        }
    }
    written.push_str(&rest.replace("${", "$${"));
    (fits::header_value(&written) && !written.is_empty()).then_some(written)
}

fn variable(sample: &str) -> Option<String> {
    let (name, argument) =
        sample.split_once('(').map_or((sample, ""), |(name, rest)| (name, rest.trim_end_matches(')')));
    let kind = match name {
        "src" => return Some("${client_ip}".to_owned()),
        "path" => return Some("${path}".to_owned()),
        "req.hdr" | "hdr" | "req.fhdr" if argument.eq_ignore_ascii_case("host") => return Some("${host}".to_owned()),
        "req.hdr" | "hdr" | "req.fhdr" => "header",
        "req.cook" | "cook" => "cookie",
        "urlp" | "url_param" => "query",
        _ => return None,
    };
    fits::token(argument).then(|| format!("${{{kind}:{argument}}}"))
}
