//! Why a backend was not reached, or did not answer.

use std::io;

use crate::http1::HeadError;
use crate::metrics::LocalFailure;
use crate::tls::client::{TlsFailure, TlsFailureKind};

/// Why there is no connection to a backend.
///
/// Its text is the word that logs have for it, and the system's own words where there are any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens at the address.
    #[error("ConnectRefused: {0}")]
    Refused(String),
    /// Nothing came back in time.
    #[error("ConnectTimedout")]
    TimedOut,
    /// No route leads to the host or its network.
    #[error("ConnectNoRoute: {0}")]
    Unreachable(String),
    /// The backend was reached, and TLS with it failed.
    #[error(transparent)]
    Tls(TlsFailure),
    /// Another error of the system's, such as a firewall of this host's own that forbids the connection.
    #[error("ConnectError: {0}")]
    Other(String),
}

/// Why a backend that was connected to gave no final answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The request was not taken in time.
    #[error("WriteTimedout")]
    WriteTimedOut,
    /// The connection failed while the request was written.
    #[error("WriteError: {0}")]
    Write(String),
    /// No head of an answer came in time.
    #[error("ReadTimedout")]
    ReadTimedOut,
    /// The connection failed before the head of the answer was complete.
    #[error("ReadError: {0}")]
    Read(String),
    /// The connection ended before the head of the answer was complete.
    #[error("ConnectionClosed")]
    Closed,
    /// The head of the answer is not one of HTTP/1, or a longer one than is read.
    #[error("InvalidHTTPHeader: {0}")]
    Head(#[from] HeadError),
}

/// Why a try at a backend failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryError {
    /// The gateway itself was short of something. That is no word about the backend.
    #[error("{1}")]
    Local(LocalFailure, String),
    /// There is no connection, so nothing was sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The request was sent, at least in part.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl TryError {
    /// The error of a connection that was not established.
    pub fn connect(error: io::Error) -> Self {
        Self::below(&error).unwrap_or_else(|| ConnectError::from(error).into())
    }

    /// The error of a step that came to nothing for a reason that is neither the request's nor the answer's: a shortage
    /// of the gateway's own, or TLS. In TLS 1.3 a backend that does not like the gateway's certificate says so only
    /// after the handshake.
    pub(super) fn below(error: &io::Error) -> Option<Self> {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(ConnectError::Tls(error.into()).into());
        }
        LocalFailure::of(error).map(|shortage| Self::Local(shortage, error.to_string()))
    }

    /// The kind of failure where TLS is what failed.
    pub fn tls(&self) -> Option<TlsFailureKind> {
        match self {
            Self::Connect(ConnectError::Tls(failed)) => Some(failed.failure),
            _ => None,
        }
    }

    /// Tells if a time limit ended the try.
    pub fn is_timeout(&self) -> bool {
        use ExchangeError::{ReadTimedOut, WriteTimedOut};
        matches!(self, Self::Connect(ConnectError::TimedOut) | Self::Exchange(WriteTimedOut | ReadTimedOut))
    }
}

impl From<io::Error> for ConnectError {
    /// The error of a connection that was not established; shortages of the gateway's own are sorted out before.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused(error.to_string()),
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl ExchangeError {
    pub(super) fn write(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::WriteTimedOut,
            _ => Self::Write(error.to_string()),
        }
    }

    pub(super) fn read(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::ReadTimedOut,
            _ => Self::Read(error.to_string()),
        }
    }
}
