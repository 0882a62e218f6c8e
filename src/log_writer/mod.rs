//! Writes the lines of a log on a thread of its own, so that a slow or stuck target blocks nobody who logs.
//!
//! Lines are appended to a buffer with a bound in bytes. The thread takes the whole buffer and writes it without
//! holding the lock. A line that does not fit is dropped and counted; the number of dropped lines is reported once,
//! when the target takes lines again.
//!
//! A line that comes alone is written at once. Lines right behind a batch are gathered for `GATHER`, so that a busy
//! gateway pays for one wake-up and one write a batch, and not for one a line.

mod output;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

pub use output::Output;

/// The target of a log, owned by the writer thread. Its methods may block.
pub trait Sink: Send + 'static {
    /// Writes whole lines.
    ///
    /// # Errors
    /// The target did not take all of them. The lines are counted as dropped.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Opens the target anew.
    fn reopen(&mut self) {}

    /// Reports that `lines` were dropped since the last report.
    fn dropped(&mut self, lines: u64);

    /// Called at the time that [`LogWriter::alarm`] set; returns the time of the next call.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let _ = now;
        None
    }
}

/// A handle to a log's buffer and its writer thread. Clones share both; the thread ends with the last of them.
#[derive(Clone)]
pub struct LogWriter {
    handle: Arc<Handle>,
}

/// Fate of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFate {
    /// The writer thread will write the line.
    Yes,
    /// The buffer was full: the line is dropped. `first` is true when no other line was dropped since the last report.
    No {
        /// No other line was dropped since the last report.
        first: bool,
    },
}

/// Tells the writer thread to end when the last [`LogWriter`] is dropped.
struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Signals the writer thread that there is something to do.
    work: Condvar,
    /// Signals threads in [`LogWriter::flush`] that a batch was written.
    progress: Condvar,
    /// Bound of `State::pending`, in bytes.
    capacity: usize,
    /// Time for which lines are gathered behind a batch.
    gather: Duration,
    dropped: IntCounter,
}

/// State of the writer thread, for those who may have to wake it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rest {
    /// None: it looks for work by itself before it sleeps.
    #[default]
    None,
    /// Sleep until there is work.
    Idle,
    /// Sleep while lines gather, which only work that does not wait ends early.
    Gathering,
}

#[derive(Default)]
struct State {
    /// Lines not yet taken by the writer thread.
    pending: Vec<u8>,
    /// Number of lines in `pending`.
    lines: u64,
    /// Bytes ever queued.
    queued: u64,
    /// Bytes ever written, or given up after an error of the target.
    written: u64,
    /// Lines dropped since the last report.
    dropped: u64,
    reopen: bool,
    alarm: Option<Instant>,
    /// Somebody waits for the pending lines to be written.
    flush: bool,
    rest: Rest,
    closed: bool,
}

/// Work that the writer thread took out of [`State`].
struct Batch {
    lines: u64,
    dropped: u64,
    reopen: bool,
    alarm: bool,
}

