//! Calls the hooks of a worker's tunnels: on the worker, and on the runtime once a call waits.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::AbortHandle;

use super::farewells::Farewells;
use crate::hook::{
    self, Chain, Closed, Contexts, Direction, Entry, Failure, Item, Message, Packed, Reattach, TunnelId, Verdict,
};
use crate::ws::deflate::Codec;

/// The hooks of one tunnel, and what they keep of it. One call at a time: whoever calls holds the contexts.
pub(in crate::tunnel) struct Callee {
    pub(super) chain: Arc<Chain>,
    pub(super) tunnel: hook::Tunnel,
    contexts: AsyncMutex<Contexts>,
}

/// Outcome of a call.
#[derive(Debug)]
pub(in crate::tunnel) enum CallOutcome {
    /// Result of [`on_open`](crate::hook::Hook::on_open).
    Opened(Result<(), Failure>),
    /// Verdict on a message, and the message as it was shown.
    Judged(Result<Verdict, Failure>, Message),
    /// Result of [`on_reattach`](crate::hook::Hook::on_reattach), and what hooks made of the change.
    Changed(Result<(), Failure>, Box<Reattach>),
    /// The call ended in a panic of the gateway's own code.
    Lost,
}

/// State of a call after its first poll.
pub(super) enum CallState {
    Done(CallOutcome),
    /// The call goes on on the runtime, and its outcome is reported.
    Waits(AbortHandle),
}

/// Carries out the calls of one worker.
pub(in crate::tunnel) struct Caller {
    runtime: Handle,
    report: Box<ReportOutcome>,
    /// One for all tunnels of the worker: every message is compressed, or restored, as a whole.
    codec: Mutex<Codec>,
    farewells: Farewells,
}

/// Takes what came of a call that waited; called on a thread of the runtime.
pub(in crate::tunnel) type ReportOutcome = dyn Fn(TunnelId, CallOutcome) + Send + Sync;

impl Callee {
    pub(super) fn new(chain: Arc<Chain>, tunnel: hook::Tunnel, contexts: Contexts) -> Self {
        Self { chain, tunnel, contexts: AsyncMutex::new(contexts) }
    }

    /// Asks hooks that do not wait about a message; returns the items that they sent meanwhile too.
    pub(super) fn judge(&self, direction: Direction, message: &Message) -> (Result<Verdict, Failure>, Vec<Item>) {
        let mut contexts = self.contexts.try_lock().expect("the calls of one tunnel follow each other");
        self.tunnel.outbox.collect(|| self.chain.on_message(&self.tunnel, direction, message, &mut contexts))
    }

    /// Contexts packed for another process; `None` when a hook does not pack its own, or is being called.
    pub(super) fn pack(&self) -> Option<Vec<Packed>> {
        self.chain.pack(&*self.contexts.try_lock().ok()?)
    }
}

impl Caller {
    /// Calls that wait go on on `runtime`, and what comes of them is told to `report`.
    pub(in crate::tunnel) fn new(runtime: Handle, farewells: Farewells, report: Box<ReportOutcome>) -> Self {
        Self { runtime, report, codec: Mutex::default(), farewells }
    }

    /// The runtime that calls are carried out on.
    pub(in crate::tunnel) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The worker's codec.
    pub(super) fn codec<T>(&self, work: impl FnOnce(&mut Codec) -> T) -> T {
        // Each use begins with a reset: whatever a panic left behind does not matter.
        work(&mut self.codec.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the hooks that their tunnel is open. Returns the items that they sent at once too.
    pub(super) fn open(self: &Arc<Self>, callee: &Arc<Callee>) -> (CallState, Vec<Item>) {
        let hooks = Arc::clone(callee);
        self.call(&callee.tunnel, async move {
            let mut contexts = hooks.contexts.lock().await;
            CallOutcome::Opened(hooks.chain.on_open(&hooks.tunnel, &mut contexts).await)
        })
    }

    /// Asks hooks that may wait about a message. Returns the items that they sent at once too.
    pub(super) fn judge(
        self: &Arc<Self>,
        callee: &Arc<Callee>,
        direction: Direction,
        message: Message,
    ) -> (CallState, Vec<Item>) {
        let hooks = Arc::clone(callee);
        self.call(&callee.tunnel, async move {
            let mut contexts = hooks.contexts.lock().await;
            let verdict = hooks.chain.on_message_async(&hooks.tunnel, direction, &message, &mut contexts).await;
            drop(contexts);
            CallOutcome::Judged(verdict, message)
        })
    }

    /// Tells the hooks that their tunnel changes its backend. Returns the items that they sent at once too.
    pub(super) fn change(self: &Arc<Self>, callee: &Arc<Callee>, mut change: Reattach) -> (CallState, Vec<Item>) {
        let hooks = Arc::clone(callee);
        self.call(&callee.tunnel, async move {
            let mut contexts = hooks.contexts.lock().await;
            let told = hooks.chain.on_reattach(&hooks.tunnel, &mut change, &mut contexts).await;
            CallOutcome::Changed(told, Box::new(change))
        })
    }

    /// Begins a call. Items that are sent after it has begun to wait come by the worker's mailbox, before its outcome.
    fn call(
        self: &Arc<Self>,
        tunnel: &hook::Tunnel,
        call: impl Future<Output = CallOutcome> + Send + 'static,
    ) -> (CallState, Vec<Item>) {
        let id = tunnel.id;
        let (begun, sent) = tunnel.outbox.collect(|| self.begin(call));
        let begun = match begun {
            Ok(outcome) => CallState::Done(outcome),
            Err(call) => {
                let caller = Arc::clone(self);
                let task = self.runtime.spawn(async move {
                    let outcome = AssertUnwindSafe(call).catch_unwind().await;
                    (caller.report)(id, outcome.unwrap_or(CallOutcome::Lost));
                });
                CallState::Waits(task.abort_handle())
            }
        };
        (begun, sent)
    }

    /// Lets the hooks of an ended tunnel add to its log line, which `log` writes. Then tells them of the end, if they
    /// were `told` that it was open.
    ///
    /// Both wait for a call that was given up: it releases the contexts a moment later.
    pub(in crate::tunnel) fn farewell(
        &self,
        callee: Arc<Callee>,
        closed: Closed,
        told: bool,
        log: impl FnOnce(&[(&'static str, String)]) + Send + 'static,
    ) {
        let counted = self.farewells.begin();
        let words = self.begin(async move {
            let _counted = counted;
            let Callee { chain, tunnel, contexts } = &*callee;
            let mut contexts = contexts.lock().await;
            let mut entry = Entry::new("tunnel_end", &tunnel.request_id, &tunnel.route, SWITCHED, closed.lasted);
            chain.on_log(&mut entry, &mut contexts);
            log(entry.added());
            if told {
                chain.on_close(tunnel, &closed, &mut contexts).await;
            }
        });
        if let Err(words) = words {
            self.runtime.spawn(words);
        }
    }

    /// Polls a call once where it is: what answers at once, as most do, costs no change of threads.
    fn begin<T, F: Future<Output = T> + Send + 'static>(&self, call: F) -> Result<T, Pin<Box<F>>> {
        let mut call = Box::pin(call);
        let _entered = self.runtime.enter();
        // What it waits for is told whom to wake when the task polls it again.
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => Err(call),
        }
    }
}

/// The status that a tunnel opened with.
const SWITCHED: u16 = 101;
