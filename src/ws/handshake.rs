//! The opening handshake (RFC 6455 §4.1–4.2, RFC 9110 §7.8): what a request wants, and whether a 101 is right.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Version};
use sha1::{Digest, Sha1};

use crate::http1::HeaderFields;
use crate::http1::fields::RepeatedField;

/// The kind of a request, by its `Upgrade` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeKind {
    /// No upgrade: an ordinary request.
    Plain,
    /// An upgrade that is not done here: the request goes on as an ordinary one, without its `Upgrade` header
    /// (RFC 9110 §7.8: a server may ignore it, and must in a request of HTTP/1.0).
    DropUpgrade,
    /// A WebSocket, correctly asked for.
    WebSocket(Offer),
}

/// A client's offer in its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `Sec-WebSocket-Key`: the base64 text of 16 bytes, where nothing else was allowed.
    pub key: String,
    /// `Sec-WebSocket-Protocol`: the subprotocols, in order, over all header lines.
    pub protocols: Vec<String>,
    /// `Sec-WebSocket-Extensions`: the extensions' names without their parameters, in order, over all header lines.
    pub extensions: Vec<String>,
}

/// Why an upgrade is refused. All of them are the client's fault, never to be held against a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeRefused {
    /// RFC 6455 §4.2.1 point 4.
    #[error("Connection does not name upgrade")]
    ConnectionWithoutUpgrade,
    /// RFC 6455 §4.2.1 point 1.
    #[error("the method of a WebSocket handshake is GET")]
    MethodNotGet,
    /// A body would be taken for frames, or frames for a body: a door for request smuggling.
    #[error("a WebSocket handshake has no body")]
    Body,
    /// RFC 6455 §4.2.2 point 4: the answer must carry `Sec-WebSocket-Version: 13`.
    #[error("Sec-WebSocket-Version is not 13")]
    VersionNot13,
    /// RFC 6455 §4.2.1 point 5.
    #[error("Sec-WebSocket-Key is missing")]
    KeyMissing,
    /// RFC 6455 §11.3.1.
    #[error("Sec-WebSocket-Key is there more than once")]
    KeyRepeated,
    /// RFC 6455 §4.2.1 point 5.
    #[error("Sec-WebSocket-Key is not the base64 text of 16 bytes")]
    KeyMalformed,
}

impl UpgradeRefused {
    /// The status to answer with: 426 with `Sec-WebSocket-Version: 13` for another version, else 400.
    pub fn status(self) -> StatusCode {
        match self {
            Self::VersionNot13 => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Why a backend's answer does not open a WebSocket. All but [`NotSwitching`](Self::NotSwitching) are faults of the
/// backend's; that one may be an answer of the application's, to be relayed as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAnswer {
    /// Another status than 101.
    #[error("status {}, expected 101", .0.as_u16())]
    NotSwitching(StatusCode),
    /// RFC 6455 §4.1, point 2 of the answer's checks.
    #[error("Upgrade is not websocket")]
    UpgradeWrong,
    /// Point 3.
    #[error("Connection does not name upgrade")]
    ConnectionWithoutUpgrade,
    /// Point 4.
    #[error("Sec-WebSocket-Accept is missing")]
    AcceptMissing,
    /// RFC 6455 §11.3.3.
    #[error("Sec-WebSocket-Accept is there more than once")]
    AcceptRepeated,
    /// Point 4.
    #[error("Sec-WebSocket-Accept does not match the key")]
    AcceptWrong,
    /// Point 5.
    #[error("extension {0:?} was not offered")]
    ExtensionNotOffered(String),
    /// RFC 6455 §11.3.4.
    #[error("more than one subprotocol was chosen")]
    ProtocolRepeated,
    /// Point 6.
    #[error("subprotocol {0:?} was not offered")]
    ProtocolNotOffered(String),
}

/// Keys that a client may send in its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKeys {
    /// The base64 text of 16 bytes (RFC 6455 §4.1).
    Strict,
    /// Any visible ASCII text: some devices send a fixed word, or the text of fewer bytes.
    Any,
}

impl Offer {
    /// Tells if the key is the base64 text of 16 bytes.
    pub fn has_usual_key(&self) -> bool {
        // An engine's error and a wrong length are one fault here, and a longer text has no room.
        let mut room = [0; 18];
        KEY_BASE64.decode_slice(&self.key, &mut room).is_ok_and(|length| length == 16)
    }
}

/// Tells what a request wants, as [`classify_with`] does, with strict rules for keys.
///
/// # Errors
/// The first rule that a WebSocket handshake breaks, in the order of [`UpgradeRefused`]'s variants.
pub fn classify(method: &Method, version: Version, headers: &HeaderMap) -> Result<UpgradeKind, UpgradeRefused> {
    classify_with(ClientKeys::Strict, method, version, headers)
}

/// Tells what a request wants, and checks its handshake if that is a WebSocket.
///
/// `Upgrade` is a list of protocols (RFC 9110 §7.8); `websocket` in it, in any letter case, asks for a WebSocket, and
/// any other is ignored. `websocket/13` is not `websocket`: the name stands without a version (RFC 6455 §11.2), and a
/// protocol that is not known is not switched to. Other versions of HTTP than 1.1 have no upgrade, so the header says
/// nothing there.
///
/// # Errors
/// The first rule that a WebSocket handshake breaks, in the order of [`UpgradeRefused`]'s variants.
pub fn classify_with(
    keys: ClientKeys,
    method: &Method,
    version: Version,
    headers: &(impl HeaderFields + ?Sized),
) -> Result<UpgradeKind, UpgradeRefused> {
    if !headers.has(&header::UPGRADE) {
        return Ok(UpgradeKind::Plain);
    }
    if version != Version::HTTP_11 || !headers.names(&header::UPGRADE, b"websocket") {
        return Ok(UpgradeKind::DropUpgrade);
    }
    if !headers.names(&header::CONNECTION, b"upgrade") {
        return Err(UpgradeRefused::ConnectionWithoutUpgrade);
    }
    if method != Method::GET {
        return Err(UpgradeRefused::MethodNotGet);
    }
    if has_body(headers) {
        return Err(UpgradeRefused::Body);
    }
    if headers.only(&header::SEC_WEBSOCKET_VERSION) != Ok(Some(b"13")) {
        return Err(UpgradeRefused::VersionNot13);
    }
    let offer = Offer {
        key: key(headers)?,
        protocols: headers.elements(&header::SEC_WEBSOCKET_PROTOCOL).map(text).collect(),
        extensions: headers.elements(&header::SEC_WEBSOCKET_EXTENSIONS).map(extension_name).collect(),
    };
    if keys == ClientKeys::Strict && !offer.has_usual_key() {
        return Err(UpgradeRefused::KeyMalformed);
    }
    Ok(UpgradeKind::WebSocket(offer))
}

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 §4.2.2 point 5.4).
pub fn accept(key: &str) -> String {
    String::from_utf8_lossy(&accept_bytes(key)).into_owned()
}