impl LogWriter {
    /// Starts the writer thread. `capacity` bounds the bytes that wait for it (a batch being written comes on top of
    /// that, of at most the same size); `dropped` counts dropped lines.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(name: &str, sink: impl Sink, capacity: usize, dropped: IntCounter) -> io::Result<Self> {
        Self::gathering(name, sink, capacity, dropped, GATHER)
    }

    /// As [`start`](Self::start); lines behind a batch are gathered for `gather`.
    fn gathering(
        name: &str,
        sink: impl Sink,
        capacity: usize,
        dropped: IntCounter,
        gather: Duration,
    ) -> io::Result<Self> {
        let (work, progress) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { state: Mutex::default(), work, progress, capacity, gather, dropped });
        let own = Arc::clone(&shared);
        std::thread::Builder::new().name(name.into()).spawn(move || own.run(sink))?;
        Ok(Self { handle: Arc::new(Handle { shared }) })
    }

    /// Queues a line, which ends with a line feed. Never blocks on the target.
    pub fn write(&self, line: &[u8]) -> LineFate {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        if state.pending.len() + line.len() > shared.capacity {
            let first = state.dropped == 0;
            state.dropped += 1;
            shared.dropped.inc();
            return LineFate::No { first };
        }
        state.pending.extend_from_slice(line);
        state.lines += 1;
        state.queued += line.len() as u64;
        shared.wake(state);
        LineFate::Yes
    }

    /// Sets the time of the next call of [`Sink::due`]. An earlier alarm stays.
    pub fn alarm(&self, at: Instant) {
        let mut state = self.handle.shared.lock();
        state.alarm = Some(state.alarm.map_or(at, |set| set.min(at)));
        self.handle.shared.wake(state);
    }

    /// Asks the writer thread to open the target anew, after the lines that are queued now. Returns at once.
    pub fn reopen(&self) {
        let mut state = self.handle.shared.lock();
        state.reopen = true;
        self.handle.shared.wake(state);
    }

    /// Waits until the lines queued so far are written, for the time `within` at the most; returns whether they are.
    pub fn flush(&self, within: Duration) -> bool {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        let until = state.queued;
        if state.written < until {
            state.flush = true;
            shared.wake(state);
            state = shared.lock();
        }
        let waited = shared.progress.wait_timeout_while(state, within, |state| state.written < until);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.written >= until
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.wake(state);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of ours can panic between two consistent states.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer thread where it sleeps and should not: a busy one looks by itself, and the system call is
    /// saved.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wakes = match state.rest {
            Rest::None => false,
            Rest::Idle => true,
            Rest::Gathering => self.is_urgent(&state),
        };
        if wakes {
            state.rest = Rest::None;
        }
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Work that does not wait until more has gathered: somebody waits for it, or the buffer is half full.
    fn is_urgent(&self, state: &State) -> bool {
        let is_due = state.alarm.is_some_and(|at| at <= Instant::now());
        state.flush || state.reopen || state.closed || is_due || state.pending.len() >= self.capacity / 2
    }

    /// The writer thread: writes until every handle is gone.
    fn run(&self, mut sink: impl Sink) {
        let (mut bytes, mut gathered) = (Vec::new(), Instant::now());
        while let Some(batch) = self.next(&mut bytes, gathered) {
            gathered = Instant::now() + self.gather;
            if !bytes.is_empty() && sink.write(&bytes).is_err() {
                self.dropped.inc_by(batch.lines);
            }
            self.lock().written += bytes.len() as u64;
            self.progress.notify_all();
            bytes.clear();
            bytes.shrink_to(KEPT_CAPACITY);
            if batch.reopen {
                sink.reopen();
            }
            if batch.dropped > 0 {
                sink.dropped(batch.dropped);
            }
            let next = if batch.alarm { sink.due(Instant::now()) } else { None };
            if let Some(next) = next {
                let mut state = self.lock();
                state.alarm = Some(state.alarm.map_or(next, |set| set.min(next)));
            }
        }
    }

    /// Waits for work and takes it, not before `gathered` where it can wait; the pending lines are swapped into
    /// `bytes`. `None` once every handle is gone and every line was taken.
    fn next(&self, bytes: &mut Vec<u8>, gathered: Instant) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let alarm = state.alarm.is_some_and(|at| at <= now);
            // Whoever waits for a batch that is written by now waits for none of the lines to come.
            state.flush &= !state.pending.is_empty();
            let is_work = !state.pending.is_empty() || state.dropped > 0 || state.reopen || alarm;
            if is_work && (now >= gathered || self.is_urgent(&state)) {
                return Some(state.take(bytes, alarm));
            }
            if state.closed {
                return None;
            }
            let until = if is_work { Some(state.alarm.map_or(gathered, |at| at.min(gathered))) } else { state.alarm };
            state.rest = if is_work { Rest::Gathering } else { Rest::Idle };
            state = match until.map(|at| at.saturating_duration_since(now)) {
                Some(left) => self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.rest = Rest::None;
        }
    }
}

impl State {
    /// Takes all the work there is; the pending lines are swapped into `bytes`.
    fn take(&mut self, bytes: &mut Vec<u8>, alarm: bool) -> Batch {
        std::mem::swap(&mut self.pending, bytes);
        self.flush = false;
        if alarm {
            self.alarm = None;
        }
        Batch {
            lines: std::mem::take(&mut self.lines),
            dropped: std::mem::take(&mut self.dropped),
            reopen: std::mem::take(&mut self.reopen),
            alarm,
        }
    }
}

/// Time for which lines gather behind a batch. Nobody who reads a log notices it, and a hundred batches a second cost
/// next to nothing.
const GATHER: Duration = Duration::from_millis(10);
/// Buffer space kept between two batches; more is given back to the allocator.
const KEPT_CAPACITY: usize = 64 * 1024;
