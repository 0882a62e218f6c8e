//! The hooks of one route, in their order, and the guards around their calls.

mod carry;
mod guard;
mod messages;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};

use super::erased::{Context, Erased, Phase};
use super::registry::{HookInstance, HookRegistry};
use super::{
    Backend, Closed, Entry, Injector, Messages, Mode, Next, Pick, Reattach, Request, Response, Result, Tunnel, Upgrade,
};
use crate::config::{HookEntry, Problem};
use crate::metrics::HookMetrics;
pub use carry::{Packed, Saved};
pub(super) use guard::caught;
pub use guard::{Failure, FailureKind};
use guard::{Fragile, Identity};

/// The hooks of one route. Requests and tunnels hold the chain for as long as they last: a reload drops it with its
/// last user.
pub struct Chain {
    pub(super) links: Box<[Link]>,
    messages: Messages,
}

/// One hook of a chain.
pub(super) struct Link {
    pub(super) identity: Arc<Identity>,
    pub(super) hook: Fragile<Arc<dyn Erased>>,
    timeout: Duration,
    /// Answer of [`Hook::messages`](super::Hook::messages).
    messages: Messages,
}

/// Contexts of one request or tunnel, one for each hook of a chain.
///
/// A hook without a context is not called: its context could not be made.
pub struct Contexts(pub(super) Box<[Option<Fragile<Box<Context>>>]>);

impl Chain {
    /// The chain of a route without hooks.
    pub fn empty() -> Self {
        Self { links: Box::default(), messages: Messages::NONE }
    }

    /// Makes the hooks that `entries` name. `previous` is the chain that the route had before, for
    /// [`Setup::previous`](super::Setup::previous).
    ///
    /// # Errors
    /// Every problem of every entry.
    pub fn build(
        entries: &[HookEntry],
        route: &str,
        registry: &HookRegistry,
        previous: Option<&Self>,
        metrics: impl Fn(&str) -> Arc<HookMetrics>,
    ) -> Result<Self, Vec<Problem>> {
        let mut links = Vec::with_capacity(entries.len());
        let at: Arc<str> = route.into();
        let mut problems = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let nth = entries[..index].iter().filter(|before| before.name == entry.name).count();
            let previous = previous.and_then(|chain| chain.named(&entry.name).nth(nth));
            let previous = previous.map(|link| Arc::clone(&*link.hook));
            let instance = HookInstance { name: &entry.name, route, checking: false };
            let identity =
                Identity { name: entry.name.as_str().into(), route: Arc::clone(&at), metrics: metrics(&entry.name) };
            let made = registry.make(&instance, &entry.settings, previous);
            match made.and_then(|hook| Link::new(hook, Arc::new(identity), entry)) {
                Ok(link) => links.push(link),
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
        self.links.iter().filter(move |link| &*link.identity.name == name)
    }

    /// Returns true for a route without hooks.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Names of the hooks, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|link| &*link.identity.name)
    }

    /// Messages that any of the hooks sees: [`Mode::Async`] in a direction where one of them may wait.
    pub fn messages(&self) -> Messages {
        self.messages
    }

    /// Tells the hooks that their configuration is in force.
    pub fn start(&self, injector: &Injector) {
        for link in &self.links {
            // Logged and counted by the guard; a hook that did not start is asked all the same.
            let _ = link.guard_sync(Phase::Start, || {
                Arc::clone(&*link.hook).start(injector);
                Ok(())
            });
        }
    }

    /// Fresh contexts, one for each hook.
    ///
    /// # Errors
    /// The failure of a hook whose context cannot be made.
    pub fn contexts(&self) -> Result<Contexts, Failure> {
        let contexts: Result<_, _> = self.links.iter().map(|link| link.context().map(Some)).collect();
        Ok(Contexts(contexts?))
    }

    /// No contexts. With them no hook is called.
    pub fn no_contexts(&self) -> Contexts {
        Contexts(self.links.iter().map(|_| None).collect())
    }

