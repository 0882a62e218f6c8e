//! `request_headers_to_add` and its like: the hook `headers`.

use super::tree::At;
use crate::convert::fits;
use crate::convert::model::Headers;
use crate::convert::place::Note;

/// Adds what a level says of headers; a level further in comes later.
pub(super) fn read(level: &At<'_>, headers: &mut Headers, notes: &mut Vec<Note>) {
    for (key, is_request) in [("request_headers_to_add", true), ("response_headers_to_add", false)] {
        for option in level.items(key) {
            let Some(header) = option.get("header") else { continue };
            let (name, value) = (header.word("key"), header.word("value"));
            let replaces = option.word("append_action").starts_with("OVERWRITE") || option.word("append") == "false";
            let value = translated(value);
            let (true, Some(value)) = (usable(name, is_request), value) else {
                notes.push(header.line().left_out(format!("the hook `headers` cannot give `{name}` this value")));
                continue;
            };
            let list = match (is_request, replaces) {
                (true, true) => &mut headers.set,
                (true, false) => &mut headers.add,
                (false, true) => &mut headers.answer_set,
                (false, false) => &mut headers.answer_add,
            };
            list.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            list.push((name.to_owned(), value));
        }
    }
    for (key, is_request) in [("request_headers_to_remove", true), ("response_headers_to_remove", false)] {
        for name in level.items(key) {
            let list = if is_request { &mut headers.remove } else { &mut headers.answer_remove };
            let known = list.iter().any(|other| other.eq_ignore_ascii_case(name.text()));
            if !usable(name.text(), is_request) || is_request && name.text().eq_ignore_ascii_case("host") {
                notes.push(name.line().left_out("the hook `headers` may not touch this header"));
            } else if !known {
                list.push(name.text().to_owned());
            }
        }
    }
}

fn usable(name: &str, is_request: bool) -> bool {
    fits::changed_by_hook(name, is_request) && !name.eq_ignore_ascii_case("host")
}

/// A header's value with Envoy's operators (`%…%`) written as variables of the hook `headers` (`${…}`). `None` where
/// the hook has no such variable.
fn translated(value: &str) -> Option<String> {
    let mut written = String::new();
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('%') {
        written.push_str(&before.replace("${", "$${"));
        let (operator, after) = behind.split_once('%')?;
        let request = operator.strip_prefix("REQ(").and_then(|rest| rest.strip_suffix(')'));
        match (operator, request) {
            ("", _) => written.push('%'),
            ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", _) => written.push_str("${client_ip}"),
            (_, Some(name)) if fits::token(name) => {
                written.push_str(&format!("${{header:{}}}", name.to_ascii_lowercase()));
            }
            _ => return None,
        }
        rest = after;
    }
    written.push_str(&rest.replace("${", "$${"));
    (fits::header_value(&written) && !written.is_empty()).then_some(written)
}
