//! The watch of the configuration's file: it tells when the file has changed and been still for a while.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::snapshot::Running;

/// Looks at the file once a second, as long as the configuration in force says `watch: true`.
///
/// It is looked at by name, through symbolic links: an editor's rename-and-replace, a new target of a link and a file that
/// is away for a moment are seen for what they are. Looking is one `stat`; unlike the system's notifications it also works
/// on network file systems and bind mounts.
pub struct Watch {
    running: Arc<Running>,
    /// The file as it was read last.
    read: Option<Stamp>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// A rename over the file, or into its place, changes this even where the times were kept.
    changed: (i64, i64),
}

impl Watch {
    /// A watch over the file that `running` was started from, as it is now.
    pub fn new(running: Arc<Running>) -> Self {
        let mut watch = Self { running, read: None };
        watch.note_read();
        watch
    }

    /// Notes that the file is about to be read: only what happens to it from now on is a change.
    pub fn note_read(&mut self) {
        self.read = self.running.file.as_deref().and_then(stamp);
    }

    /// Returns when the file differs from what was last read, and has not changed for 300 ms. A file that is away is
    /// waited for. Dropping the future loses nothing.
    pub async fn changed(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            let Some(file) = self.running.file.as_deref().filter(|_| self.running.snapshot().config.watch) else {
                continue;
            };
            if stamp(file).is_some_and(|seen| Some(seen) != self.read) && Some(still(file).await) != self.read {
                return;
            }
        }
    }
}

/// The file's state, once it has been the same for [`STILL_FOR`].
async fn still(file: &Path) -> Stamp {
    let mut since = Instant::now();
    let mut last = stamp(file);
    loop {
        sleep(LOOK_AGAIN).await;
        let now = stamp(file);
        if now != last {
            last = now;
            since = Instant::now();
        }
        match last {
            Some(stamp) if since.elapsed() >= STILL_FOR => return stamp,
            _ => {}
        }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    std::fs::metadata(file).ok().map(Stamp::from)
}

impl From<Metadata> for Stamp {
    fn from(of: Metadata) -> Self {
        Self {
            device: of.dev(),
            inode: of.ino(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const STILL_FOR: Duration = Duration::from_millis(300);
