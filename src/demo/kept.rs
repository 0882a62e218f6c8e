//! Counters that outlive a restart: a file for each session, which the next backend takes.

use std::fs;
use std::io;
use std::path::PathBuf;

use axum::http::HeaderMap;

/// A folder of counters that all backends of a demo share. It is removed with the last of them.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Makes an empty folder among the system's temporary files.
    ///
    /// # Errors
    /// The folder cannot be made, by the system's error.
    pub(super) fn new() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("longhaul-demo-{:016x}", rand::random::<u64>()));
        fs::create_dir(&folder)?;
        Ok(Self { folder })
    }

    /// Keeps a session's counter.
    pub(super) fn put(&self, session: &Session, count: u64) {
        // A counter that cannot be kept begins at 0, which the page shows.
        if let Err(error) = fs::write(self.folder.join(&session.0), count.to_string()) {
            log::warn!("the demo cannot keep a counter: {error}");
        }
    }

    /// Takes a session's counter; `None` where none was kept.
    pub(super) fn take(&self, session: &Session) -> Option<u64> {
        let file = self.folder.join(&session.0);
        let count = fs::read_to_string(&file).ok()?.parse().ok()?;
        // What stays goes with the folder.
        let _ = fs::remove_file(file);
        Some(count)
    }

    /// Removes the folder.
    pub(super) fn clear(&self) {
        // It is among temporary files, which are removed at some time.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A conversation, as the gateway names it on routes with `reattach`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session(String);

impl Session {
    /// The session of a handshake; `None` where it has none.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("longhaul-session")?.to_str().ok()?;
        // It becomes the name of a file.
        let is_one = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_one.then(|| Self(text.to_owned()))
    }
}
