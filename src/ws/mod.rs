//! The WebSocket protocol (RFC 6455) as far as a gateway needs it: the handshake, frame boundaries, whole messages,
//! permessage-deflate (RFC 7692).
//!
//! Bytes and values in, decisions out: nothing here does I/O, reads a clock or draws random numbers.

pub mod cursor;
pub mod deflate;
mod extensions;
pub mod frame;
pub mod handshake;
mod header;
pub mod mask;
pub mod message;
mod side;

pub use cursor::{Cursor, FrameEvent};
pub use frame::{Control, MessageKind};
pub use handshake::{BadAnswer, Offer, UpgradeKind, UpgradeRefused};
pub use header::Fault;
pub use message::{Assembled, Assembler, Violation, WholeItem};
pub use side::{Side, Sides};
