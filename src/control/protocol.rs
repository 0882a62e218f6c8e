//! Messages of the control socket: one request, then replies, each a line of JSON.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::drain::Progress;
use crate::status::Status;

/// Version of the protocol. A gateway answers requests of its own version only.
pub const VERSION: u32 = 1;

/// A request to a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// Tell the status.
    Status,
    /// Read the configuration file anew.
    Reload,
    /// Tell the changes that a reload of another configuration would make.
    Plan {
        /// Name of the configuration in messages.
        file: String,
        /// The configuration itself.
        text: String,
    },
    /// Hand everything over to a new process, then end.
    Upgrade {
        /// Program of the new process; left out: the one that runs now.
        #[serde(default)]
        binary: Option<PathBuf>,
    },
    /// Drain, then end.
    Drain,
    /// Send nothing new to a backend, and close its tunnels.
    DrainBackend {
        /// Name of its upstream.
        upstream: String,
        /// Its address.
        address: SocketAddr,
        /// Milliseconds over which its tunnels are closed; left out: the upstream's `drain_window`.
        #[serde(default)]
        over_ms: Option<u64>,
        /// Ends the drain instead.
        #[serde(default)]
        undo: bool,
        /// Follows a drain that is under way, of which `over_ms` are left, and begins none.
        #[serde(default)]
        follow: bool,
    },
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Progress of the command; more replies follow.
    Progress(Progress),
    /// The status.
    Status(Box<Status>),
    /// The command was carried out.
    Done(Done),
    /// The command was not carried out, or not wholly.
    Failed(Failed),
}

/// A command that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Summary for people.
    pub message: String,
    /// Details for programs; `null` where the summary is all there is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

/// A command that was not carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// Kind of the failure.
    pub failure: FailureKind,
    /// Summary for people.
    pub message: String,
    /// Details for programs; `null` where the summary is all there is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

/// Reasons why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The bytes are not a request.
    BadRequest,
    /// The request has another version of the protocol.
    WrongVersion,
    /// The gateway takes no commands from this user, or not now.
    Refused,
    /// A configuration has problems, or an argument names something that does not exist.
    WrongConfiguration,
    /// The gateway tried and did not succeed.
    Failed,
    /// Another process has taken over, and has to be asked; the details are a [`HandedOver`].
    HandedOver,
}

/// The process that has taken over, for a client that followed a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// Its process id.
    pub pid: u32,
    /// Milliseconds that are left of the command's time.
    pub remaining_ms: u64,
}

impl HandedOver {
    /// The reply with these details.
    pub fn reply(self, message: impl Into<String>) -> Reply {
        let details = serde_json::to_value(self).expect("it is made of numbers alone");
        Reply::Failed(Failed { failure: FailureKind::HandedOver, message: message.into(), details })
    }

    /// The details of such a reply; `None` for any other.
    pub fn of(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Failed(Failed { failure: FailureKind::HandedOver, details, .. }) => Self::deserialize(details).ok(),
            _ => None,
        }
    }
}

impl Request {
    /// The request as a line of JSON.
    pub fn to_line(&self) -> String {
        let envelope = Envelope { version: VERSION, request: self };
        let mut line = serde_json::to_string(&envelope).expect("a request is made of text and numbers alone");
        line.push('\n');
        line
    }

    /// The request by which a client goes on to follow this one in the process that has taken over; `None` where there
    /// is nothing to follow.
    pub fn followed(&self, to: HandedOver) -> Option<Self> {
        match self {
            Self::DrainBackend { upstream, address, undo: false, .. } => Some(Self::DrainBackend {
                upstream: upstream.clone(),
                address: *address,
                over_ms: Some(to.remaining_ms),
                undo: false,
                follow: true,
            }),
            _ => None,
        }
    }

    /// Parses a line.
    ///
    /// # Errors
    /// The reply that names the fault of the line.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        let bad = |error: serde_json::Error| Reply::failed(FailureKind::BadRequest, format!("not a request: {error}"));
        let Version { version } = serde_json::from_slice(line).map_err(bad)?;
        if version != VERSION {
            let message = format!(
                "this gateway speaks version {VERSION} of the control protocol, and was asked in version {version}"
            );
            return Err(Reply::failed(FailureKind::WrongVersion, message));
        }
        serde_json::from_slice(line).map_err(bad)
    }
}

impl Reply {
    /// A reply to a command that was carried out.
    pub fn done(message: impl Into<String>) -> Self {
        Self::Done(Done { message: message.into(), details: Value::Null })
    }

    /// A reply to a command that was not carried out.
    pub fn failed(failure: FailureKind, message: impl Into<String>) -> Self {
        Self::Failed(Failed { failure, message: message.into(), details: Value::Null })
    }

    /// The reply as a line of JSON.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("a reply's maps have text for keys");
        line.push('\n');
        line
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    version: u32,
    #[serde(flatten)]
    request: &'a Request,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_way() {
        let requests = [
            Request::Status,
            Request::Drain,
            Request::Plan { file: "new.yaml".into(), text: "version: 1\n\"ü\"".into() },
            Request::DrainBackend {
                upstream: "chat".into(),
                address: SocketAddr::from(([127, 0, 0, 1], 9001)),
                over_ms: Some(60_000),
                undo: false,
                follow: true,
            },
        ];
        for request in requests {
            let line = request.to_line();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(Request::parse(line.as_bytes()), Ok(request));
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let line = br#"{"version":1,"command":"drain_backend","upstream":"u","address":"127.0.0.1:1"}"#;
        let Ok(Request::DrainBackend { over_ms: None, undo: false, follow: false, .. }) = Request::parse(line) else {
            panic!("{:?}", Request::parse(line));
        };
    }

    #[test]
    fn what_is_no_request_is_answered_with_the_reason() {
        for (line, failure, part) in [
            (&b"GET / HTTP/1.1"[..], FailureKind::BadRequest, "not a request"),
            (b"{}", FailureKind::BadRequest, "missing field `version`"),
            (br#"{"version":2,"command":"x"}"#, FailureKind::WrongVersion, "asked in version 2"),
            (br#"{"version":1}"#, FailureKind::BadRequest, "missing field `command`"),
            (br#"{"version":1,"command":"dance"}"#, FailureKind::BadRequest, "unknown variant `dance`"),
        ] {
            let Err(Reply::Failed(failed)) = Request::parse(line) else { panic!("{line:?} was taken") };
            assert_eq!(failed.failure, failure);
            assert!(failed.message.contains(part), "{}", failed.message);
        }
    }
}
