//! Watches the files of TLS, those of listeners and of upstreams, and reads them again when they change. Open
//! connections go on.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::{error, info, warn};
use tokio::time::{Instant, sleep};

use crate::config::Stamp;
use crate::snapshot::Running;

/// Looks at the files of certificates, keys, ticket keys and authorities once a second, as long as there are any.
///
/// A file is looked at by name, through links, as [`Watch`](super::Watch) looks at the configuration's.
pub struct TlsFiles {
    running: Arc<Running>,
    /// State of each file when [`changed`](Self::changed) returned it last; `None` of a file that was away.
    told: HashMap<PathBuf, Option<Stamp>>,
}

impl TlsFiles {
    /// A watch over the files of the listeners and upstreams in force. At first each file counts as changed, because it
    /// may have changed since it was read.
    pub fn new(running: Arc<Running>) -> Self {
        Self { running, told: HashMap::new() }
    }

    /// Returns the files that have changed and been still for 300 ms. Dropping the future loses nothing. Must be called
    /// again after each reload: where the configuration names no files, the future sleeps until it is dropped.
    pub async fn changed(&mut self) -> BTreeSet<PathBuf> {
        let files = self.files();
        self.told.retain(|file, _| files.contains(file));
        if files.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let differs = |file: &&PathBuf| self.told.get(*file) != Some(&Stamp::of(file));
            let changed: BTreeSet<PathBuf> = files.iter().filter(differs).cloned().collect();
            if !changed.is_empty() {
                let states = still(&changed).await;
                self.told.extend(changed.iter().cloned().zip(states));
                return changed;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The files of the configuration in force. Does not keep its snapshot, because the hooks of an old configuration
    /// end with the last user of its snapshot.
    fn files(&self) -> BTreeSet<PathBuf> {
        let snapshot = self.running.snapshot();
        let servers = snapshot.tls_servers();
        let clients = snapshot.destinations().iter().filter_map(|to| to.layers.tls.as_ref());
        servers.flat_map(|server| server.files()).chain(clients.flat_map(|client| client.files())).collect()
    }
}

/// Reads the `changed` files again. A file that can be used is in force for connections that begin from now on. A file
/// that cannot be used is logged and counted, and its former contents stay in force. Open connections are not touched.
pub async fn renew(running: &Arc<Running>, changed: BTreeSet<PathBuf>) {
    let running = Arc::clone(running);
    // Whatever happens in there has been logged.
    let _ = tokio::task::spawn_blocking(move || renew_now(&running, &changed)).await;
}

fn renew_now(running: &Running, changed: &BTreeSet<PathBuf>) {
    let snapshot = running.snapshot();
    let (mut renewed, mut failed, mut warned) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for server in snapshot.tls_servers() {
        let refreshed = server.refresh(&|file: &Path| changed.contains(file), SystemTime::now());
        if !refreshed.renewed.is_empty() {
            let warnings = server.certificates().into_iter().filter(|one| changed.contains(&one.file));
            warned.extend(warnings.flat_map(|one| one.warnings).map(|warning| warning.to_string()));
        }
        renewed.extend(refreshed.renewed);
        failed.extend(refreshed.failed.iter().map(ToString::to_string));
    }
    for client in snapshot.destinations().iter().filter_map(|to| to.layers.tls.as_ref()) {
        match client.refresh(&|file: &Path| changed.contains(file), SystemTime::now()) {
            Ok(files) => renewed.extend(files),
            Err(faults) => failed.extend(faults.iter().map(ToString::to_string)),
        }
    }
    for file in &renewed {
        info!("{} has changed and is in force for new connections", file.display());
    }
    for warning in &warned {
        warn!("{warning}");
    }
    for failure in &failed {
        error!("a file that changed is not used, and what was read before stays in force: {failure}");
    }
    running.metrics.tls.files_read(renewed.len(), failed.len());
}

/// Waits until all files have been the same for [`STILL_FOR`], and returns their states in order. A certificate and its
/// key are seldom replaced in one moment.
async fn still(files: &BTreeSet<PathBuf>) -> Vec<Option<Stamp>> {
    let states = || -> Vec<_> { files.iter().map(|file| Stamp::of(file)).collect() };
    let mut since = Instant::now();
    let mut last = states();
    loop {
        sleep(LOOK_AGAIN).await;
        let now = states();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() >= STILL_FOR {
            return last;
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const STILL_FOR: Duration = Duration::from_millis(300);
