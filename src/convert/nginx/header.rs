//! `proxy_set_header`, `add_header` and `proxy_hide_header`: what Longhaul does by itself, and the hook `headers`.

use super::lex::Directive;
use super::scope::NginxScope;
use crate::convert::fits;
use crate::convert::model::Headers;
use crate::convert::place::Note;

/// The use of a header that is set for backends.
enum Use {
    /// Longhaul sets the header by itself, or passes the client's on.
    ByItself,
    Set(String),
    Remove,
    /// No equivalent, in words.
    None(&'static str),
}

fn use_of(directive: &Directive) -> Use {
    let name = directive.argument(0).to_ascii_lowercase();
    let value = directive.argument(1);
    let as_it_came = value == format!("$http_{}", name.replace('-', "_"));
    match (name.as_str(), value) {
        _ if as_it_came => Use::ByItself,
        ("upgrade" | "connection", _) => Use::ByItself,
        ("host", "$host" | "$http_host" | "$host:$server_port" | "$http_host:$server_port" | "$server_name") => {
            Use::ByItself
        }
        ("host", "$proxy_host") => Use::None("backends get the client's `Host`"),
        ("x-forwarded-for", "$proxy_add_x_forwarded_for") => Use::ByItself,
        ("x-forwarded-for", "$remote_addr" | "") => Use::ByItself,
        ("x-forwarded-for", _) => Use::None("Longhaul adds the peer's address to what came"),
        ("x-forwarded-proto", "$scheme") | ("x-forwarded-host", "$host" | "$http_host") => Use::ByItself,
        ("x-request-id", "$request_id") => Use::ByItself,
        ("accept-encoding", "") => Use::Remove,
        (name, _) if !fits::token(name) => Use::None("no header has such a name"),
        (name, _) if !fits::changed_by_hook(name, true) => {
            Use::None("Longhaul writes this header itself, or passes the client's on")
        }
        (_, "") => Use::Remove,
        _ => translated(value).map_or(Use::None("a variable that the hook `headers` does not have"), Use::Set),
    }
}

/// A header's value with nginx's variables written as those of the hook `headers`. `None` where the hook has no such
/// variable.
fn translated(value: &str) -> Option<String> {
    let mut written = String::new();
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('$') {
        written.push_str(&before.replace("${", "$${"));
        let braced = behind.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
            behind.split_at(end)
        });
        written.push_str(&variable(name)?);
        rest = after;
    }
    written.push_str(rest);
    fits::header_value(&written).then_some(written)
}

fn variable(name: &str) -> Option<String> {
    let fixed = match name {
        "remote_addr" | "realip_remote_addr" => "${client_ip}",
        "host" | "http_host" => "${host}",
        "request_id" => "${request_id}",
        _ => "",
    };
    if !fixed.is_empty() {
        return Some(fixed.to_owned());
    }
    let kinds = [("http_", "header"), ("cookie_", "cookie"), ("arg_", "query")];
    let (kind, name) = kinds.iter().find_map(|(begin, kind)| Some((*kind, name.strip_prefix(begin)?)))?;
    let name = if kind == "header" { name.replace('_', "-") } else { name.to_owned() };
    fits::token(&name).then(|| format!("${{{kind}:{name}}}"))
}

/// The note about a `proxy_set_header` that is not carried.
pub(super) fn note_of_request(directive: &Directive) -> Option<Note> {
    let line = directive.line();
    match (use_of(directive), directive.argument(0).to_ascii_lowercase().as_str()) {
        (Use::None(words), _) => Some(line.left_out(words)),
        (_, "x-forwarded-for") if matches!(directive.argument(1), "$remote_addr" | "") => {
            Some(line.changed("`forwarding.strangers: drop`, for the whole process: what clients say of it is dropped"))
        }
        _ => None,
    }
}

/// The note about an `add_header` or `proxy_hide_header` that is not carried.
pub(super) fn note_of_answer(directive: &Directive) -> Option<Note> {
    let name = directive.argument(0).to_ascii_lowercase();
    let line = directive.line();
    if !fits::changed_by_hook(&name, false) {
        return Some(line.left_out("the hook `headers` may not touch this header"));
    }
    if directive.name == "proxy_hide_header" {
        return None;
    }
    match translated(directive.argument(1)) {
        None => Some(line.left_out("a variable that the hook `headers` does not have")),
        Some(_) if name == "strict-transport-security" => None,
        Some(_) if directive.argument(2) != "always" => {
            Some(line.changed("on every answer of a backend; nginx leaves it out of most errors"))
        }
        Some(_) => None,
    }
}

/// Settings of the hook `headers` that the directives in force come to.
pub(super) fn headers(scope: &NginxScope<'_>, hsts_is_carried: bool) -> Headers {
    let mut headers = Headers::default();
    for directive in scope.all("proxy_set_header") {
        let name = directive.argument(0).to_owned();
        let known = |(other, _): &(String, String)| other.eq_ignore_ascii_case(&name);
        match use_of(directive) {
            Use::Set(value) if !headers.set.iter().any(known) => headers.set.push((name, value)),
            Use::Remove if !headers.remove.iter().any(|other| other.eq_ignore_ascii_case(&name)) => {
                headers.remove.push(name);
            }
            _ => {}
        }
    }
    for directive in scope.all("add_header") {
        let name = directive.argument(0);
        let is_hsts = name.eq_ignore_ascii_case("strict-transport-security");
        let known = headers.answer_add.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let carried = note_of_answer(directive).is_none_or(|note| note.weight == crate::convert::Weight::Changed);
        if let (Some(value), true, false) =
            (translated(directive.argument(1)), carried, known || is_hsts && hsts_is_carried)
        {
            headers.answer_add.push((name.to_owned(), value));
        }
    }
    for directive in scope.all("proxy_hide_header") {
        let name = directive.argument(0);
        let known = headers.answer_remove.iter().any(|other| other.eq_ignore_ascii_case(name));
        if note_of_answer(directive).is_none() && !known {
            headers.answer_remove.push(name.to_owned());
        }
    }
    headers
}

/// Tells whether the directives in force drop what clients say of their address.
pub(super) fn drops_strangers(scope: &NginxScope<'_>) -> bool {
    scope.all("proxy_set_header").iter().any(|directive| {
        directive.argument(0).eq_ignore_ascii_case("x-forwarded-for")
            && matches!(directive.argument(1), "$remote_addr" | "")
    })
}
