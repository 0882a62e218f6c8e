//! Values of `access_log`.

use std::path::PathBuf;

/// `access_log`: one line per request, one when a tunnel opens and one when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `to`: `stdout` (the default) or a file's path.
    pub to: LogTarget,
    /// `format`: `text` (the default) or `json`.
    pub format: LogFormat,
}

/// Target of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file that is appended to, and opened anew on SIGUSR1.
    File(PathBuf),
}

/// Format of access log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { to: LogTarget::Stdout, format: LogFormat::Text }
    }
}
