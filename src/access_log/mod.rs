//! The access log: one line per request, one when a tunnel opens and one when it ends.
//!
//! Lines are handed to one writer thread over a bounded queue, so that a slow disk slows no connection. When the queue
//! is full a line is dropped and counted (`longhaul_access_log_dropped_total`).

mod line;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError};

use prometheus::IntCounter;

use crate::config::{AccessLog as Settings, LogFormat};
pub use line::Line;
use writer::{Output, Writer};

/// A handle to the access log; clones write to the same place.
#[derive(Clone)]
pub struct AccessLog {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    format: LogFormat,
    queue: SyncSender<Entry>,
    dropped: IntCounter,
}

enum Entry {
    Line(String),
    Reopen,
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// An access log that writes nothing.
    pub fn off() -> Self {
        Self { inner: None }
    }

    /// Opens the target and starts the writer thread; `dropped` counts lines that found the queue full.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the thread cannot be started.
    pub fn start(settings: &Settings, dropped: IntCounter) -> io::Result<Self> {
        let output = Output::open(&settings.to)?;
        let (queue, entries) = mpsc::sync_channel(QUEUE_LINES);
        let writer = Writer::new(output, settings.to.clone(), entries);
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { inner: Some(Arc::new(Inner { format: settings.format, queue, dropped })) })
    }

    /// Says whether a target can be written to, without keeping it open.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn probe(settings: &Settings) -> io::Result<()> {
        Output::open(&settings.to).map(drop)
    }

    /// Writes the line that `build` makes; `build` is not called when the log is off.
    pub fn write(&self, build: impl FnOnce() -> Line) {
        let Some(inner) = &self.inner else { return };
        if let Err(TrySendError::Full(_)) = inner.queue.try_send(Entry::Line(build().render(inner.format))) {
            inner.dropped.inc();
        }
    }

    /// Opens the log file anew (after it was rotated); standard output is left as it is.
    pub fn reopen(&self) {
        if let Some(inner) = &self.inner {
            // A writer that is gone has said why already.
            let _ = inner.queue.send(Entry::Reopen);
        }
    }

    /// Returns once every line written so far has reached the target.
    pub fn flush(&self) {
        let Some(inner) = &self.inner else { return };
        let (done, wait) = mpsc::sync_channel(1);
        if inner.queue.send(Entry::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }
}

/// Lines waiting for the writer: at about 400 bytes each, 3 MiB; at 100,000 lines a second, 80 ms of a stalled disk.
const QUEUE_LINES: usize = 8_192;
