//! Control: a Unix socket on which a running gateway is asked how it is, and told what to do.
//!
//! Who connects sends one line of JSON, `{"version":1,"command":"status"}`, and gets lines of JSON: any number with
//! `"reply":"progress"`, then one other, the last. To add a command, add it to [`Request`] and to whoever executes it.

mod client;
mod place;
mod protocol;
mod server;
mod socket;
mod status;

pub use client::{Client, ClientError};
pub use place::Place;
pub use protocol::{Done, Failed, Failure, Reply, Request, VERSION};
pub use server::{Asker, Command, QUEUE, Server};
pub use socket::{Socket, SocketError};
pub use status::{About, Age, BackendStatus, Event, History, Status, UpstreamStatus};
