//! A blocking client of the control socket, for the command line.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::protocol::{ControlRequest, Reply};

/// Why a gateway gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No gateway listens at the path.
    #[error("no gateway answers at {}: {error}{}", path.display(), hint(error))]
    Unreachable {
        /// Path of the socket.
        path: PathBuf,
        /// The error that the system gave.
        error: io::Error,
    },
    /// The connection ended before the last reply.
    #[error("the gateway ended before it answered: {0}")]
    Broken(io::Error),
    /// The answer is not a reply of this protocol.
    #[error("the gateway's answer is not understood: {0}")]
    Foreign(String),
}

/// A request that was sent, and its answer.
#[derive(Debug)]
pub struct ControlClient {
    stream: BufReader<UnixStream>,
}

impl ControlClient {
    /// Connects and sends the request.
    ///
    /// # Errors
    /// [`ControlError::Unreachable`]
    pub fn ask(path: &Path, request: &ControlRequest) -> Result<Self, ControlError> {
        let unreachable = |error| ControlError::Unreachable { path: path.to_owned(), error };
        let mut stream = UnixStream::connect(path).map_err(unreachable)?;
        // A gateway that refuses may close before it has read all of the request; its answer can be read even so.
        let _ = stream.write_all(request.to_line().as_bytes());
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    /// [`ControlError::Broken`], also after the last reply; [`ControlError::Foreign`].
    pub fn next_reply(&mut self) -> Result<Reply, ControlError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(ControlError::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_str(&line).map_err(|error| ControlError::Foreign(error.to_string())),
            Err(error) => Err(ControlError::Broken(error)),
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            " (is it running? `-c FILE` or `--socket PATH` says where its control socket is)"
        }
        io::ErrorKind::PermissionDenied => " (be the user it runs as, or root)",
        _ => "",
    }
}
