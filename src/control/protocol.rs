//! Messages of the control socket: one request, then replies, each a line of JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::printable;
use crate::discovery::{MembersAction, PushedMember};
use crate::drain::Progress;
use crate::status::{CloseAsked, ListingCounts, LocateAsked, Located, Status, TunnelStatus, TunnelsAsked};

/// Version of the protocol. A gateway answers requests of its own version only.
pub const VERSION: u32 = 1;

/// A request to a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum ControlRequest {
    /// Tell the status.
    Status,
    /// List open tunnels.
    Tunnels(TunnelsAsked),
    /// Close tunnels.
    Close(CloseAsked),
    /// Tell which backend a request would get now.
    Where(LocateAsked),
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
    /// Change the members of an upstream whose members are told.
    Members {
        /// Name of the upstream.
        upstream: String,
        /// The change.
        action: MembersAction,
        /// The members that it is about.
        members: Vec<PushedMember>,
    },
    /// Send nothing new to a backend, and close its tunnels.
    DrainBackend {
        /// Name of its upstream.
        upstream: String,
        /// Its name or its address. The field's name is of the time before backends had names.
        #[serde(rename = "address")]
        backend: String,
        /// Milliseconds over which its tunnels are closed; left out: the upstream's `drain_window`.
        #[serde(default)]
        over_ms: Option<u64>,
        /// Ends the drain instead.
        #[serde(default)]
        undo: bool,
        /// Follows a drain that is under way, of which `over_ms` are left, and begins none.
        #[serde(default)]
        follow: bool,
        /// Tells every gateway that has the members from the same source (`discover: etcd`).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        everywhere: bool,
    },
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Progress of the command; more replies follow.
    Progress(Progress),
    /// Open tunnels; more replies follow.
    Tunnels {
        /// Some of the tunnels asked for.
        tunnels: Vec<TunnelStatus>,
    },
    /// The end of a list of tunnels.
    Listed(ListingCounts),
    /// The way of a request.
    Located(Box<Located>),
    /// The status.
    Status(Box<Status>),
    /// The command was carried out.
    Done(CommandDone),
    /// The command was not carried out, or not wholly.
    Failed(CommandFailed),
}

/// A command that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandDone {
    /// Summary for people.
    pub message: String,
    /// Details for programs; `null` where the summary is all there is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

/// A command that was not carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandFailed {
    /// Kind of the failure.
    pub failure: CommandFailure,
    /// Summary for people.
    pub message: String,
    /// Details for programs; `null` where the summary is all there is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

/// Reasons why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandFailure {
    /// The bytes are not a request.
    BadRequest,
    /// The request has another version of the protocol.
    WrongVersion,
    /// The gateway takes no commands from this user, or not now.
    Refused,
    /// A configuration has problems, or an argument names something that does not exist.
    WrongConfiguration,
    /// An argument has a value that it cannot have.
    WrongArgument,
    /// Nothing was found that the command could be carried out on.
    NotFound,
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
        Reply::Failed(CommandFailed { failure: CommandFailure::HandedOver, message: message.into(), details })
    }

    /// The details of such a reply; `None` for any other.
    pub fn of(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Failed(CommandFailed { failure: CommandFailure::HandedOver, details, .. }) => {
                Self::deserialize(details).ok()
            }
            _ => None,
        }
    }
}

impl ControlRequest {
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
            Self::DrainBackend { upstream, backend, undo: false, everywhere, .. } => Some(Self::DrainBackend {
                everywhere: *everywhere,
                upstream: upstream.clone(),
                backend: backend.clone(),
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
        let bad =
            |error: serde_json::Error| Reply::failed(CommandFailure::BadRequest, format!("not a request: {error}"));
        let Version { version } = serde_json::from_slice(line).map_err(bad)?;
        if version != VERSION {
            let message = format!(
                "this gateway speaks version {VERSION} of the control protocol, and was asked in version {version}"
            );
            return Err(Reply::failed(CommandFailure::WrongVersion, message));
        }
        let mut fields: Value = serde_json::from_slice(line).map_err(bad)?;
        if let Some(fields) = fields.as_object_mut() {
            fields.remove("version");
        }
        serde_json::from_value(fields).map_err(bad)
    }

    /// The change that is asked for, as it is logged; `None` for a request that changes nothing.
    pub fn change(&self) -> Option<String> {
        let shown = match self {
            Self::Status | Self::Tunnels(_) | Self::Where(_) | Self::Plan { .. } => return None,
            Self::Close(asked) if asked.dry_run => return None,
            Self::Close(asked) => serde_json::to_string(&Self::Close(asked.for_logs())),
            Self::Members { upstream, action, members } => {
                let name = |member: &PushedMember| member.identity().map(|name| printable(&name));
                let named: Vec<_> = members.iter().take(NAMED).map(name).collect();
                let upstream = printable(upstream);
                let (command, count) = ("members", members.len());
                serde_json::to_string(&serde_json::json!({
                    "command": command, "upstream": upstream, "action": action, "count": count, "members": named,
                }))
            }
            other => serde_json::to_string(other),
        };
        Some(shown.expect("a request is made of text and numbers alone"))
    }
}

impl Reply {
    /// A reply to a command that was carried out.
    pub fn done(message: impl Into<String>) -> Self {
        Self::Done(CommandDone { message: message.into(), details: Value::Null })
    }

