//! Traffic secrets of TLS 1.3, taken at the moment at which rustls derives them.
//!
//! rustls tells them to the key log of its configuration, on the thread that processes the handshake. The key log here
//! leaves them in a slot of that thread, and the [`Session`](super::Session) takes them from it before it returns.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConfig, KeyLog, ServerConfig};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A configuration of rustls whose sessions can give their secrets away.
pub trait Capturing {
    /// Makes the sessions of this configuration tell their traffic secrets to their [`Session`](super::Session), and to
    /// nobody else.
    fn capture_secrets(&mut self);
}

impl Capturing for ServerConfig {
    fn capture_secrets(&mut self) {
        self.key_log = Arc::new(Capture);
        self.enable_secret_extraction = true;
    }
}

impl Capturing for ClientConfig {
    fn capture_secrets(&mut self) {
        self.key_log = Arc::new(Capture);
        self.enable_secret_extraction = true;
    }
}

/// One traffic secret. Its bytes are zeroed when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret {
    bytes: Zeroizing<[u8; MOST]>,
    length: usize,
}

impl Secret {
    /// A copy of `bytes`; `None` when they are more than any hash of TLS has.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self { bytes: Zeroizing::new([0; MOST]), length: bytes.len() };
        secret.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(secret)
    }
}

impl Secret {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// As base64, for the state that a handover sends.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.as_bytes())))
    }
}

impl<'d> Deserialize<'d> for Secret {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'d, str>>::deserialize(deserializer)?;
        let bytes = Zeroizing::new(STANDARD.decode(text.as_ref()).map_err(D::Error::custom)?);
        Self::new(&bytes).ok_or_else(|| D::Error::custom("a secret that is too long"))
    }
}

/// The first traffic secrets of a connection, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(super) struct TrafficSecrets {
    /// Protects the bytes of the client.
    pub(super) client: Option<Secret>,
    /// Protects the bytes of the server.
    pub(super) server: Option<Secret>,
    /// The configuration captures secrets, and lets them be extracted.
    pub(super) told: bool,
}

impl TrafficSecrets {
    /// Adds the secrets that sessions told on this thread since they were last taken.
    pub(super) fn take_captured(&mut self) {
        let captured = CAPTURED.with_borrow_mut(std::mem::take);
        self.client = captured.client.or_else(|| self.client.take());
        self.server = captured.server.or_else(|| self.server.take());
        self.told |= captured.told;
    }
}

/// Forgets the secrets that were told on this thread and not taken.
pub(super) fn forget_captured() {
    CAPTURED.take();
}

/// The key log of every configuration.
#[derive(Debug)]
struct Capture;

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        CAPTURED.with_borrow_mut(|captured| {
            captured.told = true;
            match label {
                CLIENT => captured.client = Secret::new(secret),
                SERVER => captured.server = Secret::new(secret),
                // In TLS 1.2 the master secret, which nothing needs.
                _ => {}
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT | SERVER)
    }
}

thread_local! {
    /// Secrets on their way from rustls to the session that is being driven on this thread.
    static CAPTURED: RefCell<TrafficSecrets> = RefCell::default();
}

/// Labels of the NSS key log format.
const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";
/// Length of SHA-384, the longest hash of a suite of TLS 1.3.
const MOST: usize = 48;
