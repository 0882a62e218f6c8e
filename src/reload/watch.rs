//! Watches the configuration's file, and tells when it has changed and then been still for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::config::Stamp;
use crate::discovery::still;
use crate::snapshot::Running;

/// Looks at the file once a second, as long as the configuration in force says `watch: true`.
///
/// The file is looked at by name, through links. So a file that an editor replaces by renaming counts as changed, and
/// so does a link with another target. A file that is away for a moment is waited for. Looking is one `stat`. Unlike
/// the system's notifications, it also works on network file systems and bind mounts.
pub struct Watch {
    running: Arc<Running>,
    /// State of the file when [`changed`](Self::changed) returned last. A file that was refused is not reported again.
    told: Option<Stamp>,
}

impl Watch {
    /// A watch over the file that the configuration in force was read from.
    pub fn new(running: Arc<Running>) -> Self {
        Self { running, told: None }
    }

    /// Returns when the file differs from the one that the configuration in force was read from, and has been still for
    /// 300 ms. A file that is away is waited for. Dropping the future loses nothing. Must be called again after each
    /// reload: with `watch: false` the future sleeps until it is dropped.
    pub async fn changed(&mut self) {
        let snapshot = self.running.snapshot();
        let Some(source) = snapshot.config.source.as_ref().filter(|_| snapshot.config.watch) else {
            return std::future::pending().await;
        };
        let is_new = |stamp, told| stamp != source.stamp && Some(stamp) != told;
        loop {
            sleep(LOOK_EVERY).await;
            if !Stamp::of(&source.path).is_some_and(|stamp| is_new(stamp, self.told)) {
                continue;
            }
            let stamp = still(&source.path).await;
            if is_new(stamp, self.told) {
                self.told = Some(stamp);
                return;
            }
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
