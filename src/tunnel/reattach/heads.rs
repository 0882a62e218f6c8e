//! Heads of requests that are kept as long as their tunnels; what many of them share is kept once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base64_text;

/// Parts that kept heads share. Clients that run the same program send the same lines.
#[derive(Debug, Default)]
pub struct Heads {
    /// At most [`MOST_PARTS`].
    parts: Mutex<HashSet<Arc<[u8]>>>,
}

/// The head of a request. Lines that many requests share stand before its own; lines of one name keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptHead {
    shared: Arc<[u8]>,
    /// The request line, the lines that are this request's own, the blank line.
    own: Box<[u8]>,
}

impl Heads {
    /// Keeps a head.
    pub fn keep(&self, head: &[u8]) -> KeptHead {
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        for (number, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if number > 0 && is_shared(name) { &mut shared } else { &mut own }.extend_from_slice(line);
        }
        KeptHead { shared: self.part(shared), own: own.into() }
    }

    /// The same head, its part shared with others.
    pub(in crate::tunnel) fn keep_again(&self, head: &mut KeptHead) {
        *head = self.keep(&head.to_bytes());
    }

    /// The kept part with these bytes; keeps one where there is none.
    fn part(&self, bytes: Vec<u8>) -> Arc<[u8]> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = parts.get(&bytes[..]) {
            return Arc::clone(same);
        }
        if parts.len() >= MOST_PARTS {
            parts.retain(|part| Arc::strong_count(part) > 1);
        }
        let part: Arc<[u8]> = bytes.into();
        if parts.len() < MOST_PARTS {
            parts.insert(Arc::clone(&part));
        }
        part
    }
}

impl KeptHead {
    /// The whole head, to be sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let first = self.own.iter().position(|byte| *byte == b'\n').map_or(self.own.len(), |end| end + 1);
        let (line, rest) = self.own.split_at(first);
        [line, &self.shared[..], rest].concat()
    }

    /// Length of the whole head.
    pub fn length(&self) -> usize {
        self.shared.len() + self.own.len()
    }
}

impl Serialize for KeptHead {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        base64_text::serialize(&self.to_bytes(), serializer)
    }
}

/// Reads a head that shares nothing yet.
impl<'d> Deserialize<'d> for KeptHead {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        let own = base64_text::deserialize(deserializer)?.into();
        Ok(Self { shared: Arc::default(), own })
    }
}

/// Tells whether lines of this name are the same in many requests.
fn is_shared(name: &[u8]) -> bool {
    SHARED.iter().any(|shared| name.eq_ignore_ascii_case(shared.as_bytes()))
}

const SHARED: [&str; 20] = [
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "dnt",
    "host",
    "origin",
    "pragma",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "upgrade",
    "user-agent",
    "x-forwarded-proto",
];
/// Clients have some hundreds of programs, hosts and origins. Beyond this bound a head shares nothing, whoever makes up
/// more.
const MOST_PARTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(key: usize, agent: &str) -> String {
        format!(
            "GET /ws HTTP/1.1\r\nHost: a.test\r\nSec-WebSocket-Key: {key}\r\nuser-agent: {agent}\r\nX-A: 1\r\n\
             X-A: 2\r\nUpgrade: websocket\r\n\r\n"
        )
    }

    #[test]
    fn lines_that_many_send_are_kept_once_and_every_line_is_sent() {
        let heads = Heads::default();
        let [one, other] = [1, 2].map(|key| heads.keep(head(key, "same").as_bytes()));
        assert!(Arc::ptr_eq(&one.shared, &other.shared));
        let sent = String::from_utf8(other.to_bytes()).unwrap();
        assert_eq!(
            sent,
            "GET /ws HTTP/1.1\r\nHost: a.test\r\nuser-agent: same\r\nUpgrade: websocket\r\nSec-WebSocket-Key: 2\r\n\
             X-A: 1\r\nX-A: 2\r\n\r\n"
        );
        assert_eq!(other.length(), sent.len());
    }

    #[test]
    fn a_head_comes_whole_to_another_process_and_shares_again_there() {
        let heads = Heads::default();
        let kept = heads.keep(head(1, "same").as_bytes());
        let mut read: KeptHead = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
        assert_eq!(read.to_bytes(), kept.to_bytes());
        heads.keep_again(&mut read);
        assert!(Arc::ptr_eq(&read.shared, &kept.shared));
    }

    #[test]
    fn strangers_fill_no_memory_with_parts_that_nobody_shares() {
        let heads = Heads::default();
        let kept: Vec<_> = (0..2 * MOST_PARTS).map(|n| heads.keep(head(n, &n.to_string()).as_bytes())).collect();
        assert_eq!(heads.parts.lock().unwrap().len(), MOST_PARTS);
        drop(kept);
        heads.keep(head(0, "another").as_bytes());
        assert_eq!(heads.parts.lock().unwrap().len(), 1);
    }
}
