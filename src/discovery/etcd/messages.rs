//! Messages of etcd's JSON gateway. Keys and values are base64, and numbers of 64 bits are texts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use crate::config::printable;

/// State of the store when an answer was made.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResponseHeader {
    #[serde(deserialize_with = "number")]
    pub(super) cluster_id: u64,
    #[serde(deserialize_with = "number")]
    pub(super) revision: u64,
}

/// A key with its value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    #[serde(deserialize_with = "bytes")]
    pub(super) key: Vec<u8>,
    /// Revision of the store at which the key was created. Another value of the key does not change it.
    #[serde(deserialize_with = "number")]
    pub(super) create_revision: u64,
    /// Revision of the store at which it last changed.
    #[serde(deserialize_with = "number")]
    pub(super) mod_revision: u64,
    #[serde(deserialize_with = "bytes")]
    pub(super) value: Vec<u8>,
    /// Lease of the key as etcd writes it. Another key that is to end with this one gets the same.
    pub(super) lease: Option<Value>,
}

/// A page of keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) header: ResponseHeader,
    pub(super) kvs: Vec<KeyValue>,
    pub(super) more: bool,
}

/// One message of a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Watched {
    pub(super) header: ResponseHeader,
    pub(super) created: bool,
    pub(super) canceled: bool,
    /// Above 0 where the watch ended because the revision that it began from has been compacted.
    #[serde(deserialize_with = "number")]
    pub(super) compact_revision: u64,
    pub(super) cancel_reason: String,
    pub(super) events: Vec<KeyEvent>,
}

/// A change of one key.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyEvent {
    /// `DELETE`, or empty or `PUT` for a key that has a value.
    pub(super) r#type: String,
    pub(super) kv: KeyValue,
}

/// Answer to a change.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Changed {
    pub(super) succeeded: bool,
    #[serde(deserialize_with = "number")]
    pub(super) deleted: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Authenticated {
    pub(super) token: String,
}

/// An answer by which the server refuses. Older servers have the text under `error` alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EtcdRefused {
    pub(super) message: String,
    pub(super) error: String,
}

/// The message of a line of a watch.
pub(super) fn message(line: &[u8]) -> Result<Watched, String> {
    #[derive(Deserialize)]
    struct Line {
        result: Option<Watched>,
        error: Option<EtcdRefused>,
    }
    match serde_json::from_slice(line) {
        Ok(Line { result: Some(watched), .. }) => Ok(watched),
        Ok(Line { error: Some(refused), .. }) => Err(in_words(&refused.message)),
        Ok(Line { .. }) => Err("a message of the watch says nothing".to_owned()),
        Err(error) => Err(format!("not a message of etcd's gateway: {error}")),
    }
}

/// The text of an error as people read it.
pub(super) fn in_words(said: &str) -> String {
    let said = said.rsplit_once("desc = ").map_or(said, |(_, words)| words);
    let said = said.strip_prefix("etcdserver: ").unwrap_or(said);
    printable(&said.chars().take(LONGEST_REASON).collect::<String>())
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(from)?).map_err(Error::custom)
}

/// A number of 64 bits, which JSON has as text.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u64),
    }
    match Either::deserialize(from)? {
        Either::Text(text) => text.parse().map_err(Error::custom),
        Either::Number(number) => Ok(number),
    }
}

/// Most letters of an error that are shown.
const LONGEST_REASON: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_read_as_the_gateway_writes_them() {
        let put = br#"{"result":{"header":{"cluster_id":"11701000360937476151","revision":"8"},
            "events":[{"kv":{"key":"L3MvYQ==","create_revision":"2","value":"eA==","lease":"77"}}]}}"#;
        let put = message(put).unwrap();
        assert_eq!((put.header.cluster_id, put.header.revision), (11_701_000_360_937_476_151, 8));
        let event = &put.events[0];
        assert_eq!((&*event.r#type, &*event.kv.key, &*event.kv.value), ("", &b"/s/a"[..], &b"x"[..]));
        assert_eq!((event.kv.create_revision, &event.kv.lease), (2, &Some(json!("77"))));
        let gone = message(br#"{"result":{"events":[{"type":"DELETE","kv":{"key":"L3MvYQ=="}}]}}"#).unwrap();
        assert_eq!(gone.events[0].r#type, "DELETE");
        let old = message(br#"{"result":{"canceled":true,"compact_revision":"4"}}"#).unwrap();
        assert!(old.canceled && old.compact_revision == 4);
        for (line, part) in [
            (&b"{}"[..], "says nothing"),
            (b"<html>", "not a message of etcd's gateway"),
            (br#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}"#, "no leader"),
            (br#"{"result":{"events":[{"kv":{"key":"%"}}]}}"#, "not a message of etcd's gateway"),
        ] {
            assert!(message(line).unwrap_err().contains(part), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn errors_are_told_in_etcds_words_and_cannot_write_to_a_terminal() {
        let said = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
        assert_eq!(in_words(said), "invalid auth token");
        assert!(!in_words("\u{1b}[2J").contains('\u{1b}'));
    }
}
