//! The WebSocket protocol (RFC 6455) as far as a gateway needs it: the handshake, frame boundaries, control frames.
//!
//! Bytes and values in, decisions out: nothing here does I/O, reads a clock or draws random numbers.

pub(crate) mod base64_text;
pub mod cursor;
pub mod frame;
pub mod handshake;

pub use cursor::{Cursor, Event, Fault, Sender};
pub use handshake::{BadAnswer, Offer, UpgradeRefused, Wanted};
