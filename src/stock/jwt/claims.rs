//! Claims as headers and as affinity keys.

use http::HeaderName;
use serde_json::Value;

use super::verify::{Claims, claim};
use crate::hook::{Request, Result};

/// A claim that the gateway passes on to backends in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToldClaim {
    /// The claim's name.
    pub(super) claim: String,
    /// The header that carries it. A header of this name that a client sends is removed.
    pub(super) header: HeaderName,
}

/// Adds the headers of those claims that the token has.
///
/// # Errors
/// A value cannot stand in a header. No token leads to this, because values are encoded.
pub(super) fn tell(told: &[ToldClaim], claims: &Claims, request: &mut Request<'_>) -> Result<()> {
    let there = told.iter().filter_map(|told| Some((&told.header, claim(claims, &told.claim)?)));
    there.into_iter().try_for_each(|(header, value)| request.set_header(header.as_str(), header_text(value)))
}

/// Removes the headers of claims that the client sent: only the gateway may send them.
pub(super) fn forget(told: &[ToldClaim], request: &mut Request<'_>) {
    told.iter().for_each(|told| request.remove_header(told.header.as_str()));
}

/// A claim as an affinity key: a text as it is, anything else as JSON.
pub(super) fn key(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

/// A claim as the value of a header. Texts, numbers and truth values stand as they are, a list of them with `,` between
/// its items, and anything else as JSON. Bytes that a header cannot hold are percent-encoded. So are `%`, and `,`
/// within an item, so that a backend can decode exactly the token's value.
fn header_text(value: &Value) -> String {
    let is_plain = |value: &Value| !value.is_array() && !value.is_object();
    match value {
        Value::Array(items) if items.iter().all(is_plain) => {
            items.iter().map(|item| encoded(&plain(item), true)).collect::<Vec<_>>().join(",")
        }
        value => encoded(&plain(value), false),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn encoded(text: &str, in_list: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b',' if in_list => encoded.push_str("%2C"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_header_cannot_hold_is_percent_encoded_and_can_be_decoded() {
        for (value, text) in [
            (json!("u-1"), "u-1"),
            (json!(42), "42"),
            (json!(true), "true"),
            (json!("Jörg\r\nx-admin: yes"), "J%C3%B6rg%0D%0Ax-admin: yes"),
            (json!("100%, sure"), "100%25, sure"),
            (json!(["a", "b,c", 3]), "a,b%2Cc,3"),
            (json!({"roles": ["a"]}), r#"{"roles":["a"]}"#),
            (json!([["a"], {}]), r#"[["a"],{}]"#),
        ] {
            assert_eq!(header_text(&value), text);
        }
    }

    #[test]
    fn a_key_is_the_text_of_a_claim() {
        assert_eq!((key(&json!("u-1")), key(&json!(7))), (b"u-1".to_vec(), b"7".to_vec()));
    }
}
