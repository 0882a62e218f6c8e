//! Bytes as base64 text, for the JSON that a handover sends: `#[serde(with = "crate::base64_text")]`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes `bytes` as standard base64 (RFC 4648 §4).
pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

/// Reads standard base64.
///
/// # Errors
/// The value is not text, or the text is not base64.
pub(crate) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = <std::borrow::Cow<'d, str>>::deserialize(deserializer)?;
    STANDARD.decode(text.as_ref()).map_err(D::Error::custom)
}
