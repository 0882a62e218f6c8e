//! The board keeps the last good answer of each source, and knows whether it is in force and how old it is.

mod absent;
mod reporter;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::absent::Absent;
pub(super) use self::reporter::SourceReporter;
use super::push::NotPushed;
use super::saved::StateFolder;
use crate::config::{Discover, DiscoverFrom};
use crate::counted::counted;
use crate::metrics::{DiscoveryMetrics, Metrics};
use crate::upstream::{Member, MemberLists, MemberSource};

/// Identity of a source: an upstream's name, and how its members are to be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SourceKey {
    upstream: String,
    discover: Discover,
}

/// The last answers of all sources.
pub(super) struct Board {
    entries: Mutex<HashMap<SourceKey, Entry>>,
    /// Wakes its receivers at every change of the entries.
    changed: watch::Sender<()>,
    metrics: DiscoveryMetrics,
    folder: StateFolder,
}

/// The state of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Kind of the source.
    pub source: String,
    /// Seconds since its last good answer; `None` where there was none since the start.
    pub age_seconds: Option<u64>,
    /// Number of members in its last good answer.
    pub members: usize,
    /// Reason for which the last answer is not in force, where there is one.
    pub problem: Option<String>,
}

/// State of one source.
struct Entry {
    /// Members to be in force, as far as any are known.
    members: Option<Arc<[Member]>>,
    /// An answer that differs from `members`, and the moment at which it takes their place.
    pending: Option<(Instant, Arc<[Member]>)>,
    /// The source has answered, or the time to wait for its first answer is over.
    answered: bool,
    /// Moment of the last good answer.
    last: Option<Instant>,
    /// Moment since which answers have had no members.
    empty_since: Option<Instant>,
    problem: Option<String>,
    /// Members that the source names no longer.
    absent: Absent,
}

impl SourceKey {
    pub(super) fn new(upstream: &str, discover: &Discover) -> Self {
        Self { upstream: upstream.to_owned(), discover: discover.clone() }
    }

    fn source(&self) -> MemberSource {
        MemberSource::from(&self.discover.from)
    }

    fn labels(&self) -> [&str; 2] {
        [&self.upstream, self.source().as_str()]
    }
}

impl Board {
    pub(super) fn new(folder: StateFolder, metrics: &Metrics) -> Self {
        let metrics = DiscoveryMetrics::register(metrics);
        Self { entries: Mutex::default(), changed: watch::Sender::new(()), metrics, folder }
    }

    /// Begins to follow a source. Until it answers, its members are `before`, the ones that an earlier snapshot had.
    /// Without them, they are the ones that the state folder kept, else the ones that the configuration lists. `last`
    /// is the moment of the last answer that the predecessor had. Clients wait for absent members among `before` as
    /// long as `hold`.
    pub(super) fn begin(&self, key: &SourceKey, before: Option<Arc<[Member]>>, last: Option<Instant>, hold: Duration) {
        let kept = || match self.folder.read(&key.upstream) {
            Ok(members) => members.map(Arc::<[Member]>::from),
            Err(error) => {
                warn!("the members of {} that an earlier process kept cannot be read: {error}", key.upstream);
                None
            }
        };
        // Backends with addresses need no answer, whatever becomes of the names beside them.
        let listed = || match &key.discover.from {
            DiscoverFrom::Backends(listed) => Some(listed.backends.iter().map(Member::from).collect()),
            _ => None,
        };
        let absent = Absent::among(before.as_deref().unwrap_or_default(), Instant::now() + hold);
        let named = |before: Arc<[Member]>| before.iter().filter(|member| !member.is_absent()).cloned().collect();
        let members = before.map(named).or_else(kept).or_else(listed);
        self.metrics.begin(key.labels(), members.as_ref().map_or(0, |members| members.len()));
        let entry = Entry { members, pending: None, answered: false, last, empty_since: None, problem: None, absent };
        lock(&self.entries).insert(key.clone(), entry);
    }

