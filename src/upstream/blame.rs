//! Blame: the party that a failed try of real traffic is charged to.
//!
//! Three books are kept and never mixed: the backend's, the gateway's own and the client's.

use std::io;
use std::net::IpAddr;

use crate::metrics::LocalFailure;

/// One try at a backend, for one client, that failed.
#[derive(Clone, Copy, Debug)]
pub struct FailedTry<'a> {
    /// The party that the failure is charged to.
    pub blame: Blame,
    /// Address of the client whose request was tried.
    pub client: IpAddr,
    /// The try was to decide whether an ejected backend is back.
    pub on_trial: bool,
    /// Text for the log: the step that failed, and the system's word on it.
    pub reason: &'a str,
}

/// The party that a failed try is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The backend.
    Backend(FailedStep),
    /// The gateway, which was short of something.
    Gateway(LocalFailure),
    /// The client: nobody else's requests fail in this way, and no backend is charged.
    Client,
}

/// The step of a try at which a backend failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailedStep {
    /// The connection to the backend. No client can cause that by its choice of a request.
    Connect,
    /// A WebSocket handshake, after the request was sent.
    Handshake,
    /// A plain request, after it was sent.
    Request,
}

impl Blame {
    /// Charges an I/O error at this step: to the gateway where it was short of something, else to the backend.
    pub fn of(step: FailedStep, error: &io::Error) -> Self {
        LocalFailure::of(error).map_or(Self::Backend(step), Self::Gateway)
    }
}

impl FailedStep {
    /// The `kind` label of metrics, and the word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Request => "request",
        }
    }
}
