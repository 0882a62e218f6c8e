//! Diagnostics: the lines of `log` on standard error, of Longhaul, Pingora and hooks alike.
//!
//! Until [`start`](Diagnostics::start) they are written where they are logged, which is what commands need. A gateway
//! then gives them to a thread of their own: a reader of standard error that is stuck blocks no worker. From then on
//! warnings and errors that repeat are limited.

mod limit;
mod panics;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use env_logger::{Env, Target, WriteStyle};
use log::{Level, Log, Metadata, Record, warn};
use prometheus::IntCounter;
use prometheus::core::Collector;

use crate::counted::counted;
use crate::log_writer::{LogWriter, Output, Sink};
use limit::{Budgets, HeldBack, LineDecision};

/// A handle to the process's diagnostics. Clones are the same.
#[derive(Clone)]
pub struct Diagnostics {
    shared: Arc<Shared>,
}

struct Shared {
    /// Filters by `RUST_LOG` and formats.
    lines: env_logger::Logger,
    /// Set when the writer thread has started.
    writer: Arc<OnceLock<LogWriter>>,
    limiter: Mutex<Budgets>,
    dropped: IntCounter,
    held_back: IntCounter,
}

/// The logger's target: the writer thread, or standard error as long as there is none.
struct Outlet(Arc<OnceLock<LogWriter>>);

/// Standard error, at the writer thread's end.
struct StandardError {
    output: Output,
    shared: Arc<Shared>,
}

impl Diagnostics {
    /// Makes this the process's logger. `RUST_LOG` says what is logged, and `RUST_LOG_STYLE` whether in colours.
    ///
    /// A program that set a logger of its own before keeps it: `None`.
    pub fn install() -> Option<Self> {
        let writer = Arc::new(OnceLock::new());
        let mut builder = env_logger::Builder::new();
        // Only standard error itself, not a pipe to it, is found to be a terminal by `auto`.
        builder.write_style(anstream_style());
        builder.parse_env(Env::default().default_filter_or(FILTER)).format_timestamp_millis();
        builder.target(Target::Pipe(Box::new(Outlet(Arc::clone(&writer)))));
        let shared = Arc::new(Shared {
            lines: builder.build(),
            writer,
            limiter: Mutex::default(),
            dropped: counter("longhaul_diagnostics_dropped_total", "Lines of diagnostics dropped for a full buffer."),
            held_back: counter("longhaul_diagnostics_held_back_total", "Warnings and errors held back as repetitions."),
        });
        let logger = Self { shared };
        log::set_boxed_logger(Box::new(logger.clone())).ok()?;
        log::set_max_level(logger.shared.lines.filter());
        Some(logger)
    }

    /// Starts the writer thread, and reports panics by it. A process that forks calls this after the fork.
    ///
    /// # Errors
    /// Standard error cannot be duplicated, or the thread cannot be started. Lines are written as before then.
    pub fn start(&self) -> io::Result<()> {
        if self.shared.writer.get().is_some() {
            return Ok(());
        }
        let sink = StandardError { output: Output::stderr()?, shared: Arc::clone(&self.shared) };
        let writer = LogWriter::start("diagnostics", sink, CAPACITY, self.shared.dropped.clone())?;
        // Only the thread that starts the process calls this.
        let _ = self.shared.writer.set(writer);
        panics::report();
        Ok(())
    }

    /// The counters of lines that were dropped and held back, for a registry.
    pub fn counters(&self) -> [Box<dyn Collector>; 2] {
        [Box::new(self.shared.dropped.clone()), Box::new(self.shared.held_back.clone())]
    }
}

impl Log for Diagnostics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.shared.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.shared.lines.matches(record) && self.shared.admits(record) {
            self.shared.lines.log(record);
        }
    }

    /// Waits until the lines logged so far are written, for a second at the most.
    fn flush(&self) {
        if let Some(writer) = self.shared.writer.get() {
            writer.flush(FLUSH_WITHIN);
        }
    }
}

impl Shared {
    /// Says whether a line is to be written, and counts it if it is held back.
    fn admits(&self, record: &Record<'_>) -> bool {
        let Some(writer) = self.writer.get().filter(|_| record.level() <= Level::Warn) else { return true };
        let hashing = self.limiter().hashing();
        let kind = limit::kind_of(record, &hashing);
        let admission = self.limiter().admit(kind, record, Instant::now());
        match admission {
            LineDecision::Pass => return true,
            LineDecision::HeldBackFirst { until } => {
                let text = record.args().to_string();
                self.limiter().describe(kind, &text);
                writer.alarm(until);
            }
            LineDecision::HeldBack => {}
        }
        self.held_back.inc();
        false
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, Budgets> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summarize(&self, held_back: &HeldBack) {
        let HeldBack { count, level, target, text } = held_back;
        let seconds = limit::WINDOW.as_secs();
        self.lines.log(
            &Record::builder()
                .level(*level)
                .target(target)
                .args(format_args!("{count} more like this within {seconds}s: {text}"))
                .build(),
        );
    }
}

impl Write for Outlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.get() {
            Some(writer) => drop(writer.write(line)),
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for StandardError {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.output.write_all(lines)
    }

    fn dropped(&mut self, lines: u64) {
        warn!("diagnostics lost {}: the reader of standard error was too slow", counted(lines, "line"));
    }

    fn due(&mut self, now: Instant) -> Option<Instant> {
        let (due, next) = self.shared.limiter().summaries(now);
        due.iter().for_each(|held_back| self.shared.summarize(held_back));
        next
    }
}

/// Colours where standard error is a terminal that shows them.
fn anstream_style() -> WriteStyle {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
        || std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if !plain && io::IsTerminal::is_terminal(&io::stderr()) { WriteStyle::Always } else { WriteStyle::Never }
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("names of metrics are constants that follow Prometheus's rules")
}

/// Default of `RUST_LOG`.
const FILTER: &str = "warn,longhaul=info";
/// Bytes of lines that wait for the writer thread: about 6,000 lines.
const CAPACITY: usize = 1024 * 1024;
/// Time that the end of the process may take for a slow reader.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