    /// Forgets the sources that are not `wanted`.
    pub(super) fn keep_only(&self, wanted: impl Fn(&SourceKey) -> bool) {
        let mut entries = lock(&self.entries);
        let before = entries.keys().cloned().collect::<Vec<_>>();
        entries.retain(|key, _| wanted(key));
        let left = |labels: [&str; 2]| entries.keys().any(|key| key.labels() == labels);
        before.iter().filter(|key| !left(key.labels())).for_each(|key| self.metrics.forget(key.labels()));
    }

    pub(super) fn has_answered(&self, key: &SourceKey) -> bool {
        lock(&self.entries).get(key).is_none_or(|entry| entry.answered)
    }

    /// Ends the wait for a source's first answer.
    pub(super) fn start_without(&self, key: &SourceKey) {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(key).filter(|entry| !entry.answered) else { return };
        entry.answered = true;
        let (upstream, source, wait) = (&key.upstream, key.source().as_str(), key.discover.wait);
        let wait = humantime::format_duration(wait);
        match &entry.members {
            Some(members) => warn!(
                "the source of the members of {upstream} ({source}) has not answered within {wait}: it keeps the \
                 {} that it had before",
                counted(members.len(), "member")
            ),
            None => warn!(
                "the source of the members of {upstream} ({source}) has not answered within {wait}, and none are \
                 known: its requests are answered 503 until it does"
            ),
        }
    }

    /// Waits until `holds` returns true. It may depend on nothing but the entries.
    pub(super) async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.changed.subscribe();
        while !holds(self) {
            // The sender is in `self`.
            let _ = changes.changed().await;
        }
    }

    pub(super) async fn due(&self) {
        let mut changes = self.changed.subscribe();
        loop {
            let next = lock(&self.entries).values().filter_map(Entry::next).min();
            match next {
                Some(due) if due <= tokio::time::Instant::now().into_std() => return,
                Some(due) => drop(tokio::time::timeout_at(due.into(), changes.changed()).await),
                None => drop(changes.changed().await),
            }
        }
    }

    /// Puts the members of a source that are due in force, and returns all of its members. A member that its source
    /// names no longer is absent for the time of `hold`, because it may return.
    pub(super) fn take_due(&self, key: &SourceKey, hold: Duration, now: Instant) -> Option<Due> {
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(key)?;
        let due = entry.pending.take_if(|(due, _)| *due <= now);
        let is_new = due.is_some();
        if let Some((_, members)) = due {
            self.metrics.updated(key.labels(), members.len());
            if members.is_empty() && entry.problem.is_some() {
                entry.problem = Some("it names no member".to_owned());
            }
            entry.absent.note(entry.members.as_deref().unwrap_or_default(), &members, now + hold);
            entry.members = Some(members);
        }
        entry.absent.forget(hold, now);
        Some(Due { members: entry.members.clone()?, is_new, absent: entry.absent.members() })
    }

    /// Keeps members in the state folder. Blocks.
    pub(super) fn keep(&self, lists: &MemberLists) {
        lists.iter().for_each(|(upstream, members)| self.folder.write(upstream, members));
    }

    /// Changes the members of a source that is filled by commands. They are due at once.
    pub(super) fn push(
        &self,
        key: &SourceKey,
        change: impl FnOnce(&[Member]) -> Result<Vec<Member>, NotPushed>,
    ) -> Result<(), NotPushed> {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(key) else { return Ok(()) };
        let known = entry.pending.as_ref().map(|(_, members)| members).or(entry.members.as_ref());
        let members = change(known.map_or(&[], |members| members))?;
        Member::check(&members)?;
        let now = Instant::now();
        entry.pending = Some((now, members.into()));
        entry.last = Some(now);
        Ok(())
    }

    /// Moment of the last good answer of an upstream's source.
    pub(super) fn last(&self, upstream: &str) -> Option<Instant> {
        lock(&self.entries).iter().filter(|(key, _)| key.upstream == upstream).filter_map(|(_, entry)| entry.last).max()
    }

    pub(super) fn status(&self, key: &SourceKey, now: Instant) -> Option<SourceStatus> {
        let entries = lock(&self.entries);
        let entry = entries.get(key)?;
        Some(SourceStatus {
            source: key.source().as_str().to_owned(),
            age_seconds: entry.last.map(|last| now.saturating_duration_since(last).as_secs()),
            members: entry.members.as_ref().map_or(0, |members| members.len()),
            problem: entry.problem.clone(),
        })
    }

    /// Number of failures of all sources.
    #[cfg(test)]
    fn metrics_of_errors(&self) -> u64 {
        lock(&self.entries).keys().map(|key| self.metrics.errors(key.labels())).sum()
    }

    fn change(&self, key: &SourceKey, change: impl FnOnce(&mut Entry)) {
        // A source that is being ended may have no entry any more.
        if let Some(entry) = lock(&self.entries).get_mut(key) {
            change(entry);
        }
        self.changed.send_replace(());
    }
}

