//! TLS: sessions of rustls driven with bytes alone, and the small record layer that takes their place in tunnels.

pub mod certificates;
pub mod client;
mod failure;
mod files;
mod old_hello;
pub mod presented;
pub mod record;
mod sealed;
pub mod secrets;
pub mod server;
mod session;
mod step;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub mod tickets;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use failure::HandshakeFailure;
pub use files::FileError;
pub use presented::ClientCertificate;
pub use sealed::Sealed;
pub use session::{HandshakeFacts, Session};
pub use step::{HandshakeStep, StepOutcome, ToOpen};
pub use stream::{LEAST_BUFFER, RawConnection, Stream, StreamKind, StreamState};

/// The one provider of cryptography, to be given to every configuration of rustls: aws-lc-rs.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
