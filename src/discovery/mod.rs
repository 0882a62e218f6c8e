//! Discovery: the sources that know the members of upstreams, and what is known of each.
//!
//! A source reports answers and failures to the `Board`. An answer that differs becomes due when it has settled. The
//! operator's task waits for that ([`Sources::due`]), asks for the members ([`Sources::known`]) and puts them in force.
//! A source that is silent, broken or empty changes nothing.

mod board;
mod dns;
mod etcd;
mod file;
mod kubernetes;
mod push;
mod saved;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::board::{Board, Due, SourceKey, SourceReporter, lock};
use self::etcd::Order;
use self::saved::StateFolder;
use crate::config::{self, Config, Discover, DiscoverFrom, quoted};
use crate::metrics::Metrics;
use crate::upstream::{Closing, Member, MemberLists};

pub use self::board::SourceStatus;
pub use self::file::still;
pub use self::push::{MembersAction, NotPushed, PushedMember, WrongPush};

/// The sources of a running gateway. Dropped, it ends them all.
pub struct Sources {
    board: Arc<Board>,
    tasks: Mutex<HashMap<SourceKey, Task>>,
}

/// The members that are known of one upstream, on their way to a process that takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMembers {
    /// Name of the upstream.
    pub upstream: String,
    /// Its members.
    pub members: Vec<Member>,
    /// Members that its source names no longer and that clients wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Member>,
    /// Milliseconds since the last good answer of its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// A drain that not every gateway was told of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTold {
    /// The source of the upstream's members cannot tell other gateways.
    #[error("the members of `{0}` are not in etcd, by which alone other gateways are told (`discover: etcd`)")]
    Elsewhere(String),
    /// The backend's key is gone, or was created anew.
    #[error("{} has no key in etcd any more", quoted(.0))]
    Gone(String),
    /// There is no drain to be called off.
    #[error("{} is not drained everywhere", quoted(.0))]
    NotDrained(String),
    /// etcd does not take it.
    #[error("etcd has not taken it: {0}")]
    Failed(String),
    /// etcd has not answered.
    #[error("etcd has not taken it within {}", humantime::format_duration(TOLD_WITHIN))]
    Late,
}

impl FromIterator<SavedMembers> for MemberLists {
    fn from_iter<I: IntoIterator<Item = SavedMembers>>(saved: I) -> Self {
        let mut lists = Self::default();
        for SavedMembers { upstream, members, absent, .. } in saved {
            lists.set(&upstream, members.into_iter().chain(absent).collect());
        }
        lists
    }
}

impl Sources {
    /// Makes a set without sources. Their answers are counted in `metrics`, and kept in `state_folder`, if there is
    /// one.
    pub fn new(state_folder: Option<PathBuf>, metrics: &Metrics) -> Self {
        let board = Arc::new(Board::new(StateFolder::new(state_folder), metrics));
        metrics.include(Box::new(board::Ages::new(Arc::clone(&board))));
        Self { board, tasks: Mutex::default() }
    }

    /// Starts the sources that a configuration names and that are not there yet. Until they answer, the members of
    /// their upstreams are those in `known`, else those that an earlier process kept.
    ///
    /// To be called on the Tokio runtime that the sources are to live on.
    pub fn begin(&self, config: &Config, known: &MemberLists) {
        self.begin_from(config, known, &HashMap::new());
    }

    /// Does what [`begin`](Self::begin) does, with the members that the predecessor knew. The age of its last answers
    /// is kept.
    pub fn take_over(&self, config: &Config, saved: &[SavedMembers]) {
        let last = |one: &SavedMembers| Instant::now().checked_sub(Duration::from_millis(one.age_ms?));
        let lasts = saved.iter().filter_map(|one| Some((one.upstream.as_str(), last(one)?))).collect();
        self.begin_from(config, &saved.iter().cloned().collect(), &lasts);
    }

    /// The members in `lists` with the age of each answer, for a process that takes over.
    pub fn save(&self, lists: &MemberLists) -> Vec<SavedMembers> {
        let age = |last: Instant| u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
        let saved = lists.iter().map(|(upstream, members)| SavedMembers {
            upstream: upstream.to_owned(),
            members: members.iter().filter(|member| !member.is_absent()).cloned().collect(),
            absent: members.iter().filter(|member| member.is_absent()).cloned().collect(),
            age_ms: self.board.last(upstream).map(age),
        });
        saved.collect()
    }

