//! The hooks of one route, in their order, and what guards their calls.

mod carry;
mod messages;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use log::error;

use super::erased::{Context, Erased, Phase};
use super::registry::{Place, Registry};
use super::{Backend, Closed, Entry, Injector, Messages, Mode, Next, Pick, Request, Response, Result, Tunnel, Upgrade};
use crate::config::{HookEntry, Problem};
use crate::metrics::HookMetrics;
pub use carry::{Packed, Saved};

/// The hooks of one route. Requests and tunnels hold it for as long as they last, so that a reload lets go of it with its
/// last user.
pub struct Chain {
    pub(super) links: Box<[Link]>,
    messages: Messages,
}

/// One hook in its place.
pub(super) struct Link {
    pub(super) name: Arc<str>,
    route: Arc<str>,
    pub(super) hook: Arc<dyn Erased>,
    pub(super) timeout: Duration,
    /// Asked of the hook once.
    messages: Messages,
    pub(super) metrics: Arc<HookMetrics>,
}

/// What the hooks of a chain keep of one request or tunnel, one context each.
pub struct Contexts(pub(super) Box<[Box<Context>]>);

/// A hook did not do its work; it has been logged and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The hook's name.
    pub hook: Arc<str>,
    /// Where it was called.
    pub phase: Phase,
    /// What happened.
    pub kind: FailureKind,
}

/// How a hook failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// It returned an error, which said this.
    Error(String),
    /// It panicked, with this message.
    Panic(String),
    /// Its call took longer than its `timeout`.
    Timeout(Duration),
}

impl FailureKind {
    /// The `kind` label in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Panic(_) => "panic",
            Self::Timeout(_) => "timeout",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hook, phase, kind } = self;
        write!(f, "hook {hook} failed in its phase {phase}: ")?;
        match kind {
            FailureKind::Error(error) => f.write_str(error),
            FailureKind::Panic(message) => write!(f, "it panicked: {message}"),
            FailureKind::Timeout(limit) => write!(f, "no answer within {}", humantime::format_duration(*limit)),
        }
    }
}

impl Chain {
    /// The chain of a route without hooks.
    pub fn empty() -> Self {
        Self { links: Box::default(), messages: Messages::NONE }
    }

    /// Makes the hooks that `entries` name. Each finds the one whose place it takes in `previous`, the chain that the route
    /// had before.
    ///
    /// # Errors
    /// Every problem of every entry.
    pub fn build(
        entries: &[HookEntry],
        route: &str,
        registry: &Registry,
        previous: Option<&Self>,
        metrics: impl Fn(&str) -> Arc<HookMetrics>,
    ) -> Result<Self, Vec<Problem>> {
        let mut links = Vec::with_capacity(entries.len());
        let at: Arc<str> = route.into();
        let mut problems = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let nth = entries[..index].iter().filter(|before| before.name == entry.name).count();
            let previous = previous.and_then(|chain| chain.named(&entry.name).nth(nth));
            let previous = previous.map(|link| Arc::clone(&link.hook));
            let place = Place { name: &entry.name, route, checking: false };
            let made = registry.make(&place, &entry.settings, previous).and_then(|hook| {
                let messages = catch_unwind(AssertUnwindSafe(|| hook.messages()));
                let panicked = |_| vec![entry.settings.problem("", format!("the hook `{}` panicked", entry.name))];
                Ok((messages.map_err(panicked)?, hook))
            });
            match made {
                Ok((messages, hook)) => links.push(Link {
                    name: entry.name.as_str().into(),
                    messages,
                    route: Arc::clone(&at),
                    hook,
                    timeout: entry.timeout,
                    metrics: metrics(&entry.name),
                }),
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut messages = Messages::NONE;
        for link in &links {
            messages.to_backend = stronger(messages.to_backend, link.messages.to_backend);
            messages.to_client = stronger(messages.to_client, link.messages.to_client);
        }
        Ok(Self { links: links.into(), messages })
    }

    fn named<'c>(&'c self, name: &'c str) -> impl Iterator<Item = &'c Link> {
        self.links.iter().filter(move |link| &*link.name == name)
    }

    /// Whether there are no hooks.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Which messages any of the hooks is to see: [`Mode::Async`] in a direction where one of them may wait.
    pub fn messages(&self) -> Messages {
        self.messages
    }

    /// Tells the hooks that their configuration is in force.
    pub fn start(&self, injector: &Injector) {
        for link in &self.links {
            let started = catch_unwind(AssertUnwindSafe(|| Arc::clone(&link.hook).start(injector)));
            if let Err(panic) = started {
                error!("hook {} panicked when it was started: {}", link.name, said(&*panic));
            }
        }
    }

    /// Fresh contexts, one for each hook.
    pub fn contexts(&self) -> Contexts {
        Contexts(self.links.iter().map(|link| link.hook.context()).collect())
    }

    /// Logs and counts that a hook of this chain asked for what cannot be done.
    pub fn failed(&self, hook: &str, phase: Phase, why: String) -> Option<Failure> {
        self.named(hook).next().map(|link| link.failed(phase, FailureKind::Error(why)))
    }

    /// Calls [`Hook::on_request`](super::Hook::on_request), in order, until one answers.
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_request(&self, request: &mut Request<'_>, contexts: &mut Contexts) -> Result<Next, Failure> {
        for (link, context) in self.links.iter().zip(&mut contexts.0) {
            let next = link.guard(Phase::Request, link.hook.on_request(request, &mut **context)).await?;
            request.called(&link.name);
            match next {
                Next::Continue => {}
                answer @ Next::Answer(_) => {
                    link.metrics.verdict(Phase::Request.as_str(), "answer");
                    return Ok(answer);
                }
            }
        }
        Ok(Next::Continue)
    }

    /// Calls [`Hook::on_upgrade`](super::Hook::on_upgrade), in order, until one answers.
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, contexts: &mut Contexts) -> Result<Next, Failure> {
        for (link, context) in self.links.iter().zip(&mut contexts.0) {
            let next = link.guard(Phase::Upgrade, link.hook.on_upgrade(upgrade, &mut **context)).await?;
            upgrade.request.called(&link.name);
            match next {
                Next::Continue => {}
                answer @ Next::Answer(_) => {
                    link.metrics.verdict(Phase::Upgrade.as_str(), "answer");
                    return Ok(answer);
                }
            }
        }
        Ok(Next::Continue)
    }

