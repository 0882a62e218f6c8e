//! What is said on the control socket: one request, then replies, each a line of JSON.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::status::Status;
use crate::drain::Progress;

/// The version of the protocol. A gateway answers requests of its own version only.
pub const VERSION: u32 = 1;

/// What a gateway is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// How it is.
    Status,
    /// To read its configuration file anew.
    Reload,
    /// What a reload of another configuration would change.
    Plan {
        /// The configuration's name in messages.
        file: String,
        /// The configuration.
        text: String,
    },
    /// To hand everything over to a new process and to end.
    Upgrade {
        /// The new process's program; the one that runs now where left out.
        #[serde(default)]
        binary: Option<PathBuf>,
    },
    /// To end, gently.
    Drain,
    /// To give a backend nothing new and to close its tunnels.
    DrainBackend {
        /// The name of its upstream.
        upstream: String,
        /// Its address.
        address: SocketAddr,
        /// Milliseconds over which its tunnels are closed; the upstream's `drain_window` where left out.
        #[serde(default)]
        over_ms: Option<u64>,
        /// To give it its share again instead.
        #[serde(default)]
        undo: bool,
    },
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// How far the command is; more follows.
    Progress(Progress),
    /// How the gateway is.
    Status(Box<Status>),
    /// The command was carried out.
    Done(Done),
    /// The command was not carried out, or not wholly.
    Failed(Failed),
}

/// A command that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// What there is to say to a person.
    pub message: String,
    /// The same for a program, where there is more to it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

/// A command that was not carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// What kind of failure it is.
    pub failure: Failure,
    /// What there is to say to a person.
    pub message: String,
    /// The same for a program, where there is more to it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The request is not one.
    BadRequest,
    /// The request is of another version of the protocol.
    WrongVersion,
    /// The gateway does not listen to this user, or not now.
    Refused,
    /// This gateway does not know how.
    NotAvailable,
    /// A configuration has problems, or an argument names nothing there is.
    WrongConfiguration,
    /// It was tried.
    Failed,
}

impl Request {
    /// The line that asks for it.
    pub fn to_line(&self) -> String {
        let envelope = Envelope { version: VERSION, request: self };
        let mut line = serde_json::to_string(&envelope).expect("a request is made of text and numbers alone");
        line.push('\n');
        line
    }

    /// Reads a line.
    ///
    /// # Errors
    /// The reply that says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        let bad = |error: serde_json::Error| Reply::failed(Failure::BadRequest, format!("not a request: {error}"));
        let Version { version } = serde_json::from_slice(line).map_err(bad)?;
        if version != VERSION {
            let message = format!(
                "this gateway speaks version {VERSION} of the control protocol, and was asked in version {version}"
            );
            return Err(Reply::failed(Failure::WrongVersion, message));
        }
        serde_json::from_slice(line).map_err(bad)
    }
}

impl Reply {
    /// A reply that says that a command was carried out.
    pub fn done(message: impl Into<String>) -> Self {
        Self::Done(Done { message: message.into(), details: Value::Null })
    }

    /// A reply that says that a command was not carried out.
    pub fn failed(failure: Failure, message: impl Into<String>) -> Self {
        Self::Failed(Failed { failure, message: message.into(), details: Value::Null })
    }

    /// Whether nothing follows it.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Progress(_))
    }

    /// The line that says it.
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
        let Ok(Request::DrainBackend { over_ms: None, undo: false, .. }) = Request::parse(line) else {
            panic!("{:?}", Request::parse(line));
        };
    }

    #[test]
    fn what_is_no_request_is_answered_with_the_reason() {
        for (line, failure, part) in [
            (&b"GET / HTTP/1.1"[..], Failure::BadRequest, "not a request"),
            (b"{}", Failure::BadRequest, "missing field `version`"),
            (br#"{"version":2,"command":"x"}"#, Failure::WrongVersion, "asked in version 2"),
            (br#"{"version":1}"#, Failure::BadRequest, "missing field `command`"),
            (br#"{"version":1,"command":"dance"}"#, Failure::BadRequest, "unknown variant `dance`"),
        ] {
            let Err(Reply::Failed(failed)) = Request::parse(line) else { panic!("{line:?} was taken") };
            assert_eq!(failed.failure, failure);
            assert!(failed.message.contains(part), "{}", failed.message);
        }
    }
}