    fn begin_from(&self, config: &Config, known: &MemberLists, lasts: &HashMap<&str, Instant>) {
        let mut tasks = lock(&self.tasks);
        for upstream in &config.upstreams {
            let Some(discover) = &upstream.discover else { continue };
            let (name, key) = (&*upstream.name, SourceKey::new(&upstream.name, discover));
            if tasks.contains_key(&key) {
                continue;
            }
            let before = known.get(name).cloned();
            self.board.begin(&key, before, lasts.get(name).copied(), hold(upstream));
            let reporter = SourceReporter::new(Arc::clone(&self.board), key.clone());
            tasks.insert(key, Task::start(&discover.from, reporter));
        }
    }

    /// Waits until every source of a configuration has answered, each for as long as its `wait` says.
    pub async fn first_answers(&self, config: &Config) {
        let begun = Instant::now();
        for (upstream, discover) in discovered(config) {
            let key = SourceKey::new(upstream, discover);
            let answered = self.board.wait_until(|board| board.has_answered(&key));
            if tokio::time::timeout_at((begun + discover.wait).into(), answered).await.is_err() {
                self.board.start_without(&key);
            }
        }
    }

    /// Ends the sources that a configuration does not name, and forgets their answers.
    pub fn keep_only(&self, config: &Config) {
        let wanted =
            |key: &SourceKey| discovered(config).any(|(upstream, discover)| *key == SourceKey::new(upstream, discover));
        lock(&self.tasks).retain(|key, _| wanted(key));
        self.board.keep_only(wanted);
    }

    /// Waits until an answer that differs from what is known has settled.
    ///
    /// Dropping the future loses nothing.
    pub async fn due(&self) {
        self.board.due().await;
    }

    /// The members of every upstream of a configuration that has a source. Answers that are due take force by this
    /// call, and are in the state folder when it returns.
    pub async fn known(&self, config: &Config) -> MemberLists {
        let (mut lists, mut news) = (MemberLists::default(), MemberLists::default());
        for upstream in &config.upstreams {
            let Some(discover) = &upstream.discover else { continue };
            let due = self.board.take_due(&SourceKey::new(&upstream.name, discover), hold(upstream), Instant::now());
            let Some(Due { members, is_new, absent }) = due else { continue };
            if is_new {
                news.set(&upstream.name, Arc::clone(&members));
            }
            let with_absent = || members.iter().cloned().chain(absent.iter().cloned()).collect();
            lists.set(&upstream.name, if absent.is_empty() { Arc::clone(&members) } else { with_absent() });
        }
        let board = Arc::clone(&self.board);
        let kept = tokio::task::spawn_blocking(move || board.keep(&news)).await;
        if kept.is_err() {
            log::error!("members were not kept: writing them panicked");
        }
        lists
    }

    /// Changes the members of an upstream that has them by commands. They are due at once.
    ///
    /// # Errors
    /// [`NotPushed`], and nothing has changed.
    pub fn push(
        &self,
        upstream: &str,
        discover: &Discover,
        action: MembersAction,
        told: &[PushedMember],
    ) -> Result<(), NotPushed> {
        if discover.from != DiscoverFrom::Push {
            return Err(NotPushed::Elsewhere(upstream.to_owned()));
        }
        self.board.push(&SourceKey::new(upstream, discover), |before| Ok(push::apply(before, action, told)?))
    }

    /// Tells every gateway with the same source that a backend is drained, or with `None` that it is not any more. This
    /// gateway hears it from the source, as the others do.
    ///
    /// # Errors
    /// [`NotTold`]. A gateway that was told of nothing drains nothing.
    pub async fn tell_everywhere(
        &self,
        upstream: &str,
        discover: &Discover,
        backend: &str,
        drain: Option<Closing>,
    ) -> Result<(), NotTold> {
        let orders = lock(&self.tasks).get(&SourceKey::new(upstream, discover)).and_then(|task| task.orders.clone());
        let orders = orders.ok_or_else(|| NotTold::Elsewhere(upstream.to_owned()))?;
        let (reply, answer) = oneshot::channel();
        let told = async {
            let order = Order { backend: backend.to_owned(), drain, reply };
            orders.send(order).await.ok()?;
            answer.await.ok()
        };
        let ended = || NotTold::Failed("the source has ended".to_owned());
        tokio::time::timeout(TOLD_WITHIN, told).await.map_err(|_| NotTold::Late)?.ok_or_else(ended)?
    }

