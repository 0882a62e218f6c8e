//! Control: the protocol by which operators ask a running gateway for its status and give it commands.
//!
//! A client connects to the control socket, sends one line of JSON, `{"version":1,"command":"status"}`, and gets lines
//! of JSON: any number with `"reply":"progress"` or `"reply":"tunnels"`, then one other, the last. To add a command,
//! add it to [`ControlRequest`] and to whoever executes it.

mod client;
mod desk;
mod protocol;
mod server;

pub use client::{ControlClient, ControlError};
pub use desk::{Command, Desk, QUEUE, ReplyStream, Responder};
pub use protocol::{CommandDone, CommandFailed, CommandFailure, ControlRequest, HandedOver, Reply, VERSION};
pub use server::ControlServer;