/// [`accept`] as bytes, of which there are always as many.
fn accept_bytes(key: &str) -> [u8; 28] {
    let mut text = [0; 28];
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode_slice(hash, &mut text).expect("20 bytes are 28 letters");
    text
}

/// Checks a backend's answer to the handshake that `offer` was sent with.
///
/// Extensions' names are compared in any letter case, subprotocols exactly. An answer whose
/// `Sec-WebSocket-Protocol` is empty chose none.
///
/// # Errors
/// The first rule of RFC 6455 §4.1 that the answer breaks.
pub fn verify(offer: &Offer, status: StatusCode, headers: &(impl HeaderFields + ?Sized)) -> Result<(), BadAnswer> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(BadAnswer::NotSwitching(status));
    }
    let mut upgrade = headers.elements(&header::UPGRADE);
    if !upgrade.next().is_some_and(|name| name.eq_ignore_ascii_case(b"websocket")) || upgrade.next().is_some() {
        return Err(BadAnswer::UpgradeWrong);
    }
    if !headers.names(&header::CONNECTION, b"upgrade") {
        return Err(BadAnswer::ConnectionWithoutUpgrade);
    }
    match headers.only(&header::SEC_WEBSOCKET_ACCEPT) {
        Err(RepeatedField) => return Err(BadAnswer::AcceptRepeated),
        Ok(None) => return Err(BadAnswer::AcceptMissing),
        Ok(Some(value)) if value != accept_bytes(&offer.key) => return Err(BadAnswer::AcceptWrong),
        Ok(Some(_)) => {}
    }
    for name in headers.elements(&header::SEC_WEBSOCKET_EXTENSIONS).map(extension_name) {
        if !offer.extensions.iter().any(|offered| offered.eq_ignore_ascii_case(&name)) {
            return Err(BadAnswer::ExtensionNotOffered(name));
        }
    }
    verify_protocol(offer, headers)
}

fn verify_protocol(offer: &Offer, headers: &(impl HeaderFields + ?Sized)) -> Result<(), BadAnswer> {
    let mut chosen = headers.elements(&header::SEC_WEBSOCKET_PROTOCOL).map(text);
    let Some(protocol) = chosen.next() else { return Ok(()) };
    if chosen.next().is_some() {
        return Err(BadAnswer::ProtocolRepeated);
    }
    if !offer.protocols.contains(&protocol) {
        return Err(BadAnswer::ProtocolNotOffered(protocol));
    }
    Ok(())
}

/// Tells if a request announces a body (RFC 9112 §6.3). A length that is not a plain 0 counts as one.
fn has_body(headers: &(impl HeaderFields + ?Sized)) -> bool {
    headers.has(&header::TRANSFER_ENCODING)
        || headers.values_of(&header::CONTENT_LENGTH).any(|length| length.trim_ascii() != b"0")
}

fn key(headers: &(impl HeaderFields + ?Sized)) -> Result<String, UpgradeRefused> {
    let key = match headers.only(&header::SEC_WEBSOCKET_KEY) {
        Err(RepeatedField) => return Err(UpgradeRefused::KeyRepeated),
        Ok(None) => return Err(UpgradeRefused::KeyMissing),
        Ok(Some(key)) => key,
    };
    let is_text = !key.is_empty() && key.iter().all(u8::is_ascii_graphic);
    if is_text { Ok(text(key)) } else { Err(UpgradeRefused::KeyMalformed) }
}

fn extension_name(element: &[u8]) -> String {
    text(element.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
}

/// Bytes as text. What is not UTF-8 can be no token, and is only kept to be shown.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bits beyond the 16th byte may be anything: no rule says that they are 0, and a key written by hand often has some.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

#[cfg(test)]
mod tests;
