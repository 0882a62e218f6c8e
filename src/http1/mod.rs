//! HTTP/1.1 heads as bytes: how they are read, which of their fields belong to one hop, how they are passed on.
//!
//! Traffic and health checks share these rules. Bytes in, bytes out: nothing here does I/O or reads a clock.

pub mod chunks;
pub mod fields;
pub mod forward;
pub mod framing;
pub mod head;
pub mod hop_by_hop;
pub mod host;
pub mod reading;
pub mod refused;
pub mod target;
pub mod unwanted;

pub use fields::HeaderFields;
pub use framing::{Body, Framing, FramingError};
pub use head::{HeadError, RequestHead, ResponseHead};
pub use reading::{HeadBounds, HeadReading};
pub use refused::RequestRefused;
pub use unwanted::Unwanted;
