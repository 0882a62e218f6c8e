//! A tunnel as hooks see it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::Direction;
use super::injector::{Injector, Item, To};
use super::message::Message;
use super::outbox::Outbox;

/// An open tunnel: who is connected with whom.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tunnel {
    /// Id of the tunnel, the same in a process that takes it over.
    pub id: TunnelId,
    /// The id of the request that opened it.
    pub request_id: Box<str>,
    /// The client's address, by `trusted_proxies`.
    pub client: IpAddr,
    /// The route, as `host path`.
    pub route: Arc<str>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The backend's address.
    pub backend: SocketAddr,
    /// Hash of the affinity key; `None` when the backend was picked without one.
    pub key: Option<KeyTag>,
    /// Sends messages into this and other tunnels.
    pub injector: Injector,
    /// Collects what the hooks of this tunnel do to it during a call.
    #[doc(hidden)]
    pub outbox: Outbox,
}

impl Tunnel {
    /// Puts a message of one's own into the tunnel, behind what has passed in that direction; no hook sees it.
    ///
    /// Messages go out in the order of the calls. During a phase of this tunnel they go out before the message that the
    /// phase is about, and before the reply or the Close frame that it returns. `send` never waits: [`Injector::send`]
    /// tells whether a message arrived.
    pub fn send(&self, direction: Direction, message: Message) {
        self.put(Item::Message(direction, message));
    }

    /// Ends the tunnel with a Close frame to both sides, behind what was [sent](Self::send) before. Codes as in
    /// [`Verdict::Close`](super::Verdict::Close).
    pub fn close(&self, code: u16, reason: impl Into<String>) {
        self.put(Item::Close { code, reason: reason.into() });
    }

    /// Lets the client go on that a hook [holds](super::Reattach::hold_client), behind these messages for the backend.
    /// No hook sees them. Does nothing where the client is not held.
    pub fn go_on(&self, messages: Vec<Message>) {
        self.put(Item::GoOn(messages));
    }

    fn put(&self, item: Item) {
        if let Some(item) = self.outbox.put(item) {
            self.injector.post(To::Tunnel(self.id), item);
        }
    }
}

/// The end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Reason, as in the log line: `client_close`, for example.
    pub reason: &'static str,
    /// Status code of the closing handshake (RFC 6455 §7.1.5).
    pub code: u16,
    /// Time from the opening to the end.
    pub lasted: Duration,
    /// Bytes passed on, by [`Direction`].
    pub bytes: [u64; 2],
    /// Messages passed on, by [`Direction`].
    pub messages: [u64; 2],
}

impl Closed {
    /// The end of a tunnel that passed on this many bytes and messages, by [`Direction`].
    pub fn new(reason: &'static str, code: u16, lasted: Duration, bytes: [u64; 2], messages: [u64; 2]) -> Self {
        Self { reason, code, lasted, bytes, messages }
    }
}

/// A tunnel's id: 64 random bits, written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TunnelId(u64);

impl TunnelId {
    /// A new id.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelId({self})")
    }
}

impl FromStr for TunnelId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// Hash of an affinity key: the first 16 bytes of its SHA-1. The key itself, which is often a client's secret, is not
/// kept with a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyTag([u8; 16]);

impl KeyTag {
    /// The tag of a key.
    pub fn of(key: &[u8]) -> Self {
        let digest = Sha1::digest(key);
        Self(*digest.first_chunk().expect("SHA-1 has 20 bytes"))
    }
}

impl fmt::Debug for KeyTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyTag({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}
