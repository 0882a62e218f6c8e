//! Members in a file, which is watched.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::board::SourceReporter;
use crate::config::{self, ListedMember, MAX_BYTES, Stamp, open_regular};
use crate::upstream::{Member, MemberSource};

/// Reads the file whenever it has changed and been still for 300 ms, and reports what it says.
///
/// Each look begins at the file's name and follows links, as for the configuration's file. So a file that is renamed
/// into place and a link that changes its target (Kubernetes' ConfigMaps) count as changes, and a missing file as that.
pub(super) async fn follow(path: PathBuf, reporter: SourceReporter) {
    let mut told: Option<Option<Stamp>> = None;
    let mut good = false;
    loop {
        let mut stamp = Stamp::of(&path);
        if told != Some(stamp) {
            if told.is_some() && stamp.is_some() {
                stamp = Some(still(&path).await);
            }
            let file = path.clone();
            let outcome = tokio::task::spawn_blocking(move || read(&file)).await;
            good = match outcome.unwrap_or_else(|_| Err("reading it panicked".to_owned())) {
                Ok(members) => {
                    reporter.answer(members);
                    true
                }
                Err(reason) => {
                    reporter.failed(&reason);
                    false
                }
            };
            told = Some(stamp);
        } else if good {
            reporter.same();
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Reads a file of members. The error is the text for people, with line and column.
pub(super) fn read(path: &Path) -> Result<Vec<Member>, String> {
    let name = path.display();
    let unreadable = |error: std::io::Error| format!("{name}: cannot be read: {error}");
    let mut bytes = Vec::new();
    let file = open_regular(path).map_err(unreadable)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("{name}: the file is longer than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{name}: not UTF-8"))?;
    let listed = config::read_members(&text).map_err(|problems| {
        // One line of the log: the first problem, and how many there are.
        let more = problems.iter().count() - 1;
        let first = problems.iter().next().map(|problem| problem.in_file(&name.to_string()).to_string());
        let first = first.unwrap_or_default().replace("\n ", ";");
        if more > 0 { format!("{first} (and {more} more)") } else { first }
    })?;
    let member =
        |ListedMember { backend, leaving }| Member { leaving, source: MemberSource::File, ..Member::from(&backend) };
    Ok(listed.into_iter().map(member).collect())
}

/// Waits until a file has been the same for 300 ms, and returns its state. A file that is away is waited for.
pub async fn still(file: &Path) -> Stamp {
    let mut since = Instant::now();
    let mut last = Stamp::of(file);
    loop {
        sleep(LOOK_AGAIN).await;
        let now = Stamp::of(file);
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

const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const STILL_FOR: Duration = Duration::from_millis(300);