    /// Calls [`Hook::on_pick`](super::Hook::on_pick), in order, until one vetoes.
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_pick(&self, backend: &Backend<'_>, contexts: &mut Contexts) -> Result<Pick, Failure> {
        for (link, context) in self.links.iter().zip(&mut contexts.0) {
            if link.guard(Phase::Pick, link.hook.on_pick(backend, &mut **context)).await? == Pick::Veto {
                link.metrics.verdict(Phase::Pick.as_str(), "veto");
                return Ok(Pick::Veto);
            }
        }
        Ok(Pick::Accept)
    }

    /// Calls [`Hook::on_response`](super::Hook::on_response), in reverse order.
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_response(&self, response: &mut Response<'_>, contexts: &mut Contexts) -> Result<(), Failure> {
        for (link, context) in self.links.iter().zip(&mut contexts.0).rev() {
            link.guard(Phase::Response, link.hook.on_response(response, &mut **context)).await?;
        }
        Ok(())
    }

    /// Calls [`Hook::on_open`](super::Hook::on_open), in order.
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_open(&self, tunnel: &Tunnel, contexts: &mut Contexts) -> Result<(), Failure> {
        for (link, context) in self.links.iter().zip(&mut contexts.0) {
            link.guard(Phase::Open, link.hook.on_open(tunnel, &mut **context)).await?;
        }
        Ok(())
    }

    /// Calls [`Hook::on_close`](super::Hook::on_close), in order; one's failure keeps none of the others from being called.
    /// Those that failed are returned for tests: the guard has logged and counted them, and the tunnel is gone anyway.
    pub async fn on_close(&self, tunnel: &Tunnel, closed: &Closed, contexts: &mut Contexts) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (link, context) in self.links.iter().zip(&mut contexts.0) {
            let closing = link.hook.on_close(tunnel, closed, &mut **context).map(Ok);
            failures.extend(link.guard(Phase::Close, closing).await.err());
        }
        failures
    }

    /// Calls [`Hook::on_log`](super::Hook::on_log), in order; one's failure keeps none of the others from being called.
    /// Those that failed are returned for tests: the guard has logged and counted them, and the request is over anyway.
    pub fn on_log(&self, entry: &mut Entry<'_>, contexts: &mut Contexts) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (link, context) in self.links.iter().zip(&mut contexts.0) {
            let logged = link.guard_sync(Phase::Log, || {
                link.hook.on_log(entry, &mut **context);
                Ok(())
            });
            failures.extend(logged.err());
        }
        failures
    }
}

impl Link {
    /// Awaits a call of the hook, and makes a failure of its error, its panic and its taking too long.
    pub(super) async fn guard<T>(&self, phase: Phase, call: impl Future<Output = Result<T>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(error))) => Err(self.failed(phase, FailureKind::Error(error.to_string()))),
            Ok(Err(panic)) => Err(self.failed(phase, FailureKind::Panic(said(&*panic)))),
            Err(_) => Err(self.failed(phase, FailureKind::Timeout(self.timeout))),
        }
    }

    /// [`guard`](Self::guard) for a call that does not wait.
    pub(super) fn guard_sync<T>(&self, phase: Phase, call: impl FnOnce() -> Result<T>) -> Result<T, Failure> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failed(phase, FailureKind::Error(error.to_string()))),
            Err(panic) => Err(self.failed(phase, FailureKind::Panic(said(&*panic)))),
        }
    }

    fn failed(&self, phase: Phase, kind: FailureKind) -> Failure {
        self.metrics.failure(phase.as_str(), kind.as_str());
        let failure = Failure { hook: Arc::clone(&self.name), phase, kind };
        error!("{failure} (route {})", self.route);
        failure
    }
}

fn stronger(one: Mode, other: Mode) -> Mode {
    match (one, other) {
        (Mode::Async, _) | (_, Mode::Async) => Mode::Async,
        (Mode::Sync, _) | (_, Mode::Sync) => Mode::Sync,
        (Mode::None, Mode::None) => Mode::None,
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "something that is no text".to_owned())
}
