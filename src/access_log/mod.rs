//! The access log: one line per request, one when a tunnel opens and one when it ends.
//!
//! A thread of its own writes the lines ([`log_writer`](crate::log_writer)): a slow disk slows no connection.
//! When its buffer is full a line is dropped and counted (`longhaul_access_log_dropped_total`).

mod line;
mod sink;

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use prometheus::IntCounter;

use crate::config::{AccessLog as Settings, LogFormat};
use crate::log_writer::{LineFate, LogWriter};
pub use line::LogLine;
use sink::LogSink;

/// A handle to the access log. Clones write to the same target.
#[derive(Clone)]
pub struct AccessLog {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    format: LogFormat,
    writer: LogWriter,
}

impl AccessLog {
    /// An access log that writes nothing.
    pub fn off() -> Self {
        Self { inner: None }
    }

    /// Opens the target and starts the writer thread; `dropped` counts lines that were not written.
    ///
    /// # Errors
    /// The target cannot be opened, or the thread cannot be started.
    pub fn start(settings: &Settings, dropped: IntCounter) -> io::Result<Self> {
        let writer = LogWriter::start("access-log", LogSink::open(&settings.to)?, CAPACITY, dropped)?;
        Ok(Self { inner: Some(Arc::new(Inner { format: settings.format, writer })) })
    }

    /// Checks that a target can be written to, without keeping it open.
    ///
    /// # Errors
    /// The target cannot be opened.
    pub fn probe(settings: &Settings) -> io::Result<()> {
        LogSink::open(&settings.to).map(drop)
    }

    /// Writes a line about `event`, with the fields that `fields` adds; `fields` is not called when the log is off.
    /// Never waits for the target.
    pub fn write(&self, event: &'static str, fields: impl FnOnce(LogLine) -> LogLine) {
        thread_local! {
            /// Room for a line, kept from one to the next.
            static ROOM: Cell<String> = const { Cell::new(String::new()) };
        }
        let Some(inner) = &self.inner else { return };
        let mut line = fields(LogLine::begin(inner.format, event, ROOM.take())).end();
        if inner.writer.write(line.as_bytes()) == (LineFate::No { first: true }) {
            warn!("access log drops lines: its target is too slow");
        }
        line.clear();
        line.shrink_to(KEPT_ROOM);
        ROOM.set(line);
    }

    /// Opens the log file anew (after it was rotated); standard output is left as it is. Returns at once.
    pub fn reopen(&self) {
        if let Some(inner) = &self.inner {
            inner.writer.reopen();
        }
    }

    /// Waits until every line written so far has reached the target, for a second at the most.
    pub fn flush(&self) {
        let Some(inner) = &self.inner else { return };
        if !inner.writer.flush(FLUSH_WITHIN) {
            warn!("access log is not written to its end: its target is too slow");
        }
    }
}

/// Bytes of lines that wait for the writer thread: at 400 bytes a line and 100,000 lines a second, 100 ms of a stalled
/// disk.
const CAPACITY: usize = 4 * 1024 * 1024;
/// Room that a thread keeps for its next line: few are longer.
const KEPT_ROOM: usize = 1024;
/// Time that the end of the process may take for a slow target.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
