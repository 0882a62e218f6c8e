//! permessage-deflate (RFC 7692) with a gateway in between: what is offered and agreed, and the compression itself.
//!
//! Each message is compressed by itself, in both directions (no context takeover), so that a message which the gateway
//! leaves as it is can pass in its compressed form, and one codec serves any number of tunnels.

mod agreement;
mod codec;

pub use agreement::{Agreement, BadAgreement, DeflateOffer, offer};
pub use codec::{Codec, InflateError, Inflating};

#[cfg(test)]
mod tests;