    /// The state of an upstream's source.
    pub fn status(&self, upstream: &str, discover: &Discover) -> Option<SourceStatus> {
        self.board.status(&SourceKey::new(upstream, discover), Instant::now())
    }
}

/// The members that are known without a question to a server: those in files of members, else those that an earlier
/// process kept.
pub fn known(config: &Config) -> MemberLists {
    let folder = StateFolder::new(state_folder(config));
    let mut lists = MemberLists::default();
    for (upstream, discover) in discovered(config) {
        let from_file = match &discover.from {
            DiscoverFrom::File(path) => file::read(path).ok(),
            _ => None,
        };
        let listed = || match &discover.from {
            DiscoverFrom::Backends(listed) => Some(listed.backends.iter().map(Member::from).collect()),
            _ => None,
        };
        let kept = || folder.read(upstream).ok().flatten();
        if let Some(members) = from_file.or_else(kept).or_else(listed) {
            lists.set(upstream, members.into());
        }
    }
    lists
}

/// The problems of the files of members that a configuration names, each with its upstream.
pub fn problems(config: &Config) -> Vec<(String, String)> {
    let problems = discovered(config).filter_map(|(upstream, discover)| match &discover.from {
        DiscoverFrom::File(path) => Some((upstream.to_owned(), file::read(path).err()?)),
        _ => None,
    });
    problems.collect()
}

/// The folder in which a gateway keeps what it is to know at its next start: the one that its configuration names, else
/// the one that systemd made for it (`StateDirectory=`).
pub fn state_folder(config: &Config) -> Option<PathBuf> {
    let of_systemd = || std::env::var("STATE_DIRECTORY").ok().filter(|folders| !folders.is_empty());
    // systemd.exec(5): with several, they are separated by colons.
    let first = |folders: String| folders.split(':').next().map(PathBuf::from);
    config.state_folder.clone().or_else(|| of_systemd().and_then(first))
}

/// Time for which clients wait for a member that is gone.
fn hold(upstream: &config::Upstream) -> Duration {
    upstream.absent.map_or(Duration::ZERO, |absent| absent.hold)
}

/// The upstreams of a configuration that have a source of their own.
fn discovered(config: &Config) -> impl Iterator<Item = (&str, &Discover)> {
    config.upstreams.iter().filter_map(|upstream| Some((&*upstream.name, upstream.discover.as_ref()?)))
}

/// The task of one source. Dropped, it ends.
struct Task {
    handle: Option<JoinHandle<()>>,
    /// Sends orders to a source that can tell other gateways of drains; `None` for other sources.
    orders: Option<mpsc::Sender<Order>>,
}

impl Task {
    fn start(from: &DiscoverFrom, reporter: SourceReporter) -> Self {
        let mut way = None;
        let handle = match from {
            DiscoverFrom::File(path) => Some(tokio::spawn(file::follow(path.clone(), reporter))),
            DiscoverFrom::Dns(_) | DiscoverFrom::Srv(_) | DiscoverFrom::Backends(_) => {
                Some(tokio::spawn(dns::follow(from.clone(), reporter)))
            }
            DiscoverFrom::Etcd(etcd) => {
                let (orders, queue) = mpsc::channel(ORDERS);
                way = Some(orders);
                Some(tokio::spawn(etcd::follow(etcd.clone(), reporter, queue)))
            }
            DiscoverFrom::Kubernetes(service) => Some(tokio::spawn(kubernetes::follow(service.clone(), reporter))),
            DiscoverFrom::Push => {
                reporter.silent();
                None
            }
        };
        Self { handle, orders: way }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}

/// Most orders that wait for a source. It is the number of operators that may act on one upstream at the same time.
const ORDERS: usize = 8;
/// Time within which an order is answered.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
