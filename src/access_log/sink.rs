//! Standard output or a file, as the target of the access log.

use std::io;
use std::path::PathBuf;

use log::{error, info, warn};

use crate::config::LogTarget;
use crate::counted::counted;
use crate::log_writer::{Output, Sink};

pub(super) struct LogSink {
    output: Output,
    /// The file that is opened anew after a rotation; `None` for standard output.
    file: Option<PathBuf>,
    /// The last write failed. A failing disk is reported once, not once a batch.
    failing: bool,
}

impl LogSink {
    /// Opens the target.
    pub(super) fn open(to: &LogTarget) -> io::Result<Self> {
        let (output, file) = match to {
            LogTarget::Stdout => (Output::stdout()?, None),
            LogTarget::File(path) => (Output::file(path)?, Some(path.clone())),
        };
        Ok(Self { output, file, failing: false })
    }
}

impl Sink for LogSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.output.write_all(lines);
        match &written {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                error!("access log cannot be written, lines are lost: {error}");
            }
            Err(_) => {}
        }
        written
    }

    fn reopen(&mut self) {
        let Some(path) = &self.file else { return };
        match Output::file(path) {
            Ok(output) => {
                info!("access log {} opened anew", path.display());
                self.output = output;
                self.failing = false;
            }
            Err(error) => {
                error!("access log {} could not be opened anew, keeping the old file: {error}", path.display());
            }
        }
    }

    fn dropped(&mut self, lines: u64) {
        warn!("access log lost {}: its target was too slow", counted(lines, "line"));
    }
}
