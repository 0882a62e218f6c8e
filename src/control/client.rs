//! The other end of the control socket: a small blocking client for the command line.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::protocol::{Reply, Request};

/// A gateway cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers at the path.
    #[error("no gateway answers at {}: {error}{}", path.display(), hint(error))]
    Unreachable {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the gateway ended before it answered: {0}")]
    Broken(io::Error),
    /// What came is not a reply.
    #[error("the gateway's answer is not understood: {0}")]
    Foreign(String),
}

/// A request under way.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects and asks.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`]
    pub fn ask(path: &Path, request: &Request) -> Result<Self, ClientError> {
        let unreachable = |error| ClientError::Unreachable { path: path.to_owned(), error };
        let mut stream = UnixStream::connect(path).map_err(unreachable)?;
        // A gateway that refuses may do so before it has read all; its answer is there then.
        let _ = stream.write_all(request.to_line().as_bytes());
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Waits for the next line of the answer.
    ///
    /// # Errors
    /// [`ClientError::Broken`] also after the last one, [`ClientError::Foreign`]
    pub fn next_reply(&mut self) -> Result<Reply, ClientError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_str(&line).map_err(|error| ClientError::Foreign(error.to_string())),
            Err(error) => Err(ClientError::Broken(error)),
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
