//! Hooks tested without a network: what the gateway would ask of them is asked by a [`Harness`].
//!
//! Calls, their order, their time limits and what becomes of errors and panics are the gateway's own. What is not
//! there: routes, backends, sockets. Every call is made on the runtime of the test, so `#[tokio::test(start_paused =
//! true)]` makes time limits pass at once.
//!
//! ```
//! use longhaul::hook::testing::{Harness, TestRequest};
//! use longhaul::hook::{Direction, Hook, Message, Messages, Next, Request, Result, Setup, SetupError, Tunnel, Verdict};
//!
//! /// Counts messages, and lets so many pass.
//! struct Quota(u32);
//!
//! #[derive(serde::Deserialize)]
//! struct Settings {
//!     messages: u32,
//! }
//!
//! impl Hook for Quota {
//!     type Settings = Settings;
//!     type Context = u32;
//!
//!     fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
//!         Ok(Self(settings.messages))
//!     }
//!
//!     fn messages(&self) -> Messages {
//!         Messages::TO_BACKEND
//!     }
//!
//!     fn on_message(&self, _: &Tunnel, _: Direction, _: &Message, seen: &mut u32) -> Result<Verdict> {
//!         *seen += 1;
//!         Ok(if *seen > self.0 { Verdict::close(1008, "that was enough") } else { Verdict::Pass })
//!     }
//! }
//!
//! # longhaul::tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let harness = Harness::new::<Quota>("messages: 1").unwrap();
//! let mut tunnel = harness.open().await.unwrap();
//! assert_eq!(tunnel.message(Direction::ToBackend, Message::text("one")).await, Ok(Verdict::Pass));
//! assert_eq!(
//!     tunnel.message(Direction::ToBackend, Message::text("two")).await,
//!     Ok(Verdict::close(1008, "that was enough")),
//! );
//! assert_eq!(tunnel.context::<Quota>(), &2);
//!
//! let wrong = Harness::new::<Quota>("message: 1").unwrap_err().to_string();
//! assert!(wrong.contains("did you mean `messages`?"), "{wrong}");
//! # });
//! ```

mod recorder;
mod request;
mod tunnel;

use std::any::type_name;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use recorder::Sent;
pub use request::{Exchange, TestRequest};
pub use tunnel::TestTunnel;

use self::recorder::Recorder;
use super::{
    Answer, Chain, Contexts, Direction, Failure, Hook, HookRegistry, Injector, Messages, Next, Setup, SetupError,
};
use crate::config::{HookEntry, Settings};
use crate::metrics::Metrics;

pub use crate::config::{Problem, Problems, Severity};

/// The hooks of one route, asked by a test.
pub struct Harness {
    chain: Arc<Chain>,
    recorder: Arc<Recorder>,
    injector: Injector,
    route: Arc<str>,
    upstream: Arc<str>,
}

impl Harness {
    /// A route with one hook, called `hook`, of these settings: YAML as it would stand under `with:`.
    ///
    /// # Errors
    /// The problems that `longhaul check` would name, lines counted from the first of the settings.
    pub fn new<H: Hook>(with: &str) -> Result<Self, Problems> {
        Self::builder().hook::<H>("hook", with).build()
    }

    /// A route with several hooks, or with more to say about it.
    pub fn builder() -> HarnessBuilder {
        HarnessBuilder {
            registry: HookRegistry::empty(),
            entries: Vec::new(),
            problems: Vec::new(),
            route: "* /".into(),
            upstream: "upstream".into(),
            timeout: HookEntry::DEFAULT_TIMEOUT,
            previous: None,
        }
    }

    /// Calls [`Hook::start`] of every hook, as when the configuration is put in force. The test must be on a Tokio
    /// runtime if a hook spawns there.
    pub fn start(&self) {
        self.chain.start(&self.injector);
    }

    /// Sends a request through [`Hook::on_request`].
    pub async fn request(&self, request: TestRequest) -> Exchange {
        Exchange::begin(self, request, false).await
    }

    /// Sends a WebSocket upgrade through [`Hook::on_request`] and then [`Hook::on_upgrade`]; the headers of the
    /// handshake are added to it.
    pub async fn upgrade(&self, request: TestRequest) -> Exchange {
        Exchange::begin(self, request, true).await
    }

    /// Opens a tunnel by an upgrade of `/` that has nothing to it.
    ///
    /// # Errors
    /// [`Stopped`]: a hook answered the upgrade or failed.
    pub async fn open(&self) -> Result<TestTunnel, Stopped> {
        self.upgrade(TestRequest::get("/")).await.open().await
    }

    /// Messages that any of the hooks sees.
    pub fn messages(&self) -> Messages {
        self.chain.messages()
    }

    /// The first hook of a type.
    ///
    /// # Panics
    /// There is none.
    pub fn hook<H: Hook>(&self) -> Arc<H> {
        let hooks = self.chain.links.iter().map(|link| Arc::clone(&*link.hook).into_any());
        hooks.filter_map(|hook| hook.downcast().ok()).next().unwrap_or_else(|| none_of::<H>())
    }

    /// The injector of the hooks. Items sent by it are kept for [`sent`](Self::sent), and count as taken by each open
    /// tunnel that is addressed.
    pub fn injector(&self) -> Injector {
        self.injector.clone()
    }

    /// Items sent through the injector since the last call, in order. They are not carried out: a tunnel that was to be
    /// closed goes on.
    pub fn sent(&self) -> Vec<Sent> {
        self.recorder.take()
    }

