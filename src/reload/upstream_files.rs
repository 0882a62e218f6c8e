//! The watch of the files that upstreams name for TLS: renewed ones take force without a reload.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::{error, info};
use tokio::time::sleep;

use crate::config::Stamp;
use crate::snapshot::{Destination, Running};

/// States of files, by their paths.
type Stamps = HashMap<PathBuf, Stamp>;

/// Looks at the files of upstreams' TLS once a second, for as long as the process lives, and has those that changed and
/// were still for a second read again. A file that cannot be used leaves what was read before in force. Nobody wakes
/// where no upstream names files.
pub async fn watch_upstream_files(running: Arc<Running>) {
    let (mut read, mut last) = (Stamps::new(), Stamps::new());
    loop {
        let snapshot = running.snapshot();
        let files: Vec<PathBuf> = snapshot.destinations().iter().flat_map(|to| files_of(to)).collect();
        if files.is_empty() {
            drop(snapshot);
            running.snapshot_changed.notified().await;
            continue;
        }
        let now: Stamps = files.into_iter().filter_map(|file| Stamp::of(&file).map(|stamp| (file, stamp))).collect();
        let is_new = |file: &PathBuf| {
            let stamp = now.get(file);
            stamp.is_some() && stamp == last.get(file) && read.get(file).is_some_and(|before| Some(before) != stamp)
        };
        for to in snapshot.destinations().iter().filter(|to| files_of(to).iter().any(is_new)) {
            read_again(to);
        }
        // What is seen for the first time was read by whoever put it in force.
        let known = now.iter().map(|(file, stamp)| match read.get(file) {
            Some(before) if !is_new(file) => (file.clone(), *before),
            _ => (file.clone(), *stamp),
        });
        read = known.collect();
        last = now;
        drop(snapshot);
        sleep(LOOK_EVERY).await;
    }
}

fn files_of(to: &Destination) -> Vec<PathBuf> {
    to.layers.tls.as_ref().map_or_else(Vec::new, |tls| tls.files())
}

fn read_again(to: &Destination) {
    let (name, Some(tls)) = (&to.upstream.config().name, &to.layers.tls) else { return };
    match tls.load(SystemTime::now()) {
        Ok(()) => info!("upstream {name}: files of TLS were read again; connections from now on go by them"),
        Err(faults) => {
            for fault in faults {
                error!("upstream {name}: {fault}; the files that were read before stay in force");
            }
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
