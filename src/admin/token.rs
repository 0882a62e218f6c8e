//! Tokens of the API: lines of a file, compared in constant time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use crate::config::{SecretError, tokens};

/// A file of tokens. It is read for each request, so that a changed one counts at once; while a token is replaced, the
/// old and the new one stand in it together.
#[derive(Clone, Debug)]
pub(super) struct Token {
    file: Arc<Path>,
}

impl Token {
    pub(super) fn in_file(file: PathBuf) -> Self {
        Self { file: file.into() }
    }

    /// Tells whether `sent` is one of the tokens.
    ///
    /// # Errors
    /// [`SecretError`]
    pub(super) async fn is(&self, sent: &[u8]) -> Result<bool, SecretError> {
        let file = Arc::clone(&self.file);
        // A file system may be slow.
        let read = tokio::task::spawn_blocking(move || tokens(&file)).await;
        let tokens = read.unwrap_or_else(|error| Err(SecretError::Unreadable(error.to_string())))?;
        // Hashes have the same length, whatever length was sent.
        let sent = digest(&SHA256, sent);
        let is_sent =
            |token: &&Vec<u8>| verify_slices_are_equal(digest(&SHA256, token).as_ref(), sent.as_ref()).is_ok();
        // Every token is compared.
        Ok(tokens.iter().filter(is_sent).count() > 0)
    }
}