    /// Gives the hooks' own state to those of the same name in `successor`, as a handover does once that process serves
    /// ([`Hook::save`], [`Hook::restore`]).
    pub fn hand_over(&self, successor: &Self) {
        successor.chain.restore(&self.chain.save());
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("route", &self.route).field("hooks", &self.chain.links.len()).finish()
    }
}

/// Builds a [`Harness`].
#[must_use = "nothing is tested until it is built"]
pub struct HarnessBuilder {
    registry: HookRegistry,
    entries: Vec<HookEntry>,
    problems: Vec<Problem>,
    route: Arc<str>,
    upstream: Arc<str>,
    timeout: Duration,
    previous: Option<Arc<Chain>>,
}

impl HarnessBuilder {
    /// Adds a hook behind those before it, under a name and with settings, as an entry of `hooks` does.
    pub fn hook<H: Hook>(self, name: &str, with: &str) -> Self {
        self.hook_with(name, with, H::new)
    }

    /// As [`hook`](Self::hook), with a function in place of [`Hook::new`], as for the gateway's builder. Entries of one
    /// name are all made by the last one's.
    pub fn hook_with<H: Hook>(
        mut self,
        name: &str,
        with: &str,
        make: impl Fn(H::Settings, &Setup<'_, H>) -> Result<H, SetupError> + Send + Sync + 'static,
    ) -> Self {
        self.registry.add_with(name, make);
        match Settings::parse(with) {
            Ok(settings) => {
                self.entries.push(HookEntry { name: name.to_owned(), settings, timeout: Duration::ZERO });
            }
            Err(problems) => self.problems.extend(problems.iter().cloned()),
        }
        self
    }

    /// The route, as `host path`; `* /` by default.
    pub fn route(mut self, route: &str) -> Self {
        self.route = route.into();
        self
    }

    /// The upstream that the route leads to; `upstream` by default.
    pub fn upstream(mut self, upstream: &str) -> Self {
        self.upstream = upstream.into();
        self
    }

    /// The longest time that one call may take, for all of the hooks; 5 s by default, as in the gateway.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes it a reload: each hook finds the one whose place it takes by [`Setup::previous`].
    pub fn replacing(mut self, previous: &Harness) -> Self {
        self.previous = Some(Arc::clone(&previous.chain));
        self
    }

    /// Makes the hooks.
    ///
    /// # Errors
    /// The problems that `longhaul check` would name in all settings, lines counted from the first of each.
    pub fn build(self) -> Result<Harness, Problems> {
        let Self { registry, mut entries, mut problems, route, upstream, timeout, previous } = self;
        entries.iter_mut().for_each(|entry| entry.timeout = timeout);
        let metrics = Metrics::new();
        let chain = Chain::build(&entries, &route, &registry, previous.as_deref(), |name| metrics.hook(name));
        match chain {
            Ok(chain) if problems.is_empty() => {
                let recorder = Arc::new(Recorder::default());
                let injector = Injector::new(Arc::clone(&recorder) as _);
                Ok(Harness { chain: Arc::new(chain), recorder, injector, route, upstream })
            }
            Ok(_) => Err(problems.into()),
            Err(found) => {
                problems.extend(found);
                Err(problems.into())
            }
        }
    }
}

/// Reason for which the harness could not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// A hook answered the request, so that no tunnel opens.
    #[error("a hook answered the request: {} {}", .0.status(), .0.sentence())]
    Answered(Answer),
    /// A hook failed: the gateway would answer 500, or end the tunnel with Close 1011.
    #[error("{0}")]
    Failed(Failure),
    /// The request was no upgrade, so that no tunnel opens.
    #[error("the request was no upgrade: open a tunnel from `Harness::upgrade`")]
    NoUpgrade,
    /// No hook asked for messages of this direction: the gateway passes them unseen.
    #[error("no hook sees messages {}: `Hook::messages` does not ask for them", way(*.0))]
    Unseen(Direction),
    /// The tunnel has ended before, by a verdict, a failure or [`TestTunnel::close`].
    #[error("the tunnel has ended")]
    Ended,
    /// A hook cannot pack what it keeps of the tunnel: the gateway leaves the tunnel in the old process.
    #[error("a hook does not pack its context: `Hook::pack` gave none")]
    Unpacked,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::ToBackend => "to the backend",
        Direction::ToClient => "to the client",
    }
}

/// The context of the first hook of a type.
fn context<'c, H: Hook>(chain: &Chain, contexts: &'c Contexts) -> &'c H::Context {
    let hooks = chain.links.iter().map(|link| Arc::clone(&*link.hook).into_any());
    let place = hooks.map(|hook| hook.is::<H>()).position(|is| is).unwrap_or_else(|| none_of::<H>());
    contexts.0[place]
        .as_ref()
        .expect("its context was made")
        .downcast_ref()
        .expect("contexts stand in the order of their hooks")
}

fn none_of<H>() -> ! {
    panic!("the harness has no hook of the type {}", type_name::<H>())
}

/// Turns what hooks said of a request into what keeps its tunnel from opening.
fn admitted(outcome: &Result<Next, Failure>) -> Result<(), Stopped> {
    match outcome {
        Ok(Next::Continue) => Ok(()),
        Ok(Next::Answer(answer)) => Err(Stopped::Answered(answer.clone())),
        Err(failure) => Err(Stopped::Failed(failure.clone())),
    }
}

#[cfg(test)]
mod tests;
