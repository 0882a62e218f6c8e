//! The thread that writes the access log.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, TryRecvError};

use log::{error, info};

use super::Entry;
use crate::config::LogTarget;

/// Where lines go.
pub(super) enum Output {
    Stdout(io::Stdout),
    File(File),
}

impl Output {
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        match target {
            LogTarget::Stdout => Ok(Self::Stdout(io::stdout())),
            LogTarget::File(path) => Ok(Self::File(OpenOptions::new().create(true).append(true).open(path)?)),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

pub(super) struct Writer {
    output: BufWriter<Output>,
    target: LogTarget,
    entries: Receiver<Entry>,
    /// A failing disk is reported once, not once a line.
    failing: bool,
}

impl Writer {
    pub(super) fn new(output: Output, target: LogTarget, entries: Receiver<Entry>) -> Self {
        Self { output: BufWriter::with_capacity(64 * 1024, output), target, entries, failing: false }
    }

    /// Writes until every handle is gone; flushes whenever the queue runs empty.
    pub(super) fn run(mut self) {
        loop {
            let entry = match self.entries.try_recv() {
                Ok(entry) => entry,
                Err(TryRecvError::Empty) => {
                    let flushed = self.output.flush();
                    self.note(flushed);
                    match self.entries.recv() {
                        Ok(entry) => entry,
                        Err(_) => return,
                    }
                }
                Err(TryRecvError::Disconnected) => return,
            };
            self.take(entry);
        }
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Line(line) => {
                let written = self.output.write_all(line.as_bytes());
                self.note(written);
            }
            Entry::Reopen => self.reopen(),
            Entry::Flush(done) => {
                let flushed = self.output.flush();
                self.note(flushed);
                // The asker may have gone; nothing is owed to it then.
                let _ = done.send(());
            }
        }
    }

    fn reopen(&mut self) {
        let LogTarget::File(path) = &self.target else { return };
        let flushed = self.output.flush();
        match Output::open(&self.target) {
            Ok(output) => {
                info!("access log {} opened anew", path.display());
                self.output = BufWriter::with_capacity(64 * 1024, output);
                self.failing = false;
            }
            Err(error) => {
                error!("access log {} could not be opened anew, keeping the old file: {error}", path.display())
            }
        }
        self.note(flushed);
    }

    fn note(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                error!("access log cannot be written, lines are lost: {error}");
            }
            Err(_) => {}
        }
    }
}
