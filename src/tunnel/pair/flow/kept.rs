//! Bytes of a flow that its receiver has yet to take.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Bytes taken from the sender and not yet by the receiver; a single pointer while there are none, as nearly always.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "UntakenBytes", into = "UntakenBytes")]
pub(super) struct Kept(pub(super) Option<Box<UntakenBytes>>);

/// Bytes of which those from `written` on are still to be taken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct UntakenBytes {
    #[serde(rename = "kept", with = "crate::base64_text")]
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
    /// Moment since which the receiver has taken none of them. A tunnel that moves to another process begins anew.
    #[serde(skip)]
    pub(super) refused_since: Option<Instant>,
}

impl From<UntakenBytes> for Kept {
    fn from(waiting: UntakenBytes) -> Self {
        Self((waiting.written < waiting.bytes.len()).then(|| Box::new(waiting)))
    }
}

impl From<Kept> for UntakenBytes {
    fn from(kept: Kept) -> Self {
        kept.0.map_or_else(Self::default, |waiting| *waiting)
    }
}
