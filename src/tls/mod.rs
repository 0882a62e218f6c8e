//! TLS: sessions of rustls driven with bytes alone, and the small record layer that takes their place in tunnels.

pub mod record;
pub mod secrets;
mod session;
mod stream;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use session::{Facts, Session};
pub use stream::{Kind, LEAST_BUFFER, Stream, Transport};

/// The one provider of cryptography, to be given to every configuration of rustls: aws-lc-rs.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