    /// The hooks that have a context, each with its own, in order.
    fn asked<'c>(&'c self, contexts: &'c mut Contexts) -> impl DoubleEndedIterator<Item = (&'c Link, &'c mut Context)> {
        let pairs = self.links.iter().zip(&mut contexts.0);
        pairs.filter_map(|(link, context)| context.as_mut().map(|context| (link, &mut ***context)))
    }

    /// Logs and counts a hook's request that the gateway cannot carry out.
    pub fn failed(&self, hook: &str, phase: Phase, why: String) -> Option<Failure> {
        self.named(hook).next().map(|link| link.failed(phase, FailureKind::Error(why)))
    }

    /// Calls [`Hook::on_request`](super::Hook::on_request), in order, until one answers.
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_request(&self, request: &mut Request<'_>, contexts: &mut Contexts) -> Result<Next, Failure> {
        for (link, context) in self.asked(contexts) {
            let next = link.guard(Phase::Request, || link.hook.on_request(request, context)).await?;
            request.called(&link.identity.name);
            match next {
                Next::Continue => {}
                answer @ Next::Answer(_) => {
                    link.verdict(Phase::Request, "answer");
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
        for (link, context) in self.asked(contexts) {
            let next = link.guard(Phase::Upgrade, || link.hook.on_upgrade(upgrade, context)).await?;
            if let Some(wrong) = upgrade.limits.out_of_bounds() {
                let why = format!("it set a limit that no tunnel can have: {wrong}");
                return Err(link.failed(Phase::Upgrade, FailureKind::Error(why)));
            }
            upgrade.request.called(&link.identity.name);
            match next {
                Next::Continue => {}
                answer @ Next::Answer(_) => {
                    link.verdict(Phase::Upgrade, "answer");
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
        for (link, context) in self.asked(contexts) {
            if link.guard(Phase::Pick, || link.hook.on_pick(backend, context)).await? == Pick::Veto {
                link.verdict(Phase::Pick, "veto");
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
        for (link, context) in self.asked(contexts).rev() {
            link.guard(Phase::Response, || link.hook.on_response(response, context)).await?;
        }
        Ok(())
    }

    /// Calls [`Hook::on_open`](super::Hook::on_open), in order.
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_open(&self, tunnel: &Tunnel, contexts: &mut Contexts) -> Result<(), Failure> {
        for (link, context) in self.asked(contexts) {
            link.guard(Phase::Open, || link.hook.on_open(tunnel, context)).await?;
        }
        Ok(())
    }

    /// Calls [`Hook::on_reattach`](super::Hook::on_reattach), in order, until one refuses.
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_reattach(
        &self,
        tunnel: &Tunnel,
        reattach: &mut Reattach,
        contexts: &mut Contexts,
    ) -> Result<(), Failure> {
        for (link, context) in self.asked(contexts) {
            link.guard(Phase::Reattach, || link.hook.on_reattach(tunnel, reattach, context)).await?;
            if reattach.refusal().is_some() {
                link.verdict(Phase::Reattach, "refuse");
                break;
            }
        }
        Ok(())
    }

    /// Calls [`Hook::on_close`](super::Hook::on_close) of every hook, in order, even when one fails.
    ///
    /// Returns the failures for tests. They are logged and counted, and the tunnel is gone anyway.
    pub async fn on_close(&self, tunnel: &Tunnel, closed: &Closed, contexts: &mut Contexts) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (link, context) in self.asked(contexts) {
            let told = link.guard(Phase::Close, || link.hook.on_close(tunnel, closed, context).map(Ok).boxed()).await;
            failures.extend(told.err());
        }
        failures
    }

    /// Calls [`Hook::on_log`](super::Hook::on_log) of every hook, in order, even when one fails.
    ///
    /// Returns the failures for tests. They are logged and counted, and the request is over anyway.
    pub fn on_log(&self, entry: &mut Entry<'_>, contexts: &mut Contexts) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (link, context) in self.asked(contexts) {
            let logged = link.guard_sync(Phase::Log, || {
                link.hook.on_log(entry, context);
                Ok(())
            });
            failures.extend(logged.err());
        }
        failures
    }
}

impl Link {
    fn new(hook: Arc<dyn Erased>, identity: Arc<Identity>, entry: &HookEntry) -> Result<Self, Vec<Problem>> {
        let hook = Fragile::new(hook, Arc::clone(&identity));
        let panicked = |said| vec![entry.settings.problem("", format!("the hook `{}` panicked: {said}", entry.name))];
        let messages = caught(|| hook.messages()).map_err(panicked)?;
        Ok(Self { identity, hook, timeout: entry.timeout, messages })
    }

    /// Awaits a call of the hook, within a guard and the hook's time limit.
    pub(super) async fn guard<'c, T>(
        &self,
        phase: Phase,
        call: impl FnOnce() -> BoxFuture<'c, Result<T>>,
    ) -> Result<T, Failure> {
        self.identity.guard(phase, self.timeout, call).await
    }

    /// [`guard`](Self::guard) for a call that does not wait.
    pub(super) fn guard_sync<T>(&self, phase: Phase, call: impl FnOnce() -> Result<T>) -> Result<T, Failure> {
        self.identity.guard_sync(phase, call)
    }

    fn failed(&self, phase: Phase, kind: FailureKind) -> Failure {
        self.identity.failed(phase, kind)
    }

    fn verdict(&self, phase: Phase, verdict: &'static str) {
        self.identity.metrics.verdict(phase.as_str(), verdict);
    }

    /// A fresh context.
    fn context(&self) -> Result<Fragile<Box<Context>>, Failure> {
        self.kept(Phase::Context, || Ok(self.hook.context()))
    }

    /// A context that was packed in another process.
    fn unpacked(&self, packed: &[u8]) -> Result<Fragile<Box<Context>>, Failure> {
        self.kept(Phase::Handover, || self.hook.unpack(packed))
    }

    fn kept(
        &self,
        phase: Phase,
        make: impl FnOnce() -> Result<Box<Context>>,
    ) -> Result<Fragile<Box<Context>>, Failure> {
        let context = self.guard_sync(phase, make)?;
        Ok(Fragile::new(context, Arc::clone(&self.identity)))
    }
}

fn stronger(one: Mode, other: Mode) -> Mode {
    match (one, other) {
        (Mode::Async, _) | (_, Mode::Async) => Mode::Async,
        (Mode::Sync, _) | (_, Mode::Sync) => Mode::Sync,
        (Mode::None, Mode::None) => Mode::None,
    }
}