    /// The same, with details for programs.
    pub fn done_with(message: impl Into<String>, details: &impl Serialize) -> Self {
        let details = serde_json::to_value(details).expect("it is text, numbers, and lists and maps of them");
        Self::Done(CommandDone { message: message.into(), details })
    }

    /// A reply to a command that was not carried out.
    pub fn failed(failure: CommandFailure, message: impl Into<String>) -> Self {
        Self::Failed(CommandFailed { failure, message: message.into(), details: Value::Null })
    }

    /// The reply as a line of JSON.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("a reply's maps have text for keys");
        line.push('\n');
        line
    }
}

/// Members of a command that a line of the log names.
const NAMED: usize = 8;

#[derive(Serialize)]
struct Envelope<'a> {
    version: u32,
    #[serde(flatten)]
    request: &'a ControlRequest,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_thousands_of_members_is_a_short_line_of_the_log() {
        let member = |number: usize| {
            let address = Some(([10, 0, 0, 1], 9001).into());
            let name = (number > 0).then(|| format!("shard-{number}{}", "x".repeat(5_000)));
            PushedMember { name, address, weight: None, leaving: false }
        };
        let members = (0..20_000).map(member).collect();
        let change =
            ControlRequest::Members { upstream: "a".into(), action: MembersAction::Set, members }.change().unwrap();
        assert!(change.contains("\"count\":20000") && change.contains("\"10.0.0.1:9001\",\"shard-1x"), "{change}");
        assert!(change.contains("shard-7x") && !change.contains("shard-8") && change.len() < 2_000, "{change}");
    }

    #[test]
    fn a_request_survives_the_way() {
        let requests = [
            ControlRequest::Status,
            ControlRequest::Drain,
            ControlRequest::Plan { file: "new.yaml".into(), text: "version: 1\n\"ü\"".into() },
            ControlRequest::DrainBackend {
                upstream: "chat".into(),
                backend: "127.0.0.1:9001".into(),
                over_ms: Some(60_000),
                undo: false,
                follow: true,
                everywhere: true,
            },
        ];
        for request in requests {
            let line = request.to_line();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(ControlRequest::parse(line.as_bytes()), Ok(request));
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let line = br#"{"version":1,"command":"drain_backend","upstream":"u","address":"127.0.0.1:1"}"#;
        let Ok(ControlRequest::DrainBackend { over_ms: None, undo: false, follow: false, .. }) =
            ControlRequest::parse(line)
        else {
            panic!("{:?}", ControlRequest::parse(line));
        };
    }

    #[test]
    fn what_is_no_request_is_answered_with_the_reason() {
        for (line, failure, part) in [
            (&b"GET / HTTP/1.1"[..], CommandFailure::BadRequest, "not a request"),
            (b"{}", CommandFailure::BadRequest, "missing field `version`"),
            (br#"{"version":2,"command":"x"}"#, CommandFailure::WrongVersion, "asked in version 2"),
            (br#"{"version":1}"#, CommandFailure::BadRequest, "missing field `command`"),
            (br#"{"version":1,"command":"dance"}"#, CommandFailure::BadRequest, "unknown variant `dance`"),
        ] {
            let Err(Reply::Failed(failed)) = ControlRequest::parse(line) else { panic!("{line:?} was taken") };
            assert_eq!(failed.failure, failure);
            assert!(failed.message.contains(part), "{}", failed.message);
        }
    }
}
