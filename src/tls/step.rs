//! Steps of TLS handshakes beside a worker: another thread carries them out, and open tunnels do not wait for them.
//!
//! A signature by an RSA key takes as long as hundreds of messages. The thread runs while its worker sleeps, and gives
//! way to it at once (`SCHED_IDLE`).

use std::cell::OnceCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Poll, Waker};

use log::warn;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

use super::Sealed;

/// A step of a handshake under way. Dropped, it is not begun any more.
pub struct HandshakeStep {
    shared: Arc<Shared>,
    begun: Arc<AtomicU64>,
    /// Steps that had been begun at the last look.
    seen: u64,
}

/// A session, and bytes that it is to open.
pub struct ToOpen {
    /// The session.
    pub sealed: Sealed,
    /// Bytes that came.
    pub cipher: Vec<u8>,
}

/// A session after a step.
pub struct StepOutcome {
    /// The session, with what is to be sent now, after an error as well.
    pub sealed: Sealed,
    /// Plaintext that came with the step.
    pub plain: Vec<u8>,
    /// Outcome of [`Sealed::open`].
    pub opened: Result<(), rustls::Error>,
}

/// The way to the thread beside this one.
struct Beside {
    steps: Sender<Weak<Shared>>,
    /// Steps that it has begun.
    begun: Arc<AtomicU64>,
}

struct Shared {
    state: Mutex<State>,
    waker: Waker,
}

enum State {
    Waits(Box<ToOpen>),
    UnderWay,
    Done(Box<StepOutcome>),
    /// The outcome was taken, or there is none because the step panicked.
    Over,
}

impl ToOpen {
    /// Carries the step out on this thread.
    pub fn open(self) -> StepOutcome {
        let Self { mut sealed, cipher } = self;
        let mut plain = Vec::new();
        let opened = sealed.open(&cipher, &mut plain);
        StepOutcome { sealed, plain, opened }
    }
}

impl HandshakeStep {
    /// Gives a step to the thread beside this one, to be carried out. `waker` is called at its end.
    ///
    /// # Errors
    /// No such thread could be started: the step is given back.
    pub fn begin(to_open: Box<ToOpen>, waker: Waker) -> Result<Self, Box<ToOpen>> {
        BESIDE.with(|beside| match beside.get_or_init(Beside::start) {
            Some(Beside { steps, begun }) => {
                let step = Self::new(to_open, waker, Arc::clone(begun));
                // A thread that has ended begins nothing: the step is taken back in the end.
                let _ = steps.send(Arc::downgrade(&step.shared));
                Ok(step)
            }
            None => Err(to_open),
        })
    }

    fn new(to_open: Box<ToOpen>, waker: Waker, begun: Arc<AtomicU64>) -> Self {
        let shared = Arc::new(Shared { state: Mutex::new(State::Waits(to_open)), waker });
        Self { shared, seen: begun.load(Relaxed), begun }
    }

    /// Outcome of the step; pending until the waker is called.
    ///
    /// # Errors
    /// The step panicked.
    pub fn poll(&self) -> Poll<io::Result<StepOutcome>> {
        let Some(mut state) = self.shared.try_lock() else { return Poll::Pending };
        match std::mem::replace(&mut *state, State::Over) {
            State::Done(outcome) => Poll::Ready(Ok(*outcome)),
            State::Over => Poll::Ready(Err(io::Error::other("a step of a handshake panicked"))),
            under_way => {
                *state = under_way;
                Poll::Pending
            }
        }
    }

    /// Takes the step back if the thread beside this one has begun no step at all since the last call, or since this
    /// one was given to it.
    pub fn take_back_if_stuck(&mut self) -> Option<Box<ToOpen>> {
        let begun = self.begun.load(Relaxed);
        if std::mem::replace(&mut self.seen, begun) == begun { self.shared.try_lock().and_then(take) } else { None }
    }
}

impl Shared {
    /// Locks the state, unless the other thread has locked it. A worker must not wait for a thread that gives way to
    /// all others; that thread wakes it when it is done.
    fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a step that has not been begun.
fn take(mut state: MutexGuard<'_, State>) -> Option<Box<ToOpen>> {
    match std::mem::replace(&mut *state, State::UnderWay) {
        State::Waits(to_open) => Some(to_open),
        other => {
            *state = other;
            None
        }
    }
}

thread_local! {
    /// The thread beside this one, which ends with it; `None` where none could be started.
    static BESIDE: OnceCell<Option<Beside>> = const { OnceCell::new() };
}

impl Beside {
    fn start() -> Option<Self> {
        let (sender, steps) = channel();
        let begun = Arc::<AtomicU64>::default();
        let count = Arc::clone(&begun);
        let name = format!("{}-tls", std::thread::current().name().unwrap_or("handshakes"));
        let work = move || {
            give_way();
            carry_out(&steps, &count);
        };
        match std::thread::Builder::new().name(name).spawn(work) {
            Ok(_) => Some(Self { steps: sender, begun }),
            Err(error) => {
                warn!("open tunnels wait for TLS handshakes: no thread could be started for these: {error}");
                None
            }
        }
    }
}

/// Lets this thread run only while nothing else wants to.
fn give_way() {
    // The kernel does not interrupt a thread of less `nice` before its slice is over, which is longer than a step.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
        warn!("open tunnels may wait for TLS handshakes, whose thread does not give way to them: {error}");
    }
}

fn carry_out(steps: &Receiver<Weak<Shared>>, begun: &AtomicU64) {
    while let Ok(step) = steps.recv() {
        let Some(shared) = step.upgrade() else { continue };
        let Some(to_open) = take(shared.lock()) else { continue };
        begun.fetch_add(1, Relaxed);
        let done = catch_unwind(AssertUnwindSafe(|| to_open.open()));
        *shared.lock() = done.map_or(State::Over, |outcome| State::Done(Box::new(outcome)));
        shared.waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests;