/// Members to be in force.
pub(super) struct Due {
    /// Members as the source names them.
    pub(super) members: Arc<[Member]>,
    /// The source has given another answer since the last call.
    pub(super) is_new: bool,
    /// Members that it names no longer and that clients wait for.
    pub(super) absent: Vec<Member>,
}

impl Entry {
    /// Notes the problem of an answer; `None` for an answer without one. Logs a problem that is new or over. An answer
    /// without members is a problem of its own.
    fn note_problem(&mut self, key: &SourceKey, problem: Option<&str>, in_part: bool, is_empty: bool) {
        let (upstream, source) = (&key.upstream, key.source().as_str());
        match problem {
            Some(reason) if self.problem.as_deref() != Some(reason) => {
                if in_part && key.source() == MemberSource::Etcd {
                    warn!("some members of {upstream} are passed over, they cannot be read from {source}: {reason}");
                } else if in_part {
                    warn!(
                        "some members of {upstream} stay as they are, their source ({source}) fails in part: {reason}"
                    );
                } else {
                    warn!("the members of {upstream} stay as they are, their source ({source}) is of no use: {reason}");
                }
                self.problem = Some(reason.to_owned());
            }
            None if !is_empty && self.problem.take().is_some() => {
                info!("the source of the members of {upstream} ({source}) answers again");
            }
            _ => {}
        }
    }

    /// Moment at which the next change of the members is due.
    fn next(&self) -> Option<Instant> {
        let pending = self.pending.iter().map(|(due, _)| *due);
        pending.chain(self.absent.next()).min()
    }

    fn answer(
        &mut self,
        key: &SourceKey,
        members: Arc<[Member]>,
        settle: Duration,
        keep_empty: Duration,
        now: Instant,
    ) {
        let first = !std::mem::replace(&mut self.answered, true);
        self.last = Some(now);
        let had = self.members.as_ref().is_some_and(|members| !members.is_empty());
        if !members.is_empty() {
            self.empty_since = None;
        }
        if self.members.as_ref() == Some(&members) {
            self.pending = None;
            return;
        }
        let due = if members.is_empty() && had {
            if self.empty_since.is_none() {
                let kept = humantime::format_duration(keep_empty);
                warn!("the source of the members of {} names none: they are kept for {kept}", key.upstream);
                self.problem = Some(format!("it names no member; those it named are kept for {kept}"));
            }
            *self.empty_since.get_or_insert(now) + keep_empty
        } else if first {
            now
        } else {
            // A later answer does not put off the one that is pending.
            let pending = self.pending.as_ref().filter(|(_, pending)| !pending.is_empty());
            pending.map_or(now + settle, |(due, _)| *due)
        };
        self.pending = Some((due, members));
    }
}

/// Locks a mutex. The state behind a poisoned one is used all the same: no code panics in the middle of a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ages of the last good answers, read when they are asked for.
pub(super) struct Ages {
    board: Arc<Board>,
}

impl Ages {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board }
    }
}

impl Collector for Ages {
    fn desc(&self) -> Vec<&Desc> {
        self.board.metrics.age.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let age = &self.board.metrics.age;
        age.reset();
        for (key, entry) in &*lock(&self.board.entries) {
            if let Some(last) = entry.last {
                age.with_label_values(&key.labels()).set(last.elapsed().as_secs_f64());
            }
        }
        age.collect()
    }
}

#[cfg(test)]
mod tests;
