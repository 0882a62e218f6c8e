//! The error of hooks.

use std::fmt;

/// A hook's error. Made from any error by `?`, or from a text by [`Error::new`].
///
/// The gateway logs it with the hook's name and never shows it to a client.
#[derive(Debug)]
pub struct Error(Box<dyn std::error::Error + Send + Sync>);

/// A result whose error is by default [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }
}

// `Error` is not a `std::error::Error` itself: this conversion would then collide with the one from itself.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
