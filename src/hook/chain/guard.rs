//! Guards around the code of hooks: calls, and destructors of the values that hooks own.
//!
//! Every call of a hook and every destructor of a hook's value runs in a `catch_unwind` of its own. So a panic never
//! unwinds through the gateway's code, and two panics never meet in one unwinding, which would abort the process.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::BoxFuture;
use log::error;

use super::Phase;
use crate::hook::Result;
use crate::metrics::HookMetrics;

/// Failure of a hook. It has been logged and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The hook's name.
    pub hook: Arc<str>,
    /// Phase of the call.
    pub phase: Phase,
    /// Kind of failure, with its details.
    pub kind: FailureKind,
}

/// Kind of a hook's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The hook returned an error of this text.
    Error(String),
    /// The hook panicked with this message.
    Panic(String),
    /// The call took longer than this, its `timeout`.
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

/// A hook's identity, under which its failures are logged and counted.
pub(in crate::hook) struct Identity {
    pub(in crate::hook) name: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) metrics: Arc<HookMetrics>,
}

impl Identity {
    /// Logs and counts a failure.
    pub(super) fn failed(&self, phase: Phase, kind: FailureKind) -> Failure {
        self.metrics.failure(phase.as_str(), kind.as_str());
        let failure = Failure { hook: Arc::clone(&self.name), phase, kind };
        error!("{failure} (route {})", self.route);
        failure
    }

    /// Makes a call that does not wait. Its error and its panic become a failure.
    pub(super) fn guard_sync<T>(&self, phase: Phase, call: impl FnOnce() -> Result<T>) -> Result<T, Failure> {
        // The error is dropped, and asked for its text, within the guard: both run code of the hook.
        match caught(|| call().map_err(|error| error.to_string())) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failed(phase, FailureKind::Error(error))),
            Err(panic) => Err(self.failed(phase, FailureKind::Panic(panic))),
        }
    }

    /// Makes a call and awaits it, for the time `limit` at the most. An error, a panic and the end of that time become
    /// a failure. A call that is given up, here or by the caller, is dropped within a guard too.
    pub(super) async fn guard<'c, T>(
        self: &Arc<Self>,
        phase: Phase,
        limit: Duration,
        call: impl FnOnce() -> BoxFuture<'c, Result<T>>,
    ) -> Result<T, Failure> {
        let call = caught(call).map_err(|panic| self.failed(phase, FailureKind::Panic(panic)))?;
        let mut call = Fragile::new(call, Arc::clone(self));
        let polled = std::future::poll_fn(|context| {
            let polled = caught(|| call.as_mut().poll(context).map_err(|error| error.to_string()));
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(outcome)) => Poll::Ready(outcome.map_err(FailureKind::Error)),
                Err(panic) => Poll::Ready(Err(FailureKind::Panic(panic))),
            }
        });
        match tokio::time::timeout(limit, polled).await {
            Ok(outcome) => outcome.map_err(|kind| self.failed(phase, kind)),
            Err(_late) => Err(self.gave_up(phase, limit, call.end())),
        }
    }

    /// Logs and counts a call that took longer than `limit`, in one line with the panic of its destructor.
    fn gave_up(&self, phase: Phase, limit: Duration, panic: Option<String>) -> Failure {
        let kind = FailureKind::Timeout(limit);
        let Some(panic) = panic else { return self.failed(phase, kind) };
        self.metrics.failure(phase.as_str(), kind.as_str());
        self.metrics.failure(Phase::Drop.as_str(), FailureKind::Panic(String::new()).as_str());
        let failure = Failure { hook: Arc::clone(&self.name), phase, kind };
        error!("{failure}, and the call panicked when it was dropped: {panic} (route {})", self.route);
        failure
    }
}

/// A value that a hook made, whose destructor may panic: a context, a call, the hook itself.
///
/// Dropping it runs that destructor within a guard. A panic is logged and counted as the hook's.
pub(in crate::hook) struct Fragile<T> {
    /// Taken out by `drop` alone.
    value: Option<T>,
    identity: Arc<Identity>,
}

impl<T> Fragile<T> {
    pub(super) fn new(value: T, identity: Arc<Identity>) -> Self {
        Self { value: Some(value), identity }
    }

    /// Drops the value; returns the message of its destructor's panic instead of logging it.
    fn end(mut self) -> Option<String> {
        let value = self.value.take();
        caught(|| drop(value)).err()
    }
}

impl<T> Deref for Fragile<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(TAKEN_BY_DROP)
    }
}

impl<T> DerefMut for Fragile<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(TAKEN_BY_DROP)
    }
}

impl<T> Drop for Fragile<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if let Err(panic) = caught(|| drop(value)) {
            self.identity.failed(Phase::Drop, FailureKind::Panic(panic));
        }
    }
}

/// Runs code of a hook; a panic becomes its message.
pub(in crate::hook) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(said)
}

/// The message of a panic. A payload that is no text is dropped within a guard, for its destructor may panic too.
fn said(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // Its destructor may panic as well, and so on: it is given up without being run.
        std::mem::forget(another);
    }
    text.unwrap_or_else(|| "something that is no text".to_owned())
}

const TAKEN_BY_DROP: &str = "a value is there until it is dropped";
